"""Cut subtomograms out of a tomogram."""

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
    """Write a subtomogram set; gives how many were written and how many left out at the border.

    Parameters
    ----------
    particles, tomogram
        Files.
    box
        Edge in voxels.
    out
        `NAME.zarr` or `NAME.h5`.
    dataset
        Names, labels and radii of the species, to be kept with the set.
    tomogram_name
        What the list calls the tomogram; the name of its file by default. Of a list that names several
        tomograms, only the particles of this one are taken.
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
    wrote = subtomograms.extract(volume, picks, box, out, masks=masks, border=border, species=species)
    return wrote, len(picks) - wrote
