"""Patches: where they are cut, and their targets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from cryovox.core.volume import Voxels
from cryovox.data.config import PatchConfig
from cryovox.data.regions import Region
from cryovox.data.targets import IGNORE_INDEX, ball_labels, gaussian_heatmap, heatmap_sigma, within_radius

Shape = tuple[int, int, int]
_NONE, _NO_VOXELS = np.empty(0, np.intp), np.empty((0, 3), np.intp)


@dataclass(frozen=True)
class TargetSpec:
    """Kind of target, and input voxels per target voxel."""

    kind: Literal["mask", "heatmap"]
    output_stride: int = 1


@dataclass(frozen=True, eq=False)
class Patch:
    """An image patch and its target.

    Attributes
    ----------
    image : (z, y, x) float32
        Normalized, particles bright.
    target
        mask: (z, y, x) uint8, channel + 1, 0 background, 255 ignored.
        heatmap: (k, z / s, y / s, x / s) float32.
    valid_mask
        heatmap: (k, z / s, ...) bool, where the target is annotated. mask: target != 255.
    complete : (k,) bool or None
        In unlabeled patches: whether all particles of the species are picked.
    """

    image: NDArray[np.float32]
    target: NDArray[Any]
    valid_mask: NDArray[np.bool_]
    complete: NDArray[np.bool_] | None = None


def sample_corner(
    regions: list[Region], config: PatchConfig, patch_size: int, rng: np.random.Generator
) -> tuple[Region, Shape]:
    """Choose a region and the low corner of a patch inside it."""
    if rng.random() < config.foreground:
        corner_near = _corner_near_particle(regions, config, patch_size, rng)
        if corner_near is not None:
            return corner_near
    sizes = np.array([np.prod([float(b - a) for a, b in r.bounds]) for r in regions])
    region = regions[rng.choice(len(regions), p=sizes / sizes.sum())]
    corner = [int(rng.integers(a, max(a, b - patch_size) + 1)) for a, b in region.bounds]
    return region, (corner[0], corner[1], corner[2])


def _corner_near_particle(
    regions: list[Region], config: PatchConfig, patch_size: int, rng: np.random.Generator
) -> tuple[Region, Shape] | None:
    kinds = sorted(
        {kind for region in regions for kind in (*region.annotated_by_channel, *region.extended_by_channel)}
    )
    if not kinds:
        return None
    kind = int(rng.choice(kinds)) if config.balance else None
    lists = [_places(region, kind) for region in regions]
    ends = np.cumsum([len(places) for places in lists])
    number = int(rng.integers(ends[-1]))
    which = int(np.searchsorted(ends, number, side="right"))
    region, place = regions[which], lists[which][number - ends[which]]  # counted from the end of the list
    shift = rng.uniform(-config.jitter, config.jitter, 3) * patch_size
    low_corner = np.rint(place + shift - patch_size / 2).astype(int)
    corner = [
        int(np.clip(w, a, max(a, b - patch_size)))
        for w, (a, b) in zip(low_corner, region.bounds, strict=True)
    ]
    return region, (corner[0], corner[1], corner[2])


def _places(region: Region, kind: int | None) -> NDArray[np.float64]:
    """Annotated centers and voxels of extended structures of a species, or of all, (n, 3) in voxels."""
    if kind is None:
        centers, voxels = region.annotated, [*region.extended_by_channel.values()]
    else:
        centers = region.annotated_by_channel.get(kind, _NONE)
        voxels = [region.extended_by_channel.get(kind, _NO_VOXELS)]
    return np.concatenate([region.positions[centers], *voxels])


def cut(
    region: Region, corner: Shape, patch_size: int, spec: TargetSpec, rim: float = 1.5, mirror: bool = False
) -> Patch:
    """Cut a cube, which is ignored outside the region.

    Beyond the faces of the volume it is 0, the mean, as at inference, or with *mirror* the mirrored volume.
    """
    planes = _reflected_indices(region, corner, (patch_size,) * 3)
    image = region.normalize(_gather(region.data, planes))
    if not mirror:
        for axis, (start, n) in enumerate(zip(corner, region.data.shape, strict=True)):
            index = np.arange(start, start + patch_size)
            image[(slice(None),) * axis + ((index < 0) | (index >= n),)] = 0
    if spec.kind == "mask":
        labels = mask_target(region, corner, (patch_size,) * 3, rim)
        return Patch(image, labels, labels != IGNORE_INDEX)
    shape = (patch_size // spec.output_stride,) * 3
    target, valid_mask = _heatmap_target(region, corner, spec.output_stride, shape, rim)
    valid_mask &= _subsample(_annotated(region, corner, planes), spec.output_stride)[None]
    return Patch(image, target, valid_mask, region.complete)


def align_tilt_axis(patch: Patch, tilt_axis: Literal["y", "x"]) -> Patch:
    """Rotate a patch of a tilt about x by 90° about z: its missing wedge becomes that of a tilt about y."""
    if tilt_axis == "y":
        return patch
    image, target, valid_mask = (
        np.ascontiguousarray(np.rot90(a, axes=(-2, -1)))
        for a in (patch.image, patch.target, patch.valid_mask)
    )
    return replace(patch, image=image, target=target, valid_mask=valid_mask)


def mask_target(region: Region, corner: Shape, shape: Shape, rim: float = 1.5) -> NDArray[np.uint8]:
    """Channel + 1 of every voxel of a box, 0 background, 255 ignored or outside the region."""
    planes = _reflected_indices(region, corner, shape)
    radii = np.array([s.radius for s in region.species]) / region.voxel_size
    reach = rim * float(radii.max())
    index = region.near(corner, shape, reach)
    positions, channels = region.positions[index] - np.array(corner), region.channels[index]
    if region.labels is not None:
        target = np.ascontiguousarray(_gather(region.labels, planes))
    else:
        target = ball_labels(positions, [int(c) + 1 for c in channels], radii[channels].tolist(), shape)
    if not region.exhaustive.all():
        near = within_radius(positions, reach, shape) | _near_extended(target, region, rim)
        target[(target == 0) & ~near] = IGNORE_INDEX
    target[~_annotated(region, corner, planes)] = IGNORE_INDEX
    return target


def _near_extended(target: NDArray[np.uint8], region: Region, rim: float) -> NDArray[np.bool_]:
    """Voxels near membranes and other extended structures: `rim` times half of their thickness."""
    near = np.zeros(target.shape, bool)
    for channel, kind in enumerate(region.species):
        own = target == channel + 1
        if kind.extended and own.any():
            near |= distance_transform_edt(~own) <= rim * kind.radius / region.voxel_size
    return near


def _reflected_indices(region: Region, corner: Shape, shape: Shape) -> list[NDArray[np.intp]]:
    return [_mirrored(c, size, n) for c, size, n in zip(corner, shape, region.data.shape, strict=True)]


def _mirrored(start: int, patch_size: int, n: int) -> NDArray[np.intp]:
    """Indices start .. start + patch_size, reflected at the ends of an axis of n voxels."""
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


def _annotated(region: Region, corner: Shape, planes: list[NDArray[np.intp]]) -> NDArray[np.bool_]:
    inside = [
        (np.arange(c, c + len(p)) >= a) & (np.arange(c, c + len(p)) < b)
        for c, p, (a, b) in zip(corner, planes, region.bounds, strict=True)
    ]
    annotated = inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :]
    return annotated if region.annotated_mask is None else annotated & _gather(region.annotated_mask, planes)


def _subsample(fine: NDArray[np.bool_], stride: int) -> NDArray[np.bool_]:
    return fine if stride == 1 else fine[::stride, ::stride, ::stride]


def _heatmap_target(
    region: Region, corner: Shape, stride: int, shape: Shape, rim: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    voxel = region.voxel_size * stride
    sigmas = [heatmap_sigma(kind, voxel) for kind in region.species]
    widest = max(*(4 * sigma for sigma in sigmas), *(rim * kind.radius / voxel for kind in region.species))
    index = region.near(corner, (shape[0] * stride, shape[1] * stride, shape[2] * stride), stride * widest)
    channels = region.channels[index]
    # output voxel i of a head of stride s is centered at input voxel s * i + (s - 1) / 2
    centers = (region.positions[index] - np.array(corner) - (stride - 1) / 2) / stride
    target = np.zeros((len(region.species), *shape), np.float32)
    valid_mask = np.ones((len(region.species), *shape), bool)
    for channel, kind in enumerate(region.species):
        own = centers[channels == channel]
        target[channel] = gaussian_heatmap(own, sigmas[channel], shape)
        if not region.exhaustive[channel]:
            valid_mask[channel] = within_radius(own, rim * kind.radius / voxel, shape)
            for other, rival in enumerate(region.species):
                if other != channel:
                    valid_mask[channel] |= within_radius(
                        centers[channels == other], rival.radius / voxel, shape
                    )
    return target, valid_mask
