"""Particle lists: one module per format, with its convention as data.

A module has `CONVENTION`, `read`, and `write` if the format is written; `recognizes` if it shares its
extension with another one. :func:`conventions` lists them all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryovox.formats.particles.convention import Convention

FORMATS = (
    "table",
    "dynamo",
    "stopgap",
    "tom",
    "imod",
    "eman2",
    "copick",
    "cets",
    "portal",
    "cryolo",
    "coords",
    "tomotwin",
    "deepfinder",
    "pytom",
    "shrec",
    "czii",
    "chimerax",
    "chimerax_script",
    "amira",
    "molstar",
)
"""Modules with one `CONVENTION`, in the order of the docs; STAR files of RELION come first."""


def conventions() -> dict[str, Convention]:
    """Conventions of all formats by module, or by `--convention` for RELION."""
    relion, coords = (import_module(f"{__name__}.{name}") for name in ("relion", "coords"))
    rows: dict[str, Convention] = dict(relion.CONVENTIONS)
    for name in FORMATS:
        rows[name] = import_module(f"{__name__}.{name}").CONVENTION
    return rows | {"box": coords.BOX}
