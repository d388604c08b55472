"""Endless simulated training data, with held-out simulated boxes for the validation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cryovox.core.config import from_yaml
from cryovox.core.errors import RequestError
from cryovox.core.intensity import Normalization
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.data.channels import diameter, size_channel, size_species, template_species
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
from cryovox.workflows.training.data import TrainingData, calibration_fields, needs_whitened, smaller_regions
from cryovox.workflows.training.stream_config import STREAMS, StreamConfig

if TYPE_CHECKING:
    from torch import nn

    from cryovox.data.simulated import Block, SimulatedStream
    from cryovox.inference.stream import TilePlan

HELD_OUT_SEED = (2**31 - 1, 0)
"""Seed of held-out boxes, which no training has."""
WHITENED = (0.0, 70.0)
"""Resolution in Å of boxes that are whitened because the model that a training starts from needs it."""
MIN_OCCUPANCY, MAX_OCCUPANCY = 0.08, 0.3
"""Limits of the volume fraction of particles in the most crowded boxes."""


class SimulatedData(TrainingData):
    """A stream of simulated boxes.

    Parameters
    ----------
    name
        For the manifest.
    config
        Settings.
    particles
        Templates of the species, in the order of their labels; with classes of sizes, in any order.
    left_out
        Species that are not simulated, with the reason.
    """

    def __init__(
        self,
        name: str,
        config: StreamConfig,
        particles: list[Template],
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.config, self.left_out = name, config, dict(left_out or {})
        self.templates, self.channels = particles, list(range(len(particles)))
        self.species = template_species(particles)
        if config.sizes:
            self.species = size_species(config.sizes)
            self.templates, self.channels = self._by_size(particles, config.sizes)
        if not self.templates:
            raise RequestError(
                name, "no species is left to simulate", "change `sizes`, `exclude` or `structures`"
            )
        for absent in sorted(set(config.abundance) - {t.name for t in self.templates}):
            raise RequestError(
                name,
                f"abundance names {absent}, which is not simulated",
                "take it out, or include the species",
            )
        self.voxel_size, self.contrast = self.config.voxel_size, self.config.contrast
        self.whitened = self.config.domain.whiten is not None
        self._held_out: list[Region] = []
        self._max_tiles: int | None = None

    def _by_size(
        self, particles: list[Template], bounds: Sequence[float]
    ) -> tuple[list[Template], list[int]]:
        """Templates within the limits, and their classes."""
        classes = [(t, diameter(t)) for t in particles]
        kept = [(t, c) for t, size in classes if (c := size_channel(size, bounds)) is not None]
        self.left_out |= {
            t.name: f"has a diameter of {size:.0f} Å"
            for t, size in classes
            if size_channel(size, bounds) is None
        }
        return [t for t, _ in kept], [c for _, c in kept]

    @classmethod
    def accepts(cls, name: str) -> bool:
        return name.startswith(STREAM)

    @classmethod
    def read(
        cls,
        name: str,
        config: TrainConfig,
        mask: Path | None = None,
        subset: Path | None = None,
        on_progress: ProgressCallback = no_progress,
    ) -> SimulatedData:
        """`stream:PRESET`, `stream:NAME` of `STREAMS`, or `stream:FILE.yaml`."""
        source = name.removeprefix(STREAM)
        if source in PRESETS:
            settings, templates = of_preset(PRESETS[source])
            return cls(name, _whitened(settings, config), templates)
        settings = STREAMS[source] if source in STREAMS else read_config(Path(source))
        return cls(name, _whitened(settings, config), *load_templates(settings))

    def inputs(self) -> dict[str, Any]:
        shapes = {t.name: hashlib.sha256(t.density.tobytes()).hexdigest() for t in self.templates}
        settings = self.config.model_dump(mode="json", exclude={"structures", "workers", "processes"})
        left_out = {"left_out": self.left_out} if self.left_out else {}
        return {"stream": settings, "templates": shapes, **left_out}

    def stream(self, sampling: SamplingConfig) -> Any:
        from cryovox.data.parallel_stream import ParallelStream

        if not self.config.processes:
            return self._stream(sampling)
        per_group = self._stream(sampling).batches_per_group
        make = partial(self._stream, replace(sampling, device="cpu"), ahead=0)
        return ParallelStream(make, per_group, self.config.processes)

    def _stream(self, sampling: SamplingConfig, ahead: int = 1) -> SimulatedStream:
        """The stream in this process."""
        from cryovox.data.simulated import SimulatedStream

        return SimulatedStream(
            self.templates,
            sampling,
            self.config.domain,
            voxel_size=self.voxel_size,
            workers=self.config.workers,
            species=self.species,
            channels=self.channels,
            abundance=[self.config.abundance.get(t.name, 1.0) for t in self.templates],
            ahead=ahead,
        )

    def validate(self, network: nn.Module, spec: TargetSpec, tiles: TilePlan) -> Mapping[str, float]:
        from cryovox.training.evaluation.validate import validate

        return validate(network, self._boxes(spec, tiles), spec, tiles)

    def blob_picker_metrics(self, spec: TargetSpec, tiles: TilePlan) -> Mapping[str, float]:
        from cryovox.training.evaluation.held_out import blob_picker_metrics

        return blob_picker_metrics(self._boxes(spec, tiles), self.species, spec.kind)

    def calibration(
        self, network: nn.Module, spec: TargetSpec, tiles: TilePlan, thresholds: Mapping[str, float]
    ) -> Mapping[str, Any]:
        from cryovox.training.evaluation.calibrate import calibrate_held_out

        boxes = self._boxes(spec, tiles)
        return calibration_fields(calibrate_held_out(network, boxes, spec, tiles, thresholds), boxes)

    def _boxes(self, spec: TargetSpec, tiles: TilePlan) -> list[Region]:
        """Held-out boxes, simulated on first use."""
        if not self._held_out:
            boxes = self._stream(SamplingConfig(spec, tiles.tile, 1, seed=HELD_OUT_SEED))
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


def _whitened(settings: StreamConfig, config: TrainConfig) -> StreamConfig:
    """The settings, with whitened boxes if the initial model or the teacher needs them."""
    if settings.domain.whiten is not None or not needs_whitened(config):
        return settings
    domain = settings.domain.model_copy(update={"whiten": WHITENED})
    return settings.model_copy(update={"domain": domain})


def read_config(path: Path) -> StreamConfig:
    """Settings of a file, which may name a stream as their `base`; folders are relative to the file."""
    if not path.is_file():
        message = f"there is no preset and no file called {str(path)!r}"
        names = ", ".join((*PRESETS, *STREAMS))
        raise RequestError("--data", message, f"names are {names}; or give a YAML file as stream:FILE.yaml")
    config = from_yaml(StreamConfig, path)
    return config.model_copy(update={"structures": tuple(path.parent / f for f in config.folders) or None})


def load_templates(config: StreamConfig) -> tuple[list[Template], dict[str, str]]:
    """Templates of a stream, and the species that are left out, with the reason.

    Where the labels are species, one that cannot be read is an error. Where they are sizes, it is left out.
    """
    sources = _sources(config)
    unknown = sorted(set(config.exclude) - set(sources))
    if unknown:
        raise RequestError(
            "exclude", f"there is no species {unknown[0]!r}", f"choose from {', '.join(sources)}"
        )
    loaded: list[Template] = []
    left_out: dict[str, str] = {}
    for name, folder in sources.items():
        if name in config.exclude:
            continue
        try:
            loaded += templates([name], config.voxel_size, folder, config.resolution)
        except RequestError as error:
            if not config.sizes:
                raise
            left_out[name] = str(error).splitlines()[0]
    return loaded, left_out


def _sources(config: StreamConfig) -> dict[str, Path | None]:
    """Folder of each species, None for the library; of equal names, the first folder has the species."""
    available: dict[str, Path | None] = {}
    for folder in config.folders:
        for name in known_names(folder):
            available.setdefault(name, folder)
    if config.library or not config.folders:
        for name in known_names():
            available.setdefault(name, None)
    if not config.species:
        return available
    return {name: available.get(name, next(iter(config.folders), None)) for name in config.species}


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
