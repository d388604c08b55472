"""Files with which ChimeraX and 3dmod show a result, and the programs that are installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryovox.core.errors import RequestError
from cryovox.formats import read_volume
from cryovox.formats.tomogram_names import listed
from cryovox.workflows.project.results import TomogramResult, results
from cryovox.workflows.subsets import keep_names
from cryovox.workflows.view_files import MODEL, SCRIPT, write_view_files

Program = Literal["napari", "chimerax", "3dmod"]
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
    """IMOD model; None without picks, or without the tomogram."""


def files_of(folder: Path, subset: Path | None = None) -> dict[str, ViewFiles]:
    """Write the files of all tomograms of a folder again, with the places where they lie now."""
    every = results(folder)
    kept = keep_names({str(i): one.name for i, one in enumerate(every)}, subset)
    return {every[int(i)].name: _written(every[int(i)]) for i in kept}


def _written(one: TomogramResult) -> ViewFiles:
    frame = read_volume(one.input, one.voxel_size) if one.input.exists() else None
    files = write_view_files(one.folder, one.name, one.input, one.picks(), frame)
    return ViewFiles(one, one.folder / files[SCRIPT], one.folder / files[MODEL] if MODEL in files else None)


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
