"""The simulated subtomograms of the Xu lab: a folder of HDF5 files with one subtomogram each.

Files such as `snrSNR003_prot1c5u_386.h5` contain `image`, 68^3 numbers, and `label`, 68^3 bytes. The
signal-to-noise ratio is 0.03 for `SNR003`, 0.05 for `SNR005` and infinite for `SNRinfinity`. The files are
available on request; names and arrays are those that a public reader expects.

The following is not certain: the voxel size (10 Å here, as in the simulator of the lab), the order of the
axes (taken as z, y, x), and whether labels are 0 and 1 (all values except 0 are the protein). Every protein
has its own label, in the order of names, and the radius of a sphere with the volume of its first mask.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.formats.layouts.folder import rescale, sphere_radius
from cryovox.formats.layouts.stack import LazyStack
from cryovox.formats.subtomograms import Subtomograms

NAME = re.compile(r"snrSNR(\d+|infinity)_prot(\w+?)_(\d+)\.h5")
VOXEL_SIZE = 10.0


@dataclass(frozen=True)
class _File:
    path: Path
    species: str
    snr: float


def is_here(folder: Path) -> bool:
    """Whether a folder contains such files."""
    return folder.is_dir() and any(NAME.fullmatch(path.name) for path in folder.iterdir())


def read(folder: Path, size: int = 32, voxel_size: float = VOXEL_SIZE) -> Subtomograms:
    """Open the subtomograms; each is read and rescaled on access.

    Parameters
    ----------
    folder
        Folder with the files.
    size
        Size in voxels to which the cubes are rescaled, linearly and labels by the nearest voxel.
    voxel_size
        Voxel size of the files in Å.

    Returns
    -------
    Subtomograms
        Particles are at the centers of the cubes and have the column `snr`.
    """
    files = [file for path in sorted(folder.iterdir()) if (file := _parsed(path))] if folder.is_dir() else []
    if not files:
        message = "holds no file like snrSNR003_prot1c5u_386.h5"
        raise RequestError(folder, message, "name the folder of the subtomograms")
    kinds, file_size = _species(files, voxel_size)
    labels = {kind.name: kind.label for kind in kinds}
    scaled = voxel_size * file_size / size
    cube = (size, size, size)
    particles = Particles.of(
        np.full((len(files), 3), size // 2 * scaled),
        [file.species for file in files],
    )

    def image(i: int) -> NDArray[Any]:
        return rescale(_arrays(files[i].path)[0], cube)

    def mask(i: int) -> NDArray[Any]:
        foreground = (_arrays(files[i].path)[1] != 0).astype(np.uint8)
        return rescale(foreground, cube) * np.uint8(labels[files[i].species])

    return Subtomograms(
        images=LazyStack((len(files), *cube), np.dtype(np.float32), image),
        masks=LazyStack((len(files), *cube), np.dtype(np.uint8), mask),
        voxel_size=scaled,
        particles=replace(particles, extra={"snr": np.array([file.snr for file in files])}),
        species=kinds,
        corners=np.zeros((len(files), 3), np.intp),
    )


def _species(files: list[_File], voxel_size: float) -> tuple[tuple[Species, ...], int]:
    """The proteins, and the size of the first cube in voxels."""
    firsts = {file.species: file.path for file in reversed(files)}
    masks = {name: _arrays(path)[1] for name, path in sorted(firsts.items())}
    radii = {name: sphere_radius(max(1, int(np.count_nonzero(m)))) * voxel_size for name, m in masks.items()}
    kinds = tuple(
        Species(name=name, label=label, radius=round(radius, 1), structure=name)
        for label, (name, radius) in enumerate(radii.items(), 1)
    )
    return kinds, next(iter(masks.values())).shape[0]


def _parsed(path: Path) -> _File | None:
    match = NAME.fullmatch(path.name)
    if match is None:
        return None
    snr = np.inf if match[1] == "infinity" else int(match[1]) / 100
    return _File(path, match[2].lower(), float(snr))


def _arrays(path: Path) -> tuple[NDArray[np.float32], NDArray[Any]]:
    try:
        import h5py
    except ImportError:
        message = "HDF5 files need the package h5py, which is not installed"
        raise RequestError("h5py", message, "pip install 'cryovox[hdf5]'") from None
    try:
        with h5py.File(path, "r") as file:
            image = np.asarray(file["image"][...], dtype=np.float32)
            label: NDArray[Any] = np.asarray(file["label"][...])
    except (KeyError, OSError) as error:
        raise RequestError(path, f"cannot be read ({error})", "copy the file again") from None
    if image.ndim != 3 or image.shape != label.shape:
        message = f"holds an image of shape {image.shape} and a label of shape {label.shape}"
        raise RequestError(path, message, "copy the file again")
    return image, label
