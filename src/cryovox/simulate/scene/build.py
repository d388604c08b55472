"""From templates and settings to a labeled scene."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.simulate.config.scene import SceneConfig
from cryovox.simulate.particles.template import Template
from cryovox.simulate.scene.canvas import Canvas
from cryovox.simulate.scene.fiducials import add_carbon, add_fiducials, add_ice
from cryovox.simulate.scene.filaments import OUTER_RADIUS, add_filaments
from cryovox.simulate.scene.membranes import Membrane, add_sheets, add_vesicles, embed_proteins
from cryovox.simulate.scene.pack import PlacedObject, pack, target_counts
from cryovox.simulate.scene.prepared import PreparedTemplate, prepare_template

RESERVED = ("membrane", "filament", "fiducial", "ice", "carbon")
"""Species of a scene that need no template, in the order of their labels."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A sample with its ground truth.

    Attributes
    ----------
    potential : (z, y, x) float32
        Electrostatic potential above vitreous ice in volts; particles are bright.
    labels : (z, y, x) uint8
        Label of the species at each voxel, 0 for ice.
    instances : (z, y, x) uint16 or uint32
        Number of the object at each voxel, from 1.
    particles
        Particles, vesicles (as "membrane") and fiducials, with rotations.
    species
        Species of the templates in their order, then those of `RESERVED` that the settings ask for.
    voxel_size
        Å.
    parameters
        Every drawn parameter, for JSON. ``parameters["particles"]["instance"]`` goes with `particles`;
        "wanted" and "placed" count particles by species; "occupancy" is the fraction of the slab that
        the supports of the templates fill.
    """

    potential: NDArray[np.float32]
    labels: NDArray[np.uint8]
    instances: NDArray[np.uint16] | NDArray[np.uint32]
    particles: Particles
    species: tuple[Species, ...]
    voxel_size: float
    parameters: dict[str, Any]


def build_scene(
    templates: Sequence[Template],
    config: SceneConfig,
    rng: np.random.Generator,
    on_progress: ProgressCallback = no_progress,
) -> Scene:
    """Draw a scene; the same generator state gives the same scene.

    Large objects are placed first (carbon, ice, membranes, filaments, gold), then membrane proteins, then
    the other particles, the largest first. Particles that do not fit are left out, and
    `Scene.parameters` counts them.

    Parameters
    ----------
    templates
        At the voxel size of the scene; those with an `axis` are placed in membranes only.
    """
    species = scene_species(templates, config)
    _check(templates, config)
    config = config.draw_counts(rng)
    labels = {s.name: s.label for s in species}
    prepared = [prepare_template(t, labels[t.name]) for t in templates]
    canvas = Canvas(config, max((t.support.half for t in prepared), default=0) + config.gap + 1)
    membranes, placed, facts = _add_surroundings(canvas, config, labels, rng)
    particles, number = _add_particles(canvas, config, prepared, membranes, rng, on_progress)
    placed += particles
    counts = Counter(p.name for p in placed)
    filled = sum(p.voxels for p in placed if p.name in number)
    parameters = {"config": config.model_dump(mode="json"), "objects": canvas.count} | facts
    parameters |= {"wanted": number, "placed": {name: counts[name] for name in number}}
    parameters |= {"occupancy": filled / max(canvas.slab_voxels, 1)}
    parameters |= {"particles": {"instance": [p.instance for p in placed]}}
    return Scene(
        potential=canvas.potential,
        labels=canvas.labels,
        instances=canvas.instances,
        particles=Particles.of(
            np.array([p.position for p in placed]).reshape(-1, 3),
            [p.name for p in placed],
            rotations=np.array([p.rotation for p in placed]).reshape(-1, 3, 3),
        ),
        species=species,
        voxel_size=config.voxel_size,
        parameters=parameters,
    )


def scene_species(templates: Sequence[Template], config: SceneConfig) -> tuple[Species, ...]:
    """Species of a scene; labels depend on the settings only, not on random draws."""
    vesicles, sheets, gold = config.vesicles, config.sheets, config.fiducials
    vesicle_count = max(vesicles.count, vesicles.max_count or 0)
    radii = (
        sum(vesicles.radius) / 2 if vesicle_count else sheets.thickness / 2,
        OUTER_RADIUS[config.filaments.kind],
        sum(gold.diameter) / 4,
        sum(config.ice.radius) / 2,
        sum(config.carbon.thickness) / 4,
    )
    present = (
        vesicle_count + sheets.count,
        config.filaments.count,
        max(gold.count, gold.max_count or 0),
        config.ice.count,
        config.carbon.present,
    )
    named = [(t.name, t.radius) for t in templates]
    named += [(name, r) for name, r, asked in zip(RESERVED, radii, present, strict=True) if asked]
    return tuple(Species(name=name, label=k, radius=radius) for k, (name, radius) in enumerate(named, 1))


def _add_surroundings(
    canvas: Canvas, config: SceneConfig, labels: dict[str, int], rng: np.random.Generator
) -> tuple[list[Membrane], list[PlacedObject], dict[str, Any]]:
    """Add everything but particles; returns membranes, listed objects and drawn parameters."""
    label = {name: labels.get(name, 0) for name in RESERVED}
    carbon = add_carbon(canvas, config.carbon, label["carbon"], rng)
    ice = add_ice(canvas, config.ice, label["ice"], rng)
    sheets = add_sheets(canvas, config, label["membrane"], rng)
    vesicles, placed = add_vesicles(canvas, config, label["membrane"], rng)
    filaments = add_filaments(canvas, config.filaments, config.gap, label["filament"], rng)
    beads, gold = add_fiducials(canvas, config.fiducials, config.gap, label["fiducial"], rng)
    facts = {"carbon": carbon, "ice": ice, "filaments": filaments, "fiducials": beads}
    facts |= {"sheets": [m.facts for m in sheets], "vesicles": [m.facts for m in vesicles]}
    return [*sheets, *vesicles], [*placed, *gold], facts


def _add_particles(
    canvas: Canvas,
    config: SceneConfig,
    templates: Sequence[PreparedTemplate],
    membranes: Sequence[Membrane],
    rng: np.random.Generator,
    on_progress: ProgressCallback,
) -> tuple[list[PlacedObject], dict[str, int]]:
    """Place the particles, membrane proteins first; returns them and the requested numbers."""
    soluble = [t for t in templates if t.axis is None]
    anchored = [t for t in templates if t.axis is not None]
    placed, number = embed_proteins(canvas, membranes, anchored, config, rng)
    filled = sum(p.voxels for p in placed) / max(canvas.slab_voxels, 1)
    rest = None if config.occupancy is None else max(config.occupancy - filled, 0.0)
    more = target_counts(soluble, config.counts or {}, config.species, rest, canvas.slab_voxels)
    placed += pack(canvas, soluble, more, config.gap, rng, on_progress)
    number |= more
    return placed, {t.name: number[t.name] for t in templates}


def _check(templates: Sequence[Template], config: SceneConfig) -> None:
    names = [t.name for t in templates]
    duplicates = [name for name, n in Counter(names).items() if n > 1 or name in RESERVED]
    if duplicates:
        raise RequestError(
            "species", f"the name {duplicates[0]!r} is taken", "give each species a name of its own"
        )
    for key in ("counts", "species"):
        unknown = sorted(set(getattr(config, key) or {}) - set(names))
        if unknown:
            message = f"{unknown[0]!r} is none of the species ({', '.join(names) or 'none'})"
            raise RequestError(
                f"scene.{key}", message, "give it for these species, instead of that of the preset"
            )
    for template in templates:
        name, size = template.name, template.voxel_size
        if not template.support.any():
            raise RequestError(name, "its support is empty", "take smaller voxels or another threshold")
        if abs(size / config.voxel_size - 1) > 1e-3:
            message = f"{name} has voxels of {size:g} Å, the scene of {config.voxel_size:g} Å"
            raise RequestError("voxel_size", message, "build the templates at the voxel size of the scene")
        if template.axis is not None and (config.counts or {}).get(name) and not _has_membranes(config):
            message = f"{name} is a membrane protein and the scene has no membranes"
            raise RequestError("counts", message, "set `vesicles.count` or `sheets.count`")


def _has_membranes(config: SceneConfig) -> bool:
    return max(config.vesicles.count, config.vesicles.max_count or 0) + config.sheets.count > 0
