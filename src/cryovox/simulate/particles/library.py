"""The built-in species: names, identifiers, templates."""

from __future__ import annotations

from cryovox.core.errors import RequestError
from cryovox.core.names import nearest, suggestion
from cryovox.simulate.particles.beads import BeadModel, rasterise
from cryovox.simulate.particles.species import SPECIES
from cryovox.simulate.particles.template import Template

__all__ = ["SPECIES", "BeadModel", "build_template", "canonical_name", "species_names"]


def species_names() -> list[str]:
    """All species, from small to large."""
    return list(SPECIES)


def canonical_name(name_or_id: str) -> str:
    """The species that is meant by a name, another name of it, or a PDB identifier.

    Case, spaces and underscores do not matter.
    """
    known = {_plain(word): name for name, b in SPECIES.items() for word in (name, *b.aliases)}
    wanted = _plain(name_or_id)
    if wanted in known:
        return known[wanted]
    near = nearest(wanted, known)
    advice = suggestion(known.get(near or "", wanted), species_names())
    raise RequestError(name_or_id, "is not a species of the built-in library", advice)


def build_template(name: str, voxel_size: float, resolution: float | None = None) -> Template:
    """The template of a species.

    Parameters
    ----------
    name
        Name or identifier, as `canonical_name` takes it.
    voxel_size
        Å.
    resolution
        In Å, two voxels by default.
    """
    species = canonical_name(name)
    return rasterise(species, SPECIES[species], voxel_size, resolution)


def _plain(word: str) -> str:
    return word.strip().lower().replace("_", "-").replace(" ", "-")
