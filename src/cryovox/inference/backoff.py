"""Smaller batches after running out of memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryovox.core.errors import RunError

Run = Callable[[Tensor], NDArray[np.float32]]


class Backoff:
    """Runs a network on batches; where memory is too small for one, on halves of it from then on.

    Parameters
    ----------
    run
        From images (b, 1, z, y, x) to scores.
    batch
        Tiles at a time.
    """

    def __init__(self, run: Run, batch: int) -> None:
        self.run, self.batch = run, batch

    def __call__(self, images: Tensor) -> NDArray[np.float32]:
        """Scores of a batch, in the order of the images."""
        parts: list[NDArray[np.float32]] = []
        done = 0
        while done < len(images):
            part = images[done : done + self.batch]
            try:
                parts.append(self.run(part))
                done += len(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _halve(self, part: Tensor) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(part) == 1:
            side = part.shape[-1]
            message = f"one tile of {side} x {side} x {side} voxels does not fit into memory"
            raise RunError(
                "memory", message, "close other programs, or use a smaller network or --device cpu"
            )
        self.batch = len(part) // 2


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory of the device or of the machine is exhausted."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
