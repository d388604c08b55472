"""The radial amplitudes of an experiment, for simulated images to have."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.formats import is_volume, mrc, read_text
from cryovox.simulate.microscope.spectra import radial_amplitude, ring_count

Floats = NDArray[np.float64]
FORM = "give a tilt series (MRC stack), or a table with a frequency in 1/Å and an amplitude on each line"


def experimental_amplitude(path: Path, voxel_size: float, bins: int) -> Floats:
    """Read what an experiment's spectrum is on the rings of simulated images.

    Parameters
    ----------
    path
        Tilt series (MRC stack), of which the root mean square over all images is taken, or a table of
        frequencies in 1/Å and amplitudes, by commas, tabs or spaces.
    voxel_size
        Of the simulated images in Å; those of the experiment are as fine or finer.
    bins
        Rings from 0 to Nyquist.

    Returns
    -------
    (bins,)
        In the unit of the experiment; below its first frequency as there.
    """
    frequency, amplitude = _measured(path) if is_volume(path) else _tabulated(path)
    nyquist = 0.5 / voxel_size
    places = (np.arange(bins) + 0.5) / bins * nyquist
    if frequency[-1] < places[-1]:
        told = f"ends at {frequency[-1]:.4g} 1/Å; pixels of {voxel_size:g} Å need {places[-1]:.4g}"
        raise RequestError(path, told, "take a finer example, or larger voxels")
    if frequency[0] > nyquist:
        told = f"begins at {frequency[0]:.4g} 1/Å; pixels of {voxel_size:g} Å end at {nyquist:.4g}"
        raise RequestError(path, told, "frequencies are in 1/Å: 0.05 stands for 20 Å")
    return np.interp(places, frequency, amplitude)


def _measured(path: Path) -> tuple[Floats, Floats]:
    try:
        header = mrc.header(path, images=True)
    except RequestError as error:
        raise RequestError(error.where, error.message, FORM) from None
    y, x = header.voxel_sizes[1:]
    if min(y, x) < 0.1 or abs(y / x - 1) > 0.01 or abs(x - 1) < 1e-5:
        told = f"does not say its pixel size (x {x:g}, y {y:g} Å)"
        raise RequestError(path, told, f"write it: cryovox convert {path.name} NEW.mrc --voxel-size A")
    file = path.stat()
    return _spectrum(path, (x + y) / 2, file.st_mtime_ns, file.st_size)


@lru_cache(maxsize=1)
def _spectrum(path: Path, pixel: float, *version: int) -> tuple[Floats, Floats]:
    """Of a stack of images; read again only where *version* says that the file is another."""
    images = np.asarray(mrc.read(path, pixel, images=True).data)
    bins = ring_count(images.shape[1:])
    rows = np.concatenate([radial_amplitude(image[None], bins) for image in images])
    amplitude = np.sqrt((rows**2).mean(0))
    if not np.isfinite(amplitude).all() or not amplitude[1:].all():
        raise RequestError(path, "holds no numbers, or nothing but one", FORM)
    nyquist = 0.5 / pixel
    frequency = (np.arange(bins) + 0.5) / bins * nyquist
    full = amplitude > 0  # the first ring may hold the mean alone
    return np.append(frequency[full], nyquist), np.append(amplitude[full], amplitude[-1])


def _tabulated(path: Path) -> tuple[Floats, Floats]:
    lines = [line.split("#")[0].strip() for line in read_text(path).splitlines()]
    rows = [(number, re.split(r"[,;\s]+", line)) for number, line in enumerate(lines, 1) if line]
    if rows and not _numbers(rows[0][1]):
        rows = rows[1:]  # names of the columns
    for number, cells in rows:
        if not _numbers(cells):
            raise RequestError(path, f"line {number} is not two numbers that are not negative", FORM)
    if len(rows) < 2:
        raise RequestError(path, f"has {len(rows)} lines of numbers", FORM)
    table = np.array([cells for _, cells in rows], np.float64)
    table = table[np.argsort(table[:, 0], kind="stable")]
    if not table[:, 1].any():
        raise RequestError(path, "all its amplitudes are 0", FORM)
    return table[:, 0], table[:, 1]


def _numbers(cells: list[str]) -> bool:
    """Whether a line is a frequency and an amplitude."""
    try:
        found = np.array(cells, np.float64)
    except ValueError:
        return False
    return len(found) == 2 and bool(np.isfinite(found).all() and (found >= 0).all())
