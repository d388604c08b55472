"""A template in any pose: turned and shifted by continuous amounts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryovox.simulate.particles.template import Template

NEGLIGIBLE = 1e-3
"""Of the largest potential; what is fainter and beyond everything else is not drawn."""


@dataclass(frozen=True, eq=False)
class Body:
    """A cube of values that can be turned and shifted.

    Attributes
    ----------
    spline : (m, m, m)
        Coefficients of the cubic spline through the values.
    voxels_near : (m, m, m) bool
        Where something is, and a voxel around it.
    half
        The turned body lies in a cube of 2 half + 1 voxels.
    ball : (n,) flat indices into that cube
        Of the voxels that the body can get to.
    offsets : (n, 3) z, y, x of these voxels from the middle
    """

    spline: NDArray[np.float64]
    near: NDArray[np.bool_]
    half: int
    ball: NDArray[np.intp]
    offsets: NDArray[np.float64]

    def rotated(self, turn: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.float32]:
        """Turn (3, 3) acting on x, y, z, then shift (3,) z, y, x by at most half a voxel."""
        forth = turn[::-1, ::-1]  # acting on z, y, x; rows times it go back
        source = (self.offsets - shift) @ forth + self.spline.shape[0] // 2
        nearest = np.ravel_multi_index(tuple(np.rint(source).astype(np.intp).T), self.spline.shape)
        needed = self.near.reshape(-1)[nearest]
        out = np.zeros((2 * self.half + 1,) * 3, np.float32)
        out.reshape(-1)[self.ball[needed]] = ndimage.map_coordinates(
            self.spline, source[needed].T, np.float32, 3, mode="constant", prefilter=False
        )
        return out


@dataclass(frozen=True, eq=False)
class PreparedTemplate:
    """A template made ready for placing.

    Attributes
    ----------
    name, label
        Of the species.
    density, support
        Volts, and 1 inside the molecule; cubes that can be turned.
    inner
        Radius in voxels of the largest ball around the centre that lies in the support.
    bulk
        How much room it takes: the product of the support's standard deviations along its axes.
    size
        Voxels of the support.
    axis, height
        As in the template.
    """

    name: str
    label: int
    density: Body
    support: Body
    inner: float
    bulk: float
    size: int
    axis: NDArray[np.float64] | None
    height: float

    def coverage(self, turn: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.float32]:
        """Turn and shift the support; about 0 to 1, 0.5 being the surface."""
        return self.support.rotated(turn, shift)

    def mask(self, turn: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Turn and shift the support and say which voxels lie in it."""
        return self.coverage(turn, shift) > 0.5


def prepare_template(template: Template, label: int) -> PreparedTemplate:
    """Prepare a template; it is filtered once here and not once for every particle."""
    strong = np.abs(template.density) > NEGLIGIBLE * np.abs(template.density).max()
    inside = np.pad(template.support, 1)
    middle = inside.shape[0] // 2
    return PreparedTemplate(
        name=template.name,
        label=label,
        density=_body(template.density, strong | template.support),
        support=_body(template.support.astype(np.float32), template.support),
        inner=float(ndimage.distance_transform_edt(inside)[middle, middle, middle]),
        bulk=float(np.linalg.det(np.cov(np.argwhere(template.support).T, bias=True) + np.eye(3) / 12) ** 0.5),
        size=int(template.support.sum()),
        axis=template.axis,
        height=template.height,
    )


def dilate(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """Widen a mask by *steps* voxels along the axes; it comes back in a cube larger by as much."""
    grown = np.pad(mask, steps)
    for _ in range(steps):
        before = grown.copy()
        for axis in range(3):
            here, there = [slice(None)] * 3, [slice(None)] * 3
            here[axis], there[axis] = slice(1, None), slice(None, -1)
            grown[tuple(here)] |= before[tuple(there)]
            grown[tuple(there)] |= before[tuple(here)]
    return grown


def _body(values: NDArray[np.float32], where: NDArray[np.bool_]) -> Body:
    """Cut a cube to what it holds, and find what that can get to."""
    reach = _extent(where)
    half = int(np.ceil(reach)) + 1
    size = half + 3  # what is turned back may lie a voxel and a shift beyond the cube
    small, at = _resized(values, size), _resized(where, size)
    axis = np.arange(-half, half + 1)
    offsets = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    ball = np.flatnonzero((offsets**2).sum(1) <= (reach + 1.5) ** 2)
    return Body(
        spline=ndimage.spline_filter(small.astype(np.float64), order=3),
        near=ndimage.binary_dilation(at, np.ones((3, 3, 3))),
        half=half,
        ball=ball,
        offsets=offsets[ball].astype(np.float64),
    )


def _extent(mask: NDArray[np.bool_]) -> float:
    """Distance in voxels from the middle to the farthest voxel that is set."""
    where = np.argwhere(mask)
    return float(np.linalg.norm(where - mask.shape[0] // 2, axis=1).max()) if len(where) else 0.0


def _resized(cube: NDArray[Any], half: int) -> NDArray[Any]:
    """Cut or pad an odd cube to 2 half + 1 voxels about its middle."""
    now = cube.shape[0] // 2
    keep = slice(max(now - half, 0), now + min(half, now) + 1)
    return np.pad(cube[keep, keep, keep], max(half - now, 0))
