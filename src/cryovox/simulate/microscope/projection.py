"""Projections of a volume tilted about y, and their exact adjoint.

A tilt about y acts on z and x only, equally for all y. A series is therefore one sparse matrix from the
voxels of a (z, x) plane to the pixels of all detector lines. A point at (z, x), relative to the center of
rotation (voxel n // 2 on both axes), projects to

    x' = x cos(tilt) + z sin(tilt)

relative to pixel n // 2 of the line. As in a non-uniform Fourier transform (Barnett, Magland and af
Klinteberg 2019), voxels are spread with a kernel of four samples onto lines of half a pixel; then the kernel
is deconvolved and the line is limited to the band of the pixels. The error is below 2e-3 of the peak at every
angle (`tests/simulate/microscope/test_projection.py`).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse, special

from cryovox.core.progress import ProgressCallback, no_progress, tracked
from cryovox.simulate.config.microscope import Beyond

Array = NDArray[np.floating[Any]]
OVERSAMPLING = 2
"""Samples of a line per pixel."""
MARGIN = 30
"""Pixels of padding at each end of a line: half the length of the deconvolution filter."""
KERNEL_SHAPE = 8.4
"""Shape parameter of the spreading kernel."""
CHUNK = 64
"""Planes along y per matrix product."""


@dataclass(frozen=True)
class ProjectionGeometry:
    """Geometry of the (z, x) plane and of the detector line, in voxels."""

    depth: int
    width: int
    pixels: int
    center: tuple[float, float]
    """(z, x) of the axis of rotation."""
    pixel_center: float
    """Pixel onto which the axis projects."""

    @classmethod
    def of(cls, depth: int, width: int, binning: int = 1) -> ProjectionGeometry:
        """Geometry of a volume of (depth, width) before binning; the axis stays in place."""
        pixels = width // binning
        center = ((depth // 2) / binning, (width // 2) / binning)
        return cls(depth // binning, pixels, pixels, center, center[1])

    def mirror_margin(self, angles: Array) -> int:
        """Number of voxels in x by which tilted projections reach beyond either end of the plane."""
        tilt = np.deg2rad(np.abs(np.asarray(angles, float)))
        half_width = (self.width / 2 + self.depth / 2 * np.sin(tilt)) / np.cos(tilt)
        return int(np.ceil(half_width.max() - self.width / 2)) + 1

    def beam_coordinates(self, angle: float, rows: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Height z' along the beam and pixel x' of every voxel of the rows z at *angle* degrees."""
        tilt = np.deg2rad(angle)
        z = np.arange(self.depth)[rows, None] - self.center[0]
        x = np.arange(self.width)[None, :] - self.center[1]
        across = x * np.cos(tilt) + z * np.sin(tilt) + self.pixel_center
        return (z * np.cos(tilt) - x * np.sin(tilt)).ravel(), across.ravel()


def project(
    volume: Array,
    angles: Array,
    device: str = "cpu",
    beyond: Beyond = "nothing",
    on_progress: ProgressCallback = no_progress,
) -> NDArray[np.float32]:
    """Project a volume along the beam at every tilt.

    Parameters
    ----------
    volume : (z, y, x)
    angles : (n,) degrees
    device
        "cpu" (scipy) or a torch device.
    beyond
        Content next to the volume in x at high tilt: nothing, or the mirror image of the volume, as in a
        continued sample. Edges of matter would cause diamond-shaped artifacts in xz.

    Returns
    -------
    (n, y, x) float32
        In units of the volume times one voxel.
    """
    depth, height, width = volume.shape
    low, high = _occupied(volume)
    whole = ProjectionGeometry.of(depth, width)
    reach = whole.mirror_margin(angles) if beyond == "mirror" else 0
    center = (whole.center[0] - low, whole.center[1] + reach)
    plane = ProjectionGeometry(high - low, width + 2 * reach, width, center, whole.pixel_center)
    projector = Projector(plane, angles, device)
    out = np.empty((len(angles), height, width), np.float32)
    for rows in tracked(chunks(height), on_progress, "rows"):
        part = np.asarray(volume[low:high, rows], np.float32).transpose(0, 2, 1)
        flat = np.pad(part, ((0, 0), (reach, reach), (0, 0)), mode="symmetric")
        lines = projector.forward(flat.reshape(plane.depth * plane.width, -1))
        out[:, rows] = lines.transpose(0, 2, 1)
    return out


