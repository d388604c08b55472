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
"""Candidate positions for one membrane, and for one protein in it."""
HEAD_POTENTIAL, TAIL_POTENTIAL = 2.5, -0.4
"""Potential above ice at the middle of head groups and tails, in volts; protein has about +2.5 V."""
HEAD_WIDTH, TAIL_WIDTH = 5.0, 9.0
"""Standard deviations in Å of the Gaussian profiles of head groups and tails."""
LIPID_MASS = 23.0
"""Da/Å² of a bilayer: two leaflets of lipids of 760 Da on 66 Å² each (POPC; Nagle and Tristram-Nagle)."""
PROTEIN_WIDTH = 35.0
"""Standard deviation in Å of the Gaussian profile of proteins in and on a bilayer."""


@dataclass(frozen=True, eq=False)
class Membrane:
    """A bilayer of the scene.

    Attributes
    ----------
    surface
        Mid-surface.
    instance
        Value in the instance map.
    voxels : (n,)
        Flat indices of its support.
    middle : (m,)
        Flat indices of the voxels on the mid-surface.
    area
        Area in Å² within the slab and the volume.
    embedded
        Requested proteins per µm².
    facts
        Drawn parameters, for JSON.
    """

    surface: Surface
    instance: int
    voxels: NDArray[np.intp]
    middle: NDArray[np.intp]
    area: float
    embedded: float
    facts: dict[str, Any]


def bilayer_profile(distance: Floats, thickness: float, voxel: float, protein: float = 0.0) -> Floats:
    """Potential of a bilayer in volts at distances in Å from its middle.

    One Gaussian each for two leaflets of head groups and for the tails (as in the density profiles of
    lipid bilayers, Nagle & Tristram-Nagle, Biochim. Biophys. Acta 1469, 2000), and a wide one for proteins
    of *protein* times the mass of the lipids. Half a voxel is added to the widths in quadrature, so that
    integrals do not depend on the voxel size.
    """
    half = thickness / 2
    height = protein * LIPID_MASS * PROTEIN_INTEGRAL / (np.sqrt(2 * np.pi) * PROTEIN_WIDTH)
    return (
        _gaussian(distance - half, HEAD_POTENTIAL, HEAD_WIDTH, voxel)
        + _gaussian(distance + half, HEAD_POTENTIAL, HEAD_WIDTH, voxel)
        + _gaussian(distance, TAIL_POTENTIAL, TAIL_WIDTH, voxel)
        + _gaussian(distance, height, PROTEIN_WIDTH, voxel)
    )


def half_width(thickness: float) -> float:
    """Half of the labeled thickness in Å, out to half of the potential of the head groups."""
    return thickness / 2 + 1.18 * HEAD_WIDTH


def add_vesicles(
    canvas: Canvas, config: SceneConfig, label: int, rng: np.random.Generator
) -> tuple[list[Membrane], list[PlacedObject]]:
    """Draw closed bilayers within the slab."""
    setting = config.vesicles
    density = config.membrane_proteins if setting.membrane_proteins is None else setting.membrane_proteins
    vesicles = [_vesicle(canvas, setting, config.gap, label, density, rng) for _ in range(setting.count)]
    membranes = [v for v in vesicles if v is not None]
    placed = [
        PlacedObject("membrane", np.array(m.facts["centre"]), np.eye(3), m.instance, len(m.voxels))
        for m in membranes
    ]
    return membranes, placed


def add_sheets(canvas: Canvas, config: SceneConfig, label: int, rng: np.random.Generator) -> list[Membrane]:
    """Draw open bilayers from one face of the slab to the other."""
    sheets = (_sheet(canvas, config, label, rng) for _ in range(config.sheets.count))
    return [s for s in sheets if s is not None]


