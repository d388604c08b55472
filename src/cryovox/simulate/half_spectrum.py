"""Multiplicity of the frequencies of a half-spectrum in the full spectrum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def multiplicity(size: int) -> NDArray[np.float64]:
    """(size // 2 + 1,): 2 along the last axis of an `rfftn` over *size* samples; 1 if k equals -k."""
    counts = np.full(size // 2 + 1, 2.0)
    counts[0] = 1.0
    if size % 2 == 0:
        counts[-1] = 1.0
    return counts
