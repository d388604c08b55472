"""Resampling of volumes to another voxel size."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cryovox.core.volume import Volume, check_voxel_size


def resample(volume: Volume, voxel_size: float) -> Volume:
    """Resample a volume to another voxel size by cubic splines.

    The center of voxel (0, 0, 0) stays at position 0, so output voxel j is the input at coordinate
    ``j * voxel_size / volume.voxel_size``. Before downsampling, a Gaussian low-pass filter halves the
    amplitude at the new Nyquist frequency.

    Parameters
    ----------
    volume : (z, y, x)
    voxel_size
        New voxel size in Å.

    Returns
    -------
    Volume
        float32 volume that covers the old extent up to the last complete step.

    Examples
    --------
    >>> resample(Volume(np.ones((10, 20, 31)), 5.0), 10.0).shape
    (5, 10, 16)
    """
    check_voxel_size(voxel_size)
    data = np.asarray(volume.data, dtype=np.float32)
    step = voxel_size / volume.voxel_size
    if abs(step - 1) < 1e-6:
        return volume.with_data(data)
    if step > 1:
        # exp(-2 (pi sigma f)^2) = 1/2 at f = 1 / (2 step); less the blur of a voxel
        data = ndimage.gaussian_filter(
            data, np.sqrt(2 * np.log(2)) / np.pi * np.sqrt(step**2 - 1), mode="reflect"
        )
    shape = tuple(int(np.floor((n - 1) / step + 1e-6)) + 1 for n in volume.shape)
    out = np.empty(shape, np.float32)
    ndimage.affine_transform(data, np.full(3, step), output_shape=shape, output=out, order=3, mode="reflect")
    return Volume(out, voxel_size, volume.place)
