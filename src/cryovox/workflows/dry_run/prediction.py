"""A prediction, and the measurements that it rests on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

HEADER = 1024
"""Bytes of the header of an MRC file."""
now = time.perf_counter
"""Clock of the probes: time on this machine as it is loaded."""


@dataclass(frozen=True)
class Prediction:
    """Prediction for one input.

    Attributes
    ----------
    shape : (z, y, x)
        Voxels that are processed.
    steps
        Into how many pieces the work is divided, in words.
    seconds
        Time on this machine as it is loaded now.
    ram, vram
        Peaks of memory in bytes.
    output
        Bytes of the volumes that are written; compressed score maps may be smaller.
    """

    name: str
    shape: tuple[int, int, int]
    steps: str
    seconds: float
    ram: int
    vram: int
    output: int


def seconds_of(call: Callable[[], Any]) -> float:
    """Time that a call takes."""
    start = now()
    call()
    return now() - start


def mrc_bytes(shape: tuple[int, ...], dtype: Any) -> int:
    """Size of an uncompressed MRC file."""
    return HEADER + prod(shape) * np.dtype(dtype).itemsize
