"""Simulate a tomogram with its ground truth from templates and settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.progress import ProgressCallback, no_progress, portion, renamed
from cryovox.core.unfinished import NO_PARTS, Arrays, UnfinishedParts
from cryovox.core.volume import LabelMap, Volume
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.microscope import ReconstructionConfig, TiltSeries, acquire, reconstruct, tilt_scheme
from cryovox.simulate.microscope.detector import snr_of
from cryovox.simulate.microscope.experimental_spectrum import experimental_amplitude
from cryovox.simulate.microscope.reconstruct import origin
from cryovox.simulate.microscope.spectra import ring_count
from cryovox.simulate.particles.template import Template
from cryovox.simulate.scene import Scene, build_scene, scene_species
from cryovox.simulate.scene.arrays import scene_arrays, scene_of

SCENE, MICROSCOPE = 0, 1  # independent random streams
COSTS = {"scene": 3.0, "tilt series": 4.0, "reconstruction": 7.0, "reconstruction of the noise": 4.0}
HALVES = {"first half": 4.0, "second half": 4.0}
"""Stage -> relative processor time; `benchmarks/eta.py` measures what follows for the remaining time."""
AT_END = 0.92
"""Progress when all stages are done; the rest is to write the files."""


@dataclass(frozen=True, eq=False)
class SimulatedTomogram:
    """A simulated tomogram with its ground truth; particles are dark.

    Attributes
    ----------
    tomogram
        Tomogram with noise.
    clean
        The same without noise.
    halves
        Even and odd half-tomograms, or empty.
    labels, instances
        Species label and object number of every voxel.
    particles
        Particles with poses whose centers are within the tomogram, in its frame. `labels` and `instances`
        show the visible parts of the others, too.
    scene
        The sample: potential in volts, particles in its own frame, drawn parameters.
    series
        The recorded tilt series.
    snr
        Variance of `clean` over that of the noise in `tomogram`.
    noise_factor
        Factor by which the recorded noise was scaled.
    """

    tomogram: Volume
    clean: Volume
    halves: tuple[Volume, ...]
    labels: LabelMap
    instances: NDArray[Any]
    particles: Particles
    scene: Scene
    series: TiltSeries
    snr: float
    noise_factor: float

    def parameters(self) -> dict[str, Any]:
        """All drawn parameters, for JSON."""
        return {
            "snr": self.snr,
            "noise_factor": self.noise_factor,
            "scene": self.scene.parameters,
            "microscope": self.series.as_dict(),
        }


def simulate(
    templates: Sequence[Template],
    config: SimulationConfig,
    seed: Sequence[int],
    *,
    device: str = "cpu",
    parts: UnfinishedParts = NO_PARTS,
    on_progress: ProgressCallback = no_progress,
) -> SimulatedTomogram:
    """Simulate one tomogram.

    Parameters
    ----------
    templates
        In the order of the labels, at the voxel size of the scene.
    seed
        Seed of all random draws.
    device
        "cpu" or a torch device.
    parts
        Stages of an interrupted run, which are used again.
    on_progress
        Receives the name of the stage and the fraction done.
    """
    on_progress("scene", 0.0)
    _check_thickness(config)
    amplitudes = target_amplitudes(config)
    stage = _stages(on_progress, config)
    scene = _scene(templates, config, seed, parts, stage("scene"))
    _check_placed(scene)
    scene = _drop_particles_outside(scene, config.reconstruction)
    series = _record(scene, config, seed, device, parts, stage("tilt series"))
    if amplitudes is not None:
        series = series.match_amplitudes(amplitudes)

    def reconstructed(images: NDArray[np.float32], part: TiltSeries, name: str) -> NDArray[np.float32]:
        shape, voxel_size, setting = scene.potential.shape, scene.voxel_size, config.reconstruction
        return reconstruct(
            images, part.tilts, shape, voxel_size, setting,
            optics=config.optics, device=device, on_progress=stage(name),
        )  # fmt: skip

    clean = parts.array("clean", lambda: reconstructed(series.signal, series, "reconstruction"))
    noise = parts.array("noise", lambda: reconstructed(series.noise, series, "reconstruction of the noise"))
    every = slice(None, None, max(1, len(clean) // 64))
    recorded_snr = snr_of(clean[every], noise[every])
    factor = 1.0 if config.snr is None else float(np.sqrt(recorded_snr / config.snr))
    split = () if config.halves == "none" else series.scale_noise(factor).halves()
    halves = [
        parts.array(f"half-{i}", partial(reconstructed, part.contrast, part, name))
        for i, (part, name) in enumerate(zip(split, HALVES, strict=False))
    ]
    noise *= np.float32(-factor)
    noise -= clean
    edge = scene.voxel_size * config.reconstruction.binning
    keep = _scene_window(scene.labels.shape, config.reconstruction)
    return SimulatedTomogram(
        tomogram=Volume(noise, edge),
        clean=Volume(-clean, edge),
        halves=tuple(Volume(-half, edge) for half in halves),
        labels=LabelMap(np.ascontiguousarray(scene.labels[keep]), edge, scene.species),
        instances=np.ascontiguousarray(scene.instances[keep]),
        particles=_tomogram_particles(scene, config.reconstruction),
        scene=scene,
        series=series,
        snr=recorded_snr / factor**2,
        noise_factor=factor,
    )


def _stages(on_progress: ProgressCallback, config: SimulationConfig) -> Callable[[str], ProgressCallback]:
    """The progress of each stage as a part of the whole."""
    costs = COSTS if config.halves == "none" else COSTS | HALVES
    ends = AT_END * np.cumsum([0.0, *costs.values()]) / sum(costs.values())
    spans = dict(zip(costs, pairwise(ends.tolist()), strict=True))
    return lambda name: renamed(portion(on_progress, *spans[name]), name)


def _scene(
    templates: Sequence[Template],
    config: SimulationConfig,
    seed: Sequence[int],
    parts: UnfinishedParts,
    on_progress: ProgressCallback,
) -> Scene:
    """The scene of an interrupted run, or a new one."""
    known = parts.load("scene")
    if known is not None:
        return scene_of(known, scene_species(templates, config.scene), config.scene.voxel_size)
    scene = build_scene(templates, config.scene, np.random.default_rng([*seed, SCENE]), on_progress)
    parts.store("scene", scene_arrays(scene))
    return scene


def _record(
    scene: Scene,
    config: SimulationConfig,
    seed: Sequence[int],
    device: str,
    parts: UnfinishedParts,
    on_progress: ProgressCallback,
) -> TiltSeries:
    rng = np.random.default_rng([*seed, MICROSCOPE])
    tilts, noise_seed = tilt_scheme(config.tilts, rng), int(rng.integers(2**63))
    setting = scene.voxel_size, tilts, config.optics, config.detector

    def recorded() -> Arrays:
        series = acquire(
            scene.potential, *setting,
            seed=noise_seed, device=device, beyond=config.beyond, parts=parts, on_progress=on_progress,
        )  # fmt: skip
        arrays: Arrays = {"noisefree": series.noisefree, "counts": series.counts, "flux": series.flux}
        return arrays if series.frames is None else arrays | {"frames": series.frames}

    arrays = parts.part("series", recorded)
    frames = arrays.get("frames")
    return TiltSeries(
        arrays["noisefree"], arrays["counts"], arrays["flux"], tilts, scene.voxel_size,
        config.optics, config.detector, noise_seed, frames,
    )  # fmt: skip


def target_amplitudes(config: SimulationConfig) -> NDArray[np.float64] | None:
    """(bins,) radial amplitudes that the projections are to have, as `Series.match_amplitudes` takes them."""
    if config.amplitudes is None:
        return None
    scene = config.scene
    return experimental_amplitude(config.amplitudes, scene.voxel_size, ring_count(scene.shape[1:]))


def _check_thickness(config: SimulationConfig) -> None:
    thickness, depth = config.reconstruction.thickness, config.scene.shape[0]
    if thickness is not None and thickness > depth:
        message = f"{thickness} voxels are more than the {depth} of the scene (scene.shape)"
        raise RequestError("reconstruction.thickness", message, f"choose at most {depth}")


def _check_placed(scene: Scene) -> None:
    """Raise an error if no particle could be placed."""
    if sum(scene.parameters["wanted"].values()) and not sum(scene.parameters["placed"].values()):
        message = f"no particle fits into {scene.potential.shape} voxels (z, y, x)"
        raise RequestError(
            "scene", message, "make scene.shape or scene.slab larger, or choose smaller species"
        )


def _scene_window(shape: tuple[int, ...], config: ReconstructionConfig) -> tuple[slice, ...]:
    """Slices of the scene that select the voxels of the reconstruction."""
    start = 0 if config.thickness is None else shape[0] // 2 - config.thickness // 2
    stop = shape[0] if config.thickness is None else start + config.thickness
    each = slice(None, None, config.binning)
    return slice(start, stop, config.binning), each, each


def _drop_particles_outside(scene: Scene, config: ReconstructionConfig) -> Scene:
    """Remove particles from the list whose centers are outside the reconstruction."""
    edge, positions = scene.voxel_size * config.binning, _tomogram_particles(scene, config).positions
    shape = np.array(scene.labels[_scene_window(scene.labels.shape, config)].shape)
    keep = ((positions >= -0.5 * edge) & (positions < (shape - 0.5) * edge)).all(axis=1)
    if keep.all():
        return scene
    particles = scene.particles.take(keep)
    numbers = np.array(scene.parameters["particles"]["instance"])[keep]
    left = Counter(particles.species.tolist())
    drawn = {
        "particles": {"instance": numbers.tolist()},
        "placed": {name: left[name] for name in scene.parameters["placed"]},
    }
    return replace(scene, particles=particles, parameters=scene.parameters | drawn)


def _tomogram_particles(scene: Scene, config: ReconstructionConfig) -> Particles:
    """Particles of the scene in the frame of the tomogram."""
    offset = origin(scene.labels.shape, scene.voxel_size, config)
    return replace(scene.particles, positions=scene.particles.positions - np.array(offset))
