"""Checks of one tomogram: voxel size in its name, constant slices, clipping of floats, seams of tiles."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from cryovox.core.intensity import slabs
from cryovox.core.volume import Volume
from cryovox.report.doctor import Finding

Float = NDArray[np.float64]

NAMED_SIZE = re.compile(r"(?:^|[_-])(\d+(?:\.\d+)?)(?:Apx|Apix|A)(?=[._-]|$)")
NAMED_BINNING = re.compile(r"(?:^|[_-])b(?:in)?(\d+)(?=[._-]|$)", re.IGNORECASE)
SAME_SIZE = 0.01
"""Relative difference of voxel sizes that agree."""
SMALLEST_PIXEL = 0.5
"""Smallest plausible pixel size of a camera in Å."""
CLIPPED = 1e-3
"""Largest fraction of voxels at the extreme values that is no clipping."""
LINES = 64
PLANES = 16
CELL = 8
MIN_SPIKE = 1.25
"""Minimum ratio of the differences across a seam to those beside it."""
SPREADS = 6.0
"""Minimum height of a seam above the other ratios, in their standard deviations."""
MIN_TILE = 8


def volume_findings(volume: Volume, path: Path, header_size: float | None) -> list[Finding]:
    """All checks of this module.

    Parameters
    ----------
    volume
        The tomogram; a memory map is read in slabs.
    path
        Its file.
    header_size
        Voxel size in Å of the header; None where it has none.
    """
    findings = [] if header_size is None else name_findings(path, header_size)
    return [*findings, *_constant(volume), *_clipped(volume), seam_finding(volume)]


def name_findings(path: Path, size: float) -> list[Finding]:
    """Compare the voxel size in Å of a header with the name of the file, such as `_10.00Apx` or `_bin4`."""
    findings = []
    if match := NAMED_SIZE.search(path.name):
        named = float(match[1])
        text = f"the name says {named:g} Å, the header {size:.4g} Å"
        if abs(size / named - 1) <= SAME_SIZE:
            findings.append(Finding("ok", "name", text))
        else:
            source = shlex.quote(str(path))
            remedy = f"cryovox convert {source} OUT.mrc --voxel-size {named:g}"
            findings.append(Finding("warning", "name", text, remedy))
    if (match := NAMED_BINNING.search(path.name)) and int(match[1]) > 0:
        pixel = size / int(match[1])
        text = f"the name says binning by {match[1]}: pixels of {pixel:.3g} Å before"
        if pixel >= SMALLEST_PIXEL:
            findings.append(Finding("ok", "binning", text))
        else:
            message = f"{text}, smaller than those of cameras: the header may hold the size before binning"
            remedy = (
                f"cryovox convert {shlex.quote(str(path))} OUT.mrc --voxel-size {size * int(match[1]):.5g}"
            )
            findings.append(Finding("warning", "binning", message, remedy))
    return findings


def _constant(volume: Volume) -> list[Finding]:
    """Slices of one value along each axis; those at low and high z have a check of their own."""
    low = [np.full(n, np.inf) for n in volume.shape]
    high = [np.full(n, -np.inf) for n in volume.shape]
    start = 0
    for slab in slabs(volume.data, 1 << 22):
        values = np.asarray(slab, np.float32)
        rows = slice(start, start + len(values))
        start += len(values)
        for axis, where in ((0, rows), (1, slice(None)), (2, slice(None))):
            others = tuple({0, 1, 2} - {axis})
            low[axis][where] = np.minimum(low[axis][where], values.min(axis=others))
            high[axis][where] = np.maximum(high[axis][where], values.max(axis=others))
    texts = []
    for axis, name in ((0, "z"), (1, "y"), (2, "x")):
        same = low[axis] == high[axis]
        if axis == 0 and not same.all():
            filled = np.flatnonzero(~same)
            same[: filled[0]] = same[filled[-1] :] = False
        if same.any() and not same.all():
            texts.append(f"{name} {_ranges(same)}")
    if not texts:
        return [Finding("ok", "constant slices", "none inside the volume")]
    message = f"{'; '.join(texts)}: one value in the whole slice"
    remedy = "reconstruct again, or exclude these slices with --mask"
    return [Finding("warning", "constant slices", message, remedy)]


def _ranges(selected: NDArray[np.bool_]) -> str:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], selected.astype(np.int8), [0]])))
    parts = [f"{a}" if b == a + 1 else f"{a}-{b - 1}" for a, b in edges.reshape(-1, 2)[:5].tolist()]
    return ", ".join(parts) + (", ..." if len(edges) > 10 else "")


def _sampled(volume: Volume, count: int = PLANES) -> NDArray[Any]:
    planes = np.unique(np.linspace(0, volume.shape[0] - 1, min(count, volume.shape[0])).astype(int))
    return np.stack([np.asarray(volume.data[int(z)], np.float32) for z in planes])


def _clipped(volume: Volume) -> list[Finding]:
    """Floating-point voxels that pile up at the lowest or highest value."""
    if volume.data.dtype.kind != "f":
        return []
    values = _sampled(volume)
    values = values[np.isfinite(values).all(axis=(1, 2)) & (np.ptp(values, axis=(1, 2)) > 0)]
    if not values.size:
        return []
    shares = [(f"{end:.4g}", float((values == end).mean())) for end in (values.min(), values.max())]
    piled = [f"{100 * share:.2g} % at {end}" for end, share in shares if share > CLIPPED]
    if not piled:
        return [Finding("ok", "saturation", "no values pile up at the extremes")]
    message = f"voxels pile up at an extreme value: {' and '.join(piled)}"
    remedy = "if gray values were clipped, write the tomogram again without it"
    return [Finding("warning", "saturation", message, remedy)]


def seam_finding(volume: Volume) -> Finding:
    """Steps at the borders of tiles: planes that repeat at one distance and differ from their neighbors."""
    check = "seams"
    for axis, name in ((0, "z"), (1, "y"), (2, "x")):
        if volume.shape[axis] < 4 * MIN_TILE:
            continue
        spikes = _spikes(_lines(volume, axis))
        if period := _period(spikes, volume.shape[axis]):
            message = f"steps at {name} {_listed(spikes)}, every {period} voxels: borders of tiles"
            remedy = "run the program that wrote the tomogram again, with more overlap of its tiles"
            return Finding("warning", check, message, remedy)
    return Finding("ok", check, "none that repeat")


def _lines(volume: Volume, axis: int) -> Float:
    """Part of the volume with a whole axis first, (n, a, b)."""
    middle = [slice((n - min(n, LINES)) // 2, (n + min(n, LINES)) // 2) for n in volume.shape]
    if axis == 0:
        values = np.asarray(volume.data[:, middle[1], middle[2]], np.float64)
    else:
        planes = _sampled(volume).astype(np.float64)
        values = planes[:, :, middle[2]] if axis == 1 else planes[:, middle[1]]
    return np.nan_to_num(np.moveaxis(values, axis, 0), posinf=0.0, neginf=0.0)


def _spikes(values: Float) -> list[int]:
    """Index of the first plane behind each step."""
    differences = np.diff(values, axis=0)
    a, b = (max(1, n // CELL) for n in differences.shape[1:])
    trimmed = differences[:, : a * (differences.shape[1] // a), : b * (differences.shape[2] // b)]
    cells = trimmed.reshape(len(differences), a, -1, b, trimmed.shape[2] // b).mean(axis=(2, 4))
    found: set[int] = set()
    for profile in (np.abs(differences).mean(axis=(1, 2)), np.abs(cells).mean(axis=(1, 2))):
        floor = 1e-3 * float(np.median(profile)) + 1e-30
        logs = np.log(profile + floor)
        ratio = logs - median_filter(logs, 9, mode="nearest")
        spread = 1.4826 * float(np.median(np.abs(ratio)))
        found |= set((np.flatnonzero(ratio > max(np.log(MIN_SPIKE), SPREADS * spread)) + 1).tolist())
    same = np.pad(~differences.any(axis=(1, 2)), 1)  # planes that repeat, as in a margin without data
    return sorted(plane for plane in found if not (same[plane - 1] or same[plane + 1]))


def _period(spikes: list[int], length: int) -> int:
    """Distance of steps that repeat over the whole axis; 0 if they do not."""
    if len(spikes) < 2:
        return 0
    gaps = np.diff(spikes)
    period = int(np.gcd.reduce(gaps))
    expected = len(range(spikes[0] % period if period else 0, length, max(1, period)))
    return period if period >= MIN_TILE and len(spikes) >= max(2, 0.6 * (expected - 1)) else 0


def _listed(spikes: list[int], limit: int = 4) -> str:
    return ", ".join(map(str, spikes[:limit])) + (", ..." if len(spikes) > limit else "")
