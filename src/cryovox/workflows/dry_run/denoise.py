"""Denoising: predicted from a piece of the tomogram."""

from __future__ import annotations

from math import ceil, prod
from pathlib import Path

import numpy as np

from cryovox.core.intensity import Normalization
from cryovox.core.volume import Volume
from cryovox.formats import read_volume
from cryovox.workflows.config import DenoiseConfig
from cryovox.workflows.denoise import denoise_into, planes_of
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.dry_run.prediction import Prediction, mrc_bytes, seconds_of
from cryovox.workflows.inputs import expand
from cryovox.workflows.memory import CUDA_CONTEXT, resident

PROBE = (32, 96, 96)
"""Most voxels (z, y, x) of the piece that is filtered."""
PER_VOXEL = 3e-8
"""Seconds per voxel for statistics and files, measured on one core (2026)."""
HELD = {"ibf": 70, "bf": 40, "ngm": 24}
"""Bytes per voxel of a slab that a filter holds."""
SPARE = 64 << 20
"""Bytes for buffers and for pages of files on their way."""


def predict(
    tomograms: list[Path], config: DenoiseConfig | None = None, device: Device = "auto"
) -> list[Prediction]:
    """Predict time, memory and size of the outputs of :func:`cryovox.workflows.denoise.denoise`."""
    config, accelerator = (config or DenoiseConfig()).resolved(), choose_device(device)
    return [_of(name, path, config, accelerator) for name, path in expand(tomograms).items()]


def _of(name: str, path: Path, config: DenoiseConfig, device: str) -> Prediction:
    volume = read_volume(path, config.voxel_size)
    z, y, x = volume.shape
    planes, halo = min(z, planes_of(volume.shape, config.slab)), _halo(config)
    count = ceil(z / planes)
    read = z + (2 * halo * (count - 1) if count > 1 else 0)
    seconds = _per_voxel(volume, config, device) * read * y * x + PER_VOXEL * volume.data.size
    held = HELD[config.method] * (planes + (2 * halo if count > 1 else 0)) * y * x
    if config.method == "ngm":
        count += ceil(y / min(y, planes_of((y, z, x), config.slab)))
    on_gpu = device != "cpu"
    ram = resident() + SPARE + (12 * planes * y * x if on_gpu else held)
    vram = CUDA_CONTEXT + held if on_gpu else 0
    output = mrc_bytes(volume.shape, np.float32)
    return Prediction(name, volume.shape, f"{count} slabs", seconds, ram, vram, output)


def _halo(config: DenoiseConfig) -> int:
    """Planes on each side of a slab that are read with it."""
    if config.method == "ngm":
        return 0
    from cryovox.filters.bilateral import HALO

    return HALO[config.feature]


def _per_voxel(volume: Volume, config: DenoiseConfig, device: str) -> float:
    """Seconds per voxel, measured on a piece in the middle."""
    edges = [min(n, most) for n, most in zip(volume.shape, PROBE, strict=True)]
    middle = tuple(slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(volume.shape, edges, strict=True))
    values = np.asarray(volume.data[middle], np.float32)
    piece, out = Volume(values, volume.voxel_size), np.empty_like(values)
    normalize = Normalization(float(values.mean()), float(values.std()) or 1.0)

    def run() -> None:
        denoise_into(out, piece, normalize, config.model_copy(update={"slab": None}), device)

    run()  # the first pass also loads libraries
    return seconds_of(run) / prod(piece.shape)
