"""From templates and settings to a tomogram with everything that is true of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.volume import LabelMap, Volume
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.microscope import (
    ReconstructionConfig,
    TiltSeries,
    acquire,
    reconstruct,
    tilt_scheme,
)
from cryovox.simulate.microscope.detector import snr_of
from cryovox.simulate.microscope.experimental_spectrum import experimental_amplitude
from cryovox.simulate.microscope.reconstruct import origin
from cryovox.simulate.microscope.spectra import ring_count
from cryovox.simulate.particles.template import Template
from cryovox.simulate.scene import Scene, build_scene

SCENE, MICROSCOPE = 0, 1  # streams of random numbers that do not disturb each other


@dataclass(frozen=True, eq=False)
class SimulatedTomogram:
    """A tomogram and all that is true of it; particles are dark, as in a microscope.

    Attributes
    ----------
    tomogram
        What a user would have.
    clean
        The same without noise.
    halves
        Even and odd, or empty.
    labels, instances
        Species label and object number of every voxel.
    particles
        In the frame of the tomogram, with poses; only those whose centres it holds. Of the others, `labels`
        and `instances` show the part that it holds.
    scene
        The sample: potential in volts, the same particles in its own frame, what was drawn for it.
    series
        The tilt series as the camera recorded it, and what was drawn for it.
    snr
        Variance of `clean` over that of the noise in `tomogram`.
    noise_factor
        By what the recorded noise was multiplied to get there.
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
        """Every parameter that was drawn, as plain data."""
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
    on_progress: ProgressCallback = no_progress,
) -> SimulatedTomogram:
    """Simulate one tomogram.

    Parameters
    ----------
    templates
        In the order of the labels, at the voxel size of the scene.
    seed
        All that is random depends on these numbers alone.
    on_progress
        Receives the share that is done, under the name of the stage.
    """
    on_progress("scene", 0.0)
    _check_thickness(config)
    amplitudes = target_amplitudes(config)
    scene = build_scene(templates, config.scene, np.random.default_rng([*seed, SCENE]))
    _check_room(scene)
    scene = _without_particles_cut_off(scene, config.reconstruction)
    rng = np.random.default_rng([*seed, MICROSCOPE])
    tilts = tilt_scheme(config.tilts, rng)
    counting = int(rng.integers(2**63))
    on_progress("tilt series", 0.25)
    series = acquire(
        scene.potential,
        scene.voxel_size,
        tilts,
        config.optics,
        config.detector,
        seed=counting,
        device=device,
        beyond=config.beyond,
    )
    if amplitudes is not None:
        series = series.match_amplitudes(amplitudes)
    on_progress("reconstruction", 0.5)
    clean = _reconstructed(series.signal, series, scene, config, device)
    on_progress("reconstruction", 0.7)
    noise = _reconstructed(series.noise, series, scene, config, device)
    region = clean[:: max(1, len(clean) // 64)], noise[:: max(1, len(noise) // 64)]
    measured = snr_of(*region)
    factor = 1.0 if config.snr is None else float(np.sqrt(measured / config.snr))
    halves = _halves(series.scale_noise(factor), scene, config, device)
    noise *= np.float32(-factor)
    noise -= clean
    edge = scene.voxel_size * config.reconstruction.binning
    keep, species = _window(scene.labels.shape, config.reconstruction), scene.species
    return SimulatedTomogram(
        tomogram=Volume(noise, edge),
        clean=Volume(-clean, edge),
        halves=tuple(Volume(-half, edge) for half in halves),
        labels=LabelMap(np.ascontiguousarray(scene.labels[keep]), edge, species),
        instances=np.ascontiguousarray(scene.instances[keep]),
        particles=_moved(scene, config.reconstruction),
        scene=scene,
        series=series,
        snr=measured / factor**2,
        noise_factor=factor,
    )


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


def _check_room(scene: Scene) -> None:
    """Refuse a scene of which all particles were left out."""
    if sum(scene.parameters["wanted"].values()) and not sum(scene.parameters["placed"].values()):
        told = f"none of the particles finds room in {scene.potential.shape} voxels (z, y, x)"
        raise RequestError("scene", told, "make scene.shape or scene.slab larger, or choose smaller species")


def _reconstructed(
    images: NDArray[np.float32], series: TiltSeries, scene: Scene, config: SimulationConfig, device: str
) -> NDArray[np.float32]:
    shape = scene.potential.shape
    return reconstruct(
        images,
        series.tilts,
        shape,
        scene.voxel_size,
        config.reconstruction,
        optics=config.optics,
        device=device,
    )


def _halves(
    series: TiltSeries, scene: Scene, config: SimulationConfig, device: str
) -> list[NDArray[np.float32]]:
    if config.halves == "none":
        return []
    parts = series.halves()
    return [_reconstructed(part.contrast, part, scene, config, device) for part in parts]


def _window(shape: tuple[int, ...], config: ReconstructionConfig) -> tuple[slice, ...]:
    """Voxels of the scene at which the reconstruction has its own."""
    start = 0 if config.thickness is None else shape[0] // 2 - config.thickness // 2
    stop = shape[0] if config.thickness is None else start + config.thickness
    each = slice(None, None, config.binning)
    return slice(start, stop, config.binning), each, each


def _without_particles_cut_off(scene: Scene, config: ReconstructionConfig) -> Scene:
    """The scene, listing only particles whose centres lie in a voxel of the reconstruction."""
    edge, moved = scene.voxel_size * config.binning, _moved(scene, config).positions
    shape = np.array(scene.labels[_window(scene.labels.shape, config)].shape)
    keep = ((moved >= -0.5 * edge) & (moved < (shape - 0.5) * edge)).all(axis=1)
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


def _moved(scene: Scene, config: ReconstructionConfig) -> Particles:
    """The scene's particles, counted from the first voxel of the tomogram."""
    offset = origin(scene.labels.shape, scene.voxel_size, config)
    return replace(scene.particles, positions=scene.particles.positions - np.array(offset))
