"""Radial amplitude spectrum of an experimental tilt series, to match simulated images to."""

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
EXPECTED = "give a tilt series (MRC stack), or a table with a frequency in 1/Å and an amplitude on each line"


def experimental_amplitude(path: Path, voxel_size: float, bins: int) -> Floats:
    """Read an experimental amplitude spectrum at the rings of simulated images.

    Parameters
    ----------
    path
        Tilt series (MRC stack; root mean square over all images), or a table of frequencies in 1/Å and
        amplitudes, separated by commas, tabs or spaces.
    voxel_size
        Pixel size of the simulated images in Å, at least that of the experiment.
    bins
        Rings from 0 to Nyquist.

    Returns
    -------
    (bins,)
        In the unit of the experiment; constant below its first frequency.
    """
    frequency, amplitude = _read_series(path) if is_volume(path) else _read_table(path)
    nyquist = 0.5 / voxel_size
    centers = (np.arange(bins) + 0.5) / bins * nyquist
    if frequency[-1] < centers[-1]:
        message = f"ends at {frequency[-1]:.4g} 1/Å; pixels of {voxel_size:g} Å need {centers[-1]:.4g}"
        raise RequestError(path, message, "take a finer example, or larger voxels")
    if frequency[0] > nyquist:
        message = f"begins at {frequency[0]:.4g} 1/Å; pixels of {voxel_size:g} Å end at {nyquist:.4g}"
        raise RequestError(path, message, "frequencies are in 1/Å: 0.05 stands for 20 Å")
    return np.interp(centers, frequency, amplitude)


def _read_series(path: Path) -> tuple[Floats, Floats]:
    try:
        header = mrc.header(path, images=True)
    except RequestError as error:
        raise RequestError(error.where, error.message, EXPECTED) from None
    y, x = header.voxel_sizes[1:]
    if min(y, x) < 0.1 or abs(y / x - 1) > 0.01 or abs(x - 1) < 1e-5:
        message = f"does not say its pixel size (x {x:g}, y {y:g} Å)"
        raise RequestError(path, message, f"write it: cryovox convert {path.name} NEW.mrc --voxel-size A")
    file = path.stat()
    return _spectrum(path, (x + y) / 2, file.st_mtime_ns, file.st_size)


@lru_cache(maxsize=1)
def _spectrum(path: Path, pixel: float, *version: int) -> tuple[Floats, Floats]:
    """Spectrum of a stack of images; cached until *version* (time and size of the file) changes."""
    images = np.asarray(mrc.read(path, pixel, images=True).data)
    bins = ring_count(images.shape[1:])
    rows = np.concatenate([radial_amplitude(image[None], bins) for image in images])
    amplitude = np.sqrt((rows**2).mean(0))
    if not np.isfinite(amplitude).all() or not amplitude[1:].all():
        raise RequestError(path, "holds no numbers, or nothing but one", EXPECTED)
    nyquist = 0.5 / pixel
    frequency = (np.arange(bins) + 0.5) / bins * nyquist
    valid = amplitude > 0  # the first ring may hold the mean alone
    return np.append(frequency[valid], nyquist), np.append(amplitude[valid], amplitude[-1])


def _read_table(path: Path) -> tuple[Floats, Floats]:
    lines = [line.split("#")[0].strip() for line in read_text(path).splitlines()]
    rows = [(number, re.split(r"[,;\s]+", line)) for number, line in enumerate(lines, 1) if line]
    if rows and not _is_pair(rows[0][1]):
        rows = rows[1:]  # names of the columns
    for number, cells in rows:
        if not _is_pair(cells):
            raise RequestError(path, f"line {number} is not two numbers that are not negative", EXPECTED)
    if len(rows) < 2:
        raise RequestError(path, f"has {len(rows)} lines of numbers", EXPECTED)
    table = np.array([cells for _, cells in rows], np.float64)
    table = table[np.argsort(table[:, 0], kind="stable")]
    if not table[:, 1].any():
        raise RequestError(path, "all its amplitudes are 0", EXPECTED)
    return table[:, 0], table[:, 1]


def _is_pair(cells: list[str]) -> bool:
    """Whether a line is a frequency and an amplitude, both non-negative."""
    try:
        values = np.array(cells, np.float64)
    except ValueError:
        return False
    return len(values) == 2 and bool(np.isfinite(values).all() and (values >= 0).all())
