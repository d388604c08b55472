"""Species of simulated targets: one for each template, or one for each class of sizes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from cryovox.core.particles import Species
from cryovox.simulate.particles.template import Template


def diameter(template: Template) -> float:
    """Diameter in Å of the ball with the radius of gyration of the support.

    It is that of the particle for a ball; for elongated particles it lies between length and width.
    """
    points = np.argwhere(template.support) * template.voxel_size
    return float(2 * np.sqrt(5 / 3 * points.var(axis=0).sum()))


def template_species(templates: Sequence[Template]) -> tuple[Species, ...]:
    """One species for each template."""
    return tuple(
        Species(name=t.name, label=i + 1, radius=t.radius, structure=t.source)
        for i, t in enumerate(templates)
    )


def size_species(bounds: Sequence[float]) -> tuple[Species, ...]:
    """One species between each two successive diameters in Å, such as particle-40-70."""
    return tuple(
        Species(
            name=f"particle-{low:g}-{high:g}",
            label=i + 1,
            radius=float(np.sqrt(low * high)) / 2,
            diameters=(low, high),
        )
        for i, (low, high) in enumerate(pairwise(bounds))
    )


def size_channel(size: float, bounds: Sequence[float]) -> int | None:
    """Index of the species for a diameter in Å, which includes its lower bound; None outside of all."""
    if not bounds[0] <= size < bounds[-1]:
        return None
    return int(np.searchsorted(bounds, size, side="right")) - 1
