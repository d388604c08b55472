"""A template with its mask and the filter that turns it into what a tomogram shows; rotated copies of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

AXES = (-3, -2, -1)
MIN_DENSITY = 1e-4
"""Density, relative to the highest, below which a voxel of a template is taken as empty."""


class _Copy(NamedTuple):
    """A template on a device.

    Attributes
    ----------
    density, transfer
        As of :class:`SearchTemplate`.
    weights : (n, n, n)
        Mask with the sum 1.
    points : (p, 3)
        (x, y, z) of the voxels of the box that the density reaches in some rotation, in the coordinates of
        `grid_sample`.
    inside : (p,)
        Their indices in the box.
    """

    density: Tensor
    transfer: Tensor
    weights: Tensor
    points: Tensor
    inside: Tensor


@dataclass(frozen=True, eq=False)
class SearchTemplate:
    """A template with all that turns it into what the tomogram shows.

    Attributes
    ----------
    density : (k, k, k) float32
        Bright particle around the center of the middle voxel; k is odd.
    oversampling
        Voxels of the density per voxel of the tomogram. Rotation interpolates linearly, so 2 or more.
    radius
        Radius of the spherical mask in voxels of the tomogram.
    transfer : (m, m, m // 2 + 1) float32
        Filter on the `rfftn` of a box with an odd edge m (see :func:`filter_box`): wedge, CTF, and
        `whitening`.
    whitening : (m, m, m // 2 + 1) float32 or None
        Filter of the tomogram, applied as a convolution with a kernel of the size of that box.
    """

    density: NDArray[np.float32]
    oversampling: float
    radius: float
    transfer: NDArray[np.float32]
    whitening: NDArray[np.float32] | None = None

    @property
    def box(self) -> int:
        """Edge m of the box in which the template is filtered."""
        return int(self.transfer.shape[0])

    @cached_property
    def mask(self) -> NDArray[np.float32]:
        """Weights (n, n, n) of the spherical mask."""
        return spherical_mask(self.radius)

    @property
    def margin(self) -> int:
        """Voxels around a position on which its score depends."""
        return self.mask.shape[0] // 2 + (0 if self.whitening is None else self.box // 2)

    @cached_property
    def _copies(self) -> dict[str, _Copy]:
        return {}

    def _on(self, device: str) -> _Copy:
        if device not in self._copies:
            weights = self.mask / self.mask.sum()
            points, inside = _support(self.density, self.box, self.oversampling)
            arrays = (self.density, self.transfer, weights, points, inside)
            self._copies[device] = _Copy(*(torch.as_tensor(array, device=device) for array in arrays))
        return self._copies[device]

    def rotated(self, rotations: NDArray[np.float64] | Tensor, device: str = "cpu") -> Tensor:
        """Filtered, masked and normalized templates: (b, n, n, n).

        The sum over a template is 0, and its sum with an image of mean 0 and variance 1 under the mask is
        their correlation coefficient.

        Parameters
        ----------
        rotations : (b, 3, 3)
            Active, reference to tomogram, acting on (x, y, z) columns.
        """
        copy = self._on(device)
        weights = copy.weights
        boxes = _rotate(copy, torch.as_tensor(rotations, dtype=torch.float32, device=device), self.box)
        cut = (self.box - self.mask.shape[0]) // 2
        inner = slice(cut, self.box - cut)
        # one axis after another, without what lies outside the mask
        spectra = torch.fft.rfftn(boxes, dim=AXES).mul_(copy.transfer)
        spectra = torch.fft.ifft(spectra, dim=-3)[:, inner]
        spectra = torch.fft.ifft(spectra, dim=-2)[:, :, inner]
        boxes = torch.fft.irfft(spectra, self.box)[..., inner]
        centered = boxes - (boxes * weights).sum(AXES, keepdim=True)
        std = (centered.square() * weights).sum(AXES, keepdim=True).sqrt()
        return centered * weights / std


def spherical_mask(radius: float) -> NDArray[np.float32]:
    """Ball of *radius* voxels in an odd cube, with a linear edge of one voxel."""
    half = int(np.ceil(radius - 0.5)) if radius > 0.5 else 0
    at = np.arange(-half, half + 1)
    distance = np.sqrt(at[:, None, None] ** 2 + at[:, None] ** 2 + at**2)
    return np.clip(radius + 0.5 - distance, 0, 1).astype(np.float32)


def _support(
    density: NDArray[np.float32], box: int, oversampling: float
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Voxels of a box that a density reaches in some rotation: see :class:`_Copy`."""
    half = density.shape[0] // 2
    reached = np.argwhere(np.abs(density) > MIN_DENSITY * np.abs(density).max()) - half
    radius = np.sqrt((reached**2).sum(axis=1).max(initial=0)) + np.sqrt(3)
    at = np.arange(box) - box // 2
    z, y, x = (axis.ravel() for axis in np.meshgrid(at, at, at, indexing="ij"))
    inside = np.flatnonzero(np.sqrt(z**2 + y**2 + x**2) * oversampling <= radius)
    # grid_sample takes -1 to 1 from the first to the last voxel of the density
    points = np.stack([x, y, z], axis=1)[inside] * (oversampling / half)
    return points.astype(np.float32), inside


def _rotate(copy: _Copy, matrices: Tensor, box: int) -> Tensor:
    """Rotated densities (b, box, box, box) around the middle voxel, by linear interpolation."""
    # a voxel p shows the reference at R^T p, in a row p R
    grid = (copy.points @ matrices).reshape(len(matrices), 1, 1, -1, 3)
    stack = copy.density.expand(len(matrices), 1, *copy.density.shape)
    boxes = torch.zeros(len(matrices), box**3, device=matrices.device)
    boxes[:, copy.inside] = functional.grid_sample(stack, grid, align_corners=True).flatten(1)
    return boxes.reshape(-1, box, box, box)
