"""How often the frequencies of half a spectrum count in the whole of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def multiplicity(size: int) -> NDArray[np.float64]:
    """(size // 2 + 1,): 2 along the last axis of an `rfftn` over *size* samples, 1 where k is its own -k."""
    counts = np.full(size // 2 + 1, 2.0)
    counts[0] = 1.0
    if size % 2 == 0:
        counts[-1] = 1.0
    return counts
