"""Resampling of volumes to another voxel size by a windowed sinc, in memory or on access."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cryovox.core.on_access import Float32, Span, VoxelsOnAccess
from cryovox.core.volume import Volume, Voxels, check_voxel_size

LOBES = 5
"""Zero crossings of the sinc on each side; the Kaiser window ends there."""
KAISER = 6.0
"""Shape parameter of the Kaiser window: side lobes below -60 dB."""
SLAB = 1 << 24
"""Voxels of the input that are filtered at once."""


def resample(volume: Volume, voxel_size: float) -> Volume:
    """Resample a volume to another voxel size.

    The center of voxel (0, 0, 0) stays at position 0, so output voxel j is the input at coordinate
    ``j * voxel_size / volume.voxel_size``. The filter is a sinc with a Kaiser window. Its amplitude is 1/2 at
    the Nyquist frequency of the coarser of the two samplings and 0 above, as Fourier cropping does with a
    sharper edge. Beyond its faces the volume is mirrored.

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
    resampled = resampled_on_access(volume, voxel_size)
    return resampled.with_data(np.asarray(resampled.data, dtype=np.float32))


def resampled_on_access(volume: Volume, voxel_size: float) -> Volume:
    """As :func:`resample`, but voxels are computed when they are read, from the input around them.

    A volume that has this voxel size already is returned as it is.
    """
    check_voxel_size(voxel_size)
    step = voxel_size / volume.voxel_size
    if abs(step - 1) < 1e-6:
        return volume
    return Volume(ResampledVoxels(volume.data, step), voxel_size, volume.place)


class ResampledVoxels(VoxelsOnAccess):
    """Voxels (z, y, x) of a volume at another sampling, computed on access.

    Parameters
    ----------
    data : (z, y, x)
        May be read on access as well.
    step
        Voxels of `data` per voxel.
    """

    def __init__(self, data: Voxels, step: float) -> None:
        self._data, self._step = data, step
        z, y, x = (int(np.floor((n - 1) / step + 1e-6)) + 1 for n in data.shape)
        super().__init__((z, y, x))

    def box(self, z: Span, y: Span, x: Span) -> Float32:
        """Voxels of a box, a slab of the input at a time."""
        out = np.empty((z[1] - z[0], y[1] - y[0], x[1] - x[0]), np.float32)
        if not out.size:
            return out
        _, ny, nx = self._data.shape
        (y_low, along_y), (x_low, along_x) = (_filter(n, self._step, *span) for n, span in ((ny, y), (nx, x)))
        y_part, x_part = (slice(a, a + m.shape[1]) for a, m in ((y_low, along_y), (x_low, along_x)))
        plane = (y_part.stop - y_part.start) * (x_part.stop - x_part.start)
        planes = max(1, int(SLAB / plane / self._step))
        for first in range(z[0], z[1], planes):
            last = min(first + planes, z[1])
            z_low, along_z = _filter(self._data.shape[0], self._step, first, last)
            raw = self._data[z_low : z_low + along_z.shape[1], y_part, x_part]
            rows = np.asarray(raw, np.float32).reshape(along_z.shape[1], plane)
            for target, row in zip(out[first - z[0] :], along_z @ rows, strict=False):
                across = along_y @ row.reshape(along_y.shape[1], along_x.shape[1])
                target[:] = (along_x @ np.ascontiguousarray(across.T)).T
        return out


@lru_cache(maxsize=64)
def _filter(size: int, step: float, start: int, stop: int) -> tuple[int, csr_array]:
    """First input voxel of some output voxels along an axis, and the weights (outputs, inputs)."""
    centers = np.arange(start, stop) * step
    cutoff = min(1.0, 1.0 / step)
    reach = LOBES / cutoff
    index = np.floor(centers)[:, None] + np.arange(-int(reach), int(reach) + 2)
    distance = index - centers[:, None]
    window = np.i0(KAISER * np.sqrt(np.clip(1 - np.square(distance / reach), 0, None)))
    weights = np.where(np.abs(distance) < reach, np.sinc(cutoff * distance) * window, 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    inputs = _mirrored(index.astype(np.intp), size)
    low = int(inputs.min())
    rows = np.repeat(np.arange(stop - start), index.shape[1])
    matrix = csr_array(
        (weights.astype(np.float32).ravel(), (rows, (inputs - low).ravel())),
        shape=(stop - start, int(inputs.max()) + 1 - low),
    )
    return low, matrix


def _mirrored(index: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Indices beyond the faces, mirrored about the outermost voxels."""
    if size == 1:
        return np.zeros_like(index)
    folded = np.abs(index) % (2 * (size - 1))
    return np.where(folded >= size, 2 * (size - 1) - folded, folded)
