"""Small labeled phantoms for the demonstration and the tests: simple shapes, missing wedge, noise.

There is no CTF, no tilt series and no crowding; networks trained on phantoms do not work on real data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation

from cryovox.core.config import Config
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import LabelMap, Volume

SPECIES = (Species(name="capsid", label=1, radius=70.0), Species(name="dumbbell", label=2, radius=70.0))
"""A hollow sphere, and two spheres joined by a rod."""


class PhantomConfig(Config):
    """Settings of a phantom."""

    shape: tuple[int, int, int] = (48, 96, 96)
    """Size in voxels (z, y, x)."""
    voxel_size: float = Field(14.0, gt=0)
    """Voxel size in Å."""
    count: int = Field(14, ge=0)
    """Number of particles of each species, as far as they fit."""
    snr: float = Field(0.2, gt=0)
    """Signal-to-noise ratio: variance of the density inside particles over that of the noise, before
    smoothing."""
    tilt: float = Field(60.0, gt=0, le=90)
    """Maximum tilt in degrees about y."""
    dark: bool = True
    """Particles are dark."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """A phantom with its ground truth."""

    volume: Volume
    labels: LabelMap
    particles: Particles


def phantom(config: PhantomConfig, rng: np.random.Generator) -> Phantom:
    """Draw one phantom."""
    voxel = config.voxel_size
    density = np.zeros(config.shape, np.float32)
    labels = np.zeros(config.shape, np.uint8)
    order = [species for species in SPECIES for _ in range(config.count)]
    rng.shuffle(order)
    centers, placed, rotations = _place(order, config, rng)
    for center, species, rotation in zip(centers, placed, rotations, strict=True):
        _draw(density, labels, center, species, rotation, voxel)
    signal = density[labels > 0].var() if len(centers) else 1.0
    noise = rng.standard_normal(config.shape, dtype=np.float32) * np.float32(np.sqrt(signal / config.snr))
    image = ndimage.gaussian_filter(density, 0.7) + ndimage.gaussian_filter(noise, 0.5)
    image = wedge_filter(image, config.tilt)
    image = (-image if config.dark else image).astype(np.float32)
    particles = Particles.of(
        np.array(centers).reshape(-1, 3) * voxel, [k.name for k in placed], rotations=rotations
    )
    return Phantom(Volume(image, voxel), LabelMap(labels, voxel, SPECIES), particles)


def wedge_filter(volume: NDArray[np.float32], tilt: float) -> NDArray[np.float32]:
    """Set the missing wedge of tilts from -*tilt* to *tilt* degrees about y to zero."""
    kz = fft.fftfreq(volume.shape[0])[:, None, None]
    kx = fft.rfftfreq(volume.shape[2])[None, None, :]
    measured = np.abs(kz) <= np.abs(kx) * np.tan(np.deg2rad(min(tilt, 89.99))) + 1e-9
    return fft.irfftn(fft.rfftn(volume) * measured, s=volume.shape).astype(np.float32)


def _place(
    order: list[Species], config: PhantomConfig, rng: np.random.Generator
) -> tuple[list[NDArray[np.float64]], list[Species], NDArray[np.float64]]:
    """Random positions at least 2.2 radii apart and one radius from the faces."""
    centers: list[NDArray[np.float64]] = []
    placed: list[Species] = []
    for species in order:
        radius = species.radius / config.voxel_size
        limit = np.array(config.shape) - 1 - radius
        if (limit < radius).any():
            continue
        for _ in range(200):
            center = rng.uniform(radius, limit)
            if all(np.linalg.norm(center - other) > 2.2 * radius for other in centers):
                centers.append(center)
                placed.append(species)
                break
    rotations = (
        Rotation.random(len(centers), random_state=rng).as_matrix() if centers else np.zeros((0, 3, 3))
    )
    return centers, placed, rotations


def _draw(
    density: NDArray[np.float32],
    labels: NDArray[np.uint8],
    center: NDArray[np.float64],
    species: Species,
    rotation: NDArray[np.float64],
    voxel: float,
) -> None:
    reach = int(np.ceil(species.radius / voxel)) + 1
    low = np.maximum(np.floor(center).astype(int) - reach, 0)
    high = np.minimum(np.floor(center).astype(int) + reach + 2, density.shape)
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    grid = np.stack(
        np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij"), -1
    )
    xyz = ((grid - center) * voxel)[..., ::-1] @ rotation  # into the reference frame: R^T v
    body = _capsid(xyz, species.radius) if species.name == "capsid" else _dumbbell(xyz, species.radius)
    density[window] = np.maximum(density[window], body)
    labels[window][body > 0.5] = species.label


def _capsid(xyz: NDArray[np.float64], radius: float) -> NDArray[np.float32]:
    distance = np.linalg.norm(xyz, axis=-1)
    return _sigmoid_edge(0.22 * radius - np.abs(distance - 0.76 * radius), radius)


def _dumbbell(xyz: NDArray[np.float64], radius: float) -> NDArray[np.float32]:
    end = np.array([0.55 * radius, 0.0, 0.0])
    along = np.clip(xyz[..., 0], -0.55 * radius, 0.55 * radius)
    rod = np.linalg.norm(xyz - along[..., None] * np.array([1.0, 0, 0]), axis=-1)
    ends = np.minimum(np.linalg.norm(xyz - end, axis=-1), np.linalg.norm(xyz + end, axis=-1))
    return np.maximum(_sigmoid_edge(0.2 * radius - rod, radius), _sigmoid_edge(0.42 * radius - ends, radius))


def _sigmoid_edge(depth: NDArray[np.float64], radius: float) -> NDArray[np.float32]:
    """Density at a depth below a surface: a sigmoid of width 0.06 radii."""
    return (1 / (1 + np.exp(-depth / (0.06 * radius)))).astype(np.float32)
