"""Tomographic reconstruction: weighted back-projection and SIRT.

Both are linear and preserve the sign of the contrast.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryovox.core.errors import RequestError
from cryovox.core.progress import ProgressCallback, no_progress, tracked
from cryovox.simulate.config.microscope import OpticsConfig, ReconstructionConfig
from cryovox.simulate.microscope import optics as lens
from cryovox.simulate.microscope.projection import ProjectionGeometry, Projector, back_project, chunks
from cryovox.simulate.microscope.tilts import Tilts

Array = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]
Images = NDArray[np.float32]


def reconstruct(
    series: Array,
    tilts: Tilts,
    shape: tuple[int, int, int],
    voxel_size: float,
    config: ReconstructionConfig | None = None,
    *,
    optics: OpticsConfig | None = None,
    device: str = "cpu",
    on_progress: ProgressCallback = no_progress,
) -> Images:
    """Reconstruct a tomogram at the nominal angles.

    Parameters
    ----------
    series : (n, y, x)
        Such as `Series.contrast`, or projections in V Å, which give V.
    shape
        Size (z, y, x) of the scene, before binning.
    voxel_size
        Pixel size of the series in Å.
    optics
        CTF parameters for `phase_flip`.

    Returns
    -------
    (z, y, x) float32
        `origin` gives the position of its first voxel, (0, 0, 0) unless `thickness` is set.
    """
    config = config or ReconstructionConfig()
    _check(series, shape, config)
    images = np.asarray(series, np.float32)
    if config.phase_flip:
        images = flip_phases(images, tilts, voxel_size, optics or OpticsConfig())
    images = crop_spectrum(images, config.binning)
    plane = ProjectionGeometry.of(config.thickness or shape[0], shape[2], config.binning)
    edge = voxel_size * config.binning
    if config.method == "sirt":
        images /= np.float32(edge)
        return sirt(images, plane, tilts.nominal_angles, config.iterations, device, on_progress)
    weighted = weight_projections(images, tilts.nominal_angles, edge, plane.depth, config)
    return back_project(weighted, plane, tilts.nominal_angles, device, on_progress)


def origin(
    shape: tuple[int, int, int], voxel_size: float, config: ReconstructionConfig
) -> tuple[float, float, float]:
    """(z, y, x) in Å of the center of the tomogram's voxel (0, 0, 0) in the frame of the scene."""
    thickness = config.thickness or shape[0]
    return (shape[0] // 2 - thickness // 2) * voxel_size, 0.0, 0.0


def _check(series: Array, shape: tuple[int, int, int], config: ReconstructionConfig) -> None:
    if series.shape[1:] != tuple(shape[1:]):
        raise ValueError(f"a series of {series.shape[1:]} (y, x) does not belong to a volume {shape}")
    sizes = (config.thickness or shape[0], *shape[1:])
    if any(size % config.binning for size in sizes):
        raise RequestError(
            "reconstruction.binning",
            f"{config.binning} does not divide the tomogram's size {sizes} (z, y, x)",
            "choose sizes that are multiples of the binning",
        )


def crop_spectrum(images: Images, binning: int) -> Images:
    """Bin (n, y, x) images by cropping their Fourier transforms; pixel (0, 0) stays in position."""
    if binning == 1:
        return images
    rows, columns = (n // binning for n in images.shape[1:])
    keep = fft.fftfreq(rows, 1 / rows).astype(int)
    out = np.empty((len(images), rows, columns), np.float32)
    for image, small in zip(images, out, strict=True):
        small[:] = fft.irfft2(fft.rfft2(image)[keep, : columns // 2 + 1], s=small.shape)
    out /= binning**2
    return out


def flip_phases(images: Images, tilts: Tilts, voxel_size: float, optics: OpticsConfig) -> Images:
    """Flip the phases of (n, y, x) images where the CTF has another sign than at low frequencies."""
    ky, kx = lens.frequency_axes(images.shape[1:], voxel_size)
    frequency = np.hypot(ky, kx)
    out = np.empty_like(images)
    for i, (image, flipped) in enumerate(zip(images, out, strict=True)):
        transfer = lens.ctf(frequency, tilts.defocus_at(i, ky, kx, nominal=True), optics)
        sign = np.where(transfer > 0, -1, 1).astype(np.float32)
        flipped[:] = fft.irfft2(fft.rfft2(image) * sign, s=image.shape)
    return out


def weight_projections(
    images: Images, angles: Floats, edge: float, depth: int, config: ReconstructionConfig
) -> Images:
    """Filter (n, y, x) images for back-projection and subtract their means.

    With the ramp |k| times the angular weights in radians, back-projection is the inverse Radon transform.
    """
    width = images.shape[2]
    line = fft.next_fast_len(2 * width, real=True)
    filters = (
        exact_weights(line, angles, depth) if config.weighting == "exact" else ramp_weights(line, angles)
    )
    window = _window((images.shape[1], line), config)
    out = np.empty_like(images)
    for image, weighted, row in zip(images, out, filters, strict=True):
        spectrum = fft.rfft2(image - image.mean(), s=(image.shape[0], line))
        spectrum *= (row / edge * window).astype(np.float32)
        weighted[:] = fft.irfft2(spectrum, s=(image.shape[0], line))[:, :width]
    return out


def ramp_weights(line: int, angles: Floats) -> Floats:
    """(n, line // 2 + 1) ramp filters, from samples in real space (Kak and Slaney 1988, eq. 3.61)."""
    position = np.minimum(np.arange(line), line - np.arange(line))
    kernel = np.zeros(line)
    kernel[0] = 0.25
    kernel[position % 2 == 1] = -1 / (np.pi * position[position % 2 == 1]) ** 2
    return angular_weights(angles)[:, None] * fft.rfft(kernel).real


def exact_weights(line: int, angles: Floats, depth: int) -> Floats:
    """(n, line // 2 + 1): inverse of the number of central slices, of thickness 1 / depth, at a frequency."""
    frequency = fft.rfftfreq(line)
    separation = np.sin(np.deg2rad(angles[:, None] - angles[None, :]))
    overlap = np.stack([np.sinc(depth * frequency[:, None] * row).sum(1) for row in separation])
    return 1 / (depth * np.maximum(overlap, 0.5))


def angular_weights(angles: Floats) -> Floats:
    """Angular weights in radians: half the distance between neighboring tilts; the full one at the ends."""
    if len(angles) == 1:
        return np.ones(1)
    order = np.argsort(angles)
    gaps = np.diff(np.deg2rad(angles[order]))
    weights = np.empty(len(angles))
    weights[order] = (np.concatenate([gaps[:1], gaps]) + np.concatenate([gaps, gaps[-1:]])) / 2
    return weights


def _window(shape: tuple[int, int], config: ReconstructionConfig) -> Floats:
    position = 2 * lens.radial_frequency(shape, 1.0)
    if config.window == "none":
        return np.ones_like(position)
    if config.window == "hamming":
        return 0.54 + 0.46 * np.cos(np.pi * np.minimum(position, 1))
    edge = np.clip((position - config.cutoff) / 0.2 + 0.5, 0, 1)
    return 0.5 + 0.5 * np.cos(np.pi * edge)


def sirt(
    images: Images,
    plane: ProjectionGeometry,
    angles: Floats,
    iterations: int,
    device: str = "cpu",
    on_progress: ProgressCallback = no_progress,
) -> Images:
    """Simultaneous iterative reconstruction (Gilbert 1972) of (n, y, x) images, starting from zero.

    The update is C A^T R (b - A x), with the inverse row and column sums R and C of A.
    """
    projector = Projector(plane, angles, device)
    height = images.shape[1]
    out = np.empty((plane.depth, height, plane.width), np.float32)
    weights = _sirt_weights(projector)
    for rows in tracked(chunks(height), on_progress, "rows"):
        lines = np.ascontiguousarray(images[:, rows].transpose(0, 2, 1))
        voxels = _sirt_iterations(projector, lines, weights, iterations)[0].reshape(
            plane.depth, plane.width, -1
        )
        out[:, rows] = voxels.transpose(0, 2, 1)
    return out


def _sirt_iterations(
    projector: Projector, lines: Array, weights: tuple[Array, Array], iterations: int
) -> tuple[Array, list[float]]:
    """Voxels (z x, y), and the weighted residual before each step."""
    along, across = weights
    voxels = np.zeros((across.shape[0], lines.shape[2]), np.float32)
    residuals = []
    for _ in range(iterations):
        residual = lines - projector.forward(voxels)
        residuals.append(float((along * residual**2).sum(dtype=np.float64)))
        voxels += across * projector.adjoint(along * residual)
    return voxels, residuals


def _sirt_weights(projector: Projector) -> tuple[Array, Array]:
    """R (n, x', 1) and C (z x, 1); 0 for pixels and voxels with a sum below 0.5."""
    plane = projector.plane
    path = projector.forward(np.ones((plane.depth * plane.width, 1), np.float32))
    coverage = projector.adjoint(np.ones((projector.count, plane.pixels, 1), np.float32))
    along = np.where(path > 0.5, 1 / np.maximum(path, 0.5), 0)
    across = np.where(coverage > 0.5, 1 / np.maximum(coverage, 0.5), 0)
    return along.astype(np.float32), across.astype(np.float32)
