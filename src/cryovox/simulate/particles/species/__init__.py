"""The species of the built-in library, as data.

Each is a bead model with the published mass, outer dimensions and point group, and with the main cavities
and lobes of the structure. They are stand-ins for scenes and training, not structures. Lengths are in Å;
"atoms" or "map" in a source means dimensions measured on that model.
"""

from __future__ import annotations

from cryovox.simulate.particles.beads import BeadModel
from cryovox.simulate.particles.species import large, medium, membrane, small

SPECIES: dict[str, BeadModel] = dict(
    sorted(
        (small.SPECIES | medium.SPECIES | large.SPECIES | membrane.SPECIES).items(),
        key=lambda item: item[1].mass,
    )
)
"""Bead models by name, by increasing mass."""
