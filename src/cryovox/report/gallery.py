"""One small picture of a tomogram with its picks, for pages over many tomograms."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import Volume, release_pages
from cryovox.report.planes import binned

SIDE = 216
"""Pixels along the longer side."""
SCALE = 2
"""Rings are drawn this much larger and then reduced, which smooths them."""
LIMITS = (1.0, 99.0)
"""Percentiles of a slice that become black and white."""
THICKNESS = 60.0
"""Thickness of a slice in Å."""


def picture(
    volume: Volume, picks: Particles, species: tuple[Species, ...], colors: tuple[str, ...], sign: int = -1
) -> bytes:
    """JPEG image of the slice with most picks; row 0 is at the highest y, particles are dark.

    Parameters
    ----------
    species
        Names and radii; picks of others are not drawn.
    colors
        Colors of *species*, as ``#rrggbb``.
    sign
        +1 if particles are bright in the volume: then it is inverted.
    """
    z = _densest(volume, picks)
    half = max(0, round(THICKNESS / volume.voxel_size / 2))
    block = np.array(volume.data[max(0, z - half) : z + half + 1], dtype=np.float32)
    release_pages(volume.data)
    pixel = max(1, -(-max(volume.shape[1:]) // (SIDE * SCALE)))
    plane = binned(np.nan_to_num(block, posinf=0, neginf=0).mean(axis=0), pixel)
    low, high = np.percentile(plane, LIMITS)
    gray = np.clip((plane - low) * (255 / max(float(high - low), 1e-6)), 0, 255)
    image = Image.fromarray((255 - gray if sign > 0 else gray)[::-1].astype(np.uint8)).convert("RGB")
    factor = SIDE * SCALE / max(image.size)
    image = image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))
    drawing = ImageDraw.Draw(image)
    for center, radius, color in _rings(volume, picks, species, colors, z):
        x = (center[2] + 0.5) / pixel * factor
        y = image.height - (center[1] + 0.5) / pixel * factor
        size = max(4.0, radius / pixel * factor)
        drawing.ellipse((x - size, y - size, x + size, y + size), outline=color, width=2 * SCALE - 1)
    raw = io.BytesIO()
    image.resize((image.width // SCALE, image.height // SCALE), Image.Resampling.LANCZOS).save(
        raw, "jpeg", quality=72, optimize=True
    )
    return raw.getvalue()


def _densest(volume: Volume, picks: Particles) -> int:
    """Slice with most picks nearby; the middle one without picks."""
    count = volume.shape[0]
    if not len(picks):
        return count // 2
    z = np.clip(np.rint(picks.positions[:, 0] / volume.voxel_size).astype(int), 0, count - 1)
    width = max(1, round(THICKNESS / volume.voxel_size))
    weights = np.bartlett(2 * width + 3)[1:-1]  # near picks count more
    near = np.convolve(np.bincount(z, minlength=count), weights)[width : width + count]
    return int(near.argmax())


def _rings(
    volume: Volume, picks: Particles, species: tuple[Species, ...], colors: tuple[str, ...], z: int
) -> list[tuple[NDArray[np.float64], float, str]]:
    """Center in voxels, radius in voxels and color of the circles in which particles cut a slice."""
    rings = []
    for kind, color in zip(species, colors, strict=True):
        centers = picks.named(kind.name).positions / volume.voxel_size
        radius = kind.radius / volume.voxel_size
        squared = radius**2 - (centers[:, 0] - z) ** 2
        rings += [(c, float(s) ** 0.5, color) for c, s in zip(centers, squared, strict=True) if s > 0]
    return rings
