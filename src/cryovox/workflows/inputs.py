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
    Normalisation,
    Statistics,
    detect_contrast,
    sign_of,
    statistics,
    wrapped_bytes,
)
from cryovox.core.volume import Volume
from cryovox.formats import check_exists, is_images, is_volume, read_header, read_mask, read_volume, stem
from cryovox.metrics.fingerprint import Domain, Fingerprint, distance, fingerprint, fingerprint_of
from cryovox.models.card import Card
from cryovox.report.doctor import Finding

IDENTITY = Normalisation(0.0, 1.0)  # the pieces are z-scored one by one
PIECES = 64
"""Subtomograms of a set that are looked at."""


def expand(patterns: Iterable[Path], wanted: Callable[[Path], bool] = is_volume) -> dict[str, Path]:
    """Files behind paths, folders and globs, by name; two files of one name are refused."""
    found: dict[str, Path] = {}
    for pattern in patterns:
        for path in _behind(Path(pattern), wanted):
            name = stem(path)
            if name in found and found[name].resolve() != path.resolve():
                told = f"has the same name as {found[name]}"
                raise RequestError(
                    path, told, "outputs are called after inputs: rename one, or run them apart"
                )
            found[name] = path
    if not found:
        raise RequestError(
            "input", "names no file", "give a tomogram, a folder or a pattern such as 'tomograms/*.mrc'"
        )
    return found


