"""Where to cut, and what a cut holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cryovox.core.volume import Voxels
from cryovox.data.config import PatchConfig
from cryovox.data.regions import Region
from cryovox.data.targets import IGNORE_INDEX, ball_labels, gaussian_heatmap, heatmap_sigma, within_radius

Shape = tuple[int, int, int]
_NONE = np.empty(0, np.intp)


@dataclass(frozen=True)
class TargetSpec:
    """What the network answers."""

    kind: Literal["mask", "heatmap"]
    output_stride: int = 1


@dataclass(frozen=True, eq=False)
class Patch:
    """A cut of a source.

    Attributes
    ----------
    image : (z, y, x) float32
        Normalised, particles bright.
    target
        mask: (z, y, x) uint8, channel + 1, 0 background, 255 unknown.
        heatmap: (k, z / s, y / s, x / s) float32.
    known
        heatmap: (k, z / s, ...) bool, where the target is to be believed. mask: target != 255.
    """

    image: NDArray[np.float32]
    target: NDArray[Any]
    valid_mask: NDArray[np.bool_]


def sample_corner(
    sources: list[Region], config: PatchConfig, patch_size: int, rng: np.random.Generator
) -> tuple[Region, Shape]:
    """Choose a source and the low corner of a patch inside its region."""
    if rng.random() < config.foreground:
        found = _near_particle(sources, config, patch_size, rng)
        if found is not None:
            return found
    sizes = np.array([np.prod([float(b - a) for a, b in s.bounds]) for s in sources])
    source = sources[rng.choice(len(sources), p=sizes / sizes.sum())]
    corner = [int(rng.integers(a, max(a, b - patch_size) + 1)) for a, b in source.bounds]
    return source, (corner[0], corner[1], corner[2])


def _near_particle(
    sources: list[Region], config: PatchConfig, patch_size: int, rng: np.random.Generator
) -> tuple[Region, Shape] | None:
    kinds = sorted({kind for source in sources for kind in source.annotated_by_channel})
    if not kinds:
        return None
    lists = [source.annotated for source in sources]
    if config.balance:
        kind = int(rng.choice(kinds))
        lists = [source.annotated_by_channel.get(kind, _NONE) for source in sources]
    ends = np.cumsum([len(index) for index in lists])
    drawn = int(rng.integers(ends[-1]))
    which = int(np.searchsorted(ends, drawn, side="right"))
    source, i = sources[which], lists[which][drawn - ends[which]]  # counted from the end of the list
    shift = rng.uniform(-config.jitter, config.jitter, 3) * patch_size
    wanted = np.rint(source.positions[i] + shift - patch_size / 2).astype(int)
    corner = [
        int(np.clip(w, a, max(a, b - patch_size))) for w, (a, b) in zip(wanted, source.bounds, strict=True)
    ]
    return source, (corner[0], corner[1], corner[2])


def cut(source: Region, corner: Shape, patch_size: int, spec: TargetSpec, rim: float = 1.5) -> Patch:
    """Take a cube out of a source: unknown outside its region, mirrored outside the tomogram."""
    planes = _planes(source, corner, (patch_size,) * 3)
    image = source.normalise(_gather(source.data, planes))
    if spec.kind == "mask":
        labels = mask_target(source, corner, (patch_size,) * 3, rim)
        return Patch(image, labels, labels != IGNORE_INDEX)
    shape = (patch_size // spec.output_stride,) * 3
    target, valid_mask = _heatmap_target(source, corner, spec.output_stride, shape, rim)
    valid_mask &= _coarse(_believed(source, corner, planes), spec.output_stride)[None]
    return Patch(image, target, valid_mask)


def align_tilt_axis(patch: Patch, tilt_axis: Literal["y", "x"]) -> Patch:
    """Turn what was tilted about x by a quarter about z: its missing wedge lies as after a tilt about y."""
    if tilt_axis == "y":
        return patch
    turned = (
        np.ascontiguousarray(np.rot90(a, axes=(-2, -1)))
        for a in (patch.image, patch.target, patch.valid_mask)
    )
    return Patch(*turned)


def mask_target(source: Region, corner: Shape, shape: Shape, rim: float = 1.5) -> NDArray[np.uint8]:
    """Channel + 1 of every voxel of a box, 0 background, 255 unknown or outside the region."""
    planes = _planes(source, corner, shape)
    radii = np.array([s.radius for s in source.species]) / source.voxel_size
    reach = rim * float(radii.max())
    index = source.near(corner, shape, reach)
    positions, channels = source.positions[index] - np.array(corner), source.channels[index]
    if source.labels is not None:
        target = np.ascontiguousarray(_gather(source.labels, planes))
    else:
        target = ball_labels(positions, [int(c) + 1 for c in channels], radii[channels].tolist(), shape)
    if not source.exhaustive.all():
        target[(target == 0) & ~within_radius(positions, reach, shape)] = IGNORE_INDEX
    target[~_believed(source, corner, planes)] = IGNORE_INDEX
    return target


def _planes(source: Region, corner: Shape, shape: Shape) -> list[NDArray[np.intp]]:
    return [_mirrored(c, side, n) for c, side, n in zip(corner, shape, source.data.shape, strict=True)]


def _mirrored(start: int, patch_size: int, n: int) -> NDArray[np.intp]:
    """Indices start .. start + side, reflected at the ends of an axis of n voxels."""
    index = np.arange(start, start + patch_size)
    period = max(1, 2 * (n - 1))
    index = np.abs(index) % period
    return np.where(index >= n, period - index, index).astype(np.intp)


def _gather(data: Voxels, planes: list[NDArray[np.intp]]) -> NDArray[Any]:
    low = [int(p.min()) for p in planes]
    high = [int(p.max()) + 1 for p in planes]
    block = np.asarray(data[low[0] : high[0], low[1] : high[1], low[2] : high[2]])
    z, y, x = (p - a for p, a in zip(planes, low, strict=True))
    return block[np.ix_(z, y, x)]


def _believed(source: Region, corner: Shape, planes: list[NDArray[np.intp]]) -> NDArray[np.bool_]:
    inside = [
        (np.arange(c, c + len(p)) >= a) & (np.arange(c, c + len(p)) < b)
        for c, p, (a, b) in zip(corner, planes, source.bounds, strict=True)
    ]
    believed = inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :]
    return believed if source.annotated_mask is None else believed & _gather(source.annotated_mask, planes)


def _coarse(fine: NDArray[np.bool_], stride: int) -> NDArray[np.bool_]:
    return fine if stride == 1 else fine[::stride, ::stride, ::stride]


def _heatmap_target(
    source: Region, corner: Shape, stride: int, shape: Shape, rim: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    voxel = source.voxel_size * stride
    sigmas = [heatmap_sigma(kind, voxel) for kind in source.species]
    widest = max(*(4 * sigma for sigma in sigmas), *(rim * kind.radius / voxel for kind in source.species))
    index = source.near(corner, (shape[0] * stride, shape[1] * stride, shape[2] * stride), stride * widest)
    channels = source.channels[index]
    # output voxel i of a head of stride s is centred at input voxel s * i + (s - 1) / 2
    centres = (source.positions[index] - np.array(corner) - (stride - 1) / 2) / stride
    target = np.zeros((len(source.species), *shape), np.float32)
    valid_mask = np.ones((len(source.species), *shape), bool)
    for channel, kind in enumerate(source.species):
        own = centres[channels == channel]
        target[channel] = gaussian_heatmap(own, sigmas[channel], shape)
        if not source.exhaustive[channel]:
            valid_mask[channel] = within_radius(own, rim * kind.radius / voxel, shape)
            for other, rival in enumerate(source.species):
                if other != channel:
                    valid_mask[channel] |= within_radius(
                        centres[channels == other], rival.radius / voxel, shape
                    )
    return target, valid_mask
