"""Score many subtomograms, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cryovox.core.intensity import Normalization
from cryovox.inference.stream import TilePlan, score, stream

BATCHES = {"cpu": 4}
BATCH = 32
"""Subtomograms per batch; larger batches are no faster on a CPU, and take memory."""
Scores = NDArray[np.float32]


def score_cubes(
    network: nn.Module, images: Any, tiles: TilePlan, batch: int | None = None
) -> Iterator[tuple[slice, Scores]]:
    """Score subtomograms, each by itself.

    Subtomograms that fit into a tile are scored whole, padded by reflection to a size that the network takes;
    larger ones are scored tile by tile, as tomograms.

    Parameters
    ----------
    network
        In eval mode, on its device.
    images : (n, z, y, x)
        Normalized; may be read lazily.
    batch
        Batch size; depends on the device by default.

    Yields
    ------
    which, scores : (b, k, z / stride, y / stride, x / stride) float32
        Species only.
    """
    batch = batch or BATCHES.get(next(network.parameters()).device.type, BATCH)
    shape = images.shape[1:]
    fits = max(shape) <= tiles.tile
    sizes = [_input_size(network, n, tiles.tile) for n in shape]
    for start in range(0, images.shape[0], batch):
        which = slice(start, min(start + batch, images.shape[0]))
        part = np.asarray(images[which], np.float32)
        if not fits:
            yield which, np.stack([_score_tiled(network, image, tiles) for image in part])
            continue
        padded = np.pad(part, [(0, 0), *((0, m - n) for n, m in zip(shape, sizes, strict=True))], "reflect")
        z, y, x = (-(-n // tiles.stride) for n in shape)
        yield which, score(network, torch.from_numpy(padded[:, None]), tiles)[:, :, :z, :y, :x]


def argmax_labels(scores: Scores) -> NDArray[np.uint8]:
    """Most probable class of every voxel, 0 is background: (b, z, y, x) from (b, k, z, y, x)."""
    background = 1 - scores.sum(axis=1, keepdims=True)
    return np.concatenate([background, scores], axis=1).argmax(axis=1).astype(np.uint8)


def _input_size(network: nn.Module, n: int, tile: int) -> int:
    if getattr(network, "fixed_patch", False):
        return tile
    stride = int(getattr(network, "stride", 1))
    return -(-n // stride) * stride


def _score_tiled(network: nn.Module, image: Scores, tiles: TilePlan) -> Scores:
    blocks: list[Scores] = []
    stream(network, image, Normalization(0.0, 1.0), tiles, lambda _, block: blocks.append(block.copy()))
    return np.concatenate(blocks, axis=1)