def embed_proteins(
    canvas: Canvas,
    membranes: Sequence[Membrane],
    templates: Sequence[PreparedTemplate],
    config: SceneConfig,
    rng: np.random.Generator,
) -> tuple[list[PlacedObject], dict[str, int]]:
    """Place membrane proteins along the normals; returns them and the requested numbers."""
    counts, weights = config.counts or {}, config.species
    areas = np.array([m.area for m in membranes])
    fractions = np.array([1.0 if weights is None else weights.get(t.name, 0.0) for t in templates])
    requested = {t.name: 0 for t in templates}
    placed: list[PlacedObject] = []
    if not areas.sum():
        return placed, requested | {t.name: counts.get(t.name, 0) for t in templates}
    by_membrane = [rng.multinomial(counts.get(t.name, 0), areas / areas.sum()) for t in templates]
    for k, membrane in enumerate(membranes):
        number = {t.name: int(by_membrane[i][k]) for i, t in enumerate(templates)}
        if fractions.sum():
            mean = membrane.embedded * membrane.area * 1e-8
            more = rng.multinomial(round(mean), fractions / fractions.sum())
            number = {t.name: number[t.name] + int(n) for t, n in zip(templates, more, strict=True)}
        requested = {name: requested[name] + number[name] for name in requested}
        placed += _embed_in_one(canvas, membrane, templates, number, config.gap, rng)
    return placed, requested


def _embed_in_one(
    canvas: Canvas,
    membrane: Membrane,
    templates: Sequence[PreparedTemplate],
    number: Mapping[str, int],
    gap: int,
    rng: np.random.Generator,
) -> list[PlacedObject]:
    voxels = np.unravel_index(membrane.voxels, canvas.shape)
    canvas.occupancy[voxels] = FREE  # proteins displace the lipids of their own membrane
    proteins = [
        _embed_protein(canvas, membrane, template, gap, rng)
        for template in sorted(templates, key=lambda t: -t.bulk)
        for _ in range(number[template.name])
    ]
    canvas.occupancy[voxels] = MATTER
    return [p for p in proteins if p is not None]


def _embed_protein(
    canvas: Canvas, membrane: Membrane, template: PreparedTemplate, gap: int, rng: np.random.Generator
) -> PlacedObject | None:
    assert template.axis is not None
    voxels = canvas.points(membrane.middle[rng.integers(len(membrane.middle), size=MAX_ATTEMPTS)])
    jitter = rng.uniform(-0.5, 0.5, voxels.shape) * canvas.voxel_size
    points, normals = project_onto(membrane.surface, voxels + jitter)
    spins = rng.uniform(0, 2 * np.pi, MAX_ATTEMPTS)
    for point, normal, spin in zip(points, normals, spins, strict=True):
        position = (point + template.height * normal) / canvas.voxel_size
        center = np.rint(position).astype(np.intp)
        if (center < 0).any() or (center >= canvas.shape).any():
            continue
        pose = align_axis(template.axis, normal[::-1], spin), position - center
        coverage = template.coverage(*pose)
        if fits(canvas, dilate(coverage > 0.5, gap), center):
            return place(canvas, template, pose, center, coverage, displace=True)
    return None


def align_axis(axis: Floats, normal: Floats, spin: float) -> NDArray[np.float64]:
    """Rotation (3, 3) that takes *axis* to *normal*, both (x, y, z), after a spin in radians about it."""
    about_z = Rotation.from_euler("z", spin).as_matrix()
    return np.asarray(orthonormal_frame(normal) @ about_z @ orthonormal_frame(axis).T)


def _vesicle(
    canvas: Canvas, setting: VesicleConfig, gap: int, label: int, density: float, rng: np.random.Generator
) -> Membrane | None:
    for _ in range(MAX_ATTEMPTS):
        radius = float(rng.uniform(*setting.radius))
        outer = radius * (1 + setting.bulge) + half_width(setting.thickness)
        center = _random_center(canvas, outer, setting.cut, rng)
        if center is None:
            continue
        surface = random_deformed_sphere(center, radius, setting.bulge, rng)
        margin = max(canvas.voxel_size, _reach(setting, canvas.voxel_size) if setting.protein_mass else 0.0)
        box = center - outer - margin, center + outer + margin
        shell = _shell(canvas, surface, box, setting, gap, within_slab=True)
        if shell is not None:
            facts = {"centre": center.tolist(), "radius": radius, "order_2": surface.order_2.tolist()}
            facts |= {"order_3": surface.order_3.tolist(), "thickness": setting.thickness}
            facts |= {"protein": setting.protein_mass}
            return _draw(canvas, surface, shell, label, density, facts)
    return None


