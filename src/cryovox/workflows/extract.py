"""Cut subtomograms out of a tomogram."""

from __future__ import annotations

from pathlib import Path

from cryovox.core.errors import RequestError
from cryovox.formats import read_labels, read_particles, read_volume, subtomograms

ENDINGS = (".zarr", *subtomograms.HDF5)


def extract(
    particles: Path,
    tomogram: Path,
    box: int,
    out: Path,
    *,
    voxel_size: float | None = None,
    labels: Path | None = None,
    pad: bool = False,
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
    """
    if out.suffix.lower() not in ENDINGS:
        raise RequestError(out, "does not say its format", f"let the name end in {' or '.join(ENDINGS)}")
    volume = read_volume(tomogram, voxel_size)
    found = read_particles(particles, tomogram=volume)
    masks = None if labels is None else read_labels(labels, voxel_size=volume.voxel_size)
    wrote = subtomograms.extract(volume, found, box, out, masks=masks, border="pad" if pad else "skip")
    return wrote, len(found) - wrote
