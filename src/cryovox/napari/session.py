"""What the widget does, without its buttons: find, threshold, decide, suggest and retrain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cryovox.core.particles import Particles, Species
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.volume import Volume
from cryovox.formats import read_particles, read_volume, scores, stem, write_particles
from cryovox.models.card import EMBEDDED
from cryovox.napari.layers import (
    BORDERS,
    KEPT,
    REJECTED,
    LayerData,
    particle_layer,
    particles_of,
    score_layers,
)
from cryovox.workflows.devices import Device

CURATED = "curated.star"
RADIUS = 75.0
"""Radius in Å of species of unknown size."""


@dataclass
class Session:
    """Work on one tomogram.

    Attributes
    ----------
    tomogram
        File of the tomogram.
    folder
        Folder of results.
    model
        Model that picks; a training replaces it.
    species
        Species to pick, as in `--species`: names, or NAME=RADIUS.
    """

    tomogram: Path
    folder: Path
    model: Path = EMBEDDED
    species: tuple[str, ...] = ()
    device: Device = "auto"
    on_progress: ProgressCallback = field(default=no_progress)

    @property
    def name(self) -> str:
        """Name of the tomogram."""
        return stem(self.tomogram)

    def volume(self) -> Volume:
        """The tomogram."""
        return read_volume(self.tomogram)

    def find(self, least: float = 0.05) -> list[LayerData]:
        """Score map and picks of all scores from *least* on, so that a threshold can be moved."""
        from cryovox.picking.config import PickConfig
        from cryovox.workflows.find import find

        picking = PickConfig(species=self.species, threshold=least)
        picks, failed = find(
            [self.tomogram], self.model, self.folder / "found", None, picking,
            device=self.device, on_progress=self.on_progress,
        )  # fmt: skip
        for error in failed.values():
            raise error
        stored = scores.read(self.folder / "found" / "scores" / f"{self.name}.zarr")
        own = picks[self.name]
        points = particle_layer(f"{self.name} picks", own, self._radii(), self.volume())
        return [*score_layers(self.name, stored), points]

    def suggest(self, count: int = 20) -> LayerData:
        """Places whose annotation would help the model most, as points without a decision."""
        from cryovox.picking.config import SuggestConfig
        from cryovox.workflows.config import SegmentConfig
        from cryovox.workflows.suggest import suggest

        places, failed = suggest(
            [self.tomogram], self.model, self.folder / "suggested", SegmentConfig(),
            SuggestConfig(count=count), device=self.device, overwrite=True, on_progress=self.on_progress,
        )  # fmt: skip
        for error in failed.values():
            raise error
        return particle_layer(f"{self.name} suggested", places, {}, self.volume())

    def write_decisions(self, picks: Particles) -> Path:
        """Write the picks with a decision as curated.star, and the dataset that trains on them."""
        keep = picks.extra.get("keep", np.full(len(picks), "-"))
        decided = picks.take(np.isin(keep, (KEPT, REJECTED)))
        self.folder.mkdir(parents=True, exist_ok=True)
        volume = self.volume()
        write_particles(self.folder / CURATED, decided, tomogram=volume, tomogram_name=self.name)
        names = sorted(set(decided.species[decided.extra["keep"] == KEPT].tolist())) if len(decided) else []
        known = self._radii()
        radii = {name: known.get(name, RADIUS) for name in names}
        rows = [{"name": name, "label": i, "radius": radii[name]} for i, name in enumerate(names, 1)]
        if len(decided) and (decided.extra["keep"] == REJECTED).any():
            most = max(radii.values(), default=RADIUS)
            rows.append({"name": "rejected", "label": len(names) + 1, "radius": most})
        entry = {
            "name": self.name,
            "tomogram": str(self.tomogram.resolve()),
            "particles": CURATED,
            "exhaustive": False,
        }
        settings = {"voxel_size": volume.voxel_size, "species": rows, "entries": [entry]}
        (self.folder / "dataset.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        return self.folder / CURATED

    def retrain(
        self, picks: Particles, max_time: str = "10m", on_message: Callable[[str], None] = print
    ) -> Path:
        """Train on the decisions, from the weights of the model; later searches use the new model."""
        from cryovox.workflows.config import TrainConfig
        from cryovox.workflows.training.run import train

        self.write_decisions(picks)
        settings: dict[str, Any] = {"loop": {"max_time": max_time}, "network": {"start": str(self.model)}}
        config = TrainConfig.model_validate(settings)
        self.model = train(
            self.folder, self.folder / "run", config, device=self.device, overwrite=True,
            on_message=on_message, on_progress=self.on_progress,
        )  # fmt: skip
        return self.model

    def _radii(self) -> dict[str, float]:
        """Radius in Å by species: those of the score map, and those that were asked for."""
        store = self.folder / "found" / "scores" / f"{self.name}.zarr"
        known: Sequence[Species] = scores.read(store).species if store.exists() else ()
        return {one.name: float(one.radius) for one in known} | dict(_sizes(self.species))

    def reopen(self) -> Particles | None:
        """Decisions of an earlier session."""
        path = self.folder / CURATED
        return read_particles(path, tomogram=self.volume()) if path.exists() else None


def _sizes(species: Sequence[str]) -> list[tuple[str, float]]:
    """Names and radii of NAME=RADIUS."""
    return [(one.partition("=")[0], float(one.partition("=")[2])) for one in species if "=" in one]


def apply_threshold(layer: Any, threshold: float) -> int:
    """Show the points from a score on, and those with a decision; returns their number."""
    shown = np.asarray(layer.features["score"], dtype=float) >= threshold
    shown |= np.isin(np.asarray(layer.features["keep"]).astype(str), (KEPT, REJECTED))
    layer.shown = shown
    return int(shown.sum())


def decide(layer: Any, value: str) -> int:
    """Write a decision for the selected points: the feature `keep`, and the color of the border."""
    rows = sorted(layer.selected_data)
    if not rows:
        return 0
    features = layer.features.copy()
    keep = np.asarray(features["keep"]).astype(object)
    keep[rows] = value
    features["keep"] = keep
    layer.features = features
    layer.border_color = [BORDERS.get(str(one), "white") for one in keep]
    return len(rows)


def decisions_of(layer: Any) -> Particles:
    """Particles of a layer of picks."""
    features = {name: list(layer.features[name]) for name in layer.features}
    return particles_of(np.asarray(layer.data), features)
