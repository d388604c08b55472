"""Folders of volumes with masks: Poly-GA, Erwinia and Mycoplasma.

These datasets are available on request and have no fixed layout. Two layouts are read: `images/NAME.mrc`
with `masks/NAME.mrc`, and pairs `NAME_image.mrc`, `NAME_mask.mrc`. A mask is not 0 inside particles of one
species.

The following is our choice (the papers state sizes before and after). Volumes of at most 96 voxels are
rescaled to the next smaller multiple of 32 (Poly-GA to 32^3, the 72^3 to 84^3 of Erwinia to 64^3, eight
patches). Larger volumes are cropped to a multiple of 32 (the 192^3 of Mycoplasma need no cropping: 216
patches). Volumes, not patches, are split into training and test sets: 15 % are for testing, which are 155
of 1033 volumes of Poly-GA and 2 of 10 of Erwinia. Radii are those of spheres with the volume of the mask of
the first volume.
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
from cryovox.formats.layouts.split import split_by_volume
from cryovox.formats.layouts.stack import LazyStack
from cryovox.formats.subtomograms import Subtomograms

FOLDERS = ("images", "masks")
ENDINGS = ("_image", "_mask")
TEST_FRACTION = 0.15
MAX_RESCALED = 96

Pairs = dict[str, tuple[Path, Path]]


def is_here(folder: Path) -> bool:
    """Whether a folder contains `images` and `masks`, or files NAME_image and NAME_mask."""
    return all((folder / name).is_dir() for name in FOLDERS) or bool(_named(folder, ENDINGS[0]))


def read(folder: Path, species: str = "particle", voxel_size: float | None = None) -> Dataset:
    """Describe the volumes, each with its mask as labels, without copying.

    Parameters
    ----------
    folder
        Folder with volumes and masks.
    species
        Species of the masks.
    voxel_size
        Voxel size in Å; that of the first volume by default.
    """
    pairs = _pairs(folder)
    size = _size(pairs, voxel_size)
    split = split_by_volume(pairs, TEST_FRACTION)
    entries = tuple(
        Entry(name=name, tomogram=image, labels=mask, split=split[name])
        for name, (image, mask) in pairs.items()
    )
    return Dataset(voxel_size=size, species=(_species(pairs, species, size),), entries=entries)


def read_patches(
    folder: Path, patch_size: int = 32, species: str = "particle", voxel_size: float | None = None
) -> Subtomograms:
    """Cut every volume into cubes that do not overlap, which are read on access.

    Parameters
    ----------
    folder
        Folder with volumes and masks.
    patch_size
        Size of the cubes in voxels.
    species
        Species of the masks.
    voxel_size
        Voxel size of the volumes in Å; that of the first by default.

    Returns
    -------
    Subtomograms
        Particles are at the centers of the cubes, with the name of their volume and the column `split`. The
        voxel size is that of the first volume after rescaling.
    """
    pairs = _pairs(folder)
    size = _size(pairs, voxel_size)
    shapes = {name: read_header(image).shape for name, (image, _) in pairs.items()}
    cubes = [
        (name, corner)
        for name, n in shapes.items()
        for corner in _corners(_target(n, patch_size), patch_size)
    ]
    names = [name for name, _ in cubes]
    corners = np.array([corner for _, corner in cubes], dtype=np.intp)
    first = next(iter(shapes.values()))
    scaled = size * first[0] / _target(first, patch_size)[0] if max(first) <= MAX_RESCALED else size
    split = split_by_volume(pairs, TEST_FRACTION)
    particles = Particles.of((corners + patch_size // 2) * scaled, species, tomograms=names)
    shape = (len(cubes), patch_size, patch_size, patch_size)
    images, masks = (_CubeReader(pairs, which, names, corners, patch_size) for which in (0, 1))
    return Subtomograms(
        images=LazyStack(shape, np.dtype(np.float32), images),
        masks=LazyStack(shape, np.dtype(np.uint8), masks),
        voxel_size=scaled,
        particles=replace(particles, extra={"split": np.array([split[name] for name in names])}),
        species=(_species(pairs, species, size),),
        corners=corners,
    )


class _CubeReader:
    """Reads the cubes of all volumes (0) or masks (1), and caches the last volume."""

    def __init__(
        self, pairs: Pairs, which: int, names: list[str], corners: NDArray[np.intp], patch_size: int
    ) -> None:
        self._pairs, self._which, self._size = pairs, which, patch_size
        self._names, self._corners = names, corners
        self._last: tuple[str, NDArray[Any]] | None = None

    def __call__(self, i: int) -> NDArray[Any]:
        name = self._names[i]
        if self._last is None or self._last[0] != name:
            path = self._pairs[name][self._which]
            self._last = (name, _read_fitted(path, self._size, mask=self._which == 1))
        z, y, x = self._corners[i]
        patch_size = self._size
        return self._last[1][z : z + patch_size, y : y + patch_size, x : x + patch_size]


def _pairs(folder: Path) -> Pairs:
    """Volume and mask by name."""
    if all((folder / name).is_dir() for name in FOLDERS):
        images, masks = (_named(folder / name, "") for name in FOLDERS)
        mask_name = "masks/{}.mrc"
    else:
        images, masks = (_named(folder, ending) for ending in ENDINGS)
        mask_name = "{}_mask.mrc"
    if not images:
        message = "holds neither images/NAME.mrc with masks/NAME.mrc nor NAME_image.mrc with NAME_mask.mrc"
        raise RequestError(folder, message, "arrange the volumes like this")
    for name, image in images.items():
        if name not in masks:
            message = f"there is no such file, but there is {image}"
            raise RequestError(folder / mask_name.format(name), message, "put the mask there")
        shapes = [read_header(path).shape for path in (image, masks[name])]
        if shapes[0] != shapes[1]:
            message = f"has shape {shapes[1]} (z, y, x), its volume {shapes[0]}"
            raise RequestError(masks[name], message, "both must cover the same voxels")
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
    return Species(name=name, label=1, radius=round(sphere_radius(voxels) * voxel_size, 1))


def sphere_radius(voxels: int) -> float:
    """Radius in voxels of a sphere with a volume of that many voxels."""
    return float((3 * voxels / (4 * np.pi)) ** (1 / 3))


def _target(shape: tuple[int, int, int], patch_size: int) -> tuple[int, int, int]:
    z, y, x = (max(1, n // patch_size) * patch_size for n in shape)
    return z, y, x


def _corners(shape: tuple[int, int, int], patch_size: int) -> list[tuple[int, int, int]]:
    z, y, x = (range(0, n, patch_size) for n in shape)
    return [(a, b, c) for a in z for b in y for c in x]


def _read_fitted(path: Path, patch_size: int, mask: bool) -> NDArray[Any]:
    """A volume whose shape is a multiple of the patch size: rescaled if small, cropped if large."""
    data: NDArray[Any] = read_mask(path) if mask else np.asarray(read_volume(path, 1.0).data)
    target = _target((data.shape[0], data.shape[1], data.shape[2]), patch_size)
    if mask:
        data = data.astype(np.uint8)
    if max(data.shape) <= MAX_RESCALED or min(data.shape) < patch_size:
        return rescale(data, target)
    starts = [(n - m) // 2 for n, m in zip(data.shape, target, strict=True)]
    z, y, x = (slice(a, a + m) for a, m in zip(starts, target, strict=True))
    return data[z, y, x]


def rescale(data: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[Any]:
    """Rescale a cube: labels (uint8) by the nearest voxel, gray values linearly."""
    if data.shape == shape:
        return data
    factors = [m / n for m, n in zip(shape, data.shape, strict=True)]
    is_labels = data.dtype == np.uint8
    values = data if is_labels else np.asarray(data, dtype=np.float32)
    zoomed: NDArray[Any] = ndimage.zoom(
        values, factors, order=0 if is_labels else 1, mode="nearest", grid_mode=True
    )
    return zoomed
