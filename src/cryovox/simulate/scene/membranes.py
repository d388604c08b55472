"""Bilayers and the proteins in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryovox.simulate.config.scene import SceneConfig, SheetConfig, VesicleConfig
from cryovox.simulate.particles.maps import PROTEIN_INTEGRAL
from cryovox.simulate.scene.canvas import (
    FREE,
    MATTER,
    OUTSIDE,
    Canvas,
    Floats,
    Slab,
    orthonormal_frame,
    random_direction,
)
from cryovox.simulate.scene.pack import PlacedObject, fits, place
from cryovox.simulate.scene.prepared import PreparedTemplate, dilate
from cryovox.simulate.scene.surfaces import Surface, project_onto, random_curved_sheet, random_deformed_sphere

MAX_ATTEMPTS = 60
"""Places that are tried for one membrane, and for one protein in it."""
HEAD, CORE = 2.5, -0.4
"""Potential above ice at the middle of head groups and tails, in volts; protein has about +2.5 V."""
HEAD_WIDTH, CORE_WIDTH = 5.0, 9.0
"""Standard deviations in Å of the Gaussians that stand for head groups and tails."""
LIPIDS = 23.0
"""Da/Å² of a bilayer: two leaflets of lipids of 760 Da on 66 Å² each (POPC; Nagle and Tristram-Nagle)."""
PROTEIN_WIDTH = 35.0
"""Standard deviation in Å of the Gaussian that stands for proteins in and on a bilayer."""


@dataclass(frozen=True, eq=False)
class Membrane:
    """A bilayer that has been drawn.

    Attributes
    ----------
    surface
        Its middle.
    identity
        Value in the instance map.
    voxels : (n,) flat indices of its support
    middle : (m,) flat indices of the voxels that the middle passes through
    area
        Of what lies in the slab and the volume, in Å².
    embedded
        Proteins wanted per µm².
    facts
        What was drawn, for JSON.
    """

    surface: Surface
    identity: int
    voxels: NDArray[np.intp]
    middle: NDArray[np.intp]
    area: float
    embedded: float
    facts: dict[str, Any]


def bilayer_profile(away: Floats, thickness: float, voxel: float, protein: float = 0.0) -> Floats:
    """Give the potential of a bilayer in volts at distances in Å from its middle.

    Two leaflets of head groups and a core of tails, a Gaussian each (as in the density profiles of
    lipid bilayers, Nagle & Tristram-Nagle, Biochim. Biophys. Acta 1469, 2000). Widths are those of the
    groups and of half a voxel together, so that integrals do not depend on the voxels. Proteins of *protein*
    times the mass of the lipids are a third, wide Gaussian.
    """
    half = thickness / 2
    height = protein * LIPIDS * PROTEIN_INTEGRAL / (np.sqrt(2 * np.pi) * PROTEIN_WIDTH)
    return (
        _bump(away - half, HEAD, HEAD_WIDTH, voxel)
        + _bump(away + half, HEAD, HEAD_WIDTH, voxel)
        + _bump(away, CORE, CORE_WIDTH, voxel)
        + _bump(away, height, PROTEIN_WIDTH, voxel)
    )


def half_width(thickness: float) -> float:
    """Half of the thickness that is labelled, in Å: to half of the head groups' potential."""
    return thickness / 2 + 1.18 * HEAD_WIDTH


def add_vesicles(
    canvas: Canvas, config: SceneConfig, label: int, rng: np.random.Generator
) -> tuple[list[Membrane], list[PlacedObject]]:
    """Draw closed bilayers within the slab."""
    setting = config.vesicles
    density = config.membrane_proteins if setting.embedded is None else setting.embedded
    membranes: list[Membrane] = []
    placed: list[PlacedObject] = []
    for _ in range(setting.count):
        found = _vesicle(canvas, setting, config.gap, label, density, rng)
        if found is not None:
            membranes.append(found)
            centre = np.array(found.facts["centre"])
            placed.append(PlacedObject("membrane", centre, np.eye(3), found.identity, len(found.voxels)))
    return membranes, placed


def add_sheets(canvas: Canvas, config: SceneConfig, label: int, rng: np.random.Generator) -> list[Membrane]:
    """Draw open bilayers, from one face of the slab to the other."""
    found = (_sheet(canvas, config, config.sheets, label, rng) for _ in range(config.sheets.count))
    return [one for one in found if one is not None]


