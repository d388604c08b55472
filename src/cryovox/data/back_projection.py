"""Back-projection of images of one particle, by insertion of their Fourier transforms as central slices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PADDING = 2
MIN_DENSITY = 0.1
"""Smallest density of slices by which a sum is divided: less is hardly measured."""


def back_project(
    images: NDArray[np.float32],
    directions: NDArray[np.float64],
    shift: tuple[float, float, float] = (0, 0, 0),
) -> NDArray[np.float32]:
    """Reconstruct a cube from its projections.

    Every Fourier coefficient is the mean of those of the slices near it, so that frequencies count alike;
    in the missing wedge it is 0. No CTF is corrected.

    Parameters
    ----------
    images : (k, n, n)
        Projections (y, x); the center of rotation is pixel ``n // 2``.
    directions : (k, 2, 3)
        Directions of x and y of the images in the cube, as x, y, z.
    shift : (z, y, x)
        Position in voxels, relative to the center of rotation, of voxel ``n // 2`` of the cube.

    Returns
    -------
    (n, n, n)
        The cube (z, y, x).
    """
    n = images.shape[1]
    side = PADDING * n
    first = side // 2 - n // 2
    padded = np.zeros((len(images), side, side), np.float32)
    padded[:, first : first + n, first : first + n] = images
    spectra = np.fft.fft2(np.fft.ifftshift(padded, axes=(1, 2)))
    frequencies = np.fft.fftfreq(side) * side
    v, u = np.meshgrid(frequencies, frequencies, indexing="ij")
    inside = np.hypot(u, v) < side // 2 - 1
    places = np.einsum("kid,im->kmd", directions[..., ::-1], np.stack([u[inside], v[inside]]))
    cube = _gridded(spectra[:, inside].ravel(), places.reshape(-1, 3), side)
    phase = np.exp(2j * np.pi * frequencies[:, None] / side * np.asarray(shift))
    cube *= phase[:, 0, None, None] * phase[:, 1, None] * phase[:, 2]
    volume = np.fft.fftshift(np.fft.ifftn(cube).real)
    window = np.sinc((np.arange(side) - side // 2) / side) ** 2  # of the linear interpolation
    volume /= window[:, None, None] * window[:, None] * window
    return volume[first : first + n, first : first + n, first : first + n].astype(np.float32)


def _gridded(
    values: NDArray[np.complex128], places: NDArray[np.float64], side: int
) -> NDArray[np.complex128]:
    """Weighted mean on a grid of values at places (m, 3) between its points."""
    base = np.floor(places).astype(np.intp)
    remainder = places - base
    total, density = np.zeros(side**3, np.complex128), np.zeros(side**3)
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, remainder, 1 - remainder), axis=1)
        z, y, x = ((base + corner) % side).T
        index = (z * side + y) * side + x
        total += np.bincount(index, weight * values.real, side**3)
        total += 1j * np.bincount(index, weight * values.imag, side**3)
        density += np.bincount(index, weight, side**3)
    return np.asarray(total / np.maximum(density, MIN_DENSITY)).reshape(side, side, side)
