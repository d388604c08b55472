"""Extract subtomograms from a tomogram, or from the 2-D stacks of RELION 5."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.placement import check_density, check_positions
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.data.back_projection import back_project
from cryovox.formats import dataset as dataset_files
from cryovox.formats import (
    ending,
    read_labels,
    read_particles,
    read_volume,
    relion_stacks,
    stem,
    subtomograms,
)
from cryovox.formats.layouts.stack import LazyStack
from cryovox.formats.relion_stacks import ImageStacks

ENDINGS = (".zarr", *subtomograms.HDF5)


def extract(  # noqa: PLR0913 (the options of a command)
    particles: Path,
    tomogram: Path,
    box: int,
    out: Path,
    *,
    voxel_size: float | None = None,
    labels: Path | None = None,
    dataset: Path | None = None,
    pad: bool = False,
    tomogram_name: str | None = None,
    on_progress: ProgressCallback = no_progress,
) -> tuple[int, int]:
    """Write a subtomogram set; returns how many were written, and how many dropped at the border.

    Parameters
    ----------
    particles, tomogram
        Files.
    box
        Box size in voxels.
    out
        `NAME.zarr` or `NAME.h5`.
    dataset
        Names, labels and radii of the species, to be stored with the set.
    tomogram_name
        Name of the tomogram in the particle list; that of its file by default. Only particles of this
        tomogram are extracted.
    on_progress
        Receives the progress; see :class:`cryovox.core.progress.ProgressCallback`.
    """
    _check_out(out)
    volume = read_volume(tomogram, voxel_size)
    picks = read_particles(particles, tomogram=volume, tomogram_names=(tomogram_name or stem(tomogram),))
    check_positions(particles, picks.positions, volume)
    check_density(particles, picks.positions, volume, box * volume.voxel_size / 2)
    species = () if dataset is None else dataset_files.read(dataset).species
    masks = None if labels is None else read_labels(labels, species, voxel_size=volume.voxel_size)
    border: Literal["skip", "pad"] = "pad" if pad else "skip"
    count = subtomograms.extract(
        volume, picks, box, out, masks=masks, border=border, species=species, on_progress=on_progress
    )
    return count, len(picks) - count


def is_stacks(particles: Path, tomogram: Path | None) -> bool:
    """Whether subtomograms come from 2-D stacks: no tomogram is named, or the tomograms.star of RELION."""
    return (tomogram is None or ending(tomogram) == ".star") and (
        ending(particles) == ".star" and relion_stacks.has_stacks(particles)
    )


def reconstruct_stacks(
    particles: Path,
    out: Path,
    *,
    tomograms: Path | None = None,
    box: int | None = None,
    on_progress: ProgressCallback = no_progress,
) -> tuple[int, int]:
    """Back-project the 2-D stacks of a list into a subtomogram set; returns their number and their size.

    Voxels are those of the tomogram at the pixel size of the images, so that positions and corners mean what
    they mean in sets that were cut from a tomogram.

    Parameters
    ----------
    particles
        The optimisation set of RELION 5, or its list of particles.
    out
        `NAME.zarr` or `NAME.h5`.
    tomograms
        The `tomograms.star`, if the list does not name it.
    box
        Box size in voxels, at most that of the images, which is the default.
    on_progress
        Receives the progress; see :class:`cryovox.core.progress.ProgressCallback`.
    """
    _check_out(out)
    stacks = relion_stacks.read(particles, tomograms)
    box = stacks.size if box is None else box
    if not 1 <= box <= stacks.size:
        message = f"is {box}; the images of {particles} have {stacks.size} pixels"
        raise RequestError("--box", message, "give at most that, or extract larger images")
    centers = np.rint(stacks.centers / stacks.pixel_size)
    corners = centers.astype(np.intp) - box // 2
    shape = (len(stacks), box, box, box)
    images = LazyStack(shape, np.dtype(np.float32), _Reconstruction(stacks, centers, box))
    subtomograms.write(
        out,
        subtomograms.Subtomograms(images, None, stacks.pixel_size, stacks.particles, corners=corners),
        on_progress,
    )
    return len(stacks), box


class _Reconstruction:
    """Cubes of 2-D stacks, on the grid of the tomogram."""

    def __init__(self, stacks: ImageStacks, centers: NDArray[np.float64], box: int) -> None:
        self._stacks, self._centers, self._box = stacks, centers, box

    def __call__(self, i: int) -> NDArray[Any]:
        images, directions = self._stacks.images(i)
        z, y, x = self._centers[i] - self._stacks.centers[i] / self._stacks.pixel_size
        first = self._stacks.size // 2 - self._box // 2
        inside = slice(first, first + self._box)
        return back_project(images, directions, (z, y, x))[inside, inside, inside]


def _check_out(out: Path) -> None:
    if out.suffix.lower() not in ENDINGS:
        raise RequestError(out, "does not say its format", f"let the name end in {' or '.join(ENDINGS)}")
