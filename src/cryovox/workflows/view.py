"""Files with which ChimeraX and 3dmod show a result, and the programs that are installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from cryovox.core.atomic import writable_folder
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.formats import read_volume, write_particles, write_text
from cryovox.formats.tomogram_names import listed
from cryovox.workflows.project.results import TomogramResult, results
from cryovox.workflows.subsets import keep_names

Program = Literal["napari", "chimerax", "3dmod"]
FOLDER = "view"
"""Folder of the files, below that of the results."""
PROGRAMS: dict[Program, tuple[str, ...]] = {
    "napari": ("napari",),
    "chimerax": ("chimerax", "ChimeraX", "UCSF-ChimeraX"),
    "3dmod": ("3dmod",),
}
"""Names of the executables of a program, best program first."""


@dataclass(frozen=True)
class ViewFiles:
    """What shows one tomogram with its picks."""

    result: TomogramResult
    script: Path
    model: Path | None
    """IMOD model; None without imodmodel, or without picks."""


def write_view_files(folder: Path, subset: Path | None = None) -> dict[str, ViewFiles]:
    """Write `view/NAME.cxc`, and `view/NAME.mod` if imodmodel is installed, for the tomograms of a folder."""
    every = results(folder)
    kept = keep_names({str(i): one.name for i, one in enumerate(every)}, subset)
    return {every[int(i)].name: _written(every[int(i)]) for i in kept}


def _written(one: TomogramResult) -> ViewFiles:
    picks, target = one.picks(), one.folder / FOLDER
    writable_folder(target)
    script = target / f"{one.name}.cxc"
    write_text(script, chimerax_script(one, picks, target))
    model = target / f"{one.name}.mod"
    if find_spec("imodmodel") is None or not len(picks) or not one.input.exists():
        return ViewFiles(one, script, None)
    write_particles(model, picks, tomogram=read_volume(one.input, one.voxel_size), tomogram_name=one.name)
    return ViewFiles(one, script, model)


def chimerax_script(one: TomogramResult, picks: Particles, target: Path) -> str:
    """Commands that open the tomogram, its label map and markers at the picks, in one frame.

    Markers count from the center of the first voxel, so the origin of the volumes is set to it.
    """
    labels = one.folder / "labels" / f"{one.name}.mrc"
    volumes = [path.resolve() for path in (one.input, labels) if path.exists()]
    lines = [f"# {one.name}: tomogram and picks", "close session"]
    for i, path in enumerate(volumes, 1):
        lines.append(f'open "{path}" format mrc')
        style = "style image region all" if i == 1 else "style surface level 0.5 transparency 0.6"
        lines.append(f"volume #{i} originIndex 0,0,0 {style}")
    markers = target / f"{one.name}-picks.cxc"
    if len(picks):
        write_particles(markers, picks, tomogram_name=one.name)
        lines.append(f'open "{markers.resolve()}"')
    return "\n".join([*lines, "view orient", ""])


def installed(which: Callable[[str], str | None] = shutil.which) -> dict[Program, str]:
    """Executables of the programs that are there, best first."""
    paths = {name: next(filter(None, map(which, names)), None) for name, names in PROGRAMS.items()}
    return {name: path for name, path in paths.items() if path is not None}


def command(program: Program, executable: str, files: ViewFiles) -> list[str]:
    """Command line that shows a tomogram with its picks."""
    tomogram, picks = str(files.result.input), str(files.result.particles)
    if program == "napari":
        return [executable, tomogram, picks]
    if program == "chimerax":
        return [executable, str(files.script)]
    return [executable, tomogram, *([] if files.model is None else [str(files.model)])]


def choose(names: Sequence[str], wanted: str | None) -> str:
    """The tomogram to open: the one that is asked for, else the first."""
    if wanted is None:
        return names[0]
    if wanted not in names:
        raise RequestError("--tomogram", f"{wanted!r} is not among the results", f"choose of {listed(names)}")
    return wanted


def has_display() -> bool:
    """Whether a window can be opened."""
    return os.name == "nt" or os.uname().sysname == "Darwin" or bool(os.environ.get("DISPLAY"))
