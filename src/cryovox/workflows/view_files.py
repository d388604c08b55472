"""Files beside a result with which ChimeraX and 3dmod show it."""

from __future__ import annotations

from pathlib import Path

from cryovox.core.atomic import writable_folder
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import write_particles, write_text

FOLDER = "view"
"""Folder of the files, below that of the results."""
SCRIPT, MODEL = "ChimeraX script", "IMOD model"


def write_view_files(
    out: Path, name: str, tomogram: Path, picks: Particles, frame: Volume | None
) -> dict[str, str]:
    """Write `view/NAME.cxc` and, where there are picks, `view/NAME.mod`.

    Parameters
    ----------
    out
        Folder of the results; `labels/NAME.mrc` in it is shown where it exists.
    tomogram
        File of the tomogram.
    frame
        Its shape and voxel size; None where it is gone, and then there is no model.

    Returns
    -------
    dict
        The files by kind, relative to the folder.
    """
    target = out / FOLDER
    writable_folder(target)
    write_text(target / f"{name}.cxc", _script(out, name, tomogram, picks))
    files = {SCRIPT: f"{FOLDER}/{name}.cxc"}
    if len(picks) and frame is not None:
        write_particles(target / f"{name}.mod", picks, tomogram=frame, tomogram_name=name)
        files[MODEL] = f"{FOLDER}/{name}.mod"
    return files


def _script(out: Path, name: str, tomogram: Path, picks: Particles) -> str:
    """Commands that open the tomogram, its label map and markers at the picks, in one frame.

    Markers count from the center of the first voxel, so the origin of the volumes is set to it.
    """
    labels = out / "labels" / f"{name}.mrc"
    lines = [f"# {name}: tomogram and picks", "close session"]
    for i, path in enumerate([path.resolve() for path in (tomogram, labels) if path.exists()], 1):
        lines.append(f'open "{path}" format mrc')
        style = "style image region all" if i == 1 else "style surface level 0.5 transparency 0.6"
        lines.append(f"volume #{i} originIndex 0,0,0 {style}")
    if len(picks):
        markers = out / FOLDER / f"{name}-picks.cxc"
        write_particles(markers, picks, tomogram_name=name)
        lines.append(f'open "{markers.resolve()}"')
    return "\n".join([*lines, "view orient", ""])
