"""Implicit surfaces of vesicles and membrane sheets, as signed distance functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cryovox.simulate.scene.canvas import Floats, orthonormal_frame


class Surface(Protocol):
    """Mid-surface of a bilayer."""

    def distance_and_normal(self, points: Floats) -> tuple[Floats, Floats]:
        """Signed distances (n,) in Å and outward unit normals (n, 3) at points (n, 3), (z, y, x) in Å."""
        ...

    def distance(self, points: Floats) -> Floats:
        """Signed distances (n,) in Å."""
        ...


@dataclass(frozen=True, eq=False)
class DeformedSphere:
    """A sphere whose radius varies with direction u as R (1 + u.A.u + T(u, u, u)).

    Attributes
    ----------
    center : (3,)
        (z, y, x) in Å.
    radius
        R in Å.
    order_2 : (3, 3)
        A, symmetric and traceless: spherical harmonics of order 2.
    order_3 : (3, 3, 3)
        T, symmetric and traceless: spherical harmonics of order 3.
    """

    center: NDArray[np.float64]
    radius: float
    order_2: NDArray[np.float64]
    order_3: NDArray[np.float64]

    def distance_and_normal(self, points: Floats) -> tuple[Floats, Floats]:
        """Distances to first order: the implicit function divided by the norm of its gradient."""
        from_center = points - self.center.astype(points.dtype)
        length = np.maximum(np.linalg.norm(from_center, axis=1), 1e-3 * self.radius)
        u = from_center / length[:, None]
        quadratic = u @ self.order_2.astype(u.dtype)
        cubic = (u @ self.order_3.reshape(3, 9).astype(u.dtype)).reshape(-1, 3, 3) @ u[..., None]
        slope = 2 * quadratic + 3 * cubic[..., 0]
        even, odd = (quadratic * u).sum(1), (cubic[..., 0] * u).sum(1)
        value = length - self.radius * (1 + even + odd)
        along = slope - (slope * u).sum(1, keepdims=True) * u
        scale = np.minimum(self.radius / length, 2.0)  # limits the gradient near the center
        gradient = u - along * scale[:, None]
        norm = np.linalg.norm(gradient, axis=1)
        return value / norm, gradient / norm[:, None]

    def distance(self, points: Floats) -> Floats:
        """Signed distances (n,) in Å."""
        return self.distance_and_normal(points)[0]


@dataclass(frozen=True, eq=False)
class CurvedSheet:
    """A plane (zero curvature) or a cylinder, with exact distances.

    Attributes
    ----------
    center : (3,)
        A point on the surface, (z, y, x) in Å.
    normal : (3,)
        Unit normal at that point, (z, y, x).
    axis : (3,)
        Unit vector along the cylinder axis, (z, y, x).
    curvature
        1/Å; positive if the normal points away from the cylinder axis.
    """

    center: NDArray[np.float64]
    normal: NDArray[np.float64]
    axis: NDArray[np.float64]
    curvature: float

    def distance_and_normal(self, points: Floats) -> tuple[Floats, Floats]:
        """Exact distances and normals."""
        kind = points.dtype
        from_center = points - self.center.astype(kind)
        if abs(self.curvature) < 1e-9:
            return from_center @ self.normal.astype(kind), np.broadcast_to(
                self.normal.astype(kind), points.shape
            )
        axis, signed = self.axis.astype(kind), 1 / self.curvature
        across = from_center - (from_center @ axis)[:, None] * axis + (self.normal * signed).astype(kind)
        length = np.maximum(np.linalg.norm(across, axis=1), 1e-3)
        sign = kind.type(np.sign(self.curvature))
        return sign * (length - kind.type(abs(signed))), sign * across / length[:, None]

    def distance(self, points: Floats) -> Floats:
        """Signed distances (n,) in Å."""
        return self.distance_and_normal(points)[0]


def random_deformed_sphere(
    center: Floats, radius: float, bulge: float, rng: np.random.Generator
) -> DeformedSphere:
    """Draw a deformed sphere; it deviates by at most about *bulge* times the radius."""
    square = rng.standard_normal((3, 3))
    order_2 = square + square.T
    order_2 -= np.eye(3) * np.trace(order_2) / 3
    cube = rng.standard_normal((3, 3, 3))
    order_3 = sum(
        cube.transpose(p) for p in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    )
    order_3 = np.asarray(order_3) - _trace_part(np.asarray(order_3))
    share = rng.uniform(0.4, 0.8)
    order_2 *= share * bulge / np.abs(np.linalg.eigvalsh(order_2)).max()
    order_3 *= (1 - share) * bulge / _max_on_sphere(order_3)
    return DeformedSphere(np.asarray(center, np.float64), radius, order_2, order_3)


def random_curved_sheet(
    center: Floats, normal: NDArray[np.float64], curvature: float, rng: np.random.Generator
) -> CurvedSheet:
    """Draw the axis about which a sheet is curved."""
    angle = rng.uniform(0, np.pi)
    axes = orthonormal_frame(normal)
    axis = axes[:, 0] * np.cos(angle) + axes[:, 1] * np.sin(angle)
    return CurvedSheet(np.asarray(center, np.float64), normal, axis, curvature)


def project_onto(
    surface: Surface, points: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Project points (n, 3) near a surface onto it by Newton's method; returns points and normals."""
    for _ in range(4):
        distance, normal = surface.distance_and_normal(points)
        points = points - distance[:, None] * normal
    return points, np.array(surface.distance_and_normal(points)[1])


def _trace_part(cube: NDArray[np.float64]) -> NDArray[np.float64]:
    """Trace part of a symmetric tensor of rank 3; the rest is harmonic."""
    t, one = np.einsum("iik->k", cube), np.eye(3)
    trace = np.einsum("ij,k->ijk", one, t) + np.einsum("ik,j->ijk", one, t) + np.einsum("jk,i->ijk", one, t)
    return trace / 5


def _max_on_sphere(cube: NDArray[np.float64]) -> float:
    """Maximum of the cubic form on the unit sphere, over 400 directions."""
    k = np.arange(400) + 0.5
    z, angle = 1 - k / 200, np.pi * (1 + 5**0.5) * k
    u = np.stack([z, np.sqrt(1 - z**2) * np.cos(angle), np.sqrt(1 - z**2) * np.sin(angle)], 1)
    return float(np.abs(np.einsum("ijk,ni,nj,nk->n", cube, u, u, u)).max())
