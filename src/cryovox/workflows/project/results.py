"""Results of `find`, `match` and `pick` as their manifests record them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import Volume
from cryovox.formats import read_particles, scores
from cryovox.formats.particles import manifest as picks_manifest
from cryovox.picking.lamella import Lamella
from cryovox.report.doctor import Finding
from cryovox.workflows.inputs import frame
from cryovox.workflows.manifest import NAME, Manifest

SECTIONS = ("match", "pick", None)
"""Sections of a manifest that may have picks; None is that of `find`."""
RADIUS = 100.0
"""Radius in Å of particles whose size is not recorded, for pictures."""


@dataclass(frozen=True, slots=True, eq=False)
class TomogramResult:
    """Picks in one tomogram, and what was recorded of them.

    Attributes
    ----------
    folder
        Folder of results.
    input
        File of the tomogram; of the score or label map if only that is known.
    precision : species -> (picks, expected precision)
    """

    name: str
    folder: Path
    particles: Path
    input: Path
    findings: tuple[Finding, ...] = ()
    precision: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    lamella: Lamella | None = None
    seconds: float | None = None
    bright: bool = False
    radii: Mapping[str, float] = field(default_factory=dict)
    voxel_size: float | None = None

    def picks(self) -> Particles:
        """The particle list; without its file, an error."""
        known = picks_manifest.read(self.particles)
        extents = {} if known is None else known.tomograms
        frames = {
            name: Volume(np.broadcast_to(np.int8(0), own.shape), own.voxel_size)
            for name, own in extents.items()
        }
        one = next(iter(frames.values())) if len(frames) == 1 else None
        return read_particles(self.particles, tomogram=one or frames or frame(self.input))

    def species(self, names: list[str]) -> tuple[Species, ...]:
        """Species with their radii."""
        known = dict(self.radii)
        store = self.folder / "scores" / f"{self.name}.zarr"
        if not known and store.exists():
            known = {one.name: one.radius for one in scores.read(store).species}
        return tuple(
            Species(name=name, label=i + 1, radius=known.get(name, RADIUS)) for i, name in enumerate(names)
        )


def results(folder: Path) -> list[TomogramResult]:
    """Results of all tomograms of a folder, or of its direct subfolders."""
    if not folder.is_dir():
        raise RequestError(folder, "there is no such folder", "name an output folder of `cryovox find`")
    folders = [folder] if (folder / NAME).is_file() else sorted(p.parent for p in folder.glob(f"*/{NAME}"))
    every = [one for own in folders for one in _of_folder(own)]
    if not every:
        remedy = "name a folder that `cryovox find`, `match` or `pick` has written"
        raise RequestError(folder, "holds no picks with a manifest", remedy)
    return every


def _of_folder(folder: Path) -> Iterator[TomogramResult]:
    for section in SECTIONS:
        entries = Manifest(folder, {}, section).entries
        for name, entry in entries.items():
            read = _of_find if section is None else _of_match if section == "match" else _of_pick
            if isinstance(entry, dict) and (one := read(name, folder, entry)) is not None:
                yield one


def _of_find(name: str, folder: Path, entry: Mapping[str, Any]) -> TomogramResult | None:
    record = entry.get("particles")
    if not isinstance(record, dict):
        return None
    notes = [Finding("warning", "model", text) for text in entry.get("notes", [])]
    return TomogramResult(
        name,
        folder,
        folder / record["file"],
        Path(entry["key"]["input"]),
        (*notes, *(Finding(*row) for row in record.get("findings", []))),
        _precision(record.get("expected", {})),
        _lamella(record.get("lamella", {})),
        entry.get("seconds"),
        entry.get("contrast") == "bright",
        voxel_size=entry.get("voxel_size"),
    )


def _of_match(name: str, folder: Path, entry: Mapping[str, Any]) -> TomogramResult | None:
    return TomogramResult(
        name,
        folder,
        folder / entry["outputs"]["particles"],
        Path(entry["key"]["input"]),
        tuple(Finding("warning", "search", text) for text in entry.get("notes", [])),
        {},
        _lamella(entry.get("lamella", {})),
        entry.get("seconds"),
        entry.get("contrast") == "bright",
        {entry["species"]: entry["radius"]},
        entry.get("voxel_size"),
    )


def _of_pick(name: str, folder: Path, entry: Mapping[str, Any]) -> TomogramResult | None:
    return TomogramResult(
        name,
        folder,
        folder / entry["outputs"]["particles"],
        Path(entry["key"]["input"]),
        precision=_precision(entry.get("expected", {})),
        seconds=entry.get("seconds"),
    )


def _precision(expected: Mapping[str, Any]) -> dict[str, tuple[int, float]]:
    return {
        name: (own["picks"], own["expected_precision"])
        for name, own in expected.items()
        if own.get("expected_precision") is not None and own.get("picks")
    }


def _lamella(record: Mapping[str, Any]) -> Lamella | None:
    return Lamella.from_dict(record) if "planes" in record else None
