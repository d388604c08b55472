"""Templates from density maps: masked, resampled and scaled to volts.

The solvent is set to zero, dust is removed, the particle is centered, and its potential is scaled such that
the integral is that of a protein of its mass. Maps with several particles are refused, or split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from cryovox.core.errors import RequestError
from cryovox.core.volume import Volume, check_voxel_size
from cryovox.simulate.particles.support import PROTEIN_VOLUME, Molecule, finish_template, low_pass
from cryovox.simulate.particles.template import Template

PROTEIN_INTEGRAL = 4.08
"""V·Å³ per Da above ice: the mean of `from_atoms` for proteins."""

_CONTOUR = 0.3
"""Contour level relative to the plateau."""
_PLATEAU_RATIO = 1.33
"""Integral over plateau and molecular volume of a protein near 10 Å: the inside is uneven and the plateau
its upper end. Measured on 14 maps whose structures are known: 1.18 to 1.49."""
_MIN_SIGMA = 4.0
"""Minimum contour level in standard deviations of the border."""
_MIN_SIZE = 0.2
"""Minimum size of a further particle, relative to the largest."""
_FADE_START, _FADE_WIDTH = 15.0, 10.0
"""Distance in Å from the contour at which the mask begins to fade, and the width of the fade."""
_NEGLIGIBLE = 0.02
"""Value relative to the plateau below which voxels are cropped."""
_COMPLETE = (0.75, 1.4)
"""Range of the mass of a map relative to that of its structure without a warning."""
_HALF = 0.6
"""Highest such mass that is called half: a map with more of it lacks flexible parts, not a copy."""


@dataclass(frozen=True, eq=False)
class _MapParticle:
    """One particle of a map: masked data, plateau of the map, volume in Å³ within the contour."""

    data: NDArray[np.float32]
    voxel_size: float
    plateau: float
    volume: float


def from_map(
    volume: Volume,
    voxel_size: float,
    *,
    threshold: float | None = None,
    mass: float | None = None,
    resolution: float | None = None,
    name: str = "map",
) -> Template:
    """Template of a map of one particle, bright on dark.

    Parameters
    ----------
    volume : (z, y, x)
    voxel_size
        Voxel size of the template in Å.
    threshold
        Contour level of the map; by default from its plateau and the noise at its border.
    mass
        kDa; by default estimated as for protein from the volume within *threshold*, or else from the
        integral divided by the plateau.
    resolution
        Resolution in Å of a Gaussian low-pass filter (1/e at 1/resolution); by default two voxels if the
        map is resampled to larger voxels, else none.
    name
        Name of the species.

    Returns
    -------
    Template
        `facts["centre"]` is its center in the map: (x, y, z) in Å from the center of voxel 0.

    Raises
    ------
    RequestError
        If the map contains no particle or more than one.
    """
    particles = _find_particles(volume, threshold, name)
    if len(particles) > 1:
        message = f"holds {len(particles)} particles of comparable size"
        raise RequestError(name, message, "split it (split_map), or use a map or structure of one particle")
    return _template(particles[0], voxel_size, threshold is not None, mass, resolution, name)


def split_map(
    volume: Volume,
    voxel_size: float,
    *,
    threshold: float | None = None,
    mass: float | None = None,
    resolution: float | None = None,
    name: str = "map",
) -> list[Template]:
    """One template per particle of a map, the largest first; see `from_map`.

    *mass* is that of one particle. Several particles get numbered names.
    """
    particles = _find_particles(volume, threshold, name)
    names = [name] if len(particles) == 1 else [f"{name}-{k + 1}" for k in range(len(particles))]
    return [
        _template(particle, voxel_size, threshold is not None, mass, resolution, message)
        for particle, message in zip(particles, names, strict=True)
    ]


def check_map_mass(template: Template | float, structure_mass: float) -> str | None:
    """Compare the mass of a map with that of one biological assembly.

    Parameters
    ----------
    template
        Template of the map, or its mass in kDa.
    structure_mass
        Mass of the biological assembly in kDa, with hydrogens (`Atoms.full_mass`).

    Returns
    -------
    str or None
        A warning, or None if the masses agree within the uncertainty of the estimate.

    Examples
    --------
    >>> check_map_mass(130.0, 260.0)
    'this map holds half of the biological assembly (about 130 of 260 kDa)'
    """
    mass = template.mass if isinstance(template, Template) else template
    if mass <= 0 or structure_mass <= 0:
        raise ValueError(f"masses are positive, got {mass} and {structure_mass} kDa")
    ratio = mass / structure_mass
    if _COMPLETE[0] <= ratio <= _COMPLETE[1]:
        return None
    if _HALF < ratio < 1:
        amount = f"{100 * ratio:.0f} %"
    elif ratio < 1:
        parts = max(2, round(1 / ratio))
        amount = {2: "half", 3: "a third", 4: "a quarter"}.get(parts, f"1/{parts}")
    else:
        amount = f"{max(2, round(ratio))} copies"
    masses = f"about {mass:.0f} of {structure_mass:.0f} kDa"
    return f"this map holds {amount} of the biological assembly ({masses})"


def _find_particles(volume: Volume, threshold: float | None, name: str) -> list[_MapParticle]:
    """Particles of a map, the largest first."""
    data, noise, background = _subtract_background(volume, name)
    peak = float(data.max())
    plateau = float(np.quantile(data[data >= _CONTOUR * peak], 0.95)) if peak > 0 else 0.0
    contour = max(_CONTOUR * plateau, _MIN_SIGMA * noise) if threshold is None else threshold - background
    if not 0 < contour < peak:
        message = f"nothing stands out above {contour + background:.3g}"
        raise RequestError(
            name, message, "give a threshold between the solvent and the particle; bright is positive"
        )
    labels = cc3d.connected_components((data > contour).astype(np.uint8), connectivity=26)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = [int(k) for k in np.argsort(-sizes, kind="stable") if sizes[k] >= _MIN_SIZE * sizes.max()]
    distance, nearest = ndimage.distance_transform_edt(
        labels == 0, sampling=volume.voxel_size, return_indices=True
    )
    fade = 0.5 + 0.5 * np.cos(np.pi * np.clip((distance - _FADE_START) / _FADE_WIDTH, 0, 1))
    nearest_label = labels[tuple(nearest)]
    return [
        _MapParticle(
            (data * fade * (nearest_label == k)).astype(np.float32),
            volume.voxel_size,
            plateau,
            float(sizes[k]) * volume.voxel_size**3,
        )
        for k in kept
    ]


def _subtract_background(volume: Volume, name: str) -> tuple[NDArray[np.float32], float, float]:
    """The map without its background, the standard deviation of the solvent, and the background."""
    data = np.asarray(volume.data, np.float32)
    if min(data.shape) < 3 or not np.isfinite(data).all():
        raise RequestError(name, "has an axis of few voxels, or contains NaN", "correct or crop the map")
    faces = [np.moveaxis(data, axis, 0)[[0, -1]].ravel() for axis in range(3)]
    border = np.concatenate(faces)
    background = float(np.median(border))
    noise = 1.4826 * float(np.median(np.abs(border - background)))
    return data - np.float32(background), noise, background


def _template(
    particle: _MapParticle,
    voxel_size: float,
    has_threshold: bool,
    mass: float | None,
    resolution: float | None,
    name: str,
) -> Template:
    check_voxel_size(voxel_size)
    if resolution is None:
        resolution = 2 * voxel_size if voxel_size > 1.05 * particle.voxel_size else 0.0
    data, corner = _crop(particle.data, _NEGLIGIBLE * particle.plateau)
    total = float(data.sum(dtype=np.float64))
    center = _center_of_mass(data)
    at = np.argwhere(data > _NEGLIGIBLE * particle.plateau)
    reach = np.abs(at - center).max() * particle.voxel_size + 0.5 * resolution
    n = 2 * int(np.ceil(reach / voxel_size + 1)) + 1
    density = _resample(data, center, particle.voxel_size, voxel_size, n, resolution)
    estimated = mass is None
    if mass is None:
        volume = total * particle.voxel_size**3 / particle.plateau / _PLATEAU_RATIO
        mass = (particle.volume if has_threshold else volume) / PROTEIN_VOLUME / 1e3
    facts: dict[str, Any] = {
        "resolution": resolution or None,
        "mass_estimated": estimated,
        "centre": tuple(round(float(x) * particle.voxel_size, 3) for x in (center + corner)[::-1]),
    }
    molecule = Molecule(mass, 1e3 * mass * PROTEIN_VOLUME, 1e3 * mass * PROTEIN_INTEGRAL)
    return finish_template(name, density, voxel_size, molecule, facts)


def _crop(data: NDArray[np.float32], level: float) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Crop to the values above *level*; returns the box and its lowest corner."""
    at = np.argwhere(np.abs(data) > level)
    low, high = at.min(axis=0), at.max(axis=0) + 1
    return data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], low


