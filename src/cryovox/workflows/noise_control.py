"""What a model finds in noise with the power spectrum and the missing wedge of a tomogram."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import replacing, writable_folder
from cryovox.core.intensity import Normalization
from cryovox.core.particles import Particles, Species
from cryovox.core.progress import ProgressCallback, no_progress, renamed
from cryovox.core.volume import Volume, release_pages
from cryovox.formats import scores
from cryovox.models.card import Card, read_card
from cryovox.picking import PickConfig
from cryovox.picking.rated import Decoys, candidates
from cryovox.picking.selection import select
from cryovox.report.doctor import sample_planes
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.inputs import Prepared, prepare, read_search_mask
from cryovox.workflows.memory import MAX_NOISE
from cryovox.workflows.model_grid import mask_on_grid
from cryovox.workflows.segment import limited_tiles, network_for, write_scores

if TYPE_CHECKING:
    from torch import nn

FOLDER = "noise"


@dataclass(frozen=True, eq=False)
class NoiseControl:
    """Runs a model on phase-randomized parts of tomograms, and keeps the scores of its candidates.

    Attributes
    ----------
    model, out
        Model file, and output folder; the scores are in `noise/NAME.json`.
    segmenting, picking
        Settings of the segmentation and of picking.
    seed
        Of the random phases.
    """

    model: Path
    out: Path
    segmenting: SegmentConfig
    picking: PickConfig
    seed: int = 0
    device: Device = "auto"

    @cached_property
    def card(self) -> Card:
        return read_card(self.model)

    @cached_property
    def network(self) -> nn.Module:
        from cryovox.models.checkpoint import load_model

        return load_model(self.model)[0].to(choose_device(self.device))

    def run(
        self, name: str, entry: Mapping[str, Any], share: float, on_progress: ProgressCallback = no_progress
    ) -> tuple[Decoys, dict[str, Any]]:
        """Candidates in noise of a tomogram, and what the manifest records of them.

        Parameters
        ----------
        entry
            Of the tomogram in the manifest; a control that it records with the same settings is read.
        share
            Fraction of the tomogram, or of the part with a sample; at most `MAX_NOISE` voxels are taken.
        """
        key, recorded = self._key(entry, share), entry.get("noise", {})
        path = self.out / FOLDER / f"{name}.json"
        if recorded.get("key") == key and path.exists():
            return read_decoys(path), dict(recorded)
        start = time.monotonic()
        decoys, part = self._search(name, entry, share, renamed(on_progress, f"{name}, noise"))
        writable_folder(path.parent)
        with replacing(path) as beside:
            rows = {species: np.round(values, 5).tolist() for species, values in decoys.scores.items()}
            beside.write_text(json.dumps({"scores": rows, "scales": dict(decoys.scales)}), encoding="utf-8")
        seconds = round(time.monotonic() - start, 2)
        return decoys, {"key": key, "share": round(part, 4), "seconds": seconds}

    def _key(self, entry: Mapping[str, Any], share: float) -> dict[str, Any]:
        picking = self.picking.model_dump(
            mode="json", include={"species", "method", "distance", "border", "min_size"}
        )
        return {
            "segmentation": {k: v for k, v in entry["key"].items() if k != "input"},
            "picking": picking,
            "share": share,
            "seed": self.seed,
        }

    def _search(
        self, name: str, entry: Mapping[str, Any], share: float, on_progress: ProgressCallback
    ) -> tuple[Decoys, float]:
        from cryovox.inference.matching import central_box, phase_randomized, spans_of

        # the precision that was measured, where `auto` was asked for
        measured = {"precision": entry["key"]["settings"]["precision"]}
        config = self.segmenting.model_copy(update=measured)
        tomogram = prepare(
            Path(entry["key"]["input"]), self.card, entry["voxel_size"], entry["contrast"], resample=True
        )
        volume = tomogram.volume
        inside = read_search_mask(config.mask, name, tomogram.original.shape)
        inside = None if inside is None else mask_on_grid(inside, tomogram.original, volume)
        spans = _sample(tomogram) if inside is None else spans_of(inside)
        part = float(np.prod([float(high - low) for low, high in spans]))
        box = central_box(volume.shape, min(share, MAX_NOISE / part), spans, self.card.patch)
        sample = tomogram.normalize(volume.data[box])
        release_pages(volume.data)
        noise = phase_randomized(sample, np.random.default_rng(self.seed))
        picks, species = self._candidates(tomogram, noise, config, on_progress)
        found = {s.name: picks.named(s.name).scores for s in species}
        searched = 1.0 if inside is None else float(inside.mean())
        scales = {
            s.name: searched * _room(volume.shape, s.radius, self.picking.border, volume.voxel_size)
            / _room(noise.shape, s.radius, self.picking.border, volume.voxel_size)
            for s in species
        }  # fmt: skip
        return Decoys(found, scales), noise.size / volume.data.size

    def _candidates(
        self,
        tomogram: Prepared,
        noise: NDArray[np.float32],
        config: SegmentConfig,
        on_progress: ProgressCallback,
    ) -> tuple[Particles, tuple[Species, ...]]:
        """Candidates in noise, and the species that are sought."""
        network = network_for(config, self.network)
        control = Volume(noise, tomogram.volume.voxel_size)
        prepared = Prepared(
            tomogram.path, control, Normalization(0.0, 1.0), tomogram.contrast, (), original=control
        )
        with tempfile.TemporaryDirectory(prefix=".noise-", dir=self.out) as folder:
            path = Path(folder) / "scores.zarr"
            tiles = limited_tiles(network, self.card, config, control, Path(folder), afterwards=None)
            write_scores(network, prepared, self.card, tiles, path, on_progress)
            score_map = select(scores.read(path), self.picking.species)
            return candidates(score_map, self.picking), score_map.species


def _sample(tomogram: Prepared) -> list[tuple[int, int]]:
    """The part of a tomogram with a sample: all of it but empty planes above and below."""
    volume, original = tomogram.volume, tomogram.original
    step = volume.voxel_size / original.voxel_size
    low, high = (round(z / step) for z in sample_planes(original))
    spans: Sequence[tuple[int, int]] = [(low, min(max(high, low + 1), volume.shape[0]))]
    return [*spans, (0, volume.shape[1]), (0, volume.shape[2])]


def _room(shape: tuple[int, ...], radius: float, border: float | None, voxel_size: float) -> float:
    """Volume in which a species is picked, in voxels."""
    width = (radius / 2 if border is None else border) / voxel_size
    return float(np.prod([max(1.0, n - 2 * width) for n in shape]))


def read_decoys(path: Path) -> Decoys:
    """Candidates in noise that were stored."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    return Decoys({k: np.array(v, np.float32) for k, v in stored["scores"].items()}, stored["scales"])