def embed_proteins(
    canvas: Canvas,
    membranes: Sequence[Membrane],
    stamps: Sequence[PreparedTemplate],
    config: SceneConfig,
    rng: np.random.Generator,
) -> tuple[list[PlacedObject], dict[str, int]]:
    """Place membrane proteins, their axes along the normals; say how many were wanted."""
    counts, weights = config.counts or {}, config.species
    areas = np.array([one.area for one in membranes])
    share = np.array([1.0 if weights is None else weights.get(one.name, 0.0) for one in stamps])
    target_counts = {one.name: 0 for one in stamps}
    placed: list[PlacedObject] = []
    if not areas.sum():
        return placed, target_counts | {one.name: counts.get(one.name, 0) for one in stamps}
    exact = [rng.multinomial(counts.get(one.name, 0), areas / areas.sum()) for one in stamps]
    for k, membrane in enumerate(membranes):
        number = {one.name: int(exact[i][k]) for i, one in enumerate(stamps)}
        if share.sum():
            mean = membrane.embedded * membrane.area * 1e-8
            drawn = rng.multinomial(round(mean), share / share.sum())
            number = {one.name: number[one.name] + int(n) for one, n in zip(stamps, drawn, strict=True)}
        target_counts = {name: target_counts[name] + number[name] for name in target_counts}
        placed += _embed_one(canvas, membrane, stamps, number, config.gap, rng)
    return placed, target_counts


def _embed_one(
    canvas: Canvas,
    membrane: Membrane,
    stamps: Sequence[PreparedTemplate],
    number: Mapping[str, int],
    gap: int,
    rng: np.random.Generator,
) -> list[PlacedObject]:
    where = np.unravel_index(membrane.voxels, canvas.shape)
    canvas.occupancy[where] = FREE  # its own lipids are no obstacle
    found = [
        _anchor(canvas, membrane, one, gap, rng)
        for one in sorted(stamps, key=lambda s: -s.bulk)
        for _ in range(number[one.name])
    ]
    canvas.occupancy[where] = MATTER
    return [one for one in found if one is not None]


def _anchor(
    canvas: Canvas, membrane: Membrane, one: PreparedTemplate, gap: int, rng: np.random.Generator
) -> PlacedObject | None:
    assert one.axis is not None
    voxels = canvas.points(membrane.middle[rng.integers(len(membrane.middle), size=MAX_ATTEMPTS)])
    spots, normals = project_onto(
        membrane.surface, voxels + rng.uniform(-0.5, 0.5, voxels.shape) * canvas.voxel_size
    )
    spins = rng.uniform(0, 2 * np.pi, MAX_ATTEMPTS)
    for spot, normal, spin in zip(spots, normals, spins, strict=True):
        exact = (spot + one.height * normal) / canvas.voxel_size
        centre = np.rint(exact).astype(np.intp)
        if (centre < 0).any() or (centre >= canvas.shape).any():
            continue
        turn = align_axis(one.axis, normal[::-1], spin)
        cover = one.coverage(turn, exact - centre)
        if fits(canvas, dilate(cover > 0.5, gap), centre):
            return place(canvas, one, (turn, exact - centre), centre, cover, displace=True)
    return None


def align_axis(axis: Floats, normal: Floats, spin: float) -> NDArray[np.float64]:
    """Give the rotation (3, 3) that takes *axis* to *normal* (both x, y, z) after a spin in radians."""
    turned: NDArray[np.float64] = (
        orthonormal_frame(normal) @ Rotation.from_euler("z", spin).as_matrix() @ orthonormal_frame(axis).T
    )
    return turned


def _vesicle(
    canvas: Canvas, setting: VesicleConfig, gap: int, label: int, density: float, rng: np.random.Generator
) -> Membrane | None:
    wall = half_width(setting.thickness)
    for _ in range(MAX_ATTEMPTS):
        radius = float(rng.uniform(*setting.radius))
        outer = radius * (1 + setting.bulge) + wall
        centre = _place(canvas, outer, setting.cut, rng)
        if centre is None:
            continue
        surface = random_deformed_sphere(centre, radius, setting.bulge, rng)
        margin = max(canvas.voxel_size, _reach(setting, canvas.voxel_size) if setting.protein else 0.0)
        box = centre - outer - margin, centre + outer + margin
        shell = _shell(canvas, surface, box, setting, gap, inside=True)
        if shell is not None:
            facts = {"centre": centre.tolist(), "radius": radius, "order_2": surface.second.tolist()}
            facts |= {
                "order_3": surface.third.tolist(),
                "thickness": setting.thickness,
                "protein": setting.protein,
            }
            return _draw(canvas, surface, shell, label, density, facts)
    return None


