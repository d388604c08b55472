"""Manifest of a particle list: what other programs need to know and list formats do not store.

It lies beside the list as `LIST.manifest.json`, and counts only as long as the list is the one that was
written with it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import write_text
from cryovox.formats.tomogram_names import plain_name

Orientations = Literal["measured", "identity"]
"""Whether orientations were measured, or are the identity as a start of a refinement."""


class Extent(BaseModel):
    """Size of a tomogram."""

    model_config = ConfigDict(frozen=True)

    shape: tuple[int, int, int]
    """Voxels (z, y, x)."""
    voxel_size: float
    """In Å."""


class Origin(BaseModel):
    """Where picks come from."""

    model_config = ConfigDict(frozen=True)

    model: str | None = None
    """Model file, template or program."""
    thresholds: Mapping[str, float] = {}
    """Minimum score by species."""


class PicksManifest(BaseModel):
    """Facts of a particle list."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    """Hash of the list."""
    counts: Mapping[str, int]
    """Number of particles by species."""
    orientations: Orientations
    """Of all particles."""
    tomograms: Mapping[str, Extent] = {}
    """Size of each tomogram, where known."""
    origin: Origin = Origin()
    """Where the picks come from."""


def beside(path: Path) -> Path:
    """The manifest of a list."""
    return path.with_name(f"{path.name}.manifest.json")


def read(path: Path) -> PicksManifest | None:
    """The manifest of a list; None if there is none, or if the list has changed since."""
    try:
        manifest = PicksManifest.model_validate_json(beside(path).read_bytes())
    except (OSError, ValidationError):
        return None
    return manifest if manifest.sha256 == _sha256(path) else None


def write(
    path: Path,
    particles: Particles,
    *,
    tomogram: Volume | Mapping[str, Volume] | None = None,
    tomogram_name: str | None = None,
    origin: Origin | None = None,
) -> None:
    """Write the manifest of a list that was just written; arguments are those of the list and its origin."""
    names = [] if particles.tomograms is None else sorted(set(particles.tomograms.tolist()))
    manifest = PicksManifest(
        sha256=_sha256(path),
        counts=dict(sorted(Counter(particles.species.tolist()).items())),
        orientations=orientations_of(particles),
        tomograms=_extents(names or [tomogram_name or ""], tomogram),
        origin=origin or Origin(),
    )
    write_text(beside(path), json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n")


def orientations_of(particles: Particles) -> Orientations:
    """Whether particles have orientations other than the identity."""
    if particles.rotations is None or np.allclose(particles.rotations, np.eye(3), atol=1e-6):
        return "identity"
    return "measured"


def common_origin(origins: list[Origin]) -> Origin:
    """The origin of a list that is made from several: what all of them agree on."""
    first = origins[0] if origins else Origin()
    return first if all(origin == first for origin in origins) else Origin()


def _extents(names: list[str], tomogram: Volume | Mapping[str, Volume] | None) -> dict[str, Any]:
    """Sizes by name; those of placeholders, which have no size, are left out."""
    if isinstance(tomogram, Volume):
        volumes = dict.fromkeys(names, tomogram)
    else:
        known = {plain_name(name): volume for name, volume in (tomogram or {}).items()}
        volumes = {name: known[plain_name(name)] for name in names if plain_name(name) in known}
    return {
        name: Extent(shape=volume.shape, voxel_size=volume.voxel_size)
        for name, volume in volumes.items()
        if volume.shape != (2, 2, 2)
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
