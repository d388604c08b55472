"""Folders of volumes with masks: Poly-GA, Erwinia and Mycoplasma, as a user was given them.

These sets are handed out on request and have no layout of their own. Two are read: `images/NAME.mrc` with
`masks/NAME.mrc`, and pairs `NAME_image.mrc`, `NAME_mask.mrc`. A mask is what is not 0, of one species.

What is not sure, and ours (the papers give edges before and after): volumes of at most 96 voxels are
rescaled to the next smaller multiple of 32 (Poly-GA to 32^3, the 72^3 to 84^3 of Erwinia to 64^3, eight
patches), larger ones keep their voxels and lose a rim where their sides are no multiples (the 192^3 of
Mycoplasma need neither: 216 patches). Volumes, never patches, are shared out into training and test:
15 % test, which are 155 of 1033 volumes of Poly-GA and 2 of 10 of Erwinia. Radii are those of balls as large
as the mask of the first volume.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryovox.core.dataset import Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.formats import is_volume, read_header, read_mask, read_volume, stem
from cryovox.formats.layouts.split import by_volume
from cryovox.formats.layouts.stack import Stack
from cryovox.formats.subtomograms import Subtomograms

FOLDERS = ("images", "masks")
ENDINGS = ("_image", "_mask")
SHARE = 0.15
SMALL = 96

Pairs = dict[str, tuple[Path, Path]]


def is_here(folder: Path) -> bool:
    """Whether a folder holds `images` and `masks`, or files called NAME_image and NAME_mask."""
    return all((folder / name).is_dir() for name in FOLDERS) or bool(_named(folder, ENDINGS[0]))


def read(folder: Path, species: str = "particle", voxel_size: float | None = None) -> Dataset:
    """Describe the volumes as they are, each with its mask as labels; nothing is copied.

    Parameters
    ----------
    folder
        Holds volumes and masks.
    species
        Name of what is masked.
    voxel_size
        In Å; that of the first volume by default.
    """
    pairs = _pairs(folder)
    size = _size(pairs, voxel_size)
    split = by_volume(pairs, SHARE)
    entries = tuple(
        Entry(name=name, tomogram=image, labels=mask, split=split[name])
        for name, (image, mask) in pairs.items()
    )
    return Dataset(voxel_size=size, species=(_species(pairs, species, size),), entries=entries)


def read_patches(
    folder: Path, side: int = 32, species: str = "particle", voxel_size: float | None = None
) -> Subtomograms:
    """Cut every volume into cubes that do not overlap, when they are asked for.

    Parameters
    ----------
    folder
        Holds volumes and masks.
    side
        Edge of a cube in voxels.
    species
        Name of what is masked.
    voxel_size
        Edge of a voxel of the volumes in Å; that of the first by default.

    Returns
    -------
    Subtomograms
        Particles stand at the centres of the cubes, name their volume, and say in the column `split`
        whether it trains or tests. The voxel size is that of the first volume after rescaling.
    """
    pairs = _pairs(folder)
    size = _size(pairs, voxel_size)
    shapes = {name: read_header(image).shape for name, (image, _) in pairs.items()}
    places = [(name, corner) for name, n in shapes.items() for corner in _corners(_target(n, side), side)]
    names = [name for name, _ in places]
    corners = np.array([corner for _, corner in places], dtype=np.intp)
    first = next(iter(shapes.values()))
    scaled = size * first[0] / _target(first, side)[0] if max(first) <= SMALL else size
    split = by_volume(pairs, SHARE)
    found = Particles.of((corners + side // 2) * scaled, species, tomograms=names)
    shape = (len(places), side, side, side)
    images, masks = (_Cutter(pairs, which, names, corners, side) for which in (0, 1))
    return Subtomograms(
        images=Stack(shape, np.dtype(np.float32), images),
        masks=Stack(shape, np.dtype(np.uint8), masks),
        voxel_size=scaled,
        particles=replace(found, extra={"split": np.array([split[name] for name in names])}),
        species=(_species(pairs, species, size),),
        corners=corners,
    )


class _Cutter:
    """Makes the cubes of all volumes (0) or masks (1), and keeps the last one that it opened."""

    def __init__(
        self, pairs: Pairs, which: int, names: list[str], corners: NDArray[np.intp], side: int
    ) -> None:
        self._pairs, self._which, self._side = pairs, which, side
        self._names, self._corners = names, corners
        self._last: tuple[str, NDArray[Any]] | None = None

    def __call__(self, i: int) -> NDArray[Any]:
        name = self._names[i]
        if self._last is None or self._last[0] != name:
            path = self._pairs[name][self._which]
            self._last = (name, _fitted(path, self._side, mask=self._which == 1))
        z, y, x = self._corners[i]
        side = self._side
        return self._last[1][z : z + side, y : y + side, x : x + side]


def _pairs(folder: Path) -> Pairs:
    """Volume and mask by name."""
    if all((folder / name).is_dir() for name in FOLDERS):
        images, masks = (_named(folder / name, "") for name in FOLDERS)
        wanted = "masks/{}.mrc"
    else:
        images, masks = (_named(folder, ending) for ending in ENDINGS)
        wanted = "{}_mask.mrc"
    if not images:
        told = "holds neither images/NAME.mrc with masks/NAME.mrc nor NAME_image.mrc with NAME_mask.mrc"
        raise RequestError(folder, told, "put the volumes there so")
    for name, image in images.items():
        if name not in masks:
            told = f"there is no such file, but there is {image}"
            raise RequestError(folder / wanted.format(name), told, "put the mask there")
        shapes = [read_header(path).shape for path in (image, masks[name])]
        if shapes[0] != shapes[1]:
            told = f"has shape {shapes[1]} (z, y, x), its volume {shapes[0]}"
            raise RequestError(masks[name], told, "both must cover the same voxels")
    return {name: (image, masks[name]) for name, image in images.items()}


def _named(folder: Path, ending: str) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    files = [p for p in sorted(folder.iterdir()) if is_volume(p) and p.name[0] != "."]
    return {stem(p).removesuffix(ending): p for p in files if stem(p).endswith(ending)}


def _size(pairs: Pairs, voxel_size: float | None) -> float:
    image = next(iter(pairs.values()))[0]
    return read_volume(image, voxel_size).voxel_size


def _species(pairs: Pairs, name: str, voxel_size: float) -> Species:
    voxels = max(1, int(np.count_nonzero(read_mask(next(iter(pairs.values()))[1]))))
    return Species(name=name, label=1, radius=round(ball_radius(voxels) * voxel_size, 1))


def ball_radius(voxels: int) -> float:
    """Radius in voxels of a ball of that many."""
    return float((3 * voxels / (4 * np.pi)) ** (1 / 3))


def _target(shape: tuple[int, int, int], side: int) -> tuple[int, int, int]:
    z, y, x = (max(1, n // side) * side for n in shape)
    return z, y, x


def _corners(shape: tuple[int, int, int], side: int) -> list[tuple[int, int, int]]:
    z, y, x = (range(0, n, side) for n in shape)
    return [(a, b, c) for a in z for b in y for c in x]


def _fitted(path: Path, side: int, mask: bool) -> NDArray[Any]:
    """A volume whose sides are multiples: rescaled if small, without its rim if large."""
    data: NDArray[Any] = read_mask(path) if mask else np.asarray(read_volume(path, 1.0).data)
    target = _target((data.shape[0], data.shape[1], data.shape[2]), side)
    if mask:
        data = data.astype(np.uint8)
    if max(data.shape) <= SMALL or min(data.shape) < side:
        return rescaled(data, target)
    starts = [(n - m) // 2 for n, m in zip(data.shape, target, strict=True)]
    z, y, x = (slice(a, a + m) for a, m in zip(starts, target, strict=True))
    return data[z, y, x]


def rescaled(data: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[Any]:
    """Sample a cube anew: labels (uint8) by the nearest voxel, grey values linearly."""
    if data.shape == shape:
        return data
    factors = [m / n for m, n in zip(shape, data.shape, strict=True)]
    labels = data.dtype == np.uint8
    values = data if labels else np.asarray(data, dtype=np.float32)
    zoomed: NDArray[Any] = ndimage.zoom(
        values, factors, order=0 if labels else 1, mode="nearest", grid_mode=True
    )
    return zoomed
