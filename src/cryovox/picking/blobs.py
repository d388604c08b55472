"""Difference-of-Gaussians picker, a baseline for trained pickers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryovox.core.particles import Particles
from cryovox.picking.peaks import local_maxima, separate


def dog(
    data: NDArray[Any],
    voxel_size: float,
    sigma_vox: float = 2.0,
    *,
    ratio: float = 1.6,
    sign: int = -1,
    distance: float | None = None,
    max_count: int | None = None,
    species: str = "particle",
) -> Particles:
    """Pick blobs of one size by the difference of two Gaussian blurs.

    Parameters
    ----------
    data : (z, y, x)
        Tomogram.
    voxel_size : float
        In Å.
    sigma_vox : float
        Width of the narrow Gaussian in voxels; a sphere of radius r responds most at about r / 2.
    ratio : float
        Width of the wide Gaussian over that of the narrow one.
    sign
        -1 for dark particles, 1 for bright ones.
    distance : float
        Minimum distance in Å between two picks; by default two widths, about a radius.
    max_count : int
        Maximum number of picks.
    species : str
        Species name of the picks.

    Returns
    -------
    Particles
        Best first; the score is the response in units of its standard deviation.
    """
    gray = np.asarray(data, dtype=np.float32)
    response = ndimage.gaussian_filter(gray, sigma_vox) - ndimage.gaussian_filter(gray, ratio * sigma_vox)
    spread = float(response.std(dtype=np.float64))
    response *= np.float32(sign / spread if spread > 0 else sign)
    shape = (response.shape[0], response.shape[1], response.shape[2])
    index, values = local_maxima(lambda start, stop: response[start:stop], shape, 0.0)
    positions = index * voxel_size
    min_distance = 2 * sigma_vox * voxel_size if distance is None else distance
    keep = separate(positions, values, min_distance, max_count)
    return Particles.of(positions[keep], species, values[keep])
