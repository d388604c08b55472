"""Python's search for reference cycles, which costs a command up to a fifth of its start and end."""

from __future__ import annotations

import atexit
import gc

THRESHOLD = 5000
"""Objects made between two searches, seven times Python's default."""


def collect_less() -> None:
    """Search less often while modules load, and not for what ends with the process anyway."""
    gc.set_threshold(THRESHOLD)
    atexit.register(gc.freeze)
