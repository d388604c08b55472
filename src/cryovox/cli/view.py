"""`cryovox view`."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Annotated, Literal

import tyro

from cryovox.core.errors import RequestError


def view(
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")],
    /,
    *,
    tomogram: str | None = None,
    program: Annotated[
        Literal["auto", "napari", "chimerax", "3dmod", "none"], tyro.conf.arg(name="with")
    ] = "auto",
    subset: Path | None = None,
) -> int:
    """Show a result in napari, ChimeraX or 3dmod, whichever is installed.

    Opens view/NAME.cxc (ChimeraX) or view/NAME.mod (IMOD) of a tomogram, which find and match write. They are
    written again first, as their paths are absolute and the folder may have moved.

    Parameters
    ----------
    folder
        Output folder of find, match or pick.
    tomogram
        Name of the tomogram to open; by default the first.
    program
        Program; auto takes the first that is installed, none only writes the files.
    subset
        File with the names of the tomograms to use, as `cryovox report` saves it.
    """
    from cryovox.workflows.view import choose, command, files_of, has_display, installed

    files = files_of(folder, subset)
    one = files[choose(list(files), tomogram)]
    found = installed()
    if program not in ("auto", "none") and program not in found:
        remedy = "install it, or leave --with out; " + f"{one.script} is for ChimeraX"
        raise RequestError("--with", f"{program} is not installed", remedy)
    kinds = "ChimeraX scripts and IMOD models" if one.model else "ChimeraX scripts"
    print(f"{len(files)} tomograms: {kinds} in {one.script.parent}")
    name = next(iter(found), None) if program == "auto" else program
    page = folder / "report.html"
    if page.exists():
        print(f"report: {page}")
    if name is None or name == "none":
        print(f"next: chimerax {shlex.quote(str(one.script))}")
        return 0
    line = command(name, found[name], one)
    if not has_display():
        print(f"there is no display; where there is one, run: {shlex.join(line)}")
        return 0
    print(shlex.join(line))
    subprocess.Popen(line, start_new_session=True)
    return 0
