"""From templates and settings to a labelled scene."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.simulate.config.scene import SceneConfig
from cryovox.simulate.particles.template import Template
from cryovox.simulate.scene.canvas import Canvas
from cryovox.simulate.scene.fiducials import add_carbon, add_fiducials, add_ice
from cryovox.simulate.scene.filaments import OUTER, add_filaments
from cryovox.simulate.scene.membranes import Membrane, add_sheets, add_vesicles, embed_proteins
from cryovox.simulate.scene.pack import PlacedObject, pack, target_counts
from cryovox.simulate.scene.prepared import PreparedTemplate, prepare_template


@dataclass(frozen=True, eq=False)
class Scene:
    """A specimen and all that is true about it.

    Attributes
    ----------
    potential : (z, y, x) float32
        Electrostatic potential above vitreous ice in volts; particles are bright.
    labels : (z, y, x) uint8
        Label of the species at each voxel, 0 where there is only ice.
    instances : (z, y, x) uint16 or uint32
        Number of the object at each voxel, from 1; `parameters` says which is which.
    particles
        Particles, vesicles (as "membrane") and fiducials, with rotations.
    species
        The templates' in their order, then membrane, filament, fiducial, ice and carbon where the
        settings ask for them.
    voxel_size
        Edge of a voxel in Å.
    drawn
        Every parameter that was drawn, for JSON. ``drawn["particles"]["instance"]`` goes with
        `particles`; "wanted" and "placed" count particles by species; "occupancy" is the part of the
        slab that the supports of templates fill.
    """

    potential: NDArray[np.float32]
    labels: NDArray[np.uint8]
    instances: NDArray[np.uint16] | NDArray[np.uint32]
    particles: Particles
    species: tuple[Species, ...]
    voxel_size: float
    parameters: dict[str, Any]


@dataclass(eq=False)
class _Found:
    """What has been put into the scene so far."""

    membranes: list[Membrane] = field(default_factory=list)
    placed: list[PlacedObject] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def build_scene(templates: Sequence[Template], config: SceneConfig, rng: np.random.Generator) -> Scene:
    """Draw a scene; the same generator state gives the same scene.

    Large things come first (carbon, ice, membranes, filaments, gold), then membrane proteins, then the
    other particles, the bulkiest first. What finds no room is left out, and `Scene.parameters` tells.

    Parameters
    ----------
    templates
        At the voxel size of the scene; those with an `axis` go into membranes and nowhere else.
    """
    species = scene_species(templates, config)
    _check(templates, config)
    config = config.settled(rng)
    labels = {one.name: one.label for one in species}
    stamps = [prepare_template(one, labels[one.name]) for one in templates]
    canvas = Canvas(config, max((one.support.half for one in stamps), default=0) + config.gap + 1)
    found = _Found()
    _surroundings(canvas, config, labels, found, rng)
    number = _particles(canvas, config, stamps, found, rng)
    names = {one.name for one in stamps}
    filled = sum(one.voxels for one in found.placed if one.name in names)
    got = Counter(one.name for one in found.placed)
    drawn = {"config": config.model_dump(mode="json"), "objects": canvas.count} | found.facts
    drawn |= {"wanted": number, "placed": {name: got[name] for name in number}}
    drawn |= {"occupancy": filled / max(canvas.slab_voxels, 1)}
    drawn |= {"particles": {"instance": [one.instance for one in found.placed]}}
    particles = _listed(found.placed)
    return Scene(
        canvas.potential, canvas.labels, canvas.instances, particles, species, config.voxel_size, drawn
    )


def scene_species(templates: Sequence[Template], config: SceneConfig) -> tuple[Species, ...]:
    """Name what a scene holds; labels depend on the settings and never on what was drawn."""
    vesicles, sheets, gold = config.vesicles, config.sheets, config.fiducials
    bubbles = max(vesicles.count, vesicles.most or 0)
    others = (
        ("membrane", sum(vesicles.radius) / 2 if bubbles else sheets.thickness / 2),
        ("filament", OUTER[config.filaments.kind]),
        ("fiducial", sum(config.fiducials.diameter) / 4),
        ("ice", sum(config.ice.radius) / 2),
        ("carbon", sum(config.carbon.thickness) / 4),
    )
    asked = (
        bubbles + sheets.count,
        config.filaments.count,
        max(gold.count, gold.most or 0),
        config.ice.count,
        config.carbon.present,
    )
    named = [(one.name, one.radius) for one in templates]
    named += [pair for pair, present in zip(others, asked, strict=True) if present]
    return tuple(Species(name=name, label=k, radius=radius) for k, (name, radius) in enumerate(named, 1))


def _surroundings(
    canvas: Canvas, config: SceneConfig, labels: dict[str, int], found: _Found, rng: np.random.Generator
) -> None:
    carbon = add_carbon(canvas, config.carbon, labels.get("carbon", 0), rng)
    ice = add_ice(canvas, config.ice, labels.get("ice", 0), rng)
    sheets = add_sheets(canvas, config, labels.get("membrane", 0), rng)
    vesicles, placed = add_vesicles(canvas, config, labels.get("membrane", 0), rng)
    filaments = add_filaments(canvas, config.filaments, config.gap, labels.get("filament", 0), rng)
    beads, gold = add_fiducials(canvas, config.fiducials, config.gap, labels.get("fiducial", 0), rng)
    found.membranes += [*sheets, *vesicles]
    found.placed += [*placed, *gold]
    found.facts |= {"carbon": carbon, "ice": ice, "filaments": filaments, "fiducials": beads}
    found.facts |= {"sheets": [one.facts for one in sheets], "vesicles": [one.facts for one in vesicles]}


def _particles(
    canvas: Canvas,
    config: SceneConfig,
    stamps: Sequence[PreparedTemplate],
    found: _Found,
    rng: np.random.Generator,
) -> dict[str, int]:
    """Place what was given as templates, membrane proteins first; say how many were wanted."""
    anchored = [one for one in stamps if one.axis is not None]
    soluble = [one for one in stamps if one.axis is None]
    proteins, number = embed_proteins(canvas, found.membranes, anchored, config, rng)
    found.placed += proteins
    filled = sum(one.voxels for one in proteins) / max(canvas.slab_voxels, 1)
    rest = None if config.occupancy is None else max(config.occupancy - filled, 0.0)
    more = target_counts(soluble, config.counts or {}, config.species, rest, canvas.slab_voxels)
    found.placed += pack(canvas, soluble, more, config.gap, rng)
    number |= more
    return {one.name: number[one.name] for one in stamps}


def _listed(placed: Sequence[PlacedObject]) -> Particles:
    turns = np.array([one.rotation for one in placed]).reshape(-1, 3, 3)
    positions = np.array([one.position for one in placed]).reshape(-1, 3)
    return Particles.of(positions, [one.name for one in placed], rotations=turns)


def _check(templates: Sequence[Template], config: SceneConfig) -> None:
    names = [one.name for one in templates]
    reserved = {"membrane", "filament", "fiducial", "ice", "carbon"}
    twice = [name for name, n in Counter(names).items() if n > 1 or name in reserved]
    if twice:
        raise RequestError(
            "species", f"the name {twice[0]!r} is taken", "give each species a name of its own"
        )
    for key in ("counts", "species"):
        strange = sorted(set(getattr(config, key) or {}) - set(names))
        if strange:
            known = ", ".join(names) or "none"
            raise RequestError(key, f"there is no species {strange[0]!r}", f"known species: {known}")
    for one in templates:
        if not one.support.any():
            raise RequestError(one.name, "its support is empty", "take smaller voxels or another threshold")
        if abs(one.voxel_size / config.voxel_size - 1) > 1e-3:
            told = f"{one.name} has voxels of {one.voxel_size:g} Å, the scene of {config.voxel_size:g} Å"
            raise RequestError("voxel_size", told, "build the templates at the voxel size of the scene")
        if one.axis is not None and (config.counts or {}).get(one.name) and not _has_membranes(config):
            told = f"{one.name} is a membrane protein and the scene has no membranes"
            raise RequestError("counts", told, "set `vesicles.count` or `sheets.count`")


def _has_membranes(config: SceneConfig) -> bool:
    return max(config.vesicles.count, config.vesicles.most or 0) + config.sheets.count > 0
