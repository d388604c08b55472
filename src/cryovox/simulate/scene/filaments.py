"""Microtubules and thin filaments: worm-like chains with a modulated cross-section."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from cryovox.simulate.config.scene import FilamentConfig
from cryovox.simulate.scene.canvas import (
    FREE,
    MATTER,
    OUTSIDE,
    Canvas,
    Floats,
    orthonormal_frame,
    partial_volume,
)
from cryovox.simulate.scene.membranes import MAX_ATTEMPTS, random_inclined_direction

STEP = 20.0
"""Distance between the points of a path, in Å."""
OUTER_RADIUS = {"microtubule": 125.0, "actin": 35.0}
"""Outer radius in Å."""
PERSISTENCE = {"microtubule": 5.2e7, "actin": 1.77e5}
"""Persistence length in Å (Gittes et al., J. Cell Biol. 120, 923, 1993)."""
INNER_RADIUS = 75.0
"""Inner radius of a microtubule in Å."""
PROTOFILAMENTS, MONOMER, RISE = 13, 40.0, 120.0
"""Microtubule: number of protofilaments, length of a tubulin monomer in Å, and rise of the helix per turn
in Å (three monomers)."""
CROSSOVER = 360.0
"""Crossover length of the two strands of actin, in Å."""


@dataclass(frozen=True, eq=False)
class Path:
    """A smooth curve with a parallel-transported frame.

    Attributes
    ----------
    points : (n, 3)
        (z, y, x) in Å, `STEP` apart.
    frames : (n, 3, 3)
        Columns: two normals and the tangent, z, y, x.
    """

    points: NDArray[np.float64]
    frames: NDArray[np.float64]

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.points)

    def distance(self, points: Floats) -> NDArray[np.float64]:
        """Distance (n,) in Å of points (n, 3) from the nearest point of the path."""
        return np.asarray(self._tree.query(points)[0])

    def cylindrical(
        self, points: Floats
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Radius (Å), angle (radians) and position along the path (Å) of points (n, 3).

        Beyond the ends, the position is below 0 or above the length.
        """
        nearest = self._tree.query(points)[1]
        local = np.einsum("nij,ni->nj", self.frames[nearest], points - self.points[nearest])
        return (
            np.hypot(local[:, 0], local[:, 1]),
            np.arctan2(-local[:, 1], local[:, 0]),  # right-handed in x, y, z
            nearest * STEP + local[:, 2],
        )

    @property
    def length(self) -> float:
        """Contour length in Å."""
        return (len(self.points) - 1) * STEP


def worm_like_chain(
    middle: Floats, direction: Floats, length: float, persistence: float, rng: np.random.Generator
) -> Path:
    """Draw a worm-like chain from its middle (Kratky & Porod, 1949).

    At each step, the direction rotates about both normals by Gaussian angles of variance
    step / persistence, so that the mean cosine between directions falls as exp(-s / persistence).
    """
    start = orthonormal_frame(direction)
    half = max(round(length / STEP / 2), 1)
    forward = _random_frames(start, half, persistence, rng)
    backward = _random_frames(start, half, persistence, rng)
    frames = np.concatenate([backward[:0:-1], forward])
    tangents = frames[..., 2]
    points = np.concatenate([np.zeros((1, 3)), np.cumsum((tangents[1:] + tangents[:-1]) / 2 * STEP, 0)])
    return Path(points - points[half] + middle, frames)


def cross_section(
    kind: str, radius: Floats, angle: Floats, along: Floats, voxel: float
) -> tuple[Floats, Floats]:
    """Fraction of each voxel within the filament, and its density, both 0 to 1.

    Microtubule: 13 protofilaments, monomers every 40 Å on three left-handed helices. Actin: two
    strands in a right-handed helix.
    """
    if kind == "microtubule":
        wall = (OUTER_RADIUS[kind] - INNER_RADIUS) / 2
        body = partial_volume(wall - np.abs(radius - INNER_RADIUS - wall), voxel)
        lateral = 1 + 0.35 * np.cos(PROTOFILAMENTS * angle)
        axial = 1 + 0.25 * np.cos(2 * np.pi / MONOMER * (along + RISE * angle / (2 * np.pi)))
        return body, body * lateral * axial / (1.35 * 1.25)
    thick = OUTER_RADIUS[kind] - 8 + 8 * np.cos(2 * (angle - np.pi * along / CROSSOVER))
    body = partial_volume(thick - radius, voxel)
    return body, body


