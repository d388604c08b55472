"""Which device, how many threads, how memory is handled."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Literal

from cryovox.core.errors import RequestError

Device = Literal["auto", "cpu", "cuda", "mps"]


def choose_device(device: Device) -> str:
    """The device to compute on: the best there is for `auto`, or a refusal."""
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[device]:
        message = f"{device} is not available on this machine"
        raise RequestError("--device", message, "use --device auto or --device cpu")
    return device


def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory, which spares a page fault per 4 kB of every big tensor.

    Networks run 1.2 to 2.3 times faster on CPUs for it, at 10 to 25 % more resident memory. All threads share
    one arena, since what one arena keeps serves no other (15 to 20 MB in the threads that write scores).
    Environment variable CRYOVOX_MALLOC=0 leaves the allocator as it is.
    """
    if not sys.platform.startswith("linux") or os.environ.get("CRYOVOX_MALLOC") == "0":
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        libc.mallopt(-2, 256 * 2**20)  # M_TOP_PAD
        libc.mallopt(-8, 1)  # M_ARENA_MAX
    except (OSError, AttributeError):
        return
