"""Segmentation: predicted from two tiles and the headers."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from cryovox.formats import read_volume
from cryovox.inference.label_map import label_dtype
from cryovox.inference.tiling import plan
from cryovox.models.card import Card
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.devices import Device
from cryovox.workflows.dry_run.prediction import Prediction, seconds_of
from cryovox.workflows.inputs import expand, read_search_mask
from cryovox.workflows.memory import need
from cryovox.workflows.model_grid import on_model_grid
from cryovox.workflows.score_tiles import channels_of, search_region, tile_plan
from cryovox.workflows.segment import load_job

PER_VOXEL = 2e-7
"""Seconds per voxel for statistics, checks, label map and files, measured on one core (2026)."""


@dataclass(frozen=True)
class TilePrediction(Prediction):
    """Prediction for one tomogram; its shape is that at the voxel size of the model.

    Attributes
    ----------
    tiles
        Tiles to score, those of half tomograms included.
    batch
        Tiles per forward pass.
    """

    tiles: int
    batch: int


def predict(
    tomograms: list[Path],
    model: Path,
    out: Path,
    config: SegmentConfig | None = None,
    device: Device = "auto",
    noise: float | None = None,
    halves: bool = False,
) -> list[TilePrediction]:
    """Predict time, memory and size of the outputs of :func:`cryovox.workflows.segment.segment`.

    With *noise*, the fraction that :func:`cryovox.workflows.find.find` also searches in noise, time and
    memory are those of that function, but for some seconds of picking and report. With *halves*, that
    function also segments two half tomograms for each tomogram.
    """
    import torch

    from cryovox.inference.memory import footprint
    from cryovox.inference.stream import score, tile_places

    files = expand(tomograms)
    job = load_job(model, out, config, device, noise)
    card, network, config = job.card, job.network, job.config
    device_type = next(network.parameters()).device.type
    wished, channels = tile_plan(card, config, device_type), channels_of(card, config)
    images = torch.zeros(1, 1, *(wished.tile,) * 3)
    score(network, images, wished)  # the first pass also chooses kernels
    per_tile = seconds_of(lambda: score(network, images, wished))
    predictions = []
    for name, path in files.items():
        original = read_volume(path, config.voxel_size)
        volume, _ = on_model_grid(path, original, card)
        mask = read_search_mask(config.mask, name, original.shape)
        tiles = job.tiles(volume)
        z, y, x = (plan(n, tiles.tile, tiles.overlap, tiles.stride) for n in volume.shape)
        places = tile_places((z, y, x), search_region(mask, original, volume, card, tiles))
        taken = footprint(network, volume.data, channels, tiles)
        peaks = need(network, taken, tiles, job.afterwards(volume))
        scores = 2 * channels * z.out_size * y.out_size * x.out_size
        labels = prod(original.shape) * np.dtype(label_dtype(card.species)).itemsize
        labels += prod(original.shape) * (channels - len(card.species))  # masks of surroundings
        output, runs = scores + labels, 3 if halves else 1
        if halves:
            output += 2 * _output_of_half(original.shape, scores // channels, card)
        seconds = per_tile * len(places) * (runs + (noise or 0.0)) + runs * PER_VOXEL * prod(original.shape)
        count = runs * len(places)
        steps = f"{count} tiles, {tiles.batch} at once"
        volumes = volume.shape, steps, seconds, peaks.ram, peaks.vram, output
        predictions.append(TilePrediction(name, *volumes, count, tiles.batch))
    return predictions


def _output_of_half(shape: tuple[int, ...], channel: int, card: Card) -> int:
    """Bytes of the scores and labels of a half tomogram, which is segmented without surroundings."""
    labels = prod(shape) * np.dtype(label_dtype(card.species)).itemsize
    return channel * len(card.species) + labels
