"""Whether a tomogram is like those that a model was adapted to."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.core.config import validated
from cryovox.core.intensity import Normalisation
from cryovox.core.volume import Volume
from cryovox.metrics.fingerprint import Domain, Fingerprint, distance, fingerprint, fingerprint_of
from cryovox.models.card import Card
from cryovox.report.doctor import Finding

AS_IT_IS = Normalisation(0.0, 1.0)  # the pieces are z-scored one by one


PIECES = 64
"""Subtomograms of a set that are looked at."""


def domain_finding(volume: Volume, card: Card, path: Path) -> Finding | None:
    """How far a tomogram is from what a model was adapted to; None where there is nothing to compare.

    That is so where the model was not adapted, where voxels differ by more than a tenth, and where no
    piece of the tomogram that is looked at holds anything.
    """
    if abs(volume.voxel_size / card.voxel_size - 1) > 0.1:
        return None
    return _judged(lambda: fingerprint_of(volume.data, AS_IT_IS, volume.voxel_size), card, path)


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
