"""From a tomogram to its score map on disk, at once or part by part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RunError
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.formats import scores
from cryovox.formats.unfinished_scores import UnfinishedScores
from cryovox.inference.tiling import plan
from cryovox.models.card import Card
from cryovox.workflows.inputs import Prepared
from cryovox.workflows.manifest import locked
from cryovox.workflows.score_tiles import search_region

if TYPE_CHECKING:
    from torch import nn

    from cryovox.inference.stream import TilePlan

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SlabWriting:
    """Scores of a tomogram that are written slab by slab, by one or several processes.

    Attributes
    ----------
    out, name
        Output folder and name of the tomogram.
    identity
        What the scores are computed from and with, as JSON.
    """

    out: Path
    name: str
    identity: dict[str, Any]
    network: nn.Module
    tomogram: Prepared
    card: Card
    tiles: TilePlan
    mask: Mask | None = None

    @property
    def unfinished(self) -> UnfinishedScores:
        return UnfinishedScores(self.out / "scores" / f"{self.name}.zarr")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.card.species), *output_shape(self.tomogram, self.tiles))

    def begin(self) -> None:
        """Prepare the store; one that was computed from something else is discarded."""
        with locked(self.out / f"scores-{self.name}"):
            if self.unfinished.matches(self.identity, self.shape):
                return
            with self._locked((0, self.shape[1])):
                frame = _frame(self.tomogram, self.card, self.tiles)
                self.unfinished.begin(self.identity, self.shape, **frame)

    def write(self, part: tuple[int, int], on_progress: ProgressCallback = no_progress) -> None:
        """Compute the planes of a part that are not complete."""
        from cryovox.inference.stream import stream

        tomogram, unfinished = self.tomogram, self.unfinished
        with self._locked(part):
            if not unfinished.matches(self.identity, self.shape):
                message = "another run began to compute these scores with other settings"
                raise RunError(unfinished.path, message, "run one after the other, or choose another --out")
            if unfinished.is_finished:
                return
            gaps = unfinished.missing(part)
            region = search_region(self.mask, tomogram.original, tomogram.volume, self.card, self.tiles)
            overlaps = unfinished.overlaps(self.tiles.rows)
            for gap in gaps:
                with unfinished.writer(gap[0], overlaps) as write:
                    stream(
                        self.network, tomogram.volume.data, tomogram.normalize, self.tiles, write,
                        on_progress, region, gap, overlaps,
                    )  # fmt: skip
                unfinished.note(gap)

    def write_all(self, on_progress: ProgressCallback = no_progress) -> None:
        """Compute what is missing, and turn the store into the score map."""
        self.begin()
        try:
            self.write((0, self.shape[1]), on_progress)
        finally:
            self.unfinished.discard_empty()
        if not self.unfinished.is_finished:
            self.unfinished.finish()

    @contextmanager
    def _locked(self, part: tuple[int, int]) -> Iterator[None]:
        """Keep other processes from writing into the same chunks."""
        height = scores.CHUNK[1]
        with ExitStack() as stack:
            for layer in range(part[0] // height, -(-part[1] // height)):
                stack.enter_context(locked(self.out / f"scores-{self.name}-{layer}"))
            yield


def output_shape(tomogram: Prepared, tiles: TilePlan) -> tuple[int, int, int]:
    """Voxels (z, y, x) of the scores of a tomogram."""
    z, y, x = (plan(n, tiles.tile, tiles.overlap, tiles.stride).out_size for n in tomogram.volume.shape)
    return z, y, x


def _frame(tomogram: Prepared, card: Card, tiles: TilePlan) -> dict[str, Any]:
    """What a score map says besides its values."""
    volume, original = tomogram.volume, tomogram.original
    return {
        "voxel_size": volume.voxel_size * tiles.stride,
        "species": card.species,
        "offset": volume.voxel_size * (tiles.stride - 1) / 2,
        "kind": card.kind,
        "thresholds": card.thresholds,
        "origin": original.origin,
        "nstart": original.nstart,
        "tomogram": (original.shape, original.voxel_size),
        "calibration": card.calibration,
    }
