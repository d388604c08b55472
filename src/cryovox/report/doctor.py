"""Checks of a tomogram before segmentation, each with a remedy for the problem."""

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
from cryovox.core.volume import ZYX, Volume, release_pages
from cryovox.models.card import COARSEST, FINEST, SAME_VOXEL_SIZE
from cryovox.report.wedge import MIN_WEDGE_CONTRAST, find_wedge

Level = Literal["ok", "note", "warning", "error"]
Floats = NDArray[np.float64]
ORDER: tuple[Level, ...] = ("error", "warning", "note", "ok")

SMALLEST, LARGEST = 0.5, 100.0  # Å; plausible voxel sizes
TRANSPOSE = "transpose the axes to (z, y, x): write array.transpose(2, 1, 0)"
FINE = 10.0  # Å; approximate voxel size for the detection of contrast and wedge
MARGIN = 150.0  # Å above and below the sample, the radius of a large particle
OUTLIER = 8.0  # standard deviations of the vacuum, more than noise and reconstruction artifacts reach


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check.

    Attributes
    ----------
    level : "ok", "note", "warning" or "error"
        Severity.
    check
        Name of the check.
    message
        Outcome, with values and units.
    remedy
        Command or option that solves the problem; empty without one.
    """

    level: Level
    check: str
    message: str
    remedy: str = ""

    def to_dict(self) -> dict[str, str]:
        """The finding with the keys of JSON output."""
        return {"level": self.level, "what": self.check, "found": self.message, "remedy": self.remedy}


@dataclass(frozen=True, slots=True)
class ModelInput:
    """Input that a model expects: voxel size in Å and contrast."""

    voxel_size: float
    contrast: Contrast = "auto"
    name: str = "the model"


def examine(
    volume: Volume,
    path: Path,
    header_voxel_size: ZYX | None = None,
    problems: Sequence[str] = (),
    model: ModelInput | None = None,
) -> list[Finding]:
    """Inspect a tomogram: one pass over all voxels, and spectra of a central part.

    Parameters
    ----------
    volume
        The tomogram; a memory map is read in slabs.
    path
        Its file, for the commands of the remedies.
    header_voxel_size : (z, y, x)
        Voxel size in Å of the header, 0 if missing.
    problems
        Problems reported by the file reader.
    model
        Input that the model expects.
    """
    survey = _survey(volume)
    findings = [Finding("warning", "header", problem, _convert(path)) for problem in problems]
    findings += [_voxel_size(volume, path, header_voxel_size), _shape(volume, path)]
    findings += [_not_finite(survey, volume, path)]
    if not survey.high.max() > survey.low.min():
        constant = np.isfinite(survey.low.min())
        message = "all voxels have the same value" if constant else "no voxel has a finite value"
        return sort_by_severity(
            [*findings, Finding("error", "gray values", message, "write the tomogram again")]
        )
    findings += [_saturation(survey, volume), *_slab(survey, volume, path)]
    wrapped = wrapped_bytes(volume.data)
    if wrapped is not None:
        findings.append(Finding("warning", "bytes", str(wrapped), _convert(path, "--unsigned-bytes")))
    piece = _piece(volume)
    if min(piece.shape) >= 16 and wrapped is None:  # smaller volumes have too few voxels
        findings += [_contrast(piece, model), _wedge(piece, path)]
    if model is not None:
        findings.append(_sampling(volume, path, model))
    return sort_by_severity(findings)


def render(findings: Sequence[Finding], path: Path, width: int = 100) -> str:
    """Format findings for a terminal."""
    lines = [f"{path}: {summary(findings)}", ""]
    column = max([len(f.check) for f in findings], default=0)
    for finding in findings:
        head = f"  {finding.level:<8} {finding.check:<{column}}  "
        lines += _wrapped(finding.message, width, head)
        lines += _remedy(finding.remedy, width, " " * len(head) + "-> ")
    return "\n".join(lines) + "\n"


def _remedy(remedy: str, width: int, head: str) -> list[str]:
    """Wrap a command so that it can be pasted: at spaces only, with a backslash at the end of a line."""
    if not remedy.startswith(("cryovox ", "trimvol ")):
        return _wrapped(remedy, width, head)
    words = [shlex.quote(word).replace(" ", "\xa0") for word in shlex.split(remedy)]
    lines = [line.replace("\xa0", " ") for line in _wrapped(" ".join(words), width - 2, head)]
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def _wrapped(text: str, width: int, head: str) -> list[str]:
    # paths must not be broken
    wrapper = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    wrapper.initial_indent, wrapper.subsequent_indent = head, " " * len(head)
    return wrapper.wrap(text)


def summary(findings: Sequence[Finding]) -> str:
    """Number of problems, such as "1 error, 2 warnings", or "no problems detected"."""
    counts = [(level, sum(f.level == level for f in findings)) for level in ("error", "warning")]
    parts = [f"{n} {level}{'s' if n > 1 else ''}" for level, n in counts if n]
    return ", ".join(parts) or "no problems detected"


@dataclass(frozen=True, slots=True)
class _Survey:
    """Per z plane: extremes, spread and largest deviation after binning, counts of bad voxels."""

    low: Floats
    high: Floats
    spread: Floats
    extreme: Floats
    broken: NDArray[np.int64]
    clipped: NDArray[np.int64]


def _survey(volume: Volume) -> _Survey:
    side = max(1, round(40.0 / volume.voxel_size))  # a mean over 40 Å suppresses noise
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
    """Standard deviation clipped at three sigma, which gold beads hardly affect, and largest deviation."""
    deviation = np.abs(values.astype(np.float64) - np.median(values))
    spread = largest = float(deviation.max())
    for _ in range(5):
        spread = float(np.sqrt(np.square(deviation[deviation <= 3 * spread]).mean()))
    return spread, largest


def _voxel_size(volume: Volume, path: Path, header: ZYX | None) -> Finding:
    check, remedy = "voxel size", _convert(path, "--voxel-size TRUE_SIZE_IN_Å")
    size = (volume.voxel_size,) * 3 if header is None else header
    anisotropic = max(size) - min(size) > 1e-3 * max(size)
    text = " x ".join(f"{s:.4g}" for s in size) if anisotropic else f"{size[2]:.4g}"
    if not np.isfinite(size).all() or min(size) <= 0:
        return Finding("error", check, f"the header has {text} Å, so the voxel size is unknown", remedy)
    if max(size) == min(size) == 1.0:
        return Finding("warning", check, "exactly 1 Å, the default of programs without a voxel size", remedy)
    if max(size) > 1.005 * min(size):
        return Finding("warning", check, f"{text} Å along z, y and x: voxels must be cubic", remedy)
    if not SMALLEST <= size[2] <= LARGEST:
        return Finding("warning", check, f"{text} Å is outside the range of tomograms", remedy)
    return Finding("ok", check, f"{text} Å")


def _shape(volume: Volume, path: Path) -> Finding:
    z, y, x = volume.shape
    shape = f"{z} x {y} x {x} voxels (z, y, x)"
    if min(z, y, x) < 16:
        return Finding("warning", "shape", f"{shape}: an image or an image stack", "use a tomogram")
    if z > 1.3 * y and y <= x:
        message = f"{shape}: a slab is thin along z, this volume is thin along y (rotate it with IMOD)"
        return Finding("warning", "shape", message, f"trimvol -rx {_names(path)}")
    if z > 1.3 * x:
        message = f"{shape}: a slab is thin along z, this volume is thin along x"
        return Finding("warning", "shape", message, TRANSPOSE)
    return Finding("ok", "shape", shape)


def _not_finite(survey: _Survey, volume: Volume, path: Path) -> Finding:
    count = int(survey.broken.sum())
    if not count:
        return Finding("ok", "NaN, infinity", "none")
    planes = np.flatnonzero(survey.broken)
    message = f"{count} voxels ({count / volume.data.size:.2g} of all), in z {planes[0]} to {planes[-1]}"
    return Finding("error", "NaN, infinity", message, _convert(path, "--fill-nan"))


def _saturation(survey: _Survey, volume: Volume) -> Finding:
    kind = volume.data.dtype
    if kind.kind not in "iu":
        return Finding("ok", "gray values", f"{survey.low.min():.4g} to {survey.high.max():.4g}, {kind}")
    inside = survey.high > survey.low  # without planes of padding, which have their own check
    share = survey.clipped[inside].sum() / max(1, inside.sum() * volume.data[0].size)
    message = f"{survey.low.min():.0f} to {survey.high.max():.0f}, {kind}"
    if share > 1e-3:
        message += f"; {100 * share:.2g} % of the voxels are clipped at the limits of this type"
        remedy = "write the tomogram again as float32, or rescale it before the conversion to integers"
        return Finding("warning", "gray values", message, remedy)
    return Finding("ok", "gray values", message)


def sample_planes(volume: Volume) -> tuple[int, int]:
    """Range [first, last) of the z planes with the sample; all planes unless some are clearly empty."""
    return _sample(_survey(volume), volume.voxel_size)


def _slab(survey: _Survey, volume: Volume, path: Path) -> list[Finding]:
    filled = np.flatnonzero(survey.high > survey.low)
    first, last, planes = int(filled[0]), int(filled[-1]), len(survey.low)
    remedy = f"cryovox doctor {shlex.quote(str(path))} --write-masks masks"
    findings = []
    if first > 0 or last < planes - 1:
        empty = [(0, first - 1)] * (first > 0) + [(last + 1, planes - 1)] * (last < planes - 1)
        ranges = " and ".join(f"z {low} to {high}" for low, high in empty)
        findings.append(Finding("warning", "empty planes", f"{ranges}: constant value, no data", remedy))
    top, bottom = _sample(survey, volume.voxel_size)
    if bottom - top < 0.9 * (last + 1 - first):
        thick = (bottom - top) * volume.voxel_size / 10
        message = (
            f"the sample spans z {top}-{bottom - 1} ({thick:.0f} nm, with a margin of {MARGIN / 10:g} nm)"
        )
        return [*findings, Finding("note", "slab", f"{message}; a mask limits picking to it", remedy)]
    return [*findings, Finding("ok", "slab", "the sample spans the whole volume")]


def _sample(survey: _Survey, voxel_size: float) -> tuple[int, int]:
    """Range [top, bottom) of the planes with more structure than the emptiest ones, plus a margin.

    A plane counts as empty only if its spread is close to that of the emptiest tenth and no voxel exceeds the
    noise, so that single particles in thin ice are kept.
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


