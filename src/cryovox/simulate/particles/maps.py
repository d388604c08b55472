"""Templates from maps that others made: cleaned, resampled, and given volts.

A map's numbers have no unit and its solvent is full of what a template should not hold. Here the
solvent is set to zero, dust is removed, the particle is centred, and its potential is scaled so that the
integral is that of a protein of its mass. A map with several particles is refused, or split.
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
"""V·Å³ per Da above ice: the mean of what `from_atoms` finds for proteins."""

_CONTOUR = 0.3
"""Share of the plateau above which voxels belong to a particle."""
_PLATEAU = 1.33
"""Integral over plateau and molecular volume of a protein near 10 Å: the inside is uneven and the plateau
its upper end. Measured on 14 maps whose structures are known: 1.18 to 1.49."""
_NOISE = 4.0
"""Standard deviations of the border that a contour must be above."""
_COMPARABLE = 0.2
"""A piece of at least this share of the largest is a particle of its own."""
_REACH, _FADE = 15.0, 10.0
"""Å beyond the contour that still belong to the particle, and over which it is then faded to zero."""
_VISIBLE = 0.02
"""Share of the plateau below which a voxel needs no room in the template."""
_WHOLE = (0.75, 1.4)
"""Mass of a map over that of its structure within which nobody is told anything."""


@dataclass(frozen=True, eq=False)
class _Piece:
    """One particle in a map of its own: solvent zero; the plateau of the map; Å³ within the contour."""

    data: NDArray[np.float32]
    voxel_size: float
    plateau: float
    room: float


def from_map(
    volume: Volume,
    voxel_size: float,
    *,
    threshold: float | None = None,
    mass: float | None = None,
    resolution: float | None = None,
    name: str = "map",
) -> Template:
    """Template of the one particle in a map; bright on dark.

    Parameters
    ----------
    volume : (z, y, x)
    voxel_size
        Of the template, in Å.
    threshold
        Contour in the map's own numbers; by default from its plateau and the noise at its border.
    mass
        kDa; by default estimated as for protein: from the contour's volume where a threshold is given,
        else from the integral over the plateau.
    resolution
        In Å, of a further Gaussian low-pass (1/e at 1/resolution); by default two voxels where the map
        is made coarser, none else.
    name
        Of the species.

    Returns
    -------
    Template
        `facts["centre"]` is where its centre lies in the map: x, y, z in Å from the centre of voxel 0.

    Raises
    ------
    RequestError
        Where nothing stands out, or more than one particle does.
    """
    pieces = _pieces(volume, threshold, name)
    if len(pieces) > 1:
        told = f"holds {len(pieces)} pieces of comparable size, so more than one particle"
        raise RequestError(name, told, "split it (split_map), or use a map or structure of one particle")
    return _template(pieces[0], voxel_size, threshold is not None, mass, resolution, name)


def split_map(
    volume: Volume,
    voxel_size: float,
    *,
    threshold: float | None = None,
    mass: float | None = None,
    resolution: float | None = None,
    name: str = "map",
) -> list[Template]:
    """One template for each particle in a map, the largest first; see `from_map`.

    *mass* is that of one particle. Where there are several, their names get a number.
    """
    pieces = _pieces(volume, threshold, name)
    names = [name] if len(pieces) == 1 else [f"{name}-{k + 1}" for k in range(len(pieces))]
    return [
        _template(piece, voxel_size, threshold is not None, mass, resolution, told)
        for piece, told in zip(pieces, names, strict=True)
    ]


def check_map_mass(found: Template | float, structure_mass: float) -> str | None:
    """Say so where a map does not hold one biological assembly.

    Parameters
    ----------
    found
        Template of the map, or its mass in kDa.
    structure_mass
        kDa of the biological assembly, hydrogens included (`Atoms.full_mass`).

    Returns
    -------
    str or None
        A sentence, or None where the masses agree as well as a map's mass can be estimated.

    Examples
    --------
    >>> suspect(130.0, 260.0)
    'this map holds half of the biological assembly (about 130 of 260 kDa)'
    """
    mass = found.mass if isinstance(found, Template) else found
    if mass <= 0 or structure_mass <= 0:
        raise ValueError(f"masses are positive, got {mass} and {structure_mass} kDa")
    ratio = mass / structure_mass
    if _WHOLE[0] <= ratio <= _WHOLE[1]:
        return None
    if ratio < 1:
        parts = max(2, round(1 / ratio))
        told = {2: "half", 3: "a third", 4: "a quarter"}.get(
            parts, f"1/{parts}"
        ) + " of the biological assembly"
    else:
        told = f"{max(2, round(ratio))} copies of the biological assembly"
    return f"this map holds {told} (about {mass:.0f} of {structure_mass:.0f} kDa)"


def _pieces(volume: Volume, threshold: float | None, name: str) -> list[_Piece]:
    """The particles of a map, the largest first."""
    data, noise, background = _levelled(volume, name)
    peak = float(data.max())
    plateau = float(np.quantile(data[data >= _CONTOUR * peak], 0.95)) if peak > 0 else 0.0
    contour = max(_CONTOUR * plateau, _NOISE * noise) if threshold is None else threshold - background
    if not 0 < contour < peak:
        told = f"nothing stands out above {contour + background:.3g}"
        raise RequestError(
            name, told, "give a threshold between the solvent and the particle; bright is positive"
        )
    labels = cc3d.connected_components((data > contour).astype(np.uint8), connectivity=26)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    wanted = [int(k) for k in np.argsort(-sizes, kind="stable") if sizes[k] >= _COMPARABLE * sizes.max()]
    away, nearest = ndimage.distance_transform_edt(
        labels == 0, sampling=volume.voxel_size, return_indices=True
    )
    fade = 0.5 + 0.5 * np.cos(np.pi * np.clip((away - _REACH) / _FADE, 0, 1))
    owner = labels[tuple(nearest)]
    return [
        _Piece(
            (data * fade * (owner == k)).astype(np.float32),
            volume.voxel_size,
            plateau,
            float(sizes[k]) * volume.voxel_size**3,
        )
        for k in wanted
    ]


def _levelled(volume: Volume, name: str) -> tuple[NDArray[np.float32], float, float]:
    """The map with its solvent at zero, the noise of the solvent, and where it was."""
    data = np.asarray(volume.data, np.float32)
    if min(data.shape) < 3 or not np.isfinite(data).all():
        raise RequestError(name, "is a sliver or has values that are no numbers", "mend or crop the map")
    faces = [np.moveaxis(data, axis, 0)[[0, -1]].ravel() for axis in range(3)]
    border = np.concatenate(faces)
    background = float(np.median(border))
    noise = 1.4826 * float(np.median(np.abs(border - background)))
    return data - np.float32(background), noise, background


def _template(
    piece: _Piece, voxel_size: float, contoured: bool, mass: float | None, resolution: float | None, name: str
) -> Template:
    check_voxel_size(voxel_size)
    if resolution is None:
        resolution = 2 * voxel_size if voxel_size > 1.05 * piece.voxel_size else 0.0
    data, corner = _cropped(piece.data, _VISIBLE * piece.plateau)
    total = float(data.sum(dtype=np.float64))
    centre = _centre_of_mass(data)
    at = np.argwhere(data > _VISIBLE * piece.plateau)
    reach = np.abs(at - centre).max() * piece.voxel_size + 0.5 * resolution
    n = 2 * int(np.ceil(reach / voxel_size + 1)) + 1
    density = _sampled(data, centre, piece.voxel_size, voxel_size, n, resolution)
    estimated = mass is None
    if mass is None:
        volume = total * piece.voxel_size**3 / piece.plateau / _PLATEAU
        mass = (piece.room if contoured else volume) / PROTEIN_VOLUME / 1e3
    facts: dict[str, Any] = {
        "resolution": resolution or None,
        "mass_estimated": estimated,
        "centre": tuple(round(float(x) * piece.voxel_size, 3) for x in (centre + corner)[::-1]),
    }
    whole = Molecule(mass, 1e3 * mass * PROTEIN_VOLUME, 1e3 * mass * PROTEIN_INTEGRAL)
    return finish_template(name, density, voxel_size, whole, facts)


def _cropped(data: NDArray[np.float32], level: float) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """The box around what reaches a level, and its lowest corner."""
    at = np.argwhere(np.abs(data) > level)
    low, high = at.min(axis=0), at.max(axis=0) + 1
    return data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], low


def _centre_of_mass(data: NDArray[np.float32]) -> NDArray[np.float64]:
    sums = [data.sum(axis=drop, dtype=np.float64) for drop in ((1, 2), (0, 2), (0, 1))]
    return np.array([(line * np.arange(len(line))).sum() / line.sum() for line in sums])


def _sampled(
    data: NDArray[np.float32],
    centre: NDArray[np.float64],
    old: float,
    new: float,
    n: int,
    resolution: float,
) -> NDArray[np.float32]:
    """Low-passed, at an odd cube of points *new* Å apart whose middle is *centre* (in old voxels).

    The map's trigonometric interpolant, which for points on a grid is a matrix along each axis.
    """
    pad = 4 + int(np.ceil((2 * resolution + 4 * new) / old))
    padded = np.pad(data, pad)
    full = [fft.fftfreq(size, old).astype(np.float32) for size in padded.shape[:2]]
    half = fft.rfftfreq(padded.shape[2], old).astype(np.float32)
    s = np.sqrt(full[0][:, None, None] ** 2 + full[1][None, :, None] ** 2 + half[None, None, :] ** 2)
    found = fft.irfftn(fft.rfftn(padded) * low_pass(s, resolution, new), s=padded.shape)
    for axis, size in enumerate(padded.shape):
        points = centre[axis] + pad + (np.arange(n) - n // 2) * new / old
        found = np.moveaxis(np.tensordot(_interpolant(points, size), found, (1, axis)), 0, axis)
    return np.ascontiguousarray(found, np.float32)


def _interpolant(points: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """Matrix from samples of a periodic function to its values elsewhere; beyond the samples it is 0."""
    shift = points[:, None] - np.arange(size)
    waves = np.arange(1, (size - 1) // 2 + 1)
    kernel = 1 + 2 * np.cos(2 * np.pi / size * shift[..., None] * waves).sum(axis=-1)
    if size % 2 == 0:
        kernel += np.cos(np.pi * shift)
    inside = (points >= 0) & (points <= size - 1)
    return (kernel / size * inside[:, None]).astype(np.float32)
