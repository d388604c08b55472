"""Slices of the target with what the source model and the adapted one say of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryovox.report.adaptation import MAX_EXAMPLES, Example
from cryovox.workflows.devices import Device, choose_device


def examples(
    source: Path, adapted: Path, images: NDArray[np.float32], device: Device = "auto"
) -> list[Example]:
    """The middle slices of the first four patches.

    Parameters
    ----------
    source, adapted
        Model files.
    images : (n, 1, z, y, x)
        Patches of the target, as networks see them.
    """
    few = images[:MAX_EXAMPLES]
    before, after = (_asked(path, few, device) for path in (source, adapted))
    return [
        Example(f"patch {i + 1}", image[0, len(image[0]) // 2], one[len(one) // 2], other[len(other) // 2])
        for i, (image, one, other) in enumerate(zip(few, before, after, strict=True))
    ]


def _asked(path: Path, images: NDArray[np.float32], device: Device) -> NDArray[np.float32]:
    import torch

    from cryovox.models.checkpoint import load_model
    from cryovox.training.evaluation.model_selection import foreground

    network, card = load_model(path)
    given = torch.from_numpy(images)
    return foreground(network, given, activation=card.activation, device=choose_device(device)).numpy()
