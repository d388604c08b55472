"""Extract subtomograms from a tomogram."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cryovox.core.errors import RequestError
from cryovox.core.placement import check_density, check_positions
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_labels, read_particles, read_volume, stem, subtomograms

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
    """
    if out.suffix.lower() not in ENDINGS:
        raise RequestError(out, "does not say its format", f"let the name end in {' or '.join(ENDINGS)}")
    volume = read_volume(tomogram, voxel_size)
    picks = read_particles(particles, tomogram=volume, tomogram_names=(tomogram_name or stem(tomogram),))
    check_positions(particles, picks.positions, volume)
    check_density(particles, picks.positions, volume, box * volume.voxel_size / 2)
    species = () if dataset is None else dataset_files.read(dataset).species
    masks = None if labels is None else read_labels(labels, species, voxel_size=volume.voxel_size)
    border: Literal["skip", "pad"] = "pad" if pad else "skip"
    count = subtomograms.extract(volume, picks, box, out, masks=masks, border=border, species=species)
    return count, len(picks) - count
