"""Closed and open surfaces, each as the zero of a function of space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cryovox.simulate.scene.canvas import Floats, orthonormal_frame


class Surface(Protocol):
    """What a bilayer is drawn along."""

    def distance_and_normal(self, points: Floats) -> tuple[Floats, Floats]:
        """Measure points (n, 3), z, y, x in Å: signed distances (n,) in Å, outward unit normals (n, 3)."""
        ...

    def distance(self, points: Floats) -> Floats:
        """Give the distances alone."""
        ...


@dataclass(frozen=True, eq=False)
class DeformedSphere:
    """A sphere whose radius varies with direction u as R (1 + u.A.u + T(u, u, u)).

    Attributes
    ----------
    centre : (3,) z, y, x in Å
    radius
        R in Å.
    second : (3, 3) symmetric, without trace
        A, the spherical harmonics of order 2.
    third : (3, 3, 3) symmetric, without trace
        T, those of order 3.
    """

    centre: NDArray[np.float64]
    radius: float
    second: NDArray[np.float64]
    third: NDArray[np.float64]

    def distance_and_normal(self, points: Floats) -> tuple[Floats, Floats]:
        """Measure to first order: the function over the length of its gradient."""
        from_centre = points - self.centre.astype(points.dtype)
        length = np.maximum(np.linalg.norm(from_centre, axis=1), 1e-3 * self.radius)
        u = from_centre / length[:, None]
        quadratic = u @ self.second.astype(u.dtype)
        cubic = (u @ self.third.reshape(3, 9).astype(u.dtype)).reshape(-1, 3, 3) @ u[..., None]
        slope = 2 * quadratic + 3 * cubic[..., 0]
        even, odd = (quadratic * u).sum(1), (cubic[..., 0] * u).sum(1)
        value = length - self.radius * (1 + even + odd)
        along = slope - (slope * u).sum(1, keepdims=True) * u
        lever = np.minimum(self.radius / length, 2.0)  # deep inside, the gradient would grow without bound
        gradient = u - along * lever[:, None]
        steep = np.linalg.norm(gradient, axis=1)
        return value / steep, gradient / steep[:, None]

    def distance(self, points: Floats) -> Floats:
        """Give the distances alone."""
        return self.distance_and_normal(points)[0]


@dataclass(frozen=True, eq=False)
class CurvedSheet:
    """A plane, or a cylinder where it is curved; exact.

    Attributes
    ----------
    centre : (3,) z, y, x in Å
        A point on it.
    normal : (3,) unit vector at that point, z, y, x
    axis : (3,) unit vector, z, y, x
        Of the cylinder.
    curvature
        In 1/Å; positive where the normal points away from the cylinder's axis.
    """

    centre: NDArray[np.float64]
    normal: NDArray[np.float64]
    axis: NDArray[np.float64]
    curvature: float

    def distance_and_normal(self, points: Floats) -> tuple[Floats, Floats]:
        """Measure exactly."""
        kind = points.dtype
        from_centre = points - self.centre.astype(kind)
        if abs(self.curvature) < 1e-9:
            return from_centre @ self.normal.astype(kind), np.broadcast_to(
                self.normal.astype(kind), points.shape
            )
        axis, signed = self.axis.astype(kind), 1 / self.curvature
        across = from_centre - (from_centre @ axis)[:, None] * axis + (self.normal * signed).astype(kind)
        length = np.maximum(np.linalg.norm(across, axis=1), 1e-3)
        sign = kind.type(np.sign(self.curvature))
        return sign * (length - kind.type(abs(signed))), sign * across / length[:, None]

    def distance(self, points: Floats) -> Floats:
        """Give the distances alone."""
        return self.distance_and_normal(points)[0]


def random_deformed_sphere(
    centre: Floats, radius: float, bulge: float, rng: np.random.Generator
) -> DeformedSphere:
    """Draw a deformed sphere, nowhere farther from the sphere than *bulge* of the radius, about."""
    square = rng.standard_normal((3, 3))
    second = square + square.T
    second -= np.eye(3) * np.trace(second) / 3
    cube = rng.standard_normal((3, 3, 3))
    third = sum(cube.transpose(p) for p in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)))
    third = np.asarray(third) - _trace(np.asarray(third))
    share = rng.uniform(0.4, 0.8)
    second *= share * bulge / np.abs(np.linalg.eigvalsh(second)).max()
    third *= (1 - share) * bulge / _largest(third)
    return DeformedSphere(np.asarray(centre, np.float64), radius, second, third)


def random_curved_sheet(
    centre: Floats, normal: NDArray[np.float64], curvature: float, rng: np.random.Generator
) -> CurvedSheet:
    """Draw the direction in which a sheet is curved."""
    angle = rng.uniform(0, np.pi)
    axes = orthonormal_frame(normal)
    axis = axes[:, 0] * np.cos(angle) + axes[:, 1] * np.sin(angle)
    return CurvedSheet(np.asarray(centre, np.float64), normal, axis, curvature)


def project_onto(
    surface: Surface, points: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Move points (n, 3) near a surface onto it (Newton's method); give the normals there too."""
    for _ in range(4):
        away, normal = surface.distance_and_normal(points)
        points = points - away[:, None] * normal
    return points, np.array(surface.distance_and_normal(points)[1])


def _trace(cube: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the part of a symmetric tensor of rank 3 that is no harmonic."""
    t, one = np.einsum("iik->k", cube), np.eye(3)
    spread = np.einsum("ij,k->ijk", one, t) + np.einsum("ik,j->ijk", one, t) + np.einsum("jk,i->ijk", one, t)
    return spread / 5


def _largest(cube: NDArray[np.float64]) -> float:
    """Give the largest value on the unit sphere, over a few hundred directions."""
    k = np.arange(400) + 0.5
    z, angle = 1 - k / 200, np.pi * (1 + 5**0.5) * k
    u = np.stack([z, np.sqrt(1 - z**2) * np.cos(angle), np.sqrt(1 - z**2) * np.sin(angle)], 1)
    return float(np.abs(np.einsum("ijk,ni,nj,nk->n", cube, u, u, u)).max())