def _occupied(volume: Array) -> tuple[int, int]:
    """Range of planes from the first to the last that is not empty; at least one plane."""
    planes = np.flatnonzero([plane.any() for plane in volume])
    return (int(planes[0]), int(planes[-1]) + 1) if len(planes) else (0, 1)


def back_project(
    images: Array,
    plane: ProjectionGeometry,
    angles: Array,
    device: str = "cpu",
    on_progress: ProgressCallback = no_progress,
) -> NDArray[np.float32]:
    """Back-project (n, y, x) images into a volume (z, y, x); the exact adjoint of `project`."""
    projector = Projector(plane, angles, device)
    height = images.shape[1]
    out = np.empty((plane.depth, height, plane.width), np.float32)
    for rows in tracked(chunks(height), on_progress, "rows"):
        lines = np.ascontiguousarray(images[:, rows].transpose(0, 2, 1), np.float32)
        smeared = projector.adjoint(lines).reshape(plane.depth, plane.width, -1)
        out[:, rows] = smeared.transpose(0, 2, 1)
    return out


def chunks(height: int) -> list[slice]:
    """Slices of y that are processed one after the other."""
    return [slice(start, min(start + CHUNK, height)) for start in range(0, height, CHUNK)]


class SparseMatrix(Protocol):
    """Products of a sparse matrix and its transpose with a dense matrix."""

    def matmul(self, dense: Array) -> Array: ...
    def transposed_matmul(self, dense: Array) -> Array: ...


class Projector:
    """Projection matrix of a tilt series, applied to many columns (y) at once.

    Parameters
    ----------
    plane
        Geometry of the (z, x) plane and of the detector line.
    angles : (n,) degrees
    device
        "cpu" (scipy) or a torch device.
    dtype
        Data type of the weights.
    """

    def __init__(
        self, plane: ProjectionGeometry, angles: Array, device: str = "cpu", dtype: type = np.float32
    ) -> None:
        self.plane, self.count = plane, len(angles)
        self.spread = on_device(spread_matrix(plane, np.asarray(angles, float), dtype), device)
        self.deconvolution = deconvolution_matrix(plane.pixels, dtype)

    def forward(self, voxels: Array) -> Array:
        """(z x, y) to (n, x', y)."""
        lines = self.spread.transposed_matmul(voxels).reshape(self.count, -1, voxels.shape[1])
        return np.stack([self.deconvolution @ line for line in lines])

    def adjoint(self, lines: Array) -> Array:
        """(n, x', y) to (z x, y)."""
        padded = np.concatenate([self.deconvolution.T @ line for line in lines])
        return self.spread.matmul(padded)


def kernel(distance: Array) -> Array:
    """Spreading kernel with a support of 4 samples."""
    inside = np.maximum(1 - (distance / 2) ** 2, 0)
    return np.exp(KERNEL_SHAPE * (np.sqrt(inside) - 1))


def kernel_weights(fraction: Array) -> Array:
    """Weights (..., 4) at samples -1, 0, 1, 2 for a point at *fraction* in [0, 1)."""
    return kernel(fraction[..., None] - np.arange(-1, 3, dtype=fraction.dtype))


def deconvolution_matrix(pixels: int, dtype: type = np.float32) -> sparse.csr_array:
    """(pixels, line samples): deconvolves the spreading kernel and samples at the pixels."""
    values: Array = np.tile(_deconvolution_filter().astype(dtype), pixels)
    columns = OVERSAMPLING * np.arange(pixels)[:, None] + np.arange(2 * OVERSAMPLING * MARGIN + 1)
    rows = np.arange(pixels + 1) * columns.shape[1]
    return sparse.csr_array((values, columns.ravel(), rows), shape=(pixels, line_samples(pixels)))


def line_samples(pixels: int) -> int:
    """Length of an oversampled line with padding."""
    return OVERSAMPLING * (pixels + 2 * MARGIN)


