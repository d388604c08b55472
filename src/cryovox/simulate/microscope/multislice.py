"""Multislice propagation through the tilted sample (Cowley and Moodie 1957).

Electrons travel along +z. The exit wave is propagated back to the plane of the tilt axis, so that the
defocus refers to the axis, as for a projection; matter at height z' along the beam has defocus + z'.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cryovox.simulate.config.microscope import OpticsConfig
from cryovox.simulate.microscope import optics as lens
from cryovox.simulate.microscope import projection as geometry

Array = NDArray[np.floating[Any]]


def slice_projections(
    volume: Array, angle: float, thickness: float, device: str = "cpu"
) -> tuple[Array, NDArray[np.float64]]:
    """Projections of the slices of a tilted volume; their sum is the projection of the volume.

    Parameters
    ----------
    volume : (z, y, x)
    angle
        Tilt in degrees.
    thickness
        Slice thickness in voxels. Voxels are interpolated linearly between two slices.

    Returns
    -------
    (s, y, x) projections and (s,) heights z' of the middles of the slices in voxels, upstream first.
    """
    depth, height, width = volume.shape
    plane = geometry.ProjectionGeometry.of(depth, width)
    matrix, heights = _slice_matrix(plane, angle, thickness)
    spread, deconvolution = geometry.on_device(matrix, device), geometry.deconvolution_matrix(plane.pixels)
    out = np.empty((len(heights), height, width), np.float32)
    for rows in geometry.chunks(height):
        flat = np.ascontiguousarray(volume[:, rows].transpose(0, 2, 1), np.float32)
        lines = spread.transposed_matmul(flat.reshape(depth * width, -1))
        for out_slice, line in zip(out, lines.reshape(len(heights), -1, lines.shape[1]), strict=True):
            out_slice[rows] = (deconvolution @ line).T
    return out, heights


def _slice_matrix(
    plane: geometry.ProjectionGeometry, angle: float, thickness: float
) -> tuple[sparse.csr_array, NDArray[np.float64]]:
    """(z x, slices times samples): interpolation weights of every voxel in two slices."""
    flat = geometry.spread_matrix(plane, np.array([angle]), np.float32)
    along, _ = plane.beam_coordinates(angle, slice(None))
    reach = np.ceil(np.abs(along).max() / thickness)
    position = along / thickness + reach
    first = np.minimum(np.floor(position), 2 * reach - 1).astype(np.int64)
    upper = (position - first).astype(np.float32)
    parts = (_shift_to_slice(flat, first, 1 - upper), _shift_to_slice(flat, first + 1, upper))
    line, count = flat.shape[1], int(2 * reach) + 1
    shape = (flat.shape[0], line * count)
    placed = [sparse.csr_array((data, indices, flat.indptr), shape=shape) for data, indices in parts]
    return (placed[0] + placed[1]).tocsr(), thickness * (np.arange(count) - reach)


def _shift_to_slice(
    flat: sparse.csr_array, index: NDArray[np.int64], weight: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    entries = np.diff(flat.indptr)
    offset = (index * flat.shape[1]).astype(np.int32)
    return flat.data * np.repeat(weight, entries), flat.indices + np.repeat(offset, entries)


def exit_wave(
    volume: Array,
    angle: float,
    voxel_size: float,
    optics: OpticsConfig,
    padded: tuple[int, int],
    device: str = "cpu",
) -> NDArray[np.complex64]:
    """Exit wave of a tilted volume, in the plane of the tilt axis.

    Parameters
    ----------
    volume : (z, y, x)
        Potential above the ice in V.
    angle
        Tilt in degrees.
    padded
        Size (y, x) of the wave, at least that of the volume; plain ice surrounds the volume.

    Returns
    -------
    (y, x) complex64 of shape *padded*.
    """
    import torch

    slices, heights = slice_projections(volume, angle, optics.slice_thickness / voxel_size, device)
    phase_per_volt = lens.interaction_constant(optics.voltage) * voxel_size
    loss = lens.transmission(optics)
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n, voxel_size) for n in padded), indexing="ij"))
    fresnel = -1j * np.pi * lens.wavelength(optics.voltage) * frequency**2
    step = torch.from_numpy(np.exp(fresnel * (heights[1] - heights[0]) * voxel_size).astype(np.complex64))
    step = step.to(device)
    wave = torch.fft.fft2(torch.ones(padded, dtype=torch.complex64, device=device))
    for projected in slices:
        phase = torch.zeros(padded, dtype=torch.float32, device=device)
        phase[: projected.shape[0], : projected.shape[1]] = torch.from_numpy(phase_per_volt * projected).to(
            device
        )
        wave = torch.fft.fft2(torch.fft.ifft2(wave * step) * torch.exp(loss * phase))
    back = np.exp(-fresnel * heights[-1] * voxel_size).astype(np.complex64)
    return torch.fft.ifft2(wave * torch.from_numpy(back).to(device)).cpu().numpy()
