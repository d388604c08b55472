"""Public datasets in the layouts of their authors, read without copying.

There is one module per layout. Modules of tomograms have ``is_here(folder)`` and ``read(folder) -> Dataset``,
and are tried in the order of `LAYOUTS` if a folder has no `dataset.yaml`. Modules of subtomograms
(:mod:`.folder`, :mod:`.xulab`) have ``read_patches(folder)`` or ``read(folder)``, which return
:class:`cryovox.formats.subtomograms.Subtomograms`. Voxels are read on access.
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
    """The module of the layout of a folder; None if it is unknown."""
    return next((LAYOUTS[name] for name in LAYOUTS.rows if LAYOUTS[name].is_here(folder)), None)
