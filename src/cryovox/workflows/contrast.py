"""Contrast of a tomogram as a model sees it, for particles that are ranked by it (`--by-contrast`)."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.core.atomic import replacing, writable_folder
from cryovox.core.particles import Species
from cryovox.core.volume import ScoreMap
from cryovox.models.card import Card
from cryovox.picking import PickConfig
from cryovox.picking.contrast import BlobContrast, blob_contrast
from cryovox.picking.selection import channels_of, select
from cryovox.workflows.inputs import Prepared, prepare

FOLDER = "contrast"
Contrasts = dict[float, BlobContrast]


def contrasts(tomogram: Prepared, species: Sequence[Species], picking: PickConfig) -> Contrasts | None:
    """Contrast for each radius that is sought; None unless it takes part."""
    if not picking.by_contrast:
        return None
    volume = tomogram.volume
    return {
        one.radius: blob_contrast(volume.data, volume.voxel_size, one.radius, tomogram.normalize)
        for one in channels_of(species, picking.species)
    }


def contrast_file(out: Path, name: str) -> Path:
    """Where a run stores the contrast of a tomogram."""
    return out / FOLDER / f"{name}.npz"


def stored_contrasts(
    file: Path,
    entry: Mapping[str, Any],
    tomogram: Callable[[], Prepared],
    species: Sequence[Species],
    picking: PickConfig,
) -> Contrasts | None:
    """The same, read from a file where an earlier run of this tomogram has written it.

    Parameters
    ----------
    file
        Written if it does not exist, or belongs to another tomogram, model or radius.
    entry
        Of the tomogram in the manifest.
    """
    if not picking.by_contrast:
        return None
    sought = list(dict.fromkeys(one.radius for one in channels_of(species, picking.species)))
    key = json.dumps([entry["key"], entry.get("stamp"), entry["contrast"], sought], sort_keys=True)
    known = _read(file, key, sought)
    if known is None:
        known = contrasts(tomogram(), species, picking) or {}
        _write(file, key, known)
    return known


def selected(
    stored: ScoreMap, picking: PickConfig, out: Path, name: str, entry: Mapping[str, Any], card: Card
) -> ScoreMap:
    """Stored scores, restricted to the species that are sought, with the contrast where it takes part."""
    path, file = Path(entry["key"]["input"]), contrast_file(out, name)
    opened = lambda: prepare(path, card, entry["voxel_size"], entry["contrast"], resample=True)  # noqa: E731
    dense = stored_contrasts(file, entry, opened, stored.species, picking)
    return select(stored, picking.species, dense)


def in_units_of(noise: Contrasts, tomogram: Contrasts) -> Contrasts:
    """Contrasts in noise, divided by the standard deviations of the tomogram."""
    return {radius: replace(own, deviation=tomogram[radius].deviation) for radius, own in noise.items()}


def _read(file: Path, key: str, radii: Sequence[float]) -> Contrasts | None:
    """Stored contrasts; None where there are none with this key, or the file is damaged."""
    try:
        with file.open("rb") as stream, np.load(stream) as stored:
            if str(stored["key"]) != key:
                return None
            return {
                radius: BlobContrast(stored[f"field{at}"], *map(float, stored[f"facts{at}"]))
                for at, radius in enumerate(radii)
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _write(file: Path, key: str, known: Contrasts) -> None:
    arrays: dict[str, Any] = {"key": np.array(key)}
    for at, own in enumerate(known.values()):
        arrays[f"field{at}"] = own.field
        arrays[f"facts{at}"] = np.array([own.voxel_size, own.offset, own.deviation])
    writable_folder(file.parent)
    with replacing(file) as beside, beside.open("wb") as stream:
        np.savez(stream, **arrays)
