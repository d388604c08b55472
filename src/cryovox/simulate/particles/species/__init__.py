"""The species of the built-in library, as data.

Each is our own bead model of what it is named after: the published mass and outer dimensions, the point
group, and holes, clefts and lobes where the real one has them. They are stand-ins for scenes and training,
not structures. Lengths in Å; "atoms" or "map" in a source means extents measured on that model.
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
"""From name to blueprint, from small to large."""
