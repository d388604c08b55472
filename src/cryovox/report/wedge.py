"""Detect the tilt axis and the beam axis of a tomogram from the missing wedge in its power spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_WEDGE_CONTRAST = 2.0
"""Lowest contrast of a detected wedge."""


@dataclass(frozen=True, slots=True)
class Wedge:
    """Array axes (0 is z) of the beam and of the tilt axis.

    `contrast` is the ratio of the power in the next plane of axes to that in their plane.
    """

    beam: int
    tilt_axis: int
    contrast: float


def find_wedge(data: NDArray[Any]) -> Wedge:
    """Detect the plane of the power spectrum with empty diagonals.

    With a tilt axis along y, the ky-kz plane is empty except for its ky axis, while half of the kx-kz plane
    and all of the kx-ky plane are filled. Of the two axes, the beam is the one without power along it. A
    contrast below `MIN_WEDGE_CONTRAST` means that no wedge is detected.

    Parameters
    ----------
    data : (z, y, x)
        Part of a tomogram; its central 128^3 voxels at most are used.
    """
    side = min(128, *data.shape)
    if side < 24:
        return Wedge(0, 1, 1.0)  # too few frequencies
    z, y, x = (slice((n - side) // 2, (n - side) // 2 + side) for n in data.shape)
    piece = np.asarray(data[z, y, x], dtype=np.float32)
    taper = np.hanning(side).astype(np.float32)
    piece = (piece - piece.mean()) * taper[:, None, None] * taper[:, None] * taper
    power = np.abs(np.fft.rfftn(piece)) ** 2
    whole = np.abs(np.fft.fftfreq(side))
    k = (whole[:, None, None], whole[:, None], np.fft.rfftfreq(side))
    square = k[0] ** 2 + k[1] ** 2 + k[2] ** 2
    band = (square > 0.1**2) & (square < 0.35**2)  # cycles per voxel: excludes slab edges and corners
    diagonal = {
        (a, b): float(
            power[band & (k[3 - a - b] < 2.5 / side) & (k[a] < 1.5 * k[b]) & (k[b] < 1.5 * k[a])].mean()
        )
        for a, b in combinations(range(3), 2)
    }
    (a, b), second = sorted(diagonal, key=diagonal.__getitem__)[:2]
    contrast = diagonal[second] / max(diagonal[a, b], 1e-30)
    along = [power[band & (k[n] ** 2 > 0.95 * square)].mean() for n in (a, b)]
    beam, axis = (a, b) if along[0] < along[1] else (b, a)
    return Wedge(beam, axis, contrast)
