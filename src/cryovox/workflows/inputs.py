"""From globs and folders to files, and from files to tomograms, masks and checks for a model."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.config import Contrast, validated
from cryovox.core.dataset import Dataset
from cryovox.core.errors import RequestError
from cryovox.core.intensity import (
    MIN_CERTAINTY,
    Normalization,
    Statistics,
    detect_contrast,
    sign_of,
    statistics,
    wrapped_bytes,
)
from cryovox.core.reading import check_readable
from cryovox.core.volume import Volume
from cryovox.formats import (
    is_general,
    is_images,
    is_particles,
    is_volume,
    read_header,
    read_mask,
    read_volume,
    stem,
)
from cryovox.metrics.fingerprint import Domain, Fingerprint, distance, fingerprint, fingerprint_of
from cryovox.models.card import Card
from cryovox.report.doctor import Finding
from cryovox.workflows.model_grid import has_model_voxel_size, is_resampled, on_model_grid, whitened

IDENTITY = Normalization(0.0, 1.0)  # the pieces are z-scored one by one
PIECES = 64
"""Subtomograms of a set that are looked at."""
KINDS: dict[Any, str] = {is_volume: "tomogram", is_particles: "particle list"}


def expand(patterns: Iterable[Path], accepts: Callable[[Path], bool] = is_volume) -> dict[str, Path]:
    """Files behind paths, folders and globs, by name; two files of one name are refused."""
    files: dict[str, Path] = {}
    for pattern in patterns:
        for path in _matches(Path(pattern), accepts):
            name = stem(path)
            if name in files and files[name].resolve() != path.resolve():
                message = f"has the same name as {files[name]}"
                remedy = "outputs are called after inputs: rename one, or run them apart"
                raise RequestError(path, message, remedy)
            files[name] = path
    if not files:
        remedy = "give a tomogram, a folder or a pattern such as 'tomograms/*.mrc'"
        raise RequestError("input", "names no file", remedy)
    return files


def _matches(pattern: Path, accepts: Callable[[Path], bool]) -> list[Path]:
    if pattern.is_dir() and not accepts(pattern):
        # tilt series lie beside reconstructions under the same name
        files = (p for p in sorted(pattern.iterdir()) if not p.name.startswith(".") and not is_images(p))
        accepted = [path for path in files if accepts(path) and not is_general(path)]
        if not accepted:
            kind = KINDS.get(accepts, "file that this command reads")
            raise RequestError(pattern, f"the folder holds no {kind}", "check the path")
        return accepted
    if pattern.exists():
        return [pattern]
    if not any(c in str(pattern) for c in "*?["):
        raise RequestError(pattern, "there is no such file", "check the path")
    base = Path(pattern.anchor) if pattern.is_absolute() else Path()
    relative = pattern.relative_to(pattern.anchor) if pattern.is_absolute() else pattern
    matches = sorted(p for p in base.glob(str(relative)) if not p.name.startswith("."))
    if not matches:
        raise RequestError(pattern, "the pattern matches no file", "check the path")
    return matches


def frame(path: Path) -> Volume:
    """Shape and voxel size of a tomogram, without its voxels."""
    header = read_header(path)
    if header.voxel_size is None:
        message = header.size_problem or "has no voxel size in its header"
        raise RequestError(path, message, f"correct it: `cryovox convert {path} OUT.mrc --voxel-size A`")
    return Volume(np.broadcast_to(np.int8(0), header.shape), header.voxel_size, header.origin, header.nstart)


@dataclass(frozen=True)
class Prepared:
    """A tomogram that suits a model, and how to normalize it."""

    path: Path
    volume: Volume
    normalize: Normalization
    contrast: Contrast
    notes: tuple[str, ...]
    original: Volume
    """The tomogram at its own voxel size; `volume` may be resampled to that of the model."""


def prepare(
    path: Path, card: Card, voxel_size: float | None, contrast: Contrast, *, resample: bool = False
) -> Prepared:
    """Open a tomogram for a model; one that does not suit the model is refused.

    Parameters
    ----------
    voxel_size
        In Å; that of the header by default.
    contrast
        Contrast of the particles; "auto" detects it, and takes that of the training where it is unclear.
    resample
        Resample a tomogram of another voxel size to that of the model, on access, instead of refusing it.
    """
    original = read_volume(path, voxel_size)
    if not resample:
        check_voxel_size(path, original.voxel_size, card)
    volume, size_notes = on_model_grid(path, original, card)
    moments = checked_statistics(path, original)
    notes: list[str] = []
    if contrast == "auto":
        contrast, notes = _choose_contrast(*detect_contrast(original), card)
    notes += size_notes
    wrapped = wrapped_bytes(original.data)
    if wrapped is not None:
        notes.append(f"{wrapped}; correct it with `cryovox convert {path} OUT.mrc --unsigned-bytes`")
    notes += domain_notes(volume, card, path)
    sign = sign_of(contrast)
    if card.whitened:
        volume, voxels = whitened(path, volume, original)
        return Prepared(path, volume, voxels.normalization(sign), contrast, tuple(notes), original)
    if volume is not original:
        moments = statistics(volume.data)
    normalize = Normalization(moments.mean, moments.std, sign)
    return Prepared(path, volume, normalize, contrast, tuple(notes), original)


def checked_statistics(path: Path, volume: Volume) -> Statistics:
    """Mean and standard deviation of a tomogram; one with NaN, or constant, is refused."""
    moments = statistics(volume.data)
    if moments.not_finite:
        message = f"holds {moments.not_finite} values that are NaN or infinite"
        raise RequestError(path, message, f"correct it with `cryovox convert {path} OUT.mrc --fill-nan`")
    if not moments.std > 0:
        raise RequestError(
            path, "is constant: every voxel has the same value", "check it with `cryovox doctor`"
        )
    return moments


def refuse_wrapped_bytes(path: Path, volume: Volume) -> None:
    """Refuse unsigned bytes that were read as signed ones."""
    wrapped = wrapped_bytes(volume.data)
    if wrapped is not None:
        remedy = f"correct it with `cryovox convert {path} OUT.mrc --unsigned-bytes`"
        raise RequestError(path, str(wrapped), remedy)


def check_voxel_size(path: Path, voxel_size: float, card: Card) -> None:
    """Refuse a voxel size that differs from that of the training by more than 10 %."""
    if not has_model_voxel_size(voxel_size, card):
        message = f"has voxels of {voxel_size:g} Å, the model was trained at {card.voxel_size:g} Å"
        remedy = f"resample it with `cryovox convert TOMOGRAM OUT.mrc --resample {card.voxel_size:g}`"
        raise RequestError(path, message, remedy)


def _choose_contrast(detected: Contrast, certainty: float, card: Card) -> tuple[Contrast, list[str]]:
    if detected == card.contrast:
        return detected, []
    if certainty >= MIN_CERTAINTY:
        note = f"particles look {detected}, those of the training were {card.contrast}; force with --contrast"
        return detected, [note]
    note = f"contrast unclear, taken as {card.contrast} like the training; force with --contrast"
    return card.contrast, [note]


def mask_file(mask: Path, name: str) -> Path:
    """The mask of a tomogram: the file itself, or the volume of that name in a folder of masks."""
    check_readable(mask)
    if is_volume(mask) or not mask.is_dir():
        return mask
    for path in sorted(mask.iterdir()):
        if is_volume(path) and stem(path) == name:
            return path
    raise RequestError(
        "--mask",
        f"the folder {mask} holds no mask of {name!r}",
        "name each mask after its tomogram, or name one mask file for all",
    )


def read_search_mask(
    mask: Path | None, name: str, shape: tuple[int, int, int], option: str = "--mask"
) -> NDArray[np.bool_] | None:
    """The mask of a tomogram, true inside; refused unless it has its shape and an inside."""
    if mask is None:
        return None
    path = mask_file(mask, name)
    if read_header(path).shape != shape:
        raise RequestError(
            option,
            f"{path} has shape {read_header(path).shape} (z, y, x), the tomogram has {shape}",
            "give a mask of that shape; `cryovox doctor TOMOGRAM --write-masks DIR` writes one",
        )
    inside = read_mask(path)
    if not inside.any():
        raise RequestError(option, f"{path} is 0 everywhere", "give a mask that is not 0 in the sample")
    return inside


def with_masks(dataset: Dataset, mask: Path | None) -> Dataset:
    """The same dataset with the masks of `--mask` in place of those of its entries."""
    if mask is None:
        return dataset
    entries = tuple(e.model_copy(update={"mask": mask_file(mask, stem(e.tomogram))}) for e in dataset.entries)
    for entry in entries:
        read_search_mask(entry.mask, entry.name, read_header(entry.tomogram).shape)
    return dataset.model_copy(update={"entries": entries})


def domain_finding(volume: Volume, card: Card, path: Path) -> Finding | None:
    """How far a tomogram is from the imaging conditions that a model was adapted to.

    None if the model was not adapted, if the voxel size cannot be resampled to that of the model, and if no
    piece of the tomogram holds anything to compare.
    """
    if card.domain is None or not is_resampled(volume.voxel_size, card):
        return None
    return _compare_domain(lambda: _fingerprint(volume, card, path), card, path)


def calibration_finding(volume: Volume, card: Card, path: Path) -> Finding | None:
    """Whether the probabilities of a model are expected to hold for a tomogram.

    None if the model is not calibrated or has no fingerprint of its training tomograms, or if nothing can be
    compared.
    """
    if card.calibration is None or card.calibration_domain is None:
        return None
    compared = _distance(lambda: _fingerprint(volume, card, path), card.calibration_domain)
    if compared is None:
        return None
    apart, limit = compared
    text = f"domain distance {apart:.1f} from the training tomograms (limit {limit:.1f})"
    if apart <= limit:
        return Finding("ok", "calibration", f"{text}: probabilities are expected to hold")
    text += ": probabilities, expected precision and recall were calibrated on other data and may be wrong"
    return Finding("warning", "calibration", text, "check some picks by eye, or use --fdr 0.05")


def _fingerprint(volume: Volume, card: Card, path: Path) -> Fingerprint:
    """Of a tomogram as a model sees it."""
    seen, _ = on_model_grid(path, volume, card)
    if card.whitened:
        seen, _ = whitened(path, seen, volume)
    return fingerprint_of(seen.data, IDENTITY, seen.voxel_size)


def domain_notes(volume: Volume, card: Card, path: Path) -> list[str]:
    """A warning if a tomogram is unlike those that a model was adapted to."""
    return _warnings(domain_finding(volume, card, path))


def set_domain_notes(images: Any, card: Card, path: Path) -> list[str]:
    """The same for the images of a subtomogram set.

    Parameters
    ----------
    images : (n, z, y, x)
        May be read lazily.
    """
    count = images.shape[0]
    if not count:
        return []
    indices = np.unique(np.linspace(0, count - 1, PIECES).astype(int))
    pieces = (np.asarray(images[int(i)], np.float32) for i in indices)
    measure = lambda: fingerprint(np.stack(list(pieces)), card.voxel_size)  # noqa: E731
    return _warnings(_compare_domain(measure, card, path))


def _warnings(finding: Finding | None) -> list[str]:
    if finding is None or finding.level == "ok":
        return []
    return [f"{finding.message}; adapt it again with `{finding.remedy}`"]


def _compare_domain(measure: Callable[[], Fingerprint], card: Card, path: Path) -> Finding | None:
    if card.domain is None:
        return None
    compared = _distance(measure, card.domain)
    if compared is None:
        return None
    apart, limit = compared
    names = _names(validated(Domain, card.domain, "domain of the model"))
    text = f"domain distance {apart:.1f} (limit {limit:.1f}): this model was adapted to {names}"
    if apart <= limit:
        return Finding("ok", "domain", text)
    target = shlex.quote(str(path))
    remedy = f"cryovox train vox-uda --source DATASET --target {target} --out RUN"
    return Finding("warning", "domain", text, remedy)


def _distance(measure: Callable[[], Fingerprint], domain: dict[str, Any]) -> tuple[float, float] | None:
    """Distance from a domain and its limit; None where there is nothing to measure."""
    known = validated(Domain, domain, "domain of the model")
    try:
        measured = measure()
    except ValueError:
        return None
    return distance(measured, known.fingerprint), known.limit


def _names(domain: Domain, limit: int = 3) -> str:
    names = [tomogram.get("name", "?") for tomogram in domain.tomograms]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more or "other tomograms"
