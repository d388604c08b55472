"""From a tomogram to its score map on disk, at once or part by part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RunError
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.formats import scores
from cryovox.formats.unfinished_scores import SlabOverlaps, UnfinishedScores
from cryovox.inference.tiling import plan
from cryovox.models.card import Card, SurroundingsCard
from cryovox.workflows.inputs import Prepared
from cryovox.workflows.manifest import locked
from cryovox.workflows.score_tiles import search_region

if TYPE_CHECKING:
    from torch import nn

    from cryovox.inference.held import Sink
    from cryovox.inference.stream import TilePlan

Mask = NDArray[np.bool_]
SURROUNDINGS = "surroundings"
"""Folder of the scores of membranes and other surroundings."""
SCORES_OF_SURROUNDINGS = "scores of surroundings"
"""Kind of these files among the outputs of a tomogram."""


@dataclass(frozen=True, eq=False)
class SlabWriting:
    """Scores of a tomogram that are written slab by slab, by one or several processes.

    Attributes
    ----------
    out, name
        Output folder and name of the tomogram.
    identity
        What the scores are computed from and with, as JSON.
    surroundings
        Head whose scores follow those of the species, for a store of their own; none by default.
    """

    out: Path
    name: str
    identity: dict[str, Any]
    network: nn.Module
    tomogram: Prepared
    card: Card
    tiles: TilePlan
    mask: Mask | None = None
    surroundings: SurroundingsCard | None = None

    @property
    def unfinished(self) -> UnfinishedScores:
        return self._stores[-1].scores

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self._stores[-1].shape

    @cached_property
    def _stores(self) -> list[_Store]:
        """Stores with their channels. That of the species is the last: a plane in it is complete in all."""
        own, grid = len(self.card.species), output_shape(self.tomogram, self.tiles)
        frame, file = _frame(self.tomogram, self.card, self.tiles), f"{self.name}.zarr"
        stores = [_Store(UnfinishedScores(self.out / "scores" / file), slice(0, own), (own, *grid), frame)]
        if self.surroundings is not None:
            species, thresholds = self.surroundings.species, self.surroundings.thresholds
            frame = frame | {
                "species": species,
                "thresholds": thresholds,
                "kind": "mask",
                "calibration": None,
            }
            path, shape = self.out / SURROUNDINGS / file, (len(species), *grid)
            stores.insert(0, _Store(UnfinishedScores(path), slice(own, None), shape, frame))
        return stores

    def _matches(self) -> bool:
        """Whether all stores were computed from the same."""
        return all(store.scores.matches(self.identity, store.shape) for store in self._stores)

    def begin(self) -> None:
        """Prepare the stores; those that were computed from something else are discarded."""
        with locked(self.out / f"scores-{self.name}"):
            if self._matches():
                return
            with self._locked((0, self.shape[1])):
                for store in self._stores:
                    store.scores.discard()
                    store.scores.begin(self.identity, store.shape, **store.frame)

    def write(self, part: tuple[int, int], on_progress: ProgressCallback = no_progress) -> None:
        """Compute the planes of a part that are not complete."""
        from cryovox.inference.stream import stream

        tomogram, unfinished = self.tomogram, self.unfinished
        with self._locked(part):
            if not self._matches():
                message = "another run began to compute these scores with other settings"
                raise RunError(unfinished.path, message, "run one after the other, or choose another --out")
            if unfinished.is_finished:
                return
            gaps = unfinished.missing(part)
            region = search_region(self.mask, tomogram.original, tomogram.volume, self.card, self.tiles)
            overlaps = unfinished.overlaps(self.tiles.rows)
            for gap in gaps:
                with self._sink(gap[0], overlaps) as sink:
                    stream(
                        self.network, tomogram.volume.data, tomogram.normalize, self.tiles, sink,
                        on_progress, region, gap, overlaps,
                    )  # fmt: skip
                for store in self._stores:
                    store.scores.note(gap)

    @contextmanager
    def _sink(self, start: int, overlaps: SlabOverlaps) -> Iterator[Sink]:
        """Yield a function that shares planes out among the stores."""
        with ExitStack() as stack:
            writers = [
                (store.channels, stack.enter_context(store.scores.writer(start, kept)))
                for store, kept in zip(
                    self._stores, [*[None] * (len(self._stores) - 1), overlaps], strict=True
                )
            ]

            def sink(z0: int, block: NDArray[np.float32]) -> None:
                for channels, write in writers:
                    write(z0, block[channels])

            yield sink

    def write_all(self, on_progress: ProgressCallback = no_progress) -> None:
        """Compute what is missing, and turn the store into the score map."""
        self.begin()
        try:
            self.write((0, self.shape[1]), on_progress)
        finally:
            for store in self._stores:
                store.scores.discard_empty()
        for store in self._stores:
            if not store.scores.is_finished:
                store.scores.finish()

    @contextmanager
    def _locked(self, part: tuple[int, int]) -> Iterator[None]:
        """Keep other processes from writing into the same chunks."""
        height = scores.CHUNK[1]
        with ExitStack() as stack:
            for layer in range(part[0] // height, -(-part[1] // height)):
                stack.enter_context(locked(self.out / f"scores-{self.name}-{layer}"))
            yield


@dataclass(frozen=True, eq=False)
class _Store:
    """Scores of some channels, (k, z, y, x), and what their map says besides its values."""

    scores: UnfinishedScores
    channels: slice
    shape: tuple[int, int, int, int]
    frame: dict[str, Any]


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