def _center_of_mass(data: NDArray[np.float32]) -> NDArray[np.float64]:
    sums = [data.sum(axis=drop, dtype=np.float64) for drop in ((1, 2), (0, 2), (0, 1))]
    return np.array([(line * np.arange(len(line))).sum() / line.sum() for line in sums])


def _resample(
    data: NDArray[np.float32], center: NDArray[np.float64], old: float, new: float, n: int, resolution: float
) -> NDArray[np.float32]:
    """Low-pass filter and resample to an odd cube of voxels of *new* Å around *center* (in old voxels).

    Trigonometric interpolation, which for points on a grid is a matrix product along each axis.
    """
    pad = 4 + int(np.ceil((2 * resolution + 4 * new) / old))
    padded = np.pad(data, pad)
    full = [fft.fftfreq(size, old).astype(np.float32) for size in padded.shape[:2]]
    half = fft.rfftfreq(padded.shape[2], old).astype(np.float32)
    s = np.sqrt(full[0][:, None, None] ** 2 + full[1][None, :, None] ** 2 + half[None, None, :] ** 2)
    resampled = fft.irfftn(fft.rfftn(padded) * low_pass(s, resolution, new), s=padded.shape)
    for axis, size in enumerate(padded.shape):
        points = center[axis] + pad + (np.arange(n) - n // 2) * new / old
        matrix = _interpolation_matrix(points, size)
        resampled = np.moveaxis(np.tensordot(matrix, resampled, (1, axis)), 0, axis)
    return np.ascontiguousarray(resampled, np.float32)


def _interpolation_matrix(points: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """Trigonometric interpolation matrix from samples to *points*; 0 beyond the samples."""
    shift = points[:, None] - np.arange(size)
    waves = np.arange(1, (size - 1) // 2 + 1)
    kernel = 1 + 2 * np.cos(2 * np.pi / size * shift[..., None] * waves).sum(axis=-1)
    if size % 2 == 0:
        kernel += np.cos(np.pi * shift)
    inside = (points >= 0) & (points <= size - 1)
    return (kernel / size * inside[:, None]).astype(np.float32)
