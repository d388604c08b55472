"""Bilateral filters: means over similar neighbors, which remove noise and keep edges.

The classic filter compares gray values (C. Tomasi and R. Manduchi, ICCV 1998). That of Vox-UDA (AAAI 2025,
eq. 10-14) compares the gradients of the Laplacian. With a window of 3^3 voxels the published sigma_d of 120
voxels gives every neighbor the same spatial weight to 2e-4: only sigma_r matters. Two sides of an ideal step
have the same gradient, so that the improved filter rounds it off by a voxel, which the classic one does not.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import pad

from cryovox.filters.config import SIGMA_R, Feature

HALO: dict[Feature, int] = {"gradient": 3, "intensity": 1}
"""Voxels on each side that a filtered value depends on."""

MIN_EXPONENT = -80.0
"""Smaller exponents are clamped: exp(-80) is negligible, and subnormal numbers are ten times as slow."""

_PAIRS = [step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]
"""One of every two opposite neighbors, whose weights are equal."""


def gradient_of_laplacian(x: Tensor) -> Tensor:
    """Differences of the Laplacian over two voxels, by axis (Vox-UDA, AAAI 2025, eq. 10-12).

    The Laplacian is the sum of the six face neighbors minus six times the voxel. Gray values and Laplacian
    are padded with their edge values: our reconstruction.

    Parameters
    ----------
    x : (b, 1, z, y, x)

    Returns
    -------
    (b, 3, z, y, x)
        Along z, y and x.
    """
    laplacian = -6 * x
    for axis, direction in product((2, 3, 4), (-1, 1)):
        laplacian += _shifted(x, axis, direction)
    return torch.cat([_shifted(laplacian, a, 1) - _shifted(laplacian, a, -1) for a in (2, 3, 4)], 1)


def bilateral(
    x: Tensor, *, sigma_d: float = 120.0, sigma_r: float | None = None, by: Feature = "gradient"
) -> Tensor:
    """Mean over a window of 3^3 voxels, weighted by distance and similarity (Vox-UDA, eq. 13-14).

    Parameters
    ----------
    x : (b, 1, z, y, x)
        Normalized to mean 0 and standard deviation 1, which is the unit of *sigma_r*.
    sigma_d
        Standard deviation of the Gaussian on distances, in voxels.
    sigma_r
        Standard deviation of the Gaussian on differences, in standard deviations of the input: 9.8 for
        gradients and 1.2 for intensities by default. A gradient of white noise has 9.1 on each axis. The
        published 1.2 for gradients belongs to gray values in [0, 1] (docs/methods/vox-uda.md).
    by
        Feature to compare: "gradient" of the Laplacian (the improved filter of Vox-UDA) or "intensity".

    Returns
    -------
    (b, 1, z, y, x)
        Padded with the edge of the volume.
    """
    sigma_r = SIGMA_R[by] if sigma_r is None else sigma_r
    if not (sigma_d > 0 and sigma_r > 0):
        raise ValueError(f"the widths of a bilateral filter are above 0, not {sigma_d} and {sigma_r}")
    gray = x if x.dtype == torch.float64 else x.float()
    features = gradient_of_laplacian(gray) if by == "gradient" else gray
    features = pad(features / (2**0.5 * sigma_r), (1,) * 6, "replicate").movedim(1, 0)
    gray = pad(gray, (1,) * 6, "replicate")[:, 0]
    total, weights = gray.clone(), torch.ones_like(gray)  # a voxel has weight 1 in its own mean
    for step in _PAIRS:
        here, there = _overlap(step)
        weight = torch.full_like(gray[here], -sum(s * s for s in step) / (2 * sigma_d**2))
        for feature in features:
            difference = feature[here] - feature[there]
            weight.addcmul_(difference, difference, value=-1)
        weight.clamp_(min=MIN_EXPONENT).exp_()
        total[here].addcmul_(weight, gray[there])
        total[there].addcmul_(weight, gray[here])
        weights[here].add_(weight)
        weights[there].add_(weight)
    inside = (slice(None), *(slice(1, -1),) * 3)
    return (total[inside] / weights[inside])[:, None].to(x.dtype)


def _shifted(x: Tensor, axis: int, direction: int) -> Tensor:
    """The neighbor of every voxel along an axis; at the edge, the voxel itself."""
    n = x.shape[axis]
    if direction > 0:
        return torch.cat([x.narrow(axis, 1, n - 1), x.narrow(axis, n - 1, 1)], axis)
    return torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, n - 1)], axis)


def _overlap(step: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of the first and second voxels of all pairs that lie inside."""
    here = tuple(slice(max(0, -s), -s if s > 0 else None) for s in step)
    there = tuple(slice(max(0, s), s if s < 0 else None) for s in step)
    return (slice(None), *here), (slice(None), *there)
