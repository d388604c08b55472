"""From globs and folders to files, and from files to tomograms that a model can take."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cryovox.core.config import Contrast
from cryovox.core.errors import RequestError
from cryovox.core.intensity import (
    SURE,
    Normalisation,
    Statistics,
    detect_contrast,
    sign_of,
    statistics,
    wrapped_bytes,
)
from cryovox.core.volume import Volume
from cryovox.formats import is_images, is_volume, read_header, read_volume, stem
from cryovox.models.card import Card
from cryovox.workflows.domain_check import domain_notes


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
    if certainty >= SURE:
        return seen, [
            f"particles look {seen}, those of the training were {card.contrast}; force with --contrast"
        ]
    return card.contrast, [
        f"contrast unclear, taken as {card.contrast} like the training; force with --contrast"
    ]
