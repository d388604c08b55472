"""Centers, pixel sizes and frames of STAR particle lists, for reading and writing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.volume import LARGEST_VOXEL, SMALLEST_VOXEL, Volume
from cryovox.formats.particles import convention
from cryovox.formats.particles.convention import Frame
from cryovox.formats.particles.relion import CENTER, CENTER_VOXELS, DETECTOR, OWN, RELION
from cryovox.formats.particles.star_table import Table
from cryovox.formats.tomogram_names import listed, plain_name


def rotated(frames: NDArray[np.float64] | None, shifts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shifts (n, 3) of subtomograms in the frame of the tomogram."""
    return shifts if frames is None else np.asarray(np.einsum("nij,nj->ni", frames, shifts))


def center_kind(table: Table, center: str | None, where: object = None) -> str:
    """Origin of centered coordinates: that of the caller, else that of the file, else half."""
    kind = center or table.blocks.get(OWN, {}).get(CENTER, ["half"])[0]
    if kind not in ("half", "half-1"):
        raise RequestError(
            where or table.path, f"has coordinates from the center {kind!r}", "it is half or half-1"
        )
    return kind


def centers(path: Path, tomogram: Frame | None, names: list[str] | None, kind: str) -> NDArray[np.float64]:
    """Center (x, y, z) in Å of the tomogram of each particle, or of the single tomogram."""
    if isinstance(tomogram, Volume):
        check_single(path, names)
    return convention.centers(path, replace(RELION, center=CENTER_VOXELS[kind]), tomogram, names)[..., ::-1]


def check_single(path: Path, names: list[str] | None) -> None:
    """Raise an error if a list of several tomograms is read with a single tomogram."""
    if len({plain_name(name) for name in set(names or ())}) > 1:
        message = f"names several tomograms ({listed(names or ())}), each of which has its own center"
        raise RequestError(path, message, "pass --tomogram FOLDER, the folder that holds all of them")


def file_sizes(table: Table, tags: list[str]) -> NDArray[np.float64] | None:
    """The first pixel size in the file, (n, 1) in Å; an error if it cannot be right."""
    for tag in tags:
        sizes = table.per_particle(tag)
        if sizes is not None:
            return _plausible(table, tag, sizes)
    detector, magnification = (table.per_particle(tag) for tag in DETECTOR)
    if detector is None or magnification is None:  # in µm at the detector with a magnification, in Å without
        return None if detector is None else _plausible(table, DETECTOR[0], detector)
    return _plausible(table, " and ".join(DETECTOR), detector * 1e4 / magnification)


def _plausible(table: Table, tag: str, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    wrong = sizes[(sizes < SMALLEST_VOXEL) | (sizes > LARGEST_VOXEL)]
    if not wrong.size:
        return sizes
    message = f"says pixels of {wrong[0]:g} Å ({tag}), which cannot be"
    raise RequestError(table.path, message, "pass --voxel-size A, the size of a pixel in Å")
