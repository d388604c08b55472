"""Small results that are remembered per user, such as measurements of the machine."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError


def cache_folder() -> Path:
    """Folder of the user for results that may be deleted at any time; CRYOVOX_CACHE overrides it."""
    if own := os.environ.get("CRYOVOX_CACHE"):
        return Path(own)
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "cryovox"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "cryovox" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "cryovox"


def recall(name: str, key: str) -> Any:
    """A remembered value, or None.

    Parameters
    ----------
    name
        What it is, such as "precision".
    key
        What it belongs to.
    """
    try:
        return json.loads(_file(name).read_text()).get(key)
    except (OSError, ValueError, AttributeError):
        return None


def remember(name: str, key: str, value: Any) -> None:
    """Remember a value; a folder that cannot be written is no error."""
    file, values = _file(name), {}
    with suppress(OSError, ValueError):
        values = dict(json.loads(file.read_text()))
    with suppress(OSError, RequestError), replacing(file) as beside:
        beside.write_text(json.dumps(values | {key: value}, indent=1))


def _file(name: str) -> Path:
    return cache_folder() / f"{name}.json"
