"""Whether particles lie on density, and whether another reading of their coordinates would put them there.

The density of a position is the difference of two Gaussian means around it. Positions whose z, y and x are
those of the particles in another order are the comparison, so that an empty part of the volume plays no role.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryovox.core.volume import Volume

Float = NDArray[np.float64]

SIGMAS = (1.5, 3.0, 5.0)
"""Standard deviations of the inner Gaussian in voxels; the best one counts."""
SURROUND = 1.6
"""Standard deviation of the outer Gaussian, in those of the inner one."""
MAX_PARTICLES = 400
MIN_PARTICLES = 10
MIN_INSIDE = 0.9
"""Minimum fraction of the particles inside the tomogram, with the box around them, for a reading to count."""
FLIPS = {"x": "--flip-x", "y": "--flip-y", "z": "--flip-z"}
SIGNIFICANT = 5.0
"""Minimum z and t, for about 60 comparisons of three scales."""


@dataclass(frozen=True)
class Reading:
    """Another way to read the coordinates of a list.

    Attributes
    ----------
    name
        As in messages.
    remedy
        Option of `cryovox convert` that reads the list like this; "" if there is none.
    move
        Positions (n, 3) in voxels (z, y, x) and the shape of the tomogram -> positions by this reading.
    """

    name: str
    remedy: str
    move: Callable[[Float, Float], Float]


@dataclass(frozen=True)
class Placement:
    """Density at particles.

    Attributes
    ----------
    z
        Mean density of the particles against that of shuffled positions, in standard errors; negative for
        particles darker than their surroundings.
    count
        Particles that were compared.
    alternative
        The reading that puts the particles on clearly more density, if there is one.
    alternative_z, t
        Its z, and Student's t of the paired difference from the list as it is.
    """

    z: float
    count: int
    alternative: Reading | None = None
    alternative_z: float = float("nan")
    t: float = float("nan")

    @property
    def is_significant(self) -> bool:
        """Whether the density differs from that of shuffled positions."""
        return abs(self.z) >= SIGNIFICANT


def readings() -> Iterator[Reading]:
    """Readings that are compared: flips, shifts, centers, voxel sizes and the order of axes."""
    for axes in ("x", "y", "z", "xy", "xz", "yz", "xyz"):
        mirrored = np.array([axis in axes for axis in "zyx"])
        options = " ".join(FLIPS[axis] for axis in axes)
        yield Reading(f"a flip of {' and '.join(axes)}", options, _flip(mirrored))
    for sign in (0.5, -0.5):
        yield Reading(f"{sign:+g} voxel in x, y and z", "", _shift((sign, sign, sign)))
        yield Reading(f"{sign:+g} voxel in x and y", "", _shift((0.0, sign, sign)))
    yield Reading("the center n / 2 - 1 instead of n / 2", "--center half-1", _shift((-1.0, -1.0, -1.0)))
    yield Reading("the center n / 2 instead of n / 2 - 1", "--center half", _shift((1.0, 1.0, 1.0)))
    for factor in (2.0, 4.0, 0.5, 0.25):
        yield Reading(f"coordinates {factor:g} times as large", "--voxel-size", _scale(factor))
    yield Reading("x and z swapped", "", lambda zyx, shape: zyx[:, ::-1])


def placement(positions: Float, volume: Volume, seed: int = 0) -> Placement | None:
    """Compare the density at particles with that at shuffled positions and by other readings.

    Parameters
    ----------
    positions : (n, 3)
        In Å as (z, y, x).
    volume
        The tomogram; only voxels around positions are read.
    seed
        Seed of the selection of particles and of the shuffling.

    Returns
    -------
    Placement or None
        None for too few particles inside the tomogram.
    """
    rng = np.random.default_rng(seed)
    zyx = positions / volume.voxel_size
    if len(zyx) > MAX_PARTICLES:
        zyx = zyx[np.sort(rng.choice(len(zyx), MAX_PARTICLES, replace=False))]
    order = [rng.permutation(len(zyx)) for _ in range(3)]
    shuffled = np.stack([zyx[order[axis], axis] for axis in range(3)], axis=1)
    shape = np.array(volume.shape, dtype=np.float64)
    here, others = densities(zyx, volume), densities(shuffled, volume)
    z = _z_scores(here, others)
    if z is None:
        return None
    as_is = Placement(float(z[np.abs(z).argmax()]), int(np.isfinite(here[:, 0]).sum()))
    best = as_is
    for reading in readings():
        there = densities(reading.move(zyx, shape), volume)
        if np.isfinite(there[:, 0]).mean() < MIN_INSIDE:
            continue
        scores = _z_scores(there, densities(reading.move(shuffled, shape), volume))
        if scores is None:
            continue
        scale = int(np.abs(scores).argmax())
        t = _paired(np.sign(scores[scale]) * (there[:, scale] - here[:, scale]))
        highest = abs(as_is.z if best.alternative is None else best.alternative_z)
        if t > SIGNIFICANT and abs(scores[scale]) > max(SIGNIFICANT, highest):
            best = Placement(as_is.z, as_is.count, reading, float(scores[scale]), t)
    return best


def densities(zyx: Float, volume: Volume) -> Float:
    """Differences of two Gaussian means around positions (n, 3) in voxels, for each of `SIGMAS`.

    Returns
    -------
    (n, len(SIGMAS))
        NaN for positions whose box does not fit into the volume.
    """
    half = round(2 * SURROUND * SIGMAS[-1])
    values = np.full((len(zyx), len(SIGMAS)), np.nan)
    for row, place in zip(values, zyx, strict=True):
        low = np.rint(place).astype(np.intp) - half
        clipped = np.clip(low, 0, None), np.minimum(low + 2 * half + 1, volume.shape)
        if ((clipped[1] - clipped[0]) <= half).any():
            continue
        box = volume.data[tuple(slice(a, b) for a, b in zip(*clipped, strict=True))].astype(np.float64)
        offsets = [np.arange(a, b) - p for a, b, p in zip(*clipped, place, strict=True)]
        row[:] = [_mean(box, offsets, s) - _mean(box, offsets, SURROUND * s) for s in SIGMAS]
    return values


def _mean(box: Float, offsets: list[Float], sigma: float) -> float:
    """Gaussian mean of a box around its position."""
    weights = [np.exp(-0.5 * (offset / sigma) ** 2) for offset in offsets]
    z, y, x = (weight / weight.sum() for weight in weights)
    return float(z @ (box @ x @ y))


def _z_scores(values: Float, others: Float) -> Float | None:
    """Difference of the means in standard errors of shuffled positions, for each scale."""
    inside, outside = (v[np.isfinite(v[:, 0])] for v in (values, others))
    if min(len(inside), len(outside)) < MIN_PARTICLES:
        return None
    error = outside.std(axis=0, ddof=1) * np.sqrt(1 / len(inside) + 1 / len(outside))
    difference = inside.mean(axis=0) - outside.mean(axis=0)
    return np.divide(difference, error, out=np.zeros_like(difference), where=error > 0)


def _paired(differences: Float) -> float:
    usable = differences[np.isfinite(differences)]
    if len(usable) < MIN_PARTICLES or not usable.std() > 0:
        return 0.0
    return float(usable.mean() / (usable.std(ddof=1) / np.sqrt(len(usable))))


def _flip(mirrored: NDArray[np.bool_]) -> Callable[[Float, Float], Float]:
    return lambda zyx, shape: np.where(mirrored, shape - 1 - zyx, zyx)


def _shift(offset: tuple[float, float, float]) -> Callable[[Float, Float], Float]:
    return lambda zyx, shape: zyx + np.array(offset)


def _scale(factor: float) -> Callable[[Float, Float], Float]:
    return lambda zyx, shape: zyx * factor
