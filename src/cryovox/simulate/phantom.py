"""Small labelled tomograms in a second: simple bodies, a missing wedge, noise.

They serve the demonstration and the tests. They are phantoms, not physics: no CTF, no tilt series,
no crowding; a network trained on them is of no use on real data.
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

SPECIES = (
    Species(name="capsid", label=1, radius=70.0),
    Species(name="dumbbell", label=2, radius=70.0),
)
"""A hollow sphere, and two balls joined by a rod."""


class PhantomConfig(Config):
    """What a phantom looks like."""

    shape: tuple[int, int, int] = (48, 96, 96)
    """Size in voxels (z, y, x)."""
    voxel_size: float = Field(14.0, gt=0)
    """Edge of a voxel in Å."""
    count: int = Field(14, ge=0)
    """Particles of each species, as far as they find room."""
    snr: float = Field(0.2, gt=0)
    """Variance of the particles' signal, inside them, over that of the noise, before both are
    smoothed a little."""
    tilt: float = Field(60.0, gt=0, le=90)
    """Largest tilt in degrees about y; what lies beyond is the missing wedge."""
    dark: bool = True
    """Particles are dark."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """A tomogram and its truth."""

    volume: Volume
    labels: LabelMap
    particles: Particles


def phantom(config: PhantomConfig, rng: np.random.Generator) -> Phantom:
    """Draw one phantom."""
    voxel = config.voxel_size
    density = np.zeros(config.shape, np.float32)
    labels = np.zeros(config.shape, np.uint8)
    order = [kind for kind in SPECIES for _ in range(config.count)]
    rng.shuffle(order)
    centres, kinds, turns = _place(order, config, rng)
    for centre, kind, turn in zip(centres, kinds, turns, strict=True):
        _draw(density, labels, centre, kind, turn, voxel)
    signal = density[labels > 0].var() if len(centres) else 1.0
    noise = rng.standard_normal(config.shape, dtype=np.float32) * np.float32(np.sqrt(signal / config.snr))
    seen = ndimage.gaussian_filter(density, 0.7) + ndimage.gaussian_filter(noise, 0.5)
    seen = wedge_filter(seen, config.tilt)
    seen = (-seen if config.dark else seen).astype(np.float32)
    particles = Particles.of(
        np.array(centres).reshape(-1, 3) * voxel, [k.name for k in kinds], rotations=turns
    )
    return Phantom(Volume(seen, voxel), LabelMap(labels, voxel, SPECIES), particles)


def wedge_filter(volume: NDArray[np.float32], tilt: float) -> NDArray[np.float32]:
    """Remove the frequencies that no tilt within +-*tilt* degrees about y has measured."""
    kz = fft.fftfreq(volume.shape[0])[:, None, None]
    kx = fft.rfftfreq(volume.shape[2])[None, None, :]
    seen = np.abs(kz) <= np.abs(kx) * np.tan(np.deg2rad(min(tilt, 89.99))) + 1e-9
    return fft.irfftn(fft.rfftn(volume) * seen, s=volume.shape).astype(np.float32)


def _place(
    order: list[Species], config: PhantomConfig, rng: np.random.Generator
) -> tuple[list[NDArray[np.float64]], list[Species], NDArray[np.float64]]:
    """Random places at least two radii apart and one radius from the faces."""
    centres: list[NDArray[np.float64]] = []
    kinds: list[Species] = []
    for kind in order:
        radius = kind.radius / config.voxel_size
        room = np.array(config.shape) - 1 - radius
        if (room < radius).any():
            continue
        for _ in range(200):
            centre = rng.uniform(radius, room)
            if all(np.linalg.norm(centre - other) > 2.2 * radius for other in centres):
                centres.append(centre)
                kinds.append(kind)
                break
    turns = Rotation.random(len(centres), random_state=rng).as_matrix() if centres else np.zeros((0, 3, 3))
    return centres, kinds, turns


def _draw(
    density: NDArray[np.float32],
    labels: NDArray[np.uint8],
    centre: NDArray[np.float64],
    kind: Species,
    turn: NDArray[np.float64],
    voxel: float,
) -> None:
    reach = int(np.ceil(kind.radius / voxel)) + 1
    low = np.maximum(np.floor(centre).astype(int) - reach, 0)
    high = np.minimum(np.floor(centre).astype(int) + reach + 2, density.shape)
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    grid = np.stack(
        np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij"), -1
    )
    xyz = ((grid - centre) * voxel)[..., ::-1] @ turn  # into the frame of the reference: R^T v
    body = _capsid(xyz, kind.radius) if kind.name == "capsid" else _dumbbell(xyz, kind.radius)
    density[window] = np.maximum(density[window], body)
    labels[window][body > 0.5] = kind.label


def _capsid(xyz: NDArray[np.float64], radius: float) -> NDArray[np.float32]:
    distance = np.linalg.norm(xyz, axis=-1)
    return _soft(0.22 * radius - np.abs(distance - 0.76 * radius), radius)


def _dumbbell(xyz: NDArray[np.float64], radius: float) -> NDArray[np.float32]:
    end = np.array([0.55 * radius, 0.0, 0.0])
    along = np.clip(xyz[..., 0], -0.55 * radius, 0.55 * radius)
    rod = np.linalg.norm(xyz - along[..., None] * np.array([1.0, 0, 0]), axis=-1)
    ends = np.minimum(
        np.linalg.norm(xyz - end, axis=-1),
        np.linalg.norm(xyz + end, axis=-1),
    )
    return np.maximum(_soft(0.2 * radius - rod, radius), _soft(0.42 * radius - ends, radius))


def _soft(depth: NDArray[np.float64], radius: float) -> NDArray[np.float32]:
    """From depth below a surface to density, with a flank of a tenth of the radius."""
    return (1 / (1 + np.exp(-depth / (0.06 * radius)))).astype(np.float32)
