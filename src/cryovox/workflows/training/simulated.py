"""Endless simulated training data, with held-out simulated boxes for the validation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from cryovox.core.config import Config, from_yaml
from cryovox.core.errors import RequestError
from cryovox.core.intensity import Normalization
from cryovox.core.particles import Species
from cryovox.data.imaging_domain import DomainConfig
from cryovox.data.patches import TargetSpec
from cryovox.data.regions import Bounds, Region
from cryovox.data.sampling import SamplingConfig
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.particles.template import Template
from cryovox.simulate.presets import PRESETS
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.simulation.templates import known_names, templates
from cryovox.workflows.training.checks import STREAM
from cryovox.workflows.training.data import TrainingData, smaller_regions

if TYPE_CHECKING:
    from torch import nn

    from cryovox.data.simulated import Block
    from cryovox.inference.stream import TilePlan

HELD_OUT_SEED = (2**31 - 1, 0)
"""Seed of held-out boxes, which no training has."""
MIN_OCCUPANCY, MAX_OCCUPANCY = 0.08, 0.3
"""Limits of the volume fraction of particles in the most crowded boxes."""


class StreamConfig(Config):
    """Simulation during training."""

    species: tuple[str, ...] = ()
    """Names of the built-in library, or stems of files in the folder of structures; all there are by
    default. The order is that of the labels."""
    structures: Path | None = None
    """Folder of atomic models (PDB, mmCIF) and maps (MRC); relative to this file."""
    voxel_size: float = Field(10.0, gt=0)
    """Edge of a voxel in Å."""
    resolution: float | None = Field(None, gt=0)
    """Resolution of the templates in Å; what the voxels can hold by default."""
    contrast: Literal["dark", "bright"] = "dark"
    """Of the tomograms that the network is for, where their own contrast is unclear."""
    held_out: int = Field(4, ge=1)
    """Boxes to be judged by, which the training never sees."""
    workers: int = Field(1, ge=1)
    """Boxes made at a time; batches do not depend on it."""
    domain: DomainConfig = DomainConfig()
    """How wide a world is drawn from."""


class SimulatedData(TrainingData):
    """A stream of simulated boxes.

    Parameters
    ----------
    name
        For the manifest.
    config
        Settings.
    particles
        Templates of the species, in the order of their labels.
    """

    def __init__(self, name: str, config: StreamConfig, particles: list[Template]) -> None:
        self.name, self.config, self.templates = name, config, particles
        self.species = tuple(
            Species(name=t.name, label=i + 1, radius=t.radius, structure=t.source)
            for i, t in enumerate(self.templates)
        )
        self.voxel_size, self.contrast = self.config.voxel_size, self.config.contrast
        self._held_out: list[Region] = []
        self._max_tiles: int | None = None

    @classmethod
    def accepts(cls, name: str) -> bool:
        return name.startswith(STREAM)

    @classmethod
    def read(cls, name: str, config: TrainConfig, mask: Path | None = None) -> SimulatedData:
        """`stream:PRESET` or `stream:FILE.yaml`."""
        preset = name.removeprefix(STREAM)
        settings, particles = of_preset(PRESETS[preset]) if preset in PRESETS else of_file(Path(preset))
        return cls(name, settings, particles)

    def inputs(self) -> dict[str, Any]:
        shapes = {t.name: hashlib.sha256(t.density.tobytes()).hexdigest() for t in self.templates}
        settings = self.config.model_dump(mode="json", exclude={"structures", "workers"})
        return {"stream": settings, "templates": shapes}

    def stream(self, sampling: SamplingConfig) -> Any:
        from cryovox.data.simulated import SimulatedStream

        return SimulatedStream(
            self.templates,
            sampling,
            self.config.domain,
            voxel_size=self.voxel_size,
            workers=self.config.workers,
        )

    def validate(self, network: nn.Module, spec: TargetSpec, tiles: TilePlan) -> Mapping[str, float]:
        from cryovox.training.evaluation.validate import validate

        return validate(network, self._boxes(spec, tiles), spec, tiles)

    def blob_picker_metrics(self, spec: TargetSpec, tiles: TilePlan) -> Mapping[str, float]:
        from cryovox.training.evaluation.held_out import blob_picker_metrics

        return blob_picker_metrics(self._boxes(spec, tiles), self.species, spec.kind)

    def _boxes(self, spec: TargetSpec, tiles: TilePlan) -> list[Region]:
        """Held-out boxes, simulated on first use."""
        if not self._held_out:
            boxes = self.stream(SamplingConfig(spec, tiles.tile, 1, seed=HELD_OUT_SEED))
            step = boxes.domain.scenes  # each under a microscope of its own
            count = self.config.held_out if self._max_tiles is None else 1
            self._held_out = [self._source(boxes.block(i * step), i) for i in range(count)]
            boxes.close()
            if self._max_tiles is not None:
                self._held_out = smaller_regions(self._held_out, self._max_tiles, tiles)
        return self._held_out

    def limit_held_out(self, most: int | None, tiles: TilePlan) -> None:
        self._max_tiles = most

    def _source(self, block: Block, number: int) -> Region:
        """A box as a region; its bounds exclude a margin of one particle radius at the periodic faces."""
        radius = max(s.radius for s in self.species) / self.voxel_size
        shape = block.image.shape
        margins = [min(int(np.ceil(radius)), n // 4) for n in shape]
        (z, y, x) = ((m, n - m) for m, n in zip(margins, shape, strict=True))
        bounds: Bounds = (z, y, x)
        return Region(
            name=f"box {number}",
            data=block.image,
            voxel_size=self.voxel_size,
            normalize=Normalization(float(block.image.mean()), float(block.image.std())),
            bounds=bounds,
            species=self.species,
            positions=block.contents.positions,
            channels=block.contents.channels,
            labels=block.contents.labels,
            annotated_mask=None,
            exhaustive=np.ones(len(self.species), bool),
        )


def of_file(path: Path) -> tuple[StreamConfig, list[Template]]:
    """Settings of a file, and the templates of their species; a folder of structures is relative to it."""
    if not path.is_file():
        message = f"there is no preset and no file called {str(path)!r}"
        remedy = f"presets are {', '.join(PRESETS)}; or name a YAML file as stream:FILE.yaml"
        raise RequestError("--data", message, remedy)
    config = from_yaml(StreamConfig, path)
    if config.structures is not None:
        config = config.model_copy(update={"structures": path.parent / config.structures})
    species = config.species or known_names(config.structures)
    return config, templates(species, config.voxel_size, config.structures, config.resolution)


def of_preset(preset: SimulationConfig) -> tuple[StreamConfig, list[Template]]:
    """Species of a preset with their templates, and ranges around its microscope and its occupancy.

    Membranes, filaments, gold and ice are left out, since the stream does not simulate them.
    """
    edge = preset.scene.voxel_size * preset.reconstruction.binning
    particles = templates(preset.species, edge, None, preset.resolution)
    tilts, scene = preset.tilts, preset.scene
    largest = max(abs(a) for a in (tilts.angles or tilts.range))
    depth = scene.slab or scene.shape[0] * scene.voxel_size
    domain: dict[str, Any] = {
        "tilt": (max(5.0, largest - 5), min(85.0, largest + 5)),
        "step": (0.8 * tilts.step, 1.25 * tilts.step),
        "defocus": (max(0.5, tilts.defocus[0] - 0.5), tilts.defocus[1] + 0.5),
        "defocus_spread": max(0.1, tilts.defocus_spread),
        "phase_flip": float(preset.reconstruction.phase_flip),
        "dose": (0.7 * tilts.bounds("total_dose")[0], 1.4 * tilts.bounds("total_dose")[1]),
        "thickness": (0.7 * depth, 1.3 * depth),
        "snr": None if preset.snr is None else (0.6 * preset.snr, 1.6 * preset.snr),
        "shift": (0.0, 1.5 * tilts.shift + 2),
        "b_factor": (0.5 * preset.optics.b_factor, 1.5 * preset.optics.b_factor + 200),
        "low_pass": (0.0, 2 * edge),
    }
    fraction = occupancy(preset, particles, depth)
    if fraction is not None:
        fullest = min(max(1.5 * fraction, MIN_OCCUPANCY), MAX_OCCUPANCY)
        domain["occupancy"] = (min(0.3 * fraction, fullest), fullest)
    config = StreamConfig(
        species=preset.species,
        voxel_size=edge,
        resolution=preset.resolution,
        domain=DomainConfig(**domain),
    )
    return config, particles


def occupancy(preset: SimulationConfig, particles: Sequence[Template], depth: float) -> float | None:
    """Volume fraction of the slab that the particles of a preset fill; None if the preset does not say."""
    scene = preset.scene
    if scene.counts is None:
        return scene.occupancy
    volumes = {t.name: int(t.support.sum()) * t.voxel_size**3 for t in particles}
    room = depth * scene.shape[1] * scene.shape[2] * scene.voxel_size**2
    return sum(count * volumes.get(name, 0.0) for name, count in scene.counts.items()) / room