def add_filaments(
    canvas: Canvas, setting: FilamentConfig, gap: int, label: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Draw filaments, clipped to the volume and the slab."""
    filaments = (_filament(canvas, setting, gap, label, rng) for _ in range(setting.count))
    return [f for f in filaments if f is not None]


def _filament(
    canvas: Canvas, setting: FilamentConfig, gap: int, label: int, rng: np.random.Generator
) -> dict[str, Any] | None:
    outer = OUTER_RADIUS[setting.kind]
    for _ in range(MAX_ATTEMPTS):
        path = _random_path(canvas, setting, outer, rng)
        if path is None or canvas.touches_object(path.distance, outer):
            continue
        box = path.points.min(0) - 2 * outer, path.points.max(0) + 2 * outer
        voxels = canvas.voxels_near(
            path.distance, *box, outer + STEP + (gap + 1) * canvas.voxel_size, solid=False
        )
        radius, angle, along = path.cylindrical(canvas.points(voxels))
        margin = gap * canvas.voxel_size
        close = (radius < outer + margin) & (along > -margin) & (along < path.length + margin)
        if not close.any() or (canvas.occupancy_at(voxels[close]) == MATTER).any():
            continue
        body, density = cross_section(setting.kind, radius, angle, along, canvas.voxel_size)
        ends = partial_volume(np.minimum(along, path.length - along), canvas.voxel_size)
        return _draw(canvas, setting, voxels, body * ends, density * ends, path, label)
    return None


def _draw(
    canvas: Canvas,
    setting: FilamentConfig,
    voxels: NDArray[np.intp],
    body: Floats,
    density: Floats,
    path: Path,
    label: int,
) -> dict[str, Any]:
    instance, state = canvas.new_instance(), canvas.occupancy_at(voxels)
    inside = state != OUTSIDE
    canvas.add(voxels[inside], setting.potential * density[inside])
    canvas.assign(voxels[(body > 0.5) & (state == FREE)], label, instance)
    every = max(round(200 / STEP), 1)
    return {"instance": instance, "kind": setting.kind, "length": path.length} | {
        "path": np.round(path.points[::every], 2).tolist()
    }


def _random_path(
    canvas: Canvas, setting: FilamentConfig, outer: float, rng: np.random.Generator
) -> Path | None:
    """Draw a path through the volume; None if it leaves the slab."""
    depth = canvas.slab.sample(outer, rng)
    length = float(rng.uniform(*setting.length))
    direction = random_inclined_direction(canvas.slab, float(rng.uniform(-1, 1)) * setting.inclination, rng)
    if depth is None:
        return None
    extent = (np.array(canvas.shape) - 1) * canvas.voxel_size
    middle = rng.uniform(0, 1, 3) * extent
    middle[0] += (depth - canvas.slab.depth(middle)) / canvas.slab.normal[0]
    path = worm_like_chain(middle, direction, length, setting.persistence or PERSISTENCE[setting.kind], rng)
    visible = ((path.points >= -outer) & (path.points <= extent + outer)).all(1)
    within_slab = (np.abs(canvas.slab.depth(path.points[visible])) <= canvas.slab.half - outer).all()
    return path if visible.any() and within_slab else None


def _random_frames(
    start: NDArray[np.float64], steps: int, persistence: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Frames (steps + 1, 3, 3) of a random walk of directions."""
    angles = rng.standard_normal((steps, 3)) * np.sqrt(STEP / persistence) * [1, 1, 0]
    frames = [start]
    for rotation in Rotation.from_rotvec(angles).as_matrix():
        frames.append(frames[-1] @ rotation)
    return np.array(frames)
