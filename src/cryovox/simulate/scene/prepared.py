"""Templates prepared for placement: rotated and shifted by spline interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryovox.simulate.particles.template import Template

NEGLIGIBLE = 1e-3
"""Potential, relative to the maximum, below which voxels outside the support are dropped."""


@dataclass(frozen=True, eq=False)
class RotatableVolume:
    """A cube of values with its spline coefficients.

    Attributes
    ----------
    spline : (m, m, m)
        Cubic spline coefficients.
    mask : (m, m, m) bool
        Non-zero voxels, dilated by one voxel.
    half
        A rotated volume fits into a cube of 2 half + 1 voxels.
    reachable : (n,)
        Flat indices into that cube of the voxels that a rotation can reach.
    offsets : (n, 3)
        Offsets (z, y, x) of these voxels from the middle.
    """

    spline: NDArray[np.float64]
    mask: NDArray[np.bool_]
    half: int
    reachable: NDArray[np.intp]
    offsets: NDArray[np.float64]

    def rotated(self, rotation: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.float32]:
        """Rotate by (3, 3) acting on (x, y, z), then shift by (z, y, x) of at most half a voxel."""
        zyx_rotation = rotation[::-1, ::-1]  # row vectors times it are rotated back
        source = (self.offsets - shift) @ zyx_rotation + self.spline.shape[0] // 2
        nearest = np.ravel_multi_index(tuple(np.rint(source).astype(np.intp).T), self.spline.shape)
        needed = self.mask.reshape(-1)[nearest]
        out = np.zeros((2 * self.half + 1,) * 3, np.float32)
        out.reshape(-1)[self.reachable[needed]] = ndimage.map_coordinates(
            self.spline, source[needed].T, np.float32, 3, mode="constant", prefilter=False
        )
        return out


@dataclass(frozen=True, eq=False)
class PreparedTemplate:
    """A template prepared for placement.

    Attributes
    ----------
    name, label
        Species.
    density, support
        Potential in volts; support with values 0 to 1.
    inner_radius
        Radius in voxels of the largest sphere around the center within the support.
    bulk
        Product of the support's standard deviations along its principal axes, in voxels cubed.
    size
        Voxels of the support.
    axis, height
        As in `Template`.
    """

    name: str
    label: int
    density: RotatableVolume
    support: RotatableVolume
    inner_radius: float
    bulk: float
    size: int
    axis: NDArray[np.float64] | None
    height: float

    def coverage(self, rotation: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.float32]:
        """Rotated and shifted support, about 0 to 1; 0.5 is the surface."""
        return self.support.rotated(rotation, shift)

    def mask(self, rotation: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Voxels in the rotated and shifted support."""
        return self.coverage(rotation, shift) > 0.5


def prepare_template(template: Template, label: int) -> PreparedTemplate:
    """Compute splines and sizes once per template rather than once per particle."""
    strong = np.abs(template.density) > NEGLIGIBLE * np.abs(template.density).max()
    inside = np.pad(template.support, 1)
    middle = inside.shape[0] // 2
    return PreparedTemplate(
        name=template.name,
        label=label,
        density=_rotatable(template.density, strong | template.support),
        support=_rotatable(template.support.astype(np.float32), template.support),
        inner_radius=float(ndimage.distance_transform_edt(inside)[middle, middle, middle]),
        bulk=float(np.linalg.det(np.cov(np.argwhere(template.support).T, bias=True) + np.eye(3) / 12) ** 0.5),
        size=int(template.support.sum()),
        axis=template.axis,
        height=template.height,
    )


def dilate(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """Dilate a mask by *steps* voxels along the axes; the cube grows by as much on every side."""
    padded = np.pad(mask, steps)
    return ndimage.binary_dilation(padded, iterations=steps) if steps else padded


def _rotatable(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> RotatableVolume:
    """Crop a cube to *mask* and list the voxels that its rotations can reach."""
    distances = np.linalg.norm(np.argwhere(mask) - mask.shape[0] // 2, axis=1)
    reach = float(distances.max(initial=0.0))
    half = int(np.ceil(reach)) + 1
    size = half + 3  # rotation and shift may reach one voxel beyond the cube
    axis = np.arange(-half, half + 1)
    offsets = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    reachable = np.flatnonzero((offsets**2).sum(1) <= (reach + 1.5) ** 2)
    return RotatableVolume(
        spline=ndimage.spline_filter(_resize(values, size).astype(np.float64), order=3),
        mask=ndimage.binary_dilation(_resize(mask, size), np.ones((3, 3, 3))),
        half=half,
        reachable=reachable,
        offsets=offsets[reachable].astype(np.float64),
    )


def _resize(cube: NDArray[Any], half: int) -> NDArray[Any]:
    """Crop or pad an odd cube to 2 half + 1 voxels around its middle."""
    current = cube.shape[0] // 2
    keep = slice(max(current - half, 0), current + min(half, current) + 1)
    return np.pad(cube[keep, keep, keep], max(half - current, 0))
