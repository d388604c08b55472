"""What is peculiar about a shape."""

from __future__ import annotations

HOLLOW = frozenset({"hollow"})
CONCAVE = frozenset({"concave"})
LOPSIDED = frozenset({"concave", "asymmetric"})
