"""The datasets of the papers as their authors hand them out: folders that are read where they lie.

One module per layout. Those of tomograms have ``is_here(folder)`` and ``read(folder) -> Dataset``, and are
tried in the order of `LAYOUTS` where a folder has no `dataset.yaml`. Those of subtomograms
(:mod:`.folder`, :mod:`.xulab`) have ``read_patches(folder)`` or ``read(folder)`` that give
:class:`cryovox.formats.subtomograms.Subtomograms`. No voxel is read before it is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryovox.core.registry import Registry

LAYOUTS = Registry(
    "layout",
    group="cryovox.layouts",
    rows={name: f"cryovox.formats.layouts.{name}" for name in ("shrec2021", "czii", "empiar10499", "folder")},
)
"""Name -> module with `is_here` and `read`."""


def find(folder: Path) -> Any | None:
    """The module that knows the layout of a folder; None where none does."""
    return next((LAYOUTS[name] for name in LAYOUTS.rows if LAYOUTS[name].is_here(folder)), None)
