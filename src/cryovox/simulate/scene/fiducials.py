"""Gold beads, ice crystals and the carbon film."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.simulate.config.scene import CarbonConfig, FiducialConfig, IceConfig
from cryovox.simulate.scene.canvas import MATTER, OUTSIDE, Canvas, Floats, partial_volume, random_direction
from cryovox.simulate.scene.pack import PlacedObject

MAX_ATTEMPTS = 300
"""Candidate positions for one bead."""
FACES = 14
"""Planes that bound a crystal."""


def add_fiducials(
    canvas: Canvas, setting: FiducialConfig, gap: int, label: int, rng: np.random.Generator
) -> tuple[list[dict[str, Any]], list[PlacedObject]]:
    """Draw gold beads within the slab and the volume."""
    facts: list[dict[str, Any]] = []
    placed: list[PlacedObject] = []
    for _ in range(setting.count):
        radius = float(rng.uniform(*setting.diameter)) / 2
        bead = _bead(canvas, setting, radius, gap, rng)
        if bead is None:
            continue
        center, voxels = bead
        instance = canvas.new_instance()
        depth = radius - np.linalg.norm(canvas.points(voxels) - center, axis=1)
        canvas.add(voxels, setting.potential * partial_volume(depth, canvas.voxel_size))
        inside = voxels[depth > 0]
        canvas.assign(inside, label, instance)
        facts.append({"instance": instance, "centre": center.tolist(), "radius": radius})
        placed.append(PlacedObject("fiducial", center, np.eye(3), instance, len(inside)))
    return facts, placed


def add_ice(canvas: Canvas, setting: IceConfig, label: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Draw ice crystals on the faces of the slab, or of the volume if the slab fills it."""
    facts: list[dict[str, Any]] = []
    extent = (np.array(canvas.shape) - 1) * canvas.voxel_size
    for _ in range(setting.count):
        radius, side = float(rng.uniform(*setting.radius)), float(rng.choice([-1.0, 1.0]))
        center = rng.uniform(0, 1, 3) * extent
        outward = 0.0 if canvas.slab.full else 0.6 * radius
        depth = side * (canvas.slab.half + outward)
        center[0] += (depth - canvas.slab.depth(center)) / canvas.slab.normal[0]
        planes = np.stack([random_direction(rng) for _ in range(FACES)])
        offsets = radius * rng.uniform(0.6, 1.0, FACES)
        instance = canvas.new_instance()
        _crystal(canvas, setting, (center, radius, planes, offsets), label, instance)
        facts.append({"instance": instance, "centre": center.tolist(), "radius": radius})
        facts[-1] |= {"planes": planes.tolist(), "offsets": offsets.tolist()}
    return facts


def add_carbon(
    canvas: Canvas, setting: CarbonConfig, label: int, rng: np.random.Generator
) -> dict[str, Any] | None:
    """Draw a film at the lower face of the slab, with the edge of a round hole."""
    if not setting.present:
        return None
    thickness, hole = float(rng.uniform(*setting.thickness)), float(rng.uniform(*setting.hole))
    cover, angle = float(rng.uniform(*setting.cover)), float(rng.uniform(0, 2 * np.pi))
    center = _hole(canvas, hole, cover, angle)
    middle = thickness / 2 - canvas.slab.half

    def distance(points: Floats) -> Floats:
        across = np.linalg.norm(points[:, 1:] - center.astype(points.dtype), axis=1)
        outside = np.abs(canvas.slab.depth(points) - middle) - thickness / 2
        return np.maximum(outside, hole - across)

    voxel, instance = canvas.voxel_size, canvas.new_instance()
    extent = np.array(canvas.shape) * voxel
    voxels = canvas.voxels_near(distance, np.zeros(3), extent, voxel / 2, solid=True)
    fraction = partial_volume(-distance(canvas.points(voxels)), voxel)
    texture = rng.standard_normal(len(voxels), np.float32) * setting.texture
    canvas.add(voxels, fraction * (setting.potential + texture))
    canvas.assign(voxels[fraction > 0.5], label, instance)
    return {"instance": instance, "thickness": thickness, "hole": hole} | {
        "hole_centre": center.tolist(),
        "cover": cover,
    }


def _bead(
    canvas: Canvas, setting: FiducialConfig, radius: float, gap: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.intp]] | None:
    """Center and voxels (flat indices) of a bead that overlaps no object, or None."""
    extent = (np.array(canvas.shape) - 1) * canvas.voxel_size
    if canvas.slab.half < radius or (extent < 2 * radius).any():
        return None
    margin = gap * canvas.voxel_size
    for _ in range(MAX_ATTEMPTS):
        center = rng.uniform(radius, extent - radius)
        depth = canvas.slab.sample(radius, rng)
        if setting.surface:
            depth = float(rng.choice([-1.0, 1.0])) * (canvas.slab.half - radius)
        assert depth is not None
        center[0] += (depth - canvas.slab.depth(center)) / canvas.slab.normal[0]
        if not radius <= center[0] <= extent[0] - radius:
            continue

        def distance(points: Floats, center: NDArray[np.float64] = center) -> Floats:
            return np.linalg.norm(points - center.astype(points.dtype), axis=1) - radius

        reach = max(margin, canvas.voxel_size)
        voxels = canvas.voxels_near(
            distance, center - radius - reach, center + radius + reach, reach, solid=True
        )
        distances = distance(canvas.points(voxels))
        state = canvas.occupancy_at(voxels)
        if not state[distances <= 0].any() and not (state[distances <= margin] == MATTER).any():
            return center, voxels[distances <= canvas.voxel_size / 2]
    return None


def _crystal(
    canvas: Canvas,
    setting: IceConfig,
    shape: tuple[NDArray[np.float64], float, NDArray[np.float64], NDArray[np.float64]],
    label: int,
    instance: int,
) -> None:
    center, radius, planes, offsets = shape

    def distance(points: Floats) -> Floats:
        from_center = points - center.astype(points.dtype)
        faces = (from_center @ planes.T.astype(points.dtype) - offsets.astype(points.dtype)).max(1)
        return np.maximum(faces, np.linalg.norm(from_center, axis=1) - points.dtype.type(radius))

    voxel = canvas.voxel_size
    voxels = canvas.voxels_near(
        distance, center - radius - voxel, center + radius + voxel, voxel / 2, solid=True
    )
    state = canvas.occupancy_at(voxels)  # within the slab, ice is already present
    voxels = voxels[state != MATTER if canvas.slab.full else state == OUTSIDE]
    fraction = partial_volume(-distance(canvas.points(voxels)), voxel)
    canvas.add(voxels, setting.potential * fraction)
    canvas.assign(voxels[fraction > 0.5], label, instance)


def _hole(canvas: Canvas, hole: float, cover: float, angle: float) -> NDArray[np.float64]:
    """Center (y, x) in Å of a hole that leaves *cover* of the field to the carbon."""
    extent = (np.array(canvas.shape[1:]) - 1) * canvas.voxel_size
    u = np.array([np.sin(angle), np.cos(angle)])
    field = np.stack(np.meshgrid(*(np.linspace(0, e, 64) for e in extent), indexing="ij"), -1).reshape(-1, 2)
    center = extent / 2 - u * hole
    for _ in range(4):
        beyond = np.linalg.norm(field - center, axis=1) - hole
        center = center + u * np.quantile(beyond, 1 - cover)
    return center