def _contrast(piece: Volume, model: ModelInput | None) -> Finding:
    contrast, certainty = detect_contrast(piece)
    other = {"dark": "bright", "bright": "dark"}[contrast]
    message = f"particles look {contrast} (certainty {certainty:.1f})"
    if certainty < MIN_CERTAINTY:
        remedy = f"inspect a slice and set --contrast {contrast} or --contrast {other}"
        return Finding("warning", "contrast", f"{message}: uncertain", remedy)
    if model is not None and model.contrast not in ("auto", contrast):
        message += f"; {model.name} was trained on {model.contrast} particles: gray values will be inverted"
        return Finding("note", "contrast", message, f"if that is wrong: --contrast {other}")
    if contrast == "bright":
        message += ", which is unusual for tomograms"
        return Finding("note", "contrast", message, "if that is wrong: --contrast dark")
    return Finding("ok", "contrast", message)


def _wedge(piece: Volume, path: Path) -> Finding:
    check, wedge = "missing wedge", find_wedge(np.asarray(piece.data))
    if wedge.contrast < MIN_WEDGE_CONTRAST:
        return Finding("note", check, "not detected: filled in, filtered out, or hidden by noise")
    axes = f"tilt axis {'zyx'[wedge.tilt_axis]}, beam {'zyx'[wedge.beam]}"
    if wedge.beam != 0:
        remedy = f"trimvol -rx {_names(path)}" if wedge.beam == 1 else TRANSPOSE
        return Finding("note", check, f"{axes}; the beam should be along z", remedy)
    if wedge.tilt_axis == 2:
        remedy = "--tilt-axis x in `find` and `segment`; tilt_axis: x in the entry of dataset.yaml"
        return Finding("note", check, axes, remedy)
    return Finding("ok", check, axes)


