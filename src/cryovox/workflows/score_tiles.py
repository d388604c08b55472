"""Tiles of a tomogram within the limits of memory, and the score map that a network writes with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.volume import Volume
from cryovox.data.augment import HALF_TURNS, WEDGE_SYMMETRIES
from cryovox.formats import scores
from cryovox.inference.tiling import plan
from cryovox.models.card import Card
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.inputs import Prepared
from cryovox.workflows.memory import AFTERWARDS, Limits, enforce, fit
from cryovox.workflows.model_grid import mask_on_grid

if TYPE_CHECKING:
    from torch import nn

    from cryovox.inference.stream import SearchMask, TilePlan

FLIPS: dict[int, tuple[tuple[int, ...], ...]] = {1: ((),), 4: HALF_TURNS, 8: WEDGE_SYMMETRIES}
"""Number of orientations of test-time augmentation -> axes to flip."""
CPU_BATCH, BATCH_VOXELS = 4, 64**3
"""Most tiles per forward pass on a CPU, and voxels of a batch. More take memory and are hardly faster; fewer
small ones leave much of the time to Python."""
Mask = NDArray[np.bool_]


def network_for(config: SegmentConfig, network: nn.Module) -> nn.Module:
    """The network as it is computed: by another back end, or with the fastest memory format, in place."""
    from cryovox.models.memory_format import infer_channels_last

    if config.backend == "openvino":
        from cryovox.inference.openvino import OpenVinoNetwork

        return OpenVinoNetwork(network, config.precision == "bf16")
    if config.precision == "bf16":
        infer_channels_last(network, next(network.parameters()).device)
    return network


def device_of(network: nn.Module) -> str:
    """Type of the device that holds the weights."""
    return next(network.parameters()).device.type


def default_batch(tile: int, device: str) -> int:
    """Tiles per forward pass.

    Examples
    --------
    >>> [default_batch(tile, "cpu") for tile in (32, 48, 64, 96)], default_batch(96, "cuda")
    ([4, 2, 1, 1], 16)
    """
    if device != "cpu":
        return 16
    return min(CPU_BATCH, max(1, BATCH_VOXELS // tile**3))


def tile_plan(card: Card, config: SegmentConfig, device: str = "cpu") -> TilePlan:
    """Tile and overlap from the model, batch and slab from the machine."""
    from cryovox.inference.stream import TilePlan

    return TilePlan(
        card.patch,
        card.overlap if config.overlap is None else config.overlap,
        card.output_stride,
        card.activation,
        config.batch or default_batch(card.patch, device),
        config.slab_rows,
        FLIPS[config.tta],
        config.tilt_axis,
        config.precision == "bf16",
    )


def channels_of(card: Card, config: SegmentConfig) -> int:
    """Channels that are computed: the species, and the surroundings if they are asked for."""
    further = card.surroundings.species if config.surroundings and card.surroundings else ()
    return len(card.species) + len(further)


def limited_tiles(
    network: nn.Module,
    card: Card,
    config: SegmentConfig,
    volume: Volume,
    scratch: Path,
    afterwards: int | None = AFTERWARDS,
) -> TilePlan:
    """Tiles of a volume within the limits of memory; arguments as of `cryovox.workflows.memory.fit`."""
    limits = Limits.of(config.max_ram, config.max_vram)
    wished = tile_plan(card, config, device_of(network))
    tiles = fit(network, volume.data, channels_of(card, config), wished, limits, scratch, afterwards)
    enforce(limits, device_of(network))
    return tiles


def write_scores(
    network: nn.Module,
    tomogram: Prepared,
    card: Card,
    tiles: TilePlan,
    path: Path,
    on_progress: ProgressCallback = no_progress,
    mask: Mask | None = None,
) -> None:
    """Stream a tomogram through a network into a score map on disk; what lies far outside a mask scores 0.

    A resampled tomogram has scores on the grid of the model, and a mask on its own grid.
    """
    from cryovox.inference.stream import stream

    volume, original = tomogram.volume, tomogram.original
    region = search_region(mask, original, volume, card, tiles)
    z, y, x = (plan(n, tiles.tile, tiles.overlap, tiles.stride).out_size for n in volume.shape)
    with scores.create(
        path,
        (len(card.species), z, y, x),
        volume.voxel_size * tiles.stride,
        card.species,
        offset=volume.voxel_size * (tiles.stride - 1) / 2,
        kind=card.kind,
        thresholds=card.thresholds,
        origin=original.origin,
        nstart=original.nstart,
        tomogram=(original.shape, original.voxel_size),
        calibration=card.calibration,
    ) as writer:
        stream(network, volume.data, tomogram.normalize, tiles, writer.write, on_progress, region)


def search_region(
    mask: Mask | None, original: Volume, volume: Volume, card: Card, tiles: TilePlan
) -> SearchMask | None:
    """Region of the volume that has to be scored for a mask of the original; a mask moves no pick, because
    particles that it cuts are scored whole.
    """
    from cryovox.inference.stream import SearchMask

    if mask is None:
        return None
    largest = max(s.radius for s in card.species) / volume.voxel_size
    margin = int(np.ceil(2 * largest)) + 2 * tiles.stride
    return SearchMask(mask_on_grid(mask, original, volume), margin)
