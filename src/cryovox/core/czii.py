"""Particle radii of the CZII challenge (Peck et al. 2025)."""

from __future__ import annotations

from collections.abc import Mapping

RADII: Mapping[str, float] = {
    "apo-ferritin": 60.0,
    "beta-amylase": 65.0,
    "beta-galactosidase": 90.0,
    "ribosome": 150.0,
    "thyroglobulin": 130.0,
    "virus-like-particle": 135.0,
}
"""Radii in Å, in the order of the labels. A hit is at most half a radius away. Beta-amylase is not scored."""