def _behind(pattern: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    if pattern.is_dir() and not wanted(pattern):
        inside = sorted(p for p in pattern.iterdir() if wanted(p) and not _is_passed_over(p))
        if not inside:
            raise RequestError(pattern, "the folder holds no file of the wanted kind", "check the path")
        return inside
    if pattern.exists():
        return [pattern]
    if any(c in str(pattern) for c in "*?["):
        base = Path(pattern.anchor) if pattern.is_absolute() else Path()
        below = pattern.relative_to(pattern.anchor) if pattern.is_absolute() else pattern
        matches = sorted(p for p in base.glob(str(below)) if not p.name.startswith("."))
        if matches:
            return matches
        raise RequestError(pattern, "the pattern matches no file", "check the path")
    raise RequestError(pattern, "there is no such file", "check the path")


def _is_passed_over(path: Path) -> bool:
    """Hidden files, and the tilt series that lie beside reconstructions under the same name."""
    return path.name.startswith(".") or is_images(path)


def frame(path: Path) -> Volume:
    """Shape and voxel size of a tomogram, without its voxels."""
    header = read_header(path)
    if header.voxel_size is None:
        message = header.size_problem or "does not know its voxel size"
        raise RequestError(path, message, f"mend it: `cryovox convert {path} OUT.mrc --voxel-size A`")
    return Volume(np.broadcast_to(np.int8(0), header.shape), header.voxel_size, header.origin, header.nstart)


@dataclass(frozen=True)
class Prepared:
    """A tomogram that fits a model."""

    path: Path
    volume: Volume
    normalise: Normalisation
    contrast: Contrast
    notes: tuple[str, ...]


def prepare(path: Path, card: Card, voxel_size: float | None, contrast: Contrast) -> Prepared:
    """Open a tomogram and make sure that the model can be asked about it."""
    volume = read_volume(path, voxel_size)
    off = check_voxel_size(path, volume.voxel_size, card)
    moments = sound_moments(path, volume)
    settled, notes = _settle_contrast(volume, card, contrast)
    if off > 0.02:
        notes.append(f"voxels of {volume.voxel_size:g} Å, model trained at {card.voxel_size:g} Å")
    wrapped = wrapped_bytes(volume.data)
    if wrapped is not None:
        notes.append(f"{wrapped}; mend it with `cryovox convert {path} OUT.mrc --unsigned-bytes`")
    notes += domain_notes(volume, card, path)
    return Prepared(
        path, volume, Normalisation(moments.mean, moments.std, sign_of(settled)), settled, tuple(notes)
    )


def sound_moments(path: Path, volume: Volume) -> Statistics:
    """Moments of a tomogram; one with NaN, or with nothing to see, is refused."""
    moments = statistics(volume.data)
    if moments.not_finite:
        told = f"holds {moments.not_finite} values that are NaN or infinite"
        raise RequestError(path, told, f"mend it with `cryovox convert {path} OUT.mrc --fill-nan`")
    if not moments.std > 0:
        raise RequestError(
            path, "is constant: there is nothing to see", "check the file with `cryovox doctor`"
        )
    return moments


def refuse_wrapped_bytes(path: Path, volume: Volume) -> None:
    """Refuse bytes that were taken for signed ones, where the grey values would mislead."""
    wrapped = wrapped_bytes(volume.data)
    if wrapped is not None:
        raise RequestError(
            path, str(wrapped), f"mend it with `cryovox convert {path} OUT.mrc --unsigned-bytes`"
        )


def check_voxel_size(path: Path, voxel_size: float, card: Card) -> float:
    """How far voxels are from those of the training, as a share; refused above a tenth."""
    off = abs(voxel_size / card.voxel_size - 1)
    if off > 0.1:
        told = f"has voxels of {voxel_size:g} Å, the model was trained at {card.voxel_size:g} Å"
        remedy = f"bring it there with `cryovox convert TOMOGRAM OUT.mrc --resample {card.voxel_size:g}`"
        raise RequestError(path, told, remedy)
    return off


def _settle_contrast(volume: Volume, card: Card, wanted: Contrast) -> tuple[Contrast, list[str]]:
    """What the user says; else what is seen clearly; else what the model was trained on."""
    if wanted != "auto":
        return wanted, []
    seen, certainty = detect_contrast(volume)
    if seen == card.contrast:
        return seen, []
    if certainty >= MIN_CERTAINTY:
        return seen, [
            f"particles look {seen}, those of the training were {card.contrast}; force with --contrast"
        ]
    return card.contrast, [
        f"contrast unclear, taken as {card.contrast} like the training; force with --contrast"
    ]


def mask_file(mask: Path, name: str) -> Path:
    """The mask of a tomogram: the file itself, or the volume of that name in a folder of masks."""
    check_exists(mask)
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


def mask_of(mask: Path | None, name: str, shape: tuple[int, int, int]) -> NDArray[np.bool_] | None:
    """The mask of a tomogram, true inside; refused unless it has its shape and an inside."""
    if mask is None:
        return None
    path = mask_file(mask, name)
    if read_header(path).shape != shape:
        raise RequestError(
            "--mask",
            f"{path} has shape {read_header(path).shape} (z, y, x), the tomogram has {shape}",
            "give a mask of that shape; `cryovox doctor TOMOGRAM --write-masks DIR` writes one",
        )
    inside = read_mask(path)
    if not inside.any():
        raise RequestError("--mask", f"{path} is 0 everywhere", "give a mask that is not 0 in the sample")
    return inside


def masked(dataset: Dataset, mask: Path | None) -> Dataset:
    """The same dataset with the masks of `--mask` in place of those of its entries."""
    if mask is None:
        return dataset
    entries = tuple(e.model_copy(update={"mask": mask_file(mask, stem(e.tomogram))}) for e in dataset.entries)
    for entry in entries:
        mask_of(entry.mask, entry.name, read_header(entry.tomogram).shape)
    return dataset.model_copy(update={"entries": entries})


def domain_finding(volume: Volume, card: Card, path: Path) -> Finding | None:
    """How far a tomogram is from what a model was adapted to; None where there is nothing to compare.

    That is so where the model was not adapted, where voxels differ by more than a tenth, and where no
    piece of the tomogram that is looked at holds anything.
    """
    if abs(volume.voxel_size / card.voxel_size - 1) > 0.1:
        return None
    return _judged(lambda: fingerprint_of(volume.data, IDENTITY, volume.voxel_size), card, path)


def domain_notes(volume: Volume, card: Card, path: Path) -> list[str]:
    """A line of warning where a tomogram is unlike those that a model was adapted to."""
    return _notes(domain_finding(volume, card, path))


def set_notes(images: Any, card: Card, path: Path) -> list[str]:
    """The same for a set of subtomograms (n, z, y, x), which may be read lazily."""
    count = images.shape[0]
    if not count:
        return []
    which = np.unique(np.linspace(0, count - 1, PIECES).astype(int))
    pieces = (np.asarray(images[int(i)], np.float32) for i in which)
    return _notes(_judged(lambda: fingerprint(np.stack(list(pieces)), card.voxel_size), card, path))


def _notes(found: Finding | None) -> list[str]:
    if found is None or found.level == "ok":
        return []
    return [f"{found.found}; adapt it anew with `{found.remedy}`"]


def _judged(measure: Callable[[], Fingerprint], card: Card, path: Path) -> Finding | None:
    if card.domain is None:
        return None
    domain = validated(Domain, card.domain, "domain of the model")
    try:
        measured = measure()
    except ValueError:
        return None
    apart = distance(measured, domain.fingerprint)
    told = f"domain distance {apart:.1f} (limit {domain.limit:.1f})"
    told += f": this model was adapted to {_names(domain)}"
    if apart <= domain.limit:
        return Finding("ok", "domain", told)
    target = shlex.quote(str(path))
    return Finding(
        "warning", "domain", told, f"cryovox train vox-uda --source DATASET --target {target} --out RUN"
    )


def _names(domain: Domain, most: int = 3) -> str:
    names = [tomogram.get("name", "?") for tomogram in domain.tomograms]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more or "other tomograms"
