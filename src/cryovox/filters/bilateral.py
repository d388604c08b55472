"""Bilateral filters: means over neighbours that are alike, so that noise goes and edges stay.

The classic filter compares grey values (C. Tomasi and R. Manduchi, ICCV 1998). That of Vox-UDA (AAAI 2025,
eq. 10-14) compares the gradients of the Laplacian. With a window of 3^3 voxels the published sigma_d of 120
voxels gives every neighbour the same spatial weight to 2e-4: only sigma_r matters. Two sides of an ideal step
have the same gradient, so that the improved filter rounds it off by a voxel, which the classic one does not.
"""

from __future__ import annotations

from itertools import product
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

By = Literal["gradient", "intensity"]

HALO: dict[By, int] = {"gradient": 3, "intensity": 1}
"""How many voxels around a voxel its filtered value depends on."""

LEAST = -80.0
"""Exponents are not let below: e^-80 is nothing beside 1, and what underflows takes ten times as long."""

_PAIRS = [step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]
"""One of every two opposite neighbours: a pair weighs the same seen from either side."""


def gradient_of_laplacian(x: Tensor) -> Tensor:
    """Differences of the Laplacian over two voxels, by axis (Vox-UDA, AAAI 2025, eq. 10-12).

    The Laplacian is the sum of the six face neighbours less six times the voxel. Outside lies what the
    edge holds, for the grey values as for their Laplacian: our reconstruction.

    Parameters
    ----------
    x : (b, 1, z, y, x)

    Returns
    -------
    (b, 3, z, y, x)
        Along z, y and x.
    """
    laplacian = -6 * x
    for axis, way in product((2, 3, 4), (-1, 1)):
        laplacian += _shifted(x, axis, way)
    return torch.cat([_shifted(laplacian, a, 1) - _shifted(laplacian, a, -1) for a in (2, 3, 4)], 1)


def bilateral(x: Tensor, *, sigma_d: float = 120.0, sigma_r: float = 1.2, by: By = "gradient") -> Tensor:
    """Mean over a window of 3^3 voxels, weighed by distance and likeness (Vox-UDA, eq. 13-14).

    Parameters
    ----------
    x : (b, 1, z, y, x)
        Normalised to mean 0 and standard deviation 1, which is the unit of *sigma_r*.
    sigma_d
        Of the Gaussian on distances, in voxels.
    sigma_r
        Of the Gaussian on differences.
    by
        What is compared: "gradient" of the Laplacian (the improved filter of Vox-UDA) or "intensity".

    Returns
    -------
    (b, 1, z, y, x)
        The window is filled up with the edge of the volume.
    """
    if not (sigma_d > 0 and sigma_r > 0):
        raise ValueError(f"the widths of a bilateral filter are above 0, not {sigma_d} and {sigma_r}")
    grey = x if x.dtype == torch.float64 else x.float()
    features = gradient_of_laplacian(grey) if by == "gradient" else grey
    features = pad(features / (2**0.5 * sigma_r), (1,) * 6, "replicate").movedim(1, 0)
    grey = pad(grey, (1,) * 6, "replicate")[:, 0]
    total, weights = grey.clone(), torch.ones_like(grey)  # a voxel weighs 1 in its own mean
    for step in _PAIRS:
        here, there = _overlap(step)
        alike = torch.full_like(grey[here], -sum(s * s for s in step) / (2 * sigma_d**2))
        for feature in features:
            difference = feature[here] - feature[there]
            alike.addcmul_(difference, difference, value=-1)
        alike.clamp_(min=LEAST).exp_()
        total[here].addcmul_(alike, grey[there])
        total[there].addcmul_(alike, grey[here])
        weights[here].add_(alike)
        weights[there].add_(alike)
    inside = (slice(None), *(slice(1, -1),) * 3)
    return (total[inside] / weights[inside])[:, None].to(x.dtype)


def _shifted(x: Tensor, axis: int, way: int) -> Tensor:
    """Every voxel's neighbour along an axis; at the edge, itself."""
    n = x.shape[axis]
    if way > 0:
        return torch.cat([x.narrow(axis, 1, n - 1), x.narrow(axis, n - 1, 1)], axis)
    return torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, n - 1)], axis)


def _overlap(step: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where both voxels of a pair lie inside: the one, and the other."""
    here = tuple(slice(max(0, -s), -s if s > 0 else None) for s in step)
    there = tuple(slice(max(0, s), s if s < 0 else None) for s in step)
    return (slice(None), *here), (slice(None), *there)
