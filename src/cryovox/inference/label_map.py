"""From a score map on disk to a label map, a block at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap, Volume, release_pages
from cryovox.data.targets import ball_labels
from cryovox.formats import mrc, read_volume, scores
from cryovox.picking import PickConfig, pick

VOXELS = 1 << 23
"""Voxels of a block of balls."""
Window = tuple[slice, slice, slice]


def write_label_map(
    score_map: ScoreMap,
    volume: Volume,
    path: Path,
    picks: Particles | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> None:
    """Write the species of every voxel: the likeliest for masks, balls around picks for heatmaps.

    Where the scores have another voxel size, a voxel has the label of the nearest voxel of the scores.

    Parameters
    ----------
    picks
        Of a heatmap; by default what it gives with the default settings.
    mask : (z, y, x)
        0 where there is to be no label.
    """
    if score_map.kind == "heatmap":
        picks = pick(score_map, PickConfig(border=0.0), mask) if picks is None else picks
        blocks = _balls(picks, score_map.species, volume)
    else:
        blocks = _likeliest(score_map, volume)
    frame = volume.shape, label_dtype(score_map.species), volume.voxel_size, volume.origin
    with mrc.create(path, *frame, volume.nstart) as labels:
        for window, block in blocks:
            labels[window] = block if mask is None else np.where(mask[window], block, 0)
            release_pages(labels)


def write_masks(labels: Path, folder: Path, species: tuple[Species, ...]) -> dict[str, Path]:
    """Write `folder/SPECIES/NAME.mrc`, 1 inside, of the extended structures of a label map.

    Returns
    -------
    dict
        The files by kind, such as "mask of membrane".
    """
    files: dict[str, Path] = {}
    for kind in (one for one in species if one.extended):
        volume, file = read_volume(labels), _mask_file(folder, kind, labels.name)
        with mrc.create(file, volume.shape, "int8", volume.voxel_size, volume.origin, volume.nstart) as mask:
            for z in range(len(mask)):
                mask[z] = np.asarray(volume.data[z]) == kind.label
        files[f"mask of {kind.name}"] = file
    return files


def write_threshold_masks(
    score_map: ScoreMap, volume: Volume, folder: Path, name: str, mask: NDArray[np.bool_] | None = None
) -> dict[str, Path]:
    """Write `folder/SPECIES/NAME.mrc`, 1 where a score, linearly interpolated, reaches its threshold.

    Parameters
    ----------
    volume
        Tomogram, whose grid the masks have.
    mask : (z, y, x)
        0 where the masks are to be 0.

    Returns
    -------
    dict
        The files by kind, such as "mask of membrane".
    """
    files: dict[str, Path] = {}
    for channel, kind in enumerate(score_map.species):
        file, threshold = _mask_file(folder, kind, f"{name}.mrc"), score_map.thresholds[kind.name]
        with mrc.create(file, volume.shape, "int8", volume.voxel_size, volume.origin, volume.nstart) as out:
            for z, plane in enumerate(interpolated_planes(score_map, channel, volume)):
                inside = plane >= threshold
                out[z] = inside if mask is None else inside & mask[z]
        files[f"mask of {kind.name}"] = file
    return files


def interpolated_planes(score_map: ScoreMap, channel: int, volume: Volume) -> Iterator[NDArray[np.float32]]:
    """Interpolated scores (y, x) of a channel at the voxels of a volume, plane by plane.

    Beyond the map they are those of its faces.
    """
    z, y, x = (
        np.clip((np.arange(n) * volume.voxel_size - score_map.offset) / score_map.voxel_size, 0, m - 1)
        for n, m in zip(volume.shape, score_map.data.shape[1:], strict=True)
    )
    height, first, block = scores.CHUNK[1], -1, np.empty((0, 0, 0), np.float32)
    for place in z:
        low = int(place)
        if low // height != first:
            first = low // height
            block = np.asarray(score_map.data[channel, first * height : (first + 1) * height + 1], np.float32)
        yield _between(_between(_between(block, place - first * height), y), x)


def _between(values: NDArray[np.float32], places: Any) -> NDArray[np.float32]:
    """Linear interpolation along the first axis, which becomes the last one."""
    low = np.minimum(np.intp(np.floor(places)), len(values) - 1)
    share = np.asarray(places - low, np.float32)
    share = share.reshape(share.shape + (1,) * (values.ndim - 1))
    high = np.minimum(low + 1, len(values) - 1)
    mixed = values[low] * (1 - share) + values[high] * share
    return np.moveaxis(mixed, 0, -1) if np.ndim(places) else mixed


def _mask_file(folder: Path, kind: Species, name: str) -> Path:
    return folder / re.sub(r"[^\w+-]+", "_", kind.name) / name


def label_dtype(species: tuple[Species, ...]) -> str:
    """Smallest type of MRC that holds all labels."""
    return "int8" if max(s.label for s in species) <= 127 else "uint16"


def paint_balls(
    picks: Particles, species: tuple[Species, ...], voxel_size: float, shape: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Paint a ball with the radius and the label of its species around every pick."""
    of = {s.name: s for s in species}
    kinds = [of[name] for name in picks.species]
    radii = [s.radius / voxel_size for s in kinds]
    return ball_labels(picks.positions / voxel_size, [s.label for s in kinds], radii, shape)


