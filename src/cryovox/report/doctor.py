"""What is wrong with a tomogram, found before a network sees it, each with its remedy."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cryovox.core.config import Contrast
from cryovox.core.intensity import MIN_CERTAINTY, detect_contrast, slabs, wrapped_bytes
from cryovox.core.volume import ZYX, Volume
from cryovox.report.wedge import SEEN, find_wedge

Level = Literal["ok", "note", "warning", "error"]
Floats = NDArray[np.float64]
ORDER: tuple[Level, ...] = ("error", "warning", "note", "ok")

SMALLEST, LARGEST = 0.5, 100.0  # Å; edges of voxels that tomograms have
TRANSPOSE = "write array.transpose(2, 1, 0) in place of array: axes are (z, y, x)"
FINE = 10.0  # Å; contrast and wedge are judged on voxels of about this edge
MARGIN = 150.0  # Å kept above and below the sample: the radius of a large particle
OUTLIER = 8.0  # standard deviations of the vacuum: more than noise and reconstruction leave there


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    level : "ok", "note", "warning" or "error"
        How much it matters.
    what
        What was looked at, in two or three words.
    found
        What was found, with values and units.
    remedy
        The command or option that mends it; empty where nothing is to be mended.
    """

    level: Level
    what: str
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a model wants of its input: voxel size in Å, and how particles look."""

    voxel_size: float
    contrast: Contrast = "auto"
    name: str = "the model"


def examine(
    volume: Volume,
    path: Path,
    header_voxel_size: ZYX | None = None,
    problems: Sequence[str] = (),
    model: Expected | None = None,
) -> list[Finding]:
    """Look a tomogram over: one pass over the voxels, and spectra of a central piece.

    Parameters
    ----------
    volume
        The tomogram; a memory map is read a slab at a time.
    path
        Where it came from, for the commands among the remedies.
    header_voxel_size : (z, y, x)
        Voxel size in Å as the header has it, 0 where it says nothing.
    problems
        What the reader of the file complained about.
    model
        What the model in question expects.
    """
    survey = _survey(volume)
    findings = [Finding("warning", "header", told, _convert(path)) for told in problems]
    findings += [_voxel_size(volume, path, header_voxel_size), _shape(volume, path)]
    findings += [_not_finite(survey, volume, path)]
    if not survey.high.max() > survey.low.min():
        told = "no two voxels differ" if np.isfinite(survey.low.min()) else "no voxel is finite"
        return ranked([*findings, Finding("error", "grey values", told, "write the tomogram again")])
    findings += [_saturation(survey, volume), *_slab(survey, volume, path)]
    wrapped = wrapped_bytes(volume.data)
    if wrapped is not None:
        findings.append(Finding("warning", "bytes", str(wrapped), _convert(path, "--unsigned-bytes")))
    piece = _piece(volume)
    if min(piece.shape) >= 16 and wrapped is None:  # under that there is nothing to judge by
        findings += [_contrast(piece, model), _wedge(piece, path)]
    if model is not None:
        findings.append(_sampling(volume, path, model))
    return ranked(findings)


def render(findings: Sequence[Finding], path: Path, width: int = 100) -> str:
    """Lay out findings for a terminal, what matters most first."""
    lines = [f"{path}: {summary(findings)}", ""]
    column = max([len(f.what) for f in findings], default=0)
    for finding in findings:
        head = f"  {finding.level:<8} {finding.what:<{column}}  "
        lines += _wrapped(finding.found, width, head)
        lines += _remedy(finding.remedy, width, " " * len(head) + "-> ")
    return "\n".join(lines) + "\n"


def _remedy(remedy: str, width: int, head: str) -> list[str]:
    """Wrap so that a command can be pasted: never inside of a word, lines joined by backslashes."""
    if not remedy.startswith(("cryovox ", "trimvol ")):
        return _wrapped(remedy, width, head)
    words = [shlex.quote(word).replace(" ", "\xa0") for word in shlex.split(remedy)]
    lines = [line.replace("\xa0", " ") for line in _wrapped(" ".join(words), width - 2, head)]
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def _wrapped(text: str, width: int, head: str) -> list[str]:
    # long words are paths: cut in two they would be useless
    wrapper = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    wrapper.initial_indent, wrapper.subsequent_indent = head, " " * len(head)
    return wrapper.wrap(text)


def summary(findings: Sequence[Finding]) -> str:
    """Count what is wrong: "1 error, 2 warnings", or "no problems detected"."""
    counts = [(level, sum(f.level == level for f in findings)) for level in ("error", "warning")]
    told = [f"{n} {level}{'s' if n > 1 else ''}" for level, n in counts if n]
    return ", ".join(told) or "no problems detected"


@dataclass(frozen=True, slots=True)
class _Survey:
    """Per plane of z: extremes, spread and largest deviation of the coarse plane, counts of odd voxels."""

    low: Floats
    high: Floats
    spread: Floats
    extreme: Floats
    broken: NDArray[np.int64]
    clipped: NDArray[np.int64]


def _survey(volume: Volume) -> _Survey:
    side = max(1, round(40.0 / volume.voxel_size))  # a mean over 40 Å shows matter, not noise
    rows = [_plane(np.asarray(raw), side) for slab in slabs(volume.data, 1 << 22) for raw in slab]
    return _Survey(*(np.array(column) for column in zip(*rows, strict=True)))


def _plane(raw: NDArray[Any], side: int) -> tuple[float, float, float, float, int, int]:
    values, clipped = raw.astype(np.float32), 0
    if raw.dtype.kind in "iu":
        ends = np.iinfo(raw.dtype)
        clipped = int(((raw == ends.min) | (raw == ends.max)).sum())
    broken = values.size - int(np.isfinite(values).sum())
    if broken == values.size:
        return np.inf, -np.inf, 0.0, 0.0, broken, clipped
    values = _finite(values)
    spread, extreme = _clipped_spread(_binned(values[None], side, (1, 2)))
    return float(values.min()), float(values.max()), spread, extreme, broken, clipped


def _clipped_spread(values: NDArray[np.float32]) -> tuple[float, float]:
    """Standard deviation within three of itself, which a bead does not change, and largest deviation."""
    deviation = np.abs(values.astype(np.float64) - np.median(values))
    spread = largest = float(deviation.max())
    for _ in range(5):
        spread = float(np.sqrt(np.square(deviation[deviation <= 3 * spread]).mean()))
    return spread, largest


def _voxel_size(volume: Volume, path: Path, header: ZYX | None) -> Finding:
    what, mend = "voxel size", _convert(path, "--voxel-size TRUE_SIZE_IN_Å")
    size = (volume.voxel_size,) * 3 if header is None else header
    told = (
        " x ".join(f"{s:.4g}" for s in size) if max(size) - min(size) > 1e-3 * max(size) else f"{size[2]:.4g}"
    )
    if not np.isfinite(size).all() or min(size) <= 0:
        return Finding("error", what, f"the header says {told} Å: it does not know", mend)
    if max(size) == min(size) == 1.0:
        return Finding("warning", what, "exactly 1 Å, which writers leave who do not know it", mend)
    if max(size) > 1.005 * min(size):
        return Finding("warning", what, f"{told} Å along z, y and x: voxels should be cubes", mend)
    if not SMALLEST <= size[2] <= LARGEST:
        return Finding("warning", what, f"{told} Å: no tomogram is sampled like that", mend)
    return Finding("ok", what, f"{told} Å")


def _shape(volume: Volume, path: Path) -> Finding:
    z, y, x = volume.shape
    told = f"{z} x {y} x {x} voxels (z, y, x)"
    if min(z, y, x) < 16:
        return Finding("warning", "shape", f"{told}: that is an image or a stack of some", "give a tomogram")
    if z > 1.3 * y and y <= x:
        mend = f"trimvol -rx {_names(path)}"
        return Finding(
            "warning", "shape", f"{told}: a slab is thin along z, this one along y (IMOD can turn it)", mend
        )
    if z > 1.3 * x:
        return Finding("warning", "shape", f"{told}: a slab is thin along z, this one along x", TRANSPOSE)
    return Finding("ok", "shape", told)


def _not_finite(survey: _Survey, volume: Volume, path: Path) -> Finding:
    count = int(survey.broken.sum())
    if not count:
        return Finding("ok", "NaN, infinity", "none")
    planes = np.flatnonzero(survey.broken)
    told = f"{count} voxels ({count / volume.data.size:.2g} of all), in z {planes[0]} to {planes[-1]}"
    return Finding("error", "NaN, infinity", told, _convert(path, "--fill-nan"))


def _saturation(survey: _Survey, volume: Volume) -> Finding:
    kind = volume.data.dtype
    if kind.kind not in "iu":
        return Finding("ok", "grey values", f"{survey.low.min():.4g} to {survey.high.max():.4g}, {kind}")
    inside = survey.high > survey.low  # planes of padding are told elsewhere
    share = survey.clipped[inside].sum() / max(1, inside.sum() * volume.data[0].size)
    told = f"{survey.low.min():.0f} to {survey.high.max():.0f}, {kind}"
    if share > 1e-3:
        told += f"; {100 * share:.2g} % of the voxels stand at an end of that type, so they were cut off"
        mend = "write the tomogram again as float32, or scale it before it becomes integers"
        return Finding("warning", "grey values", told, mend)
    return Finding("ok", "grey values", told)


def sample_planes(volume: Volume) -> tuple[int, int]:
    """The planes [first, last) of z that hold the sample; all of them unless the rest is clearly empty."""
    return _sample(_survey(volume), volume.voxel_size)


def _slab(survey: _Survey, volume: Volume, path: Path) -> list[Finding]:
    filled = np.flatnonzero(survey.high > survey.low)
    first, last, planes = int(filled[0]), int(filled[-1]), len(survey.low)
    mend = f"cryovox doctor {shlex.quote(str(path))} --write-masks masks"
    findings = []
    if first > 0 or last < planes - 1:
        told = f"z 0 to {first - 1} and " * (first > 0) + f"z {last + 1} to {planes - 1} and " * (
            last < planes - 1
        )
        findings.append(Finding("warning", "empty planes", f"{told[:-5]}: one value, no data", mend))
    top, bottom = _sample(survey, volume.voxel_size)
    if bottom - top < 0.9 * (last + 1 - first):
        thick = (bottom - top) * volume.voxel_size / 10
        message = (
            f"the sample spans z {top}-{bottom - 1} ({thick:.0f} nm, with a margin of {MARGIN / 10:g} nm)"
        )
        return [*findings, Finding("note", "slab", f"{message}; a mask limits the search to it", mend)]
    return [*findings, Finding("ok", "slab", "the sample spans the whole volume")]


def _sample(survey: _Survey, voxel_size: float) -> tuple[int, int]:
    """The planes [top, bottom) with more structure than the emptiest ones, and a margin around them.

    Planes count as empty only where their spread is near that of the emptiest tenth and nothing in them
    stands out from the noise, so that a few particles in thin ice are never cut off.
    """
    from scipy.ndimage import median_filter

    filled = np.flatnonzero(survey.high > survey.low)
    first, last = int(filled[0]), int(filled[-1]) + 1
    spread = survey.spread[first:last]
    if len(spread) < 8:
        return first, last
    smooth = median_filter(spread, 5, mode="nearest")
    vacuum, inside = np.percentile(smooth, [10, 85])
    if inside <= 1.4 * vacuum:
        return first, last
    busy = smooth > vacuum + 0.4 * (inside - vacuum)
    occupied = np.flatnonzero(busy | (survey.extreme[first:last] > OUTLIER * vacuum))
    margin = int(np.ceil(MARGIN / voxel_size))
    top, bottom = int(occupied[0]) - margin, int(occupied[-1]) + 1 + margin
    return first + max(0, top), min(last, first + bottom)


def _contrast(piece: Volume, model: Expected | None) -> Finding:
    contrast, certainty = detect_contrast(piece)
    other = {"dark": "bright", "bright": "dark"}[contrast]
    told = f"particles look {contrast} (certainty {certainty:.1f})"
    if certainty < MIN_CERTAINTY:
        mend = f"look at a slice and say --contrast {contrast} or --contrast {other}"
        return Finding("warning", "contrast", f"{told}: that is a guess", mend)
    if model is not None and model.contrast not in ("auto", contrast):
        told += f"; {model.name} was trained on {model.contrast} ones: grey values will be turned over"
        return Finding("note", "contrast", told, f"if that is wrong: --contrast {other}")
    if contrast == "bright":
        told += ", which is rare for tomograms"
        return Finding("note", "contrast", told, "if that is wrong: --contrast dark")
    return Finding("ok", "contrast", told)


def _wedge(piece: Volume, path: Path) -> Finding:
    what, wedge = "missing wedge", find_wedge(np.asarray(piece.data))
    if wedge.contrast < SEEN:
        return Finding("note", what, "none to be seen: filled in, filtered away, or too noisy")
    told = f"tilt axis {'zyx'[wedge.tilt_axis]}, beam {'zyx'[wedge.beam]}"
    if wedge.beam != 0:
        mend = f"trimvol -rx {_names(path)}" if wedge.beam == 1 else TRANSPOSE
        return Finding("note", what, f"{told}; the beam should be along z", mend)
    if wedge.tilt_axis == 2:
        return Finding(
            "note",
            what,
            told,
            "--tilt-axis x in `find` and `segment`; in dataset.yaml, under the entry: tilt_axis: x",
        )
    return Finding("ok", what, told)


def _sampling(volume: Volume, path: Path, model: Expected) -> Finding:
    told = f"{volume.voxel_size:.4g} Å here, {model.voxel_size:.4g} Å in {model.name}"
    if abs(np.log(volume.voxel_size / model.voxel_size)) > np.log(1.05):
        mend = _convert(path, f"--resample {model.voxel_size:.6g}")
        return Finding("warning", "sampling", told, mend)
    return Finding("ok", "sampling", told)


def _piece(volume: Volume, side: int = 160) -> Volume:
    """The middle of a tomogram, of at most side^3 voxels with an edge of about 10 Å."""
    factor = max(1, round(FINE / volume.voxel_size))
    taken = [min(n // factor, side) * factor or n for n in volume.shape]
    start = [(n - t) // 2 for n, t in zip(volume.shape, taken, strict=True)]
    z, y, x = (slice(s, s + t) for s, t in zip(start, taken, strict=True))
    parts = [
        _binned(_finite(volume.data[z0 : min(z0 + 8 * factor, z.stop), y, x]), factor)
        for z0 in range(z.start, z.stop, 8 * factor)
    ]
    return Volume(np.concatenate(parts), volume.voxel_size * factor)


def _finite(block: NDArray[Any]) -> NDArray[np.float32]:
    values = np.asarray(block, dtype=np.float32)
    good = np.isfinite(values)
    if good.all():
        return values
    return np.where(good, values, values.mean(where=good, dtype=np.float64) if good.any() else 0).astype(
        np.float32
    )


def _binned(values: NDArray[np.float32], side: int, axes: tuple[int, ...] = (0, 1, 2)) -> NDArray[np.float32]:
    """Mean over cells of that side along some axes; what does not fill a cell is left out."""
    for axis in axes:
        n = values.shape[axis] // side
        if side == 1 or n == 0:
            continue
        shape = (*values.shape[:axis], n, side, *values.shape[axis + 1 :])
        whole = values.take(range(n * side), axis) if n * side < values.shape[axis] else values
        values = whole.reshape(shape).mean(axis=axis + 1)
    return values


def ranked(findings: list[Finding]) -> list[Finding]:
    """What matters most first."""
    return sorted(findings, key=lambda f: ORDER.index(f.level))


def _names(path: Path) -> str:
    mended = path.name.split(".")[0] + "_fixed.mrc"
    return f"{shlex.quote(str(path))} {shlex.quote(mended)}"


def _convert(path: Path, option: str = "") -> str:
    return f"cryovox convert {_names(path)} {option}".rstrip()
