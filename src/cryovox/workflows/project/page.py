"""Gather the results of many tomograms and write the project page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.formats import read_header, read_mask, read_volume
from cryovox.formats.tomogram_names import plain_name
from cryovox.picking.lamella import Lamella
from cryovox.picking.surroundings import mask_distances, nearest_neighbors
from cryovox.report.doctor import Finding
from cryovox.report.figures import COLORS
from cryovox.report.gallery import picture
from cryovox.report.project import ProjectEntry, species_of, write_project_page
from cryovox.workflows.batch import Failures
from cryovox.workflows.inputs import mask_file
from cryovox.workflows.project.metadata import read_metadata
from cryovox.workflows.project.results import TomogramResult, results
from cryovox.workflows.subsets import keep_names

REPORT = "report.html"


@dataclass(frozen=True)
class Context:
    """What is known of tomograms besides their picks.

    Attributes
    ----------
    metadata : plain name -> column -> number
    membrane
        Mask of membranes, or folder of masks named after the tomograms.
    """

    metadata: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    membrane: Path | None = None


def project_page(
    folders: Sequence[Path],
    out: Path,
    *,
    metadata: Path | None = None,
    membrane: Path | None = None,
    subset: Path | None = None,
    pictures: bool = True,
    command: str = "",
    on_progress: ProgressCallback = no_progress,
) -> tuple[list[ProjectEntry], Failures]:
    """Write one page over all tomograms of some folders of results.

    Parameters
    ----------
    folders
        Output folders of `find`, `match` or `pick`, or folders of such folders.
    out
        The page.
    metadata
        Table of numbers per tomogram; see `read_metadata`.
    membrane
        Mask of membranes, or folder of masks named after the tomograms: adds the distance of picks to them.
    subset
        File with the names of the tomograms to show.
    pictures
        Whether the page has a gallery.

    Returns
    -------
    entries, failures
        Entries of the page, and errors by name of the tomogram.
    """
    every = [one for folder in folders for one in results(folder)]
    kept = keep_names({str(i): one.name for i, one in enumerate(every)}, subset)
    every = [every[int(i)] for i in kept]
    context = Context({} if metadata is None else read_metadata(metadata), membrane)
    if context.metadata and not any(plain_name(one.name) in context.metadata for one in every):
        message = f"names none of the tomograms, such as {every[0].name}"
        raise RequestError(metadata or "--metadata", message, "use the names of the tomogram files")
    names = _species(every)
    entries: list[ProjectEntry] = []
    failures: Failures = {}
    for i, one in enumerate(every):
        on_progress("gathering", i / len(every), one.name)
        try:
            entries.append(_entry(one, out.parent, names, context, pictures))
        except (RequestError, OSError) as error:
            failures[one.name] = error
    on_progress("gathering", 1.0)
    if not entries:
        raise next(iter(failures.values()))
    write_project_page(out, entries, command)
    return entries, failures


def _species(every: Sequence[TomogramResult]) -> list[str]:
    """Species of which something is recorded, which fixes the order of colors."""
    return list(dict.fromkeys(name for one in every for name in (*one.radii, *one.precision)))


def _entry(
    one: TomogramResult, beside: Path, species: list[str], context: Context, pictures: bool
) -> ProjectEntry:
    picks = one.picks()
    names = list(dict.fromkeys([*species, *sorted(set(picks.species.tolist()))]))
    entry = ProjectEntry(
        one.name,
        one.folder.name,
        _link(one.folder / REPORT, beside),
        {name: int((picks.species == name).sum()) for name in names},
        {**_numbers(one, picks, context), **context.metadata.get(plain_name(one.name), {})},
        [f for f in one.findings if f.level in ("warning", "error")],
    )
    if not pictures:
        return entry
    try:
        image = _picture(one, picks, species_of([entry]))
    except (RequestError, OSError) as error:
        gone = Finding("warning", "tomogram", f"cannot be read: {error}")
        return ProjectEntry(
            entry.name, entry.folder, entry.report, entry.counts, entry.numbers, [*entry.findings, gone]
        )
    return ProjectEntry(
        entry.name, entry.folder, entry.report, entry.counts, entry.numbers, entry.findings, image
    )


def _picture(one: TomogramResult, picks: Particles, names: list[str]) -> bytes:
    volume = read_volume(one.input, one.voxel_size)
    colors = tuple(COLORS[i % len(COLORS)] for i in range(len(names)))
    return picture(volume, picks, one.species(names), colors, 1 if one.bright else -1)


def _link(page: Path, beside: Path) -> str:
    return quote(os.path.relpath(page, beside)) if page.is_file() else ""


def _numbers(one: TomogramResult, picks: Particles, context: Context) -> dict[str, float | None]:
    count = sum(number for number, _ in one.precision.values())
    hits = sum(number * precision for number, precision in one.precision.values())
    numbers: dict[str, float | None] = {
        "median score": _median(picks.scores),
        "expected precision": hits / count if count else None,
        "nearest neighbor (Å)": _median(nearest_neighbors(picks)),
        "lamella (nm)": None if one.lamella is None else one.lamella.thickness / 10,
        "depth in lamella (Å)": None if one.lamella is None else _median(depths(one.lamella, picks)),
    }
    if context.membrane is not None:
        numbers["to membrane (Å)"] = _membrane_distance(one.name, picks, context.membrane)
    return {**numbers, "time (s)": one.seconds}


def depths(lamella: Lamella, picks: Particles) -> NDArray[np.float64]:
    """Distance in Å of each pick to the closer face of the lamella, negative outside; inf without faces."""
    zyx = picks.positions / lamella.voxel_size
    inside = np.full(len(picks), np.inf)
    for face, sign in ((lamella.lower, 1.0), (lamella.upper, -1.0)):
        if face is not None:
            inside = np.minimum(inside, sign * face.height(zyx))
    return inside * lamella.voxel_size


def _membrane_distance(name: str, picks: Particles, membrane: Path) -> float | None:
    path = mask_file(membrane, plain_name(name))
    size, mask = read_header(path).voxel_size, read_mask(path)
    if size is None:
        remedy = f"`cryovox convert {path} OUT.mrc --voxel-size A`"
        raise RequestError(path, "has no voxel size", remedy)
    return _median(mask_distances(picks.positions, mask, size)) if mask.any() else None


def _median(values: NDArray[np.floating]) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else None