def _balls(
    picks: Particles, species: tuple[Species, ...], volume: Volume
) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
    """Slabs of the volume with balls around the picks."""
    (depth, height, width), voxel = volume.shape, volume.voxel_size
    planes, full = max(1, VOXELS // (height * width)), slice(None)
    reach = max(s.radius for s in species)
    for low in range(0, depth, planes):
        high = min(low + planes, depth)
        positions = picks.positions - [low * voxel, 0.0, 0.0]
        near = (positions[:, 0] >= -reach) & (positions[:, 0] <= (high - low) * voxel + reach)
        part = Particles.of(positions[near], picks.species[near])
        yield (slice(low, high), full, full), paint_balls(part, species, voxel, (high - low, height, width))


def _likeliest(score_map: ScoreMap, volume: Volume) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
    """Blocks of the volume with the most probable species; the background is what the species leave."""
    near_z, near_y, near_x = _nearest(score_map, volume)
    _, planes, rows, _ = scores.CHUNK
    _, depth, height, width = score_map.data.shape
    for z in range(0, depth, planes):
        for y in range(0, height, rows):
            window = slice(z, min(z + planes, depth)), slice(y, min(y + rows, height)), slice(0, width)
            into_z, into_y = (
                _within(near, part) for near, part in ((near_z, window[0]), (near_y, window[1]))
            )
            index = np.ix_(near_z[into_z] - z, near_y[into_y] - y, near_x)
            yield (into_z, into_y, slice(None)), _labels_of(score_map, window)[index]


def _labels_of(score_map: ScoreMap, window: Window) -> NDArray[np.uint8]:
    """Labels of a block of the score map, one channel in memory at a time; of equals the first wins."""
    labels = np.zeros([part.stop - part.start for part in window], np.uint8)
    top = total = np.zeros(labels.shape, np.float32)
    for channel, species in enumerate(score_map.species):
        block = np.asarray(score_map.data[(channel, *window)], np.float32)
        labels[block > top] = species.label
        top, total = np.maximum(top, block), total + block
    labels[top <= 1 - total] = 0
    return labels


def _nearest(score_map: ScoreMap, volume: Volume) -> list[NDArray[np.intp]]:
    """Index of the voxel of a score map that is nearest to each voxel of a volume, along z, y and x."""
    return [
        np.clip(
            np.rint((np.arange(n) * volume.voxel_size - score_map.offset) / score_map.voxel_size), 0, m - 1
        ).astype(np.intp)
        for n, m in zip(volume.shape, score_map.data.shape[1:], strict=True)
    ]


def _within(ascending: NDArray[np.intp], part: slice) -> slice:
    """Places at which ascending indices lie in a part."""
    low, high = np.searchsorted(ascending, [part.start, part.stop])
    return slice(int(low), int(high))
