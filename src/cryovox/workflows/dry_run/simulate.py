"""Simulation: predicted from a smaller scene."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.microscope import tilt_scheme
from cryovox.simulate.tomogram import simulate
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.dry_run.prediction import Prediction, mrc_bytes, seconds_of
from cryovox.workflows.memory import CUDA_CONTEXT, resident
from cryovox.workflows.simulation.match import match_config, measure_tomogram
from cryovox.workflows.simulation.tomogram import Keep, SimulateTomogram

PROBE = 64
"""Voxels along y and x of the scene that is simulated, if its particles fit."""
SCENE, RECONSTRUCTED, IMAGE = 14, 16, 40
"""Bytes per voxel of the scene and of a reconstruction, and per pixel of the tilt series."""
WEIGHT = 2 * 4 * 8
"""Bytes of the weights of a voxel (z, x) in a projection, twice while they are joined."""
SPARE = 64 << 20
"""Bytes for buffers."""


def predict(
    config: SimulationConfig,
    count: int = 1,
    *,
    structures: Path | None = None,
    match: Path | None = None,
    name: str | None = None,
    keep: Keep | None = None,
    device: Device = "auto",
    seed: int = 0,
) -> list[Prediction]:
    """Predict time, memory and size of :func:`cryovox.workflows.simulation.dataset.simulate_dataset`.

    The size is that of the volumes; lists of particles and drawn parameters come on top.
    """
    statistics = None if match is None else measure_tomogram(match)
    config = config if statistics is None else match_config(config, statistics)
    accelerator = choose_device(device)
    job = SimulateTomogram(Path(), config, seed, structures, keep or Keep(), accelerator, "", statistics)
    seconds, held = _seconds(job), resident()
    tilts = len(tilt_scheme(config.tilts, np.random.default_rng(0)))
    ram = held + SPARE + _bytes(config, tilts)
    vram = 0 if accelerator == "cpu" else CUDA_CONTEXT + _bytes(config, tilts)
    facts = tomogram_shape(config), f"{tilts} tilts", seconds, ram, vram, _output(job, tilts)
    return [Prediction(f"{name or 'sim'}_{number:03d}", *facts) for number in range(count)]


def tomogram_shape(config: SimulationConfig) -> tuple[int, int, int]:
    """Voxels of the reconstruction."""
    (z, y, x), binning = config.scene.shape, config.reconstruction.binning
    return (config.reconstruction.thickness or z) // binning, y // binning, x // binning


def _seconds(job: SimulateTomogram) -> float:
    """Time of one tomogram: that of a smaller scene times the ratio of the volumes.

    The scene is enlarged until its particles fit.
    """
    y, x = job.config.scene.shape[1:]
    edge = PROBE
    while True:
        small = replace(job, config=_cropped(job.config, min(edge, y), min(edge, x)))
        ratio = prod(job.config.scene.shape) / prod(small.config.scene.shape)
        try:
            return ratio * seconds_of(
                lambda: simulate(small.templates, small.config, (job.seed, 0), device=job.device)  # noqa: B023
            )
        except (RequestError, ValueError):
            if ratio == 1:
                raise
            edge *= 2


def _cropped(config: SimulationConfig, y: int, x: int) -> SimulationConfig:
    """The same sample with less extent in y and x, and with as many particles per area."""
    scene, binning = config.scene, config.reconstruction.binning
    y, x = (n // binning * binning for n in (y, x))
    share = y * x / prod(scene.shape[1:])

    def scaled(count: int | None) -> int | None:
        return None if count is None else round(share * count)

    parts = {
        kind: getattr(scene, kind).model_copy(update={"count": scaled(getattr(scene, kind).count)})
        for kind in ("vesicles", "sheets", "filaments", "fiducials", "ice")
    }
    counts = (
        None
        if scene.counts is None
        else {name: max(1, round(share * number)) for name, number in scene.counts.items()}
    )
    shape = (scene.shape[0], y, x)
    return config.model_copy(
        update={"scene": scene.model_copy(update={**parts, "shape": shape, "counts": counts})}
    )


def _bytes(config: SimulationConfig, tilts: int) -> int:
    """Scene, tilt series, weights of the projections and reconstructions."""
    z, y, x = config.scene.shape
    halves = 0 if config.halves == "none" else 2
    voxels = prod(tomogram_shape(config))
    weights = WEIGHT * tilts * z * x * (2 if config.beyond == "mirror" else 1)
    return SCENE * z * y * x + (RECONSTRUCTED + 4 * halves) * voxels + IMAGE * tilts * y * x + weights


def _output(job: SimulateTomogram, tilts: int) -> int:
    """Bytes of the volumes."""
    shape, (_, y, x) = tomogram_shape(job.config), job.config.scene.shape
    kinds = {"tomogram": np.float32, "labels": np.uint8, "even": np.float32, "odd": np.float32}
    kinds |= {"clean": np.float32, "instances": np.uint16}
    own = {kind for kind in job.files("sim_000") if kind in kinds}
    series = 2 * mrc_bytes((tilts, y, x), np.float32) if job.keep.series else 0
    return sum(mrc_bytes(shape, kinds[kind]) for kind in own) + series