def _sampling(volume: Volume, path: Path, model: ModelInput) -> Finding:
    message = f"{volume.voxel_size:.4g} Å; {model.name} was trained at {model.voxel_size:.4g} Å"
    ratio, remedy = volume.voxel_size / model.voxel_size, _convert(path, f"--resample {model.voxel_size:.6g}")
    if abs(np.log(ratio)) <= np.log(1.05):
        return Finding("ok", "sampling", message)
    if abs(ratio - 1) > SAME_VOXEL_SIZE and FINEST <= ratio <= COARSEST:
        message += "; `find`, `segment` and `suggest` resample it, for an adaptation resample it first"
        return Finding("note", "sampling", message, remedy)
    return Finding("warning", "sampling", message, remedy)


def _piece(volume: Volume, side: int = 160) -> Volume:
    """The center of a tomogram, at most side^3 voxels, binned to about 10 Å."""
    factor = max(1, round(FINE / volume.voxel_size))
    taken = [min(n // factor, side) * factor or n for n in volume.shape]
    start = [(n - t) // 2 for n, t in zip(volume.shape, taken, strict=True)]
    z, y, x = (slice(s, s + t) for s, t in zip(start, taken, strict=True))
    parts = []
    for z0 in range(z.start, z.stop, 8 * factor):
        part = np.array(volume.data[z0 : min(z0 + 8 * factor, z.stop), y, x], dtype=np.float32)
        release_pages(volume.data)
        parts.append(_binned(_finite(part), factor))
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
    """Mean over blocks of *side* voxels along some axes; incomplete blocks are dropped."""
    for axis in axes:
        n = values.shape[axis] // side
        if side == 1 or n == 0:
            continue
        shape = (*values.shape[:axis], n, side, *values.shape[axis + 1 :])
        whole = values.take(range(n * side), axis) if n * side < values.shape[axis] else values
        values = whole.reshape(shape).mean(axis=axis + 1)
    return values


def sort_by_severity(findings: list[Finding]) -> list[Finding]:
    """Findings by decreasing severity."""
    return sorted(findings, key=lambda f: ORDER.index(f.level))


def _names(path: Path) -> str:
    fixed = path.name.split(".")[0] + "_fixed.mrc"
    return f"{shlex.quote(str(path))} {shlex.quote(fixed)}"


def _convert(path: Path, option: str = "") -> str:
    return f"cryovox convert {_names(path)} {option}".rstrip()
