"""The built-in species: names, identifiers, templates."""

from __future__ import annotations

from cryovox.core.errors import RequestError
from cryovox.core.names import nearest, suggestion
from cryovox.simulate.particles.beads import BeadModel, rasterize
from cryovox.simulate.particles.species import SPECIES
from cryovox.simulate.particles.template import Template

__all__ = ["SPECIES", "BeadModel", "build_template", "canonical_name", "species_names"]


def species_names() -> list[str]:
    """Names of all species, by increasing mass."""
    return list(SPECIES)


def canonical_name(name_or_id: str) -> str:
    """Canonical name of a species from a name, an alias or a PDB identifier.

    Case, spaces and underscores are ignored.
    """
    known = {_normalize(word): name for name, b in SPECIES.items() for word in (name, *b.aliases)}
    key = _normalize(name_or_id)
    if key in known:
        return known[key]
    near = nearest(key, known)
    advice = suggestion(known.get(near or "", key), species_names())
    raise RequestError(name_or_id, "is not a species of the built-in library", advice)


def build_template(name: str, voxel_size: float, resolution: float | None = None) -> Template:
    """Build the template of a species.

    Parameters
    ----------
    name
        Name or identifier, as `canonical_name` takes it.
    voxel_size
        Voxel size in Å.
    resolution
        Resolution in Å; by default two voxels.
    """
    species = canonical_name(name)
    return rasterize(species, SPECIES[species], voxel_size, resolution)


def _normalize(word: str) -> str:
    return word.strip().lower().replace("_", "-").replace(" ", "-")
