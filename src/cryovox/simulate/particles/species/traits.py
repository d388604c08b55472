"""Traits of the shapes of the built-in species."""

from __future__ import annotations

HOLLOW = frozenset({"hollow"})
CONCAVE = frozenset({"concave"})
LOPSIDED = frozenset({"concave", "asymmetric"})