def _sheet(canvas: Canvas, config: SceneConfig, label: int, rng: np.random.Generator) -> Membrane | None:
    setting, extent = config.sheets, np.array(canvas.shape) * canvas.voxel_size
    for _ in range(MAX_ATTEMPTS):
        center = rng.uniform(0.1, 0.9, 3) * extent
        center += canvas.slab.normal * -canvas.slab.depth(center)
        normal = random_inclined_direction(canvas.slab, float(rng.uniform(-1, 1)) * setting.inclination, rng)
        curvature = float(rng.uniform(*setting.curvature) * rng.choice([-1.0, 1.0]))
        surface = random_curved_sheet(center, normal, curvature, rng)
        shell = _shell(canvas, surface, (np.zeros(3), extent), setting, config.gap, within_slab=False)
        if shell is not None:
            facts = {"centre": center.tolist(), "normal": normal.tolist(), "axis": surface.axis.tolist()}
            facts |= {"curvature": curvature, "thickness": setting.thickness, "protein": setting.protein_mass}
            return _draw(canvas, surface, shell, label, config.membrane_proteins, facts)
    return None


def _shell(
    canvas: Canvas,
    surface: Surface,
    box: tuple[Floats, Floats],
    setting: VesicleConfig | SheetConfig,
    gap: int,
    *,
    within_slab: bool,
) -> tuple[NDArray[np.intp], Floats] | None:
    """Voxels of a bilayer and their distances from its middle; None if it overlaps an object.

    With *within_slab*, it may not cross the faces of the slab either; else it ends there.
    """
    clearance = half_width(setting.thickness) + gap * canvas.voxel_size
    if canvas.touches_object(surface.distance, clearance):
        return None
    reach = max(clearance, _reach(setting, canvas.voxel_size))
    voxels = canvas.voxels_near(surface.distance, *box, reach, solid=False)
    distance, state = surface.distance(canvas.points(voxels)), canvas.occupancy_at(voxels)
    obstacle = state != FREE if within_slab else state == MATTER
    if (obstacle & (np.abs(distance) <= clearance)).any():
        return None
    return voxels[state != OUTSIDE], distance[state != OUTSIDE]


def _reach(setting: VesicleConfig | SheetConfig, voxel: float) -> float:
    """Distance in Å from the middle at which the potential of a membrane ends."""
    lipids = setting.thickness / 2 + 3 * float(np.hypot(HEAD_WIDTH, voxel / 2))
    return max(lipids, 3 * float(np.hypot(PROTEIN_WIDTH, voxel / 2))) if setting.protein_mass else lipids


def _draw(
    canvas: Canvas,
    surface: Surface,
    shell: tuple[NDArray[np.intp], Floats],
    label: int,
    density: float,
    facts: dict[str, Any],
) -> Membrane:
    (voxels, distance), voxel, instance = shell, canvas.voxel_size, canvas.new_instance()
    canvas.add(voxels, bilayer_profile(distance, facts["thickness"], voxel, facts["protein"]))
    labeled = np.abs(distance) <= half_width(facts["thickness"])
    inside = voxels[labeled & (canvas.occupancy_at(voxels) == FREE)]
    canvas.assign(inside, label, instance)
    middle = voxels[np.abs(distance) <= voxel / 2]
    area = len(middle) * voxel**2
    facts = {"instance": instance, "area": area} | facts
    return Membrane(surface, instance, inside, middle, area, density, facts)


def _random_center(
    canvas: Canvas, radius: float, cut: bool, rng: np.random.Generator
) -> NDArray[np.float64] | None:
    """Draw a center whose sphere of *radius* Å lies in the slab, and in the volume unless *cut*."""
    depth = canvas.slab.sample(radius, rng)
    inset = np.array([radius, 0.0, 0.0] if cut else [radius] * 3)
    low, high = inset, (np.array(canvas.shape) - 1) * canvas.voxel_size - inset
    if depth is None or (low > high).any():
        return None
    center = rng.uniform(low, high)
    center[0] += (depth - canvas.slab.depth(center)) / canvas.slab.normal[0]
    return center if low[0] <= center[0] <= high[0] else None


def random_inclined_direction(
    slab: Slab, inclination: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw a unit vector (z, y, x) at *inclination* degrees to the plane of the slab, at any azimuth."""
    in_plane = np.cross(slab.normal, random_direction(rng))
    in_plane /= np.linalg.norm(in_plane)
    angle = np.deg2rad(inclination)
    return np.asarray(np.cos(angle) * in_plane + np.sin(angle) * slab.normal)


def _gaussian(distance: Floats, height: float, width: float, voxel: float) -> Floats:
    blurred = np.hypot(width, voxel / 2)
    return height * width / blurred * np.exp(-0.5 * (distance / blurred) ** 2)
