"""Smaller batches after running out of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cryovox.core.errors import RunError

Run = Callable[[Tensor], Tensor]


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

    def __call__(self, images: Tensor) -> Iterator[Tensor]:
        """Scores of the parts of a batch, in the order of the images."""
        done = 0
        while done < len(images):
            part, scores = images[done : done + self.batch], None
            try:
                scores = self.run(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            if scores is None:  # here the error no longer holds the tensors of the batch
                self._halve(part)
                continue
            done += len(part)
            yield scores

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
