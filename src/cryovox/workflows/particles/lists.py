"""Read, filter, merge and write particle lists: files in, files out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cryovox.core.errors import DataWarning, RequestError
from cryovox.core.particles import Particles
from cryovox.core.progress import ProgressCallback, no_progress, tracked
from cryovox.formats import is_particles, stem, write_particles
from cryovox.formats.particles import manifest
from cryovox.formats.particles.manifest import Origin
from cryovox.picking.consensus import calibrated, merge
from cryovox.workflows.batch import Failures, for_each
from cryovox.workflows.conversion.particles import Frames, frames_of, origin_of, read_lists
from cryovox.workflows.convert import NAME, check_output
from cryovox.workflows.inputs import expand
from cryovox.workflows.particles.config import FilterConfig, ListConfig
from cryovox.workflows.particles.filter import filter_particles


def read(
    sources: Sequence[Path],
    config: ListConfig,
    tomogram: Path | None,
    target: Path | None = None,
    on_progress: ProgressCallback = no_progress,
) -> tuple[Particles, Frames | None, str]:
    """All particles of some files, the frames of their tomograms, and the name of particles that name none.

    Parameters
    ----------
    sources
        Files, folders or patterns.
    config
        Settings.
    tomogram
        Tomogram, or folder of tomograms.
    target
        The output, if positions are only compared with each other: RELION 5 to RELION 5 needs no tomogram.
    """
    files = expand(sources, is_particles)
    convert = config.to_convert()
    joined = len(files) > 1
    frames = frames_of(files, target or Path("table.csv"), convert, tomogram, joined)
    name = stem(tomogram) if tomogram is not None and not joined else stem(next(iter(files.values())))
    return read_lists(files, convert, tomogram, frames, joined, on_progress), frames, name


def write(
    target: Path,
    particles: Particles,
    config: ListConfig,
    frames: Frames | None,
    name: str,
    origin: Origin,
) -> None:
    """Write a list as the settings say, and its manifest."""
    write_particles(
        target,
        particles,
        tomogram=frames,
        voxel_size=config.out_voxel_size,
        tomogram_name=name,
        convention=config.convention,
    )
    manifest.write(target, particles, tomogram=frames, tomogram_name=name, origin=origin)


def filter_files(
    sources: Sequence[Path],
    out: Path,
    settings: FilterConfig,
    config: ListConfig,
    *,
    tomogram: Path | None = None,
    overwrite: bool = False,
    on_progress: ProgressCallback = no_progress,
) -> tuple[dict[str, tuple[Path, int, dict[str, int]]], Failures]:
    """Filter lists; returns output, count and removed particles by input, and what went wrong."""
    files = expand(sources, is_particles)

    def one(inputs: Sequence[Path], output: Path) -> tuple[Path, int, dict[str, int]]:
        check_output(files, output, overwrite)
        target = None if settings.needs_positions else output
        particles, frames, name = read(inputs, config, tomogram, target, on_progress)
        kept, removed = filter_particles(particles, settings, frames, name, on_progress)
        write(output, kept, config, frames, name, origin_of(inputs))
        return output, len(kept), removed

    if NAME in str(out):
        return for_each(
            files,
            lambda name: one([files[name]], Path(str(out).replace(NAME, name))),
            on_progress=on_progress,
        )
    return {str(out): one(list(files.values()), out)}, {}


def merge_files(  # noqa: PLR0913 (settings of a merge)
    sources: Sequence[Path],
    out: Path,
    config: ListConfig,
    *,
    distance: float,
    min_agreement: int = 1,
    calibrate: bool = False,
    species: str | None = None,
    tomogram: Path | None = None,
    overwrite: bool = False,
    on_progress: ProgressCallback = no_progress,
) -> Particles:
    """Write the consensus of several lists."""
    paths = [path for source in sources for path in expand([source], is_particles).values()]
    if len(paths) < 2:
        raise RequestError("merge", "needs at least two lists", "name the lists of several programs")
    if not 1 <= min_agreement <= len(paths):
        message = f"is {min_agreement}, and there are {len(paths)} lists"
        raise RequestError("--min-agreement", message, f"give a number from 1 to {len(paths)}")
    check_output({str(i): path for i, path in enumerate(paths)}, out, overwrite)
    loaded = [read([path], config, tomogram) for path in tracked(paths, on_progress, "reading lists")]
    lists = [picks for picks, _, _ in loaded]
    if any(picks.tomograms is None for picks in lists):
        named = {str(s) for picks in lists if picks.tomograms is not None for s in picks.tomograms.tolist()}
        if len(named) > 1:
            remedy = "add the tomogram to each list, or merge the lists of one tomogram"
            raise RequestError("merge", "some lists name tomograms and others do not", remedy)
        one = named.pop() if named else None
        lists = [replace(p, tomograms=np.full(len(p), one) if one else None) for p in lists]
    if species is not None:
        lists = [replace(picks, species=np.full(len(picks), species)) for picks in lists]
    _warn_of_different_names(lists)
    lists = calibrated(lists, distance) if calibrate else lists
    merged = merge(lists, distance, min_agreement)
    write(out, merged, config, loaded[0][1], loaded[0][2], origin_of(paths))
    return merged


def _warn_of_different_names(lists: Sequence[Particles]) -> None:
    """Warn where no species is in two lists, so that nothing is merged."""
    names = [name for picks in lists for name in sorted(set(picks.species.tolist()))]
    if len(set(names)) == len(names) > 1:
        message = f"no species is in two lists ({', '.join(names)}), so nothing is merged"
        remedy = "--species NAME merges lists that name one species differently"
        warnings.warn(f"{message}; {remedy}", DataWarning, stacklevel=3)
