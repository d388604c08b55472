"""Commands of cryovox in `copick`, for those who keep their data in a copick project.

`copick inference cryovox-find`, `copick process cryovox-filter`, `copick convert cryovox-export` and
`copick convert cryovox-import` are entry points of this package. Only copick imports this module.
Picks of copick have their location and shift in Å; see :mod:`cryovox.formats.particles.copick`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import copick
import numpy as np
import zarr

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, concatenate
from cryovox.core.volume import Volume
from cryovox.formats import read_particles, write_particles, write_volume
from cryovox.formats.particles import manifest

NAME = "{name}"
Command = Callable[..., None]


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """A command with the options that all share; errors of a request are shown in one screen."""
    shared = (
        click.option(
            "-c", "--config", "config", required=True, envvar="COPICK_CONFIG", help="Configuration."
        ),
        click.option("--run-names", "-r", multiple=True, help="Runs; all of them by default."),
        *options,
    )

    def decorate(function: Command) -> Command:
        @wraps(function)
        def run(**arguments: Any) -> None:
            try:
                function(**arguments)
            except RequestError as error:
                text = f"{error.where}: {error.message}\n    what to do: {error.remedy}"
                raise click.ClickException(text) from None

        command: Command = run
        for option in reversed(shared):
            command = option(command)
        return command

    return decorate


TOMOGRAM = (
    click.option("--voxel-size", type=float, help="Voxel spacing of the tomograms in Å."),
    click.option("--tomo-type", default="wbp", show_default=True, help="Kind of the tomograms."),
)
PICKS = (
    click.option("--object", "objects", multiple=True, help="Objects; all of them by default."),
    click.option("--user-id", help="User or program that made the picks."),
    click.option("--session-id", help="Session of the picks."),
)
OUT = (
    click.option("--out-user-id", default="cryovox", show_default=True, help="User id of new picks."),
    click.option("--out-session-id", default="1", show_default=True, help="Session id of new picks."),
    click.option("--overwrite", is_flag=True, help="Overwrite picks of that name."),
)


@click.command(name="cryovox-find", short_help="Find particles with a cryovox model.")
@_options(click.option("--model", type=Path, required=True, help="Model file of cryovox."), *TOMOGRAM, *OUT)
def find(
    config: str,
    run_names: Sequence[str],
    model: Path,
    voxel_size: float | None,
    tomo_type: str,
    **out: Any,
) -> None:
    """Find particles in the tomograms of a project and store them as picks; the report is not kept."""
    from cryovox.workflows.find import find as find_files

    for run in _runs(config, run_names):
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"{run.name}.mrc"
            tomogram = _tomogram(run, voxel_size, tomo_type)
            data = np.asarray(tomogram.numpy(), dtype=np.float32)
            write_volume(path, Volume(data, float(tomogram.voxel_spacing.voxel_size)))
            picks, failed = find_files([path], model, Path(folder) / "out")
            for error in failed.values():
                raise error
            _store(run, picks[run.name], **out)


@click.command(name="cryovox-filter", short_help="Filter picks by score, duplicates and neighbors.")
@_options(
    *PICKS,
    click.option("--min-score", type=float, help="Minimum score."),
    click.option("--duplicates", type=float, help="Keep the best of picks closer than this in Å."),
    click.option("--neighbor-distance", type=float, help="Distance in Å within which picks are neighbors."),
    click.option("--min-neighbors", type=int, help="Minimum number of neighbors."),
    click.option("--max-count", type=int, help="Maximum number of picks of each object and run."),
    *OUT,
)
def filter_picks(
    config: str,
    run_names: Sequence[str],
    objects: Sequence[str],
    user_id: str | None,
    session_id: str | None,
    **options: Any,
) -> None:
    """Filter picks as `cryovox particles filter` does, and store what is kept as new picks."""
    from cryovox.workflows.particles.config import FilterConfig
    from cryovox.workflows.particles.filter import filter_particles

    out = {name: options.pop(name) for name in ("out_user_id", "out_session_id", "overwrite")}
    settings = FilterConfig(**options)
    for run in _runs(config, run_names):
        particles = _picks(run, objects, user_id, session_id)
        kept, _ = filter_particles(particles, settings, None, run.name)
        _store(run, kept, **out)


@click.command(name="cryovox-export", short_help="Write picks as RELION, Dynamo, STOPGAP and other lists.")
@_options(
    *PICKS,
    *TOMOGRAM,
    click.option("--out", required=True, help="Output; DIR/{name}.star is a file for each run."),
    click.option("--convention", help="Convention, where an extension has several."),
)
def export_picks(  # noqa: PLR0913 (the options of a command)
    config: str,
    run_names: Sequence[str],
    objects: Sequence[str],
    user_id: str | None,
    session_id: str | None,
    voxel_size: float | None,
    tomo_type: str,
    out: str,
    convention: str | None,
) -> None:
    """Write picks in any format that `cryovox convert` writes; most need --voxel-size and --tomo-type."""
    runs = list(_runs(config, run_names))
    frames = {run.name: _frame(run, voxel_size, tomo_type) for run in runs} if voxel_size else None
    lists = {run.name: _picks(run, objects, user_id, session_id) for run in runs}
    files = {name: [name] for name in lists} if NAME in out else {"all": list(lists)}
    for name, members in files.items():
        path = Path(out.replace(NAME, name))
        path.parent.mkdir(parents=True, exist_ok=True)
        particles = concatenate(lists[member] for member in members)
        write_particles(path, particles, tomogram=frames, convention=convention)
        manifest.write(path, particles, tomogram=frames, origin=manifest.Origin(model=user_id))
        click.echo(f"{path}: {len(particles)} particles")


@click.command(name="cryovox-import", short_help="Read RELION, Dynamo, STOPGAP and other lists as picks.")
@_options(
    click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)),
    click.option("--species", help="Object of particles that name none."),
    *TOMOGRAM,
    *OUT,
)
def import_picks(
    config: str,
    run_names: Sequence[str],
    files: Sequence[Path],
    species: str | None,
    voxel_size: float | None,
    tomo_type: str,
    **out: Any,
) -> None:
    """Store particle lists as picks; lists that name no tomograms belong to the run with their name."""
    runs = {run.name: run for run in _runs(config, run_names)}
    frames = {name: _frame(run, voxel_size, tomo_type) for name, run in runs.items()} if voxel_size else None
    for file in files:
        particles = read_particles(file, tomogram=frames, species=species)
        names = [file.stem] if particles.tomograms is None else sorted(set(particles.tomograms.tolist()))
        for name in names:
            if name not in runs:
                raise RequestError(
                    file, f"is of {name}, which is no run", f"choose of the runs {', '.join(runs)}"
                )
            _store(runs[name], particles.within(name), **out)


def _runs(config: str, names: Sequence[str]) -> Iterator[Any]:
    root = copick.from_file(config)
    known = {run.name: run for run in root.runs}
    for name in names or known:
        if name not in known:
            raise RequestError(
                "--run-names", f"there is no run {name}", f"choose of the runs {', '.join(known)}"
            )
        yield known[name]


def _tomogram(run: Any, voxel_size: float | None, tomo_type: str) -> Any:
    spacings = run.voxel_spacings if voxel_size is None else [run.get_voxel_spacing(voxel_size)]
    found = [t for spacing in spacings if spacing is not None for t in spacing.get_tomograms(tomo_type)]
    if len(found) != 1:
        message = f"has {len(found)} tomograms of the kind {tomo_type}"
        raise RequestError(run.name, message, "name one with --voxel-size and --tomo-type")
    return found[0]


def _frame(run: Any, voxel_size: float | None, tomo_type: str) -> Volume:
    """Shape and voxel size of the tomogram of a run."""
    tomogram = _tomogram(run, voxel_size, tomo_type)
    shape = zarr.open(tomogram.zarr(), mode="r")["0"].shape
    return Volume(np.broadcast_to(np.int8(0), shape), float(tomogram.voxel_spacing.voxel_size))


def _picks(run: Any, objects: Iterable[str], user_id: str | None, session_id: str | None) -> Particles:
    """Picks of a run, positions with their shifts."""
    every = run.get_picks(object_name=list(objects) or None, user_id=user_id, session_id=session_id)
    lists = []
    for picks in every:
        points, matrices = picks.numpy()
        xyz = points + matrices[:, :3, 3]
        rotations = matrices[:, :3, :3]
        turned = None if np.allclose(rotations, np.eye(3), atol=1e-9) else rotations
        scores = [1.0 if point.score is None else point.score for point in picks.points]
        kinds = [picks.pickable_object_name] * len(xyz)
        lists.append(Particles.of(xyz[:, ::-1], kinds, scores, turned, run.name))
    return concatenate(lists)


def _store(run: Any, particles: Particles, out_user_id: str, out_session_id: str, overwrite: bool) -> None:
    """Store particles as picks, one file for each species."""
    known = [item.name for item in run.root.pickable_objects]
    for kind in sorted(set(particles.species.tolist())):
        if kind not in known:
            raise RequestError(
                kind, "is no object of the project", f"add it to the project, or choose of {', '.join(known)}"
            )
        own = particles.named(kind)
        where = {"object_name": kind, "user_id": out_user_id, "session_id": out_session_id}
        if run.get_picks(**where) and not overwrite:
            text = f"{run.name}: picks {out_user_id}/{out_session_id} of {kind} are there already"
            raise RequestError("--out-session-id", text, "choose another one, or add --overwrite")
        matrices = np.tile(np.eye(4), (len(own), 1, 1))
        if own.rotations is not None:
            matrices[:, :3, :3] = own.rotations
        picks = run.new_picks(**where, exist_ok=True)
        picks.from_numpy(own.positions[:, ::-1], matrices, scores=own.scores.astype(np.float64))
        click.echo(f"{run.name}: {len(own)} picks of {kind}")
