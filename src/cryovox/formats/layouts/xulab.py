"""The simulated subtomograms of the Xu lab: HDF5 files of one subtomogram each, in one folder.

Files are called like `snrSNR003_prot1c5u_386.h5` and hold `image`, 68^3 numbers, and `label`, 68^3 bytes;
the signal to noise ratio is 0.03 there, 0.05 in `SNR005` and infinite in `SNRinfinity`. They are handed out
on request; names and arrays are those that a public reader of them expects.

What is not sure: the voxel size (10 Å here, as in the simulator of that lab), the order of the axes (taken
as z, y, x), and whether labels are 0 and 1 (what is not 0 is the protein). Every protein gets a label of its
own, in the order of names, and the radius of a ball as large as its first mask.
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
from cryovox.formats.layouts.folder import ball_radius, rescaled
from cryovox.formats.layouts.stack import Stack
from cryovox.formats.subtomograms import Subtomograms

NAME = re.compile(r"snrSNR(\d+|infinity)_prot(\w+?)_(\d+)\.h5")
VOXEL_SIZE = 10.0


@dataclass(frozen=True)
class _File:
    path: Path
    species: str
    snr: float


def is_here(folder: Path) -> bool:
    """Whether a folder holds files called so."""
    return folder.is_dir() and any(NAME.fullmatch(path.name) for path in folder.iterdir())


def read(folder: Path, side: int = 32, voxel_size: float = VOXEL_SIZE) -> Subtomograms:
    """Open the subtomograms; each is read and rescaled when it is asked for.

    Parameters
    ----------
    folder
        Holds the files.
    side
        Edge of the cubes in voxels, to which they are rescaled: linearly, labels by the nearest voxel.
    voxel_size
        Edge of a voxel of the files in Å.

    Returns
    -------
    Subtomograms
        Particles stand at the centres of the cubes and have the column `snr`.
    """
    files = [file for path in sorted(folder.iterdir()) if (file := _parsed(path))] if folder.is_dir() else []
    if not files:
        told = "holds no file like snrSNR003_prot1c5u_386.h5"
        raise RequestError(folder, told, "name the folder of the subtomograms")
    kinds, edge = _species(files, voxel_size)
    labels = {kind.name: kind.label for kind in kinds}
    size = voxel_size * edge / side
    cube = (side, side, side)
    found = Particles.of(
        np.full((len(files), 3), side // 2 * size),
        [file.species for file in files],
    )

    def image(i: int) -> NDArray[Any]:
        return rescaled(_arrays(files[i].path)[0], cube)

    def mask(i: int) -> NDArray[Any]:
        seen = (_arrays(files[i].path)[1] != 0).astype(np.uint8)
        return rescaled(seen, cube) * np.uint8(labels[files[i].species])

    return Subtomograms(
        images=Stack((len(files), *cube), np.dtype(np.float32), image),
        masks=Stack((len(files), *cube), np.dtype(np.uint8), mask),
        voxel_size=size,
        particles=replace(found, extra={"snr": np.array([file.snr for file in files])}),
        species=kinds,
        corners=np.zeros((len(files), 3), np.intp),
    )


def _species(files: list[_File], voxel_size: float) -> tuple[tuple[Species, ...], int]:
    """The proteins, and the edge of the first cube in voxels."""
    firsts = {file.species: file.path for file in reversed(files)}
    masks = {name: _arrays(path)[1] for name, path in sorted(firsts.items())}
    radii = {name: ball_radius(max(1, int(np.count_nonzero(m)))) * voxel_size for name, m in masks.items()}
    kinds = tuple(
        Species(name=name, label=label, radius=round(radius, 1), structure=name)
        for label, (name, radius) in enumerate(radii.items(), 1)
    )
    return kinds, next(iter(masks.values())).shape[0]


def _parsed(path: Path) -> _File | None:
    found = NAME.fullmatch(path.name)
    if found is None:
        return None
    snr = np.inf if found[1] == "infinity" else int(found[1]) / 100
    return _File(path, found[2].lower(), float(snr))


def _arrays(path: Path) -> tuple[NDArray[np.float32], NDArray[Any]]:
    try:
        import h5py
    except ImportError:
        told = "HDF5 files need the package h5py, which is not installed"
        raise RequestError("h5py", told, "pip install 'cryovox[hdf5]'") from None
    try:
        with h5py.File(path, "r") as file:
            image = np.asarray(file["image"][...], dtype=np.float32)
            label: NDArray[Any] = np.asarray(file["label"][...])
    except (KeyError, OSError) as error:
        raise RequestError(path, f"cannot be read ({error})", "copy the file again") from None
    if image.ndim != 3 or image.shape != label.shape:
        told = f"holds an image of shape {image.shape} and a label of shape {label.shape}"
        raise RequestError(path, told, "copy the file again")
    return image, label
