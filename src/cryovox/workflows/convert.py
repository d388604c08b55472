"""Read one format and write another, file by file or several lists into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cryovox.core.errors import RequestError
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.formats import PARTICLES, VOLUMES, ending, is_particles, is_volume
from cryovox.workflows.batch import Failures, for_each
from cryovox.workflows.config import ConvertConfig
from cryovox.workflows.conversion.particles import convert_particles
from cryovox.workflows.conversion.volumes import convert_volume
from cryovox.workflows.inputs import expand

NAME = "{name}"
"""Stands for the name of each input in the name of an output."""


def convert(
    sources: Sequence[Path],
    target: Path,
    config: ConvertConfig,
    *,
    tomogram: Path | None = None,
    verify: bool = False,
    overwrite: bool = False,
    on_progress: ProgressCallback = no_progress,
) -> tuple[dict[str, str], Failures]:
    """Convert volumes or particle lists.

    Parameters
    ----------
    sources
        Files, folders or patterns.
    target
        The output; its ending chooses the format. If its name contains `{name}`, each input is converted on
        its own; otherwise particle lists are joined.
    config
        Settings.
    tomogram
        The tomogram that particles belong to, for formats that count from its center or in voxels; for
        several lists, a folder of tomograms with their names.
    verify
        Read the output back and compare it, and compare particles with the density of their tomogram.
    overwrite
        Overwrite existing outputs.

    Returns
    -------
    messages, failures
        By input: what was done, and what went wrong.
    """

    def one(files: Mapping[str, Path], output: Path) -> str:
        check_output(files, output, overwrite)
        if is_particles(next(iter(files.values()))):
            return convert_particles(files, output, config, tomogram, verify=verify, joined=several)
        if len(files) > 1:
            remedy = f"write OUT as {output.parent / f'{NAME}{output.suffix}'}"
            raise RequestError(output, f"is one output for {len(files)} volumes", remedy)
        return convert_volume(next(iter(files.values())), output, config, verify)

    inputs = _inputs(sources, target)
    if NAME in str(target):
        several = False

        def each(name: str) -> str:
            return one({name: inputs[name]}, Path(str(target).replace(NAME, name)))

        return for_each(inputs, each, on_progress=on_progress)
    several = len(inputs) > 1 or (sources[0].is_dir() and not is_volume(sources[0]))
    return {str(target): one(inputs, target)}, {}


def _inputs(sources: Sequence[Path], target: Path) -> dict[str, Path]:
    """Input files by name, of the kind of the output."""
    tables = {is_particles: PARTICLES, is_volume: VOLUMES}
    kinds_of_target = [kind for kind, table in tables.items() if ending(target) in table]  # both for .em
    inputs = expand(sources, lambda path: any(kind(path) for kind in kinds_of_target or [is_volume]))
    for path in inputs.values():
        if not any(kind(path) for kind in kinds_of_target):
            raise _other_kind(path, target)
    return inputs


def _other_kind(path: Path, target: Path) -> RequestError:
    """Refusal that names the file of unknown format, or both if one is a volume and one a list."""
    known = f"volumes are {', '.join(VOLUMES)}; particle lists {', '.join(PARTICLES)}"
    for file in (path, target):
        if ending(file) not in VOLUMES and ending(file) not in PARTICLES:
            return RequestError(file, "has the ending of neither a volume nor a particle list", known)
    if is_volume(path) or is_particles(path):
        kinds = ("a volume", "a particle list") if is_volume(path) else ("a particle list", "a volume")
        return RequestError(
            target, f"is {kinds[1]}, and {path.name} is {kinds[0]}", f"known endings: {known}"
        )
    return RequestError(path, "is neither a volume nor a particle list that can be read", known)


def check_output(inputs: Mapping[str, Path], output: Path, overwrite: bool) -> None:
    """Raise an error if an output is an input, or exists and is not to be overwritten."""
    if output.resolve() in {path.resolve() for path in inputs.values()}:
        raise RequestError(output, "is the input itself", "name another output file")
    if output.exists() and not overwrite:
        raise RequestError(output, "is there already", "name another file, or add --overwrite")
