"""Along which axes a tomogram was taken, from what its power spectrum lacks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEEN = 2.0
"""Contrast from which a wedge is seen; less is none, or noise."""


@dataclass(frozen=True, slots=True)
class Wedge:
    """Which array axes (0 is z) are the beam and the tilt axis.

    `contrast` is how many times lower the power is in their plane than in the next one.
    """

    beam: int
    tilt_axis: int
    contrast: float


def find_wedge(data: NDArray[Any]) -> Wedge:
    """Find the plane of the power spectrum whose diagonals are empty.

    A tilt about y leaves the ky-kz plane unmeasured but for its ky axis, while half of the kx-kz
    plane and all of the kx-ky plane are filled. Beam and tilt axis are told apart by the power along
    them: the beam has none. A contrast under `SEEN` means that there is no wedge to be seen.

    Parameters
    ----------
    data : (z, y, x)
        A piece of a tomogram; its middle is used, of at most 128 voxels along each axis.
    """
    side = min(128, *data.shape)
    if side < 24:
        return Wedge(0, 1, 1.0)  # too few frequencies to tell
    z, y, x = (slice((n - side) // 2, (n - side) // 2 + side) for n in data.shape)
    piece = np.asarray(data[z, y, x], dtype=np.float32)
    taper = np.hanning(side).astype(np.float32)
    piece = (piece - piece.mean()) * taper[:, None, None] * taper[:, None] * taper
    power = np.abs(np.fft.rfftn(piece)) ** 2
    whole = np.abs(np.fft.fftfreq(side))
    k = (whole[:, None, None], whole[:, None], np.fft.rfftfreq(side))
    square = k[0] ** 2 + k[1] ** 2 + k[2] ** 2
    band = (square > 0.1**2) & (square < 0.35**2)  # cycles per voxel: no slab edges, no corners
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