def _sheet(
    canvas: Canvas, config: SceneConfig, setting: SheetConfig, label: int, rng: np.random.Generator
) -> Membrane | None:
    extent = np.array(canvas.shape) * canvas.voxel_size
    for _ in range(MAX_ATTEMPTS):
        centre = rng.uniform(0.1, 0.9, 3) * extent
        centre += canvas.slab.normal * -canvas.slab.depth(centre)
        normal = random_inclined_direction(canvas.slab, float(rng.uniform(-1, 1)) * setting.inclination, rng)
        curvature = float(rng.uniform(*setting.curvature) * rng.choice([-1.0, 1.0]))
        surface = random_curved_sheet(centre, normal, curvature, rng)
        shell = _shell(canvas, surface, (np.zeros(3), extent), setting, config.gap, inside=False)
        if shell is not None:
            facts = {"centre": centre.tolist(), "normal": normal.tolist(), "axis": surface.axis.tolist()}
            facts |= {"curvature": curvature, "thickness": setting.thickness, "protein": setting.protein}
            return _draw(canvas, surface, shell, label, config.membrane_proteins, facts)
    return None


def _shell(
    canvas: Canvas,
    surface: Surface,
    box: tuple[Floats, Floats],
    setting: VesicleConfig | SheetConfig,
    gap: int,
    *,
    inside: bool,
) -> tuple[NDArray[np.intp], Floats] | None:
    """Find the voxels of a bilayer and their distances from its middle; None where it meets an object.

    With *inside* it may not cross the faces of the slab either; else it ends there.
    """
    clear = half_width(setting.thickness) + gap * canvas.voxel_size
    if canvas.touches_object(surface.distance, clear):
        return None
    reach = max(clear, _reach(setting, canvas.voxel_size))
    near = canvas.voxels_near(surface.distance, *box, reach, solid=False)
    away, state = surface.distance(canvas.points(near)), canvas.occupancy_at(near)
    obstacle = state != FREE if inside else state == MATTER
    if (obstacle & (np.abs(away) <= clear)).any():
        return None
    return near[state != OUTSIDE], away[state != OUTSIDE]


def _reach(setting: VesicleConfig | SheetConfig, voxel: float) -> float:
    """How far from the middle a membrane has a potential, in Å."""
    lipids = setting.thickness / 2 + 3 * float(np.hypot(HEAD_WIDTH, voxel / 2))
    return max(lipids, 3 * float(np.hypot(PROTEIN_WIDTH, voxel / 2))) if setting.protein else lipids


def _draw(
    canvas: Canvas,
    surface: Surface,
    shell: tuple[NDArray[np.intp], Floats],
    label: int,
    density: float,
    facts: dict[str, Any],
) -> Membrane:
    (near, away), voxel, identity = shell, canvas.voxel_size, canvas.new_instance()
    canvas.add(near, bilayer_profile(away, facts["thickness"], voxel, facts["protein"]))
    inside = near[(np.abs(away) <= half_width(facts["thickness"])) & (canvas.occupancy_at(near) == FREE)]
    canvas.assign(inside, label, identity)
    middle = near[np.abs(away) <= voxel / 2]
    area = len(middle) * voxel**2
    facts = {"instance": identity, "area": area} | facts
    return Membrane(surface, identity, inside, middle, area, density, facts)


def _place(canvas: Canvas, outer: float, cut: bool, rng: np.random.Generator) -> NDArray[np.float64] | None:
    """Draw a centre whose ball of *outer* Å lies in the slab, and in the volume unless it may be cut."""
    depth = canvas.slab.sample(outer, rng)
    inset = np.array([outer, 0.0, 0.0] if cut else [outer] * 3)
    low, high = inset, (np.array(canvas.shape) - 1) * canvas.voxel_size - inset
    if depth is None or (low > high).any():
        return None
    centre = rng.uniform(low, high)
    centre[0] += (depth - canvas.slab.depth(centre)) / canvas.slab.normal[0]
    return centre if low[0] <= centre[0] <= high[0] else None


def random_inclined_direction(
    slab: Slab, inclination: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw a direction (z, y, x) at *inclination* degrees to the plane of the slab, any way round."""
    flat = np.cross(slab.normal, random_direction(rng))
    flat /= np.linalg.norm(flat)
    angle = np.deg2rad(inclination)
    found: NDArray[np.float64] = np.cos(angle) * flat + np.sin(angle) * slab.normal
    return found


def _bump(away: Floats, height: float, width: float, voxel: float) -> Floats:
    wide = np.hypot(width, voxel / 2)
    return height * width / wide * np.exp(-0.5 * (away / wide) ** 2)