def _deconvolution_filter() -> NDArray[np.float64]:
    """(2 OVERSAMPLING MARGIN + 1,) filter from samples to a pixel: kernel deconvolution and band limit."""
    frequency = np.arange(4097) / 8192
    nodes, weights = np.polynomial.legendre.leggauss(200)
    waves = np.cos(4 * np.pi * frequency[:, None] * nodes)
    blur = 2 * waves @ (weights * kernel(2 * nodes))
    pass_band = 0.5 * special.erfc((OVERSAMPLING * frequency - 0.52) / (0.04 / 2.3))
    taps = fft.irfft(np.where(pass_band > 1e-9, pass_band / blur, 0))
    reach = OVERSAMPLING * MARGIN
    return OVERSAMPLING * np.roll(taps, reach)[: 2 * reach + 1]


def spread_matrix(plane: ProjectionGeometry, angles: NDArray[np.float64], dtype: type) -> sparse.csr_array:
    """(z x, n line samples): spreading weights of every voxel in every line."""
    line = line_samples(plane.pixels)
    blocks = [_spread_rows(plane, angles, slice(z, z + 8), line, dtype) for z in range(0, plane.depth, 8)]
    data = np.concatenate([block[0] for block in blocks])
    columns = np.concatenate([block[1] for block in blocks])
    counts = np.concatenate([block[2] for block in blocks])
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return sparse.csr_array((data, columns, starts), shape=(plane.depth * plane.width, len(angles) * line))


def _spread_rows(
    plane: ProjectionGeometry, angles: NDArray[np.float64], rows: slice, line: int, dtype: type
) -> tuple[Array, NDArray[np.int32], NDArray[np.int64]]:
    across = np.stack([plane.beam_coordinates(angle, rows)[1] for angle in angles], 1)  # (voxels, n)
    across = OVERSAMPLING * (across + MARGIN)
    first = np.floor(across).astype(np.int32)
    weights = kernel_weights((across - first).astype(dtype))
    columns = (first[..., None] + np.arange(-1, 3)).astype(np.int32)
    inside = (columns >= 0) & (columns < line)
    columns += line * np.arange(len(angles), dtype=np.int32)[:, None]
    return weights[inside], columns[inside], inside.sum((1, 2), dtype=np.int64)


def on_device(matrix: sparse.csr_array, device: str) -> SparseMatrix:
    """Scipy on the CPU, as fast as torch there without MKL; torch on other devices."""
    return ScipyMatrix(matrix) if device == "cpu" else TorchMatrix(matrix, device)


class ScipyMatrix:
    """A sparse matrix in scipy."""

    def __init__(self, matrix: sparse.csr_array) -> None:
        self.matrix = matrix

    def matmul(self, dense: Array) -> Array:
        return self.matrix @ dense

    def transposed_matmul(self, dense: Array) -> Array:
        return self.matrix.T @ dense


class TorchMatrix:
    """A sparse matrix in torch, on any device with sparse products."""

    def __init__(self, matrix: sparse.csr_array, device: str) -> None:
        self.matrix, self.device = matrix, device

    @cached_property
    def _original(self) -> Any:
        return self._to_tensor(self.matrix)

    @cached_property
    def _transposed(self) -> Any:
        return self._to_tensor(self.matrix.T.tocsr())

    def matmul(self, dense: Array) -> Array:
        return self._product(self._original, dense)

    def transposed_matmul(self, dense: Array) -> Array:
        return self._product(self._transposed, dense)

    def _to_tensor(self, matrix: sparse.csr_array) -> Any:
        import torch

        starts, columns, data = map(torch.from_numpy, (matrix.indptr, matrix.indices, matrix.data))
        with warnings.catch_warnings():  # sparse CSR is in beta state
            warnings.simplefilter("ignore", UserWarning)
            return torch.sparse_csr_tensor(starts, columns, data, matrix.shape, device=self.device)

    def _product(self, matrix: Any, dense: Array) -> Array:
        import torch

        operand = torch.from_numpy(np.ascontiguousarray(dense)).to(self.device, matrix.dtype)
        return (matrix @ operand).cpu().numpy()
