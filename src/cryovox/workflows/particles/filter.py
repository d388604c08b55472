"""Filter particle lists by names, scores, surroundings and duplicates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.progress import ProgressCallback, no_progress, renamed, tracked
from cryovox.core.volume import Volume
from cryovox.formats import read_header, read_mask
from cryovox.formats.tomogram_names import listed, plain_name, volume_of
from cryovox.picking.consensus import duplicates
from cryovox.picking.surroundings import (
    groups,
    lamella_depths,
    mask_distances,
    nearest_neighbors,
    neighbor_counts,
)
from cryovox.workflows.conversion.particles import Frames
from cryovox.workflows.inputs import mask_file
from cryovox.workflows.particles.config import FilterConfig
from cryovox.workflows.subsets import read_subset

Kept = NDArray[np.bool_]
Step = tuple[str, Particles, Kept]
"""Name of a filter, the particles with its columns, and which of them it keeps."""


def filter_particles(
    particles: Particles,
    config: FilterConfig,
    frames: Frames | None,
    name: str,
    on_progress: ProgressCallback = no_progress,
) -> tuple[Particles, dict[str, int]]:
    """Filter a list.

    Parameters
    ----------
    particles
        Particles.
    config
        Filters.
    frames
        Shape and voxel size of the tomograms, for --border.
    name
        Tomogram of particles that name none.

    Returns
    -------
    particles, removed
        What is kept, with its new columns, and how many each filter removed.
    """
    _check(config)
    removed = {}
    for step in (_names, _scores, _border, _masks, _duplicates, _neighbors, _best):
        for what, changed, kept in step(particles, config, frames, name, on_progress):
            removed[what] = int((~kept).sum())
            particles = changed.take(kept)
    return particles, removed


def _check(config: FilterConfig) -> None:
    for option, value, needed, other in (
        ("--mask-distance", config.mask_distance, "--mask", config.mask),
        ("--membrane-distance", config.membrane_distance, "--membrane", config.membrane),
        ("--min-depth", config.min_depth, "--lamella", config.lamella),
        ("--any-species", config.any_species or None, "--duplicates", config.duplicates),
        ("--min-neighbors", config.min_neighbors, "--neighbor-distance", config.neighbor_distance),
        ("--max-neighbors", config.max_neighbors, "--neighbor-distance", config.neighbor_distance),
    ):
        if value is not None and other is None:
            raise RequestError(option, f"needs {needed}", f"add {needed}, or leave {option} out")


def _names(particles: Particles, config: FilterConfig, *_: Any) -> list[Step]:
    steps: list[Step] = []
    for option, patterns in (("--only", config.only), ("--subset", _subset(config.subset))):
        if not patterns:
            continue
        subset = particles.take(steps[-1][2]) if steps else particles
        if subset.tomograms is None:
            raise RequestError(option, "the list names no tomograms", f"leave {option} out")
        plain = [plain_name(str(source)) for source in subset.tomograms.tolist()]
        kept = [any(fnmatchcase(source, plain_name(p)) for p in patterns) for source in plain]
        if not any(kept):
            message = f"no particle is of {listed(patterns)}; the list holds {listed(plain)}"
            raise RequestError(option, message, "check the names")
        name = "tomogram" if option == "--only" else "subset"
        steps.append((name, subset, np.array(kept, dtype=bool)))
    if config.species:
        unknown = set(config.species) - set(particles.species.tolist())
        if unknown:
            message = f"no particle is a {min(unknown)}; the list holds {listed(particles.species.tolist())}"
            raise RequestError("--species", message, "check the names")
        subset = steps[-1][1].take(steps[-1][2]) if steps else particles
        steps.append(("species", subset, np.isin(subset.species, config.species)))
    return steps


def _subset(file: Path | None) -> tuple[str, ...]:
    return () if file is None else tuple(sorted(read_subset(file)))


def _scores(particles: Particles, config: FilterConfig, *_: Any) -> list[Step]:
    if config.min_score is None and config.max_score is None:
        return []
    low = -np.inf if config.min_score is None else config.min_score
    high = np.inf if config.max_score is None else config.max_score
    return [("score", particles, (particles.scores >= low) & (particles.scores <= high))]


def _border(
    particles: Particles, config: FilterConfig, frames: Frames | None, name: str, *_: Any
) -> list[Step]:
    if config.border is None:
        return []
    if frames is None:
        raise RequestError("--border", "needs the size of the tomogram", "pass --tomogram T")

    def margin(source: str, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        volume = frames if isinstance(frames, Volume) else volume_of("particles", source, frames)
        low, high = -0.5 * volume.voxel_size, (np.array(volume.shape) - 0.5) * volume.voxel_size
        return np.minimum(positions - low, high - positions).min(axis=1)

    margins = _each_tomogram(particles, name, margin)
    return [("border", particles, margins >= config.border)]


def _masks(
    particles: Particles,
    config: FilterConfig,
    _: Frames | None,
    name: str,
    on_progress: ProgressCallback,
) -> list[Step]:
    inf = float("inf")
    depth = None if config.min_depth is None else (config.min_depth, inf)
    inside = config.mask_distance or (-inf, 0.0)
    steps: list[Step] = []
    for column, file, limits, measure in (
        ("distance_to_mask", config.mask, inside, mask_distances),
        ("distance_to_membrane", config.membrane, config.membrane_distance, membrane_distances),
        ("lamella_depth", config.lamella, depth, lamella_depths),
    ):
        if file is None:
            continue
        values = _each_tomogram(particles, name, _measured(file, measure), renamed(on_progress, column))
        particles = replace(particles, extra={**particles.extra, column: np.round(values, 3)})
        low, high = limits or (-inf, inf)
        kept = (values >= low) & (values <= high) if limits else np.ones(len(particles), dtype=bool)
        steps.append((column, particles, kept))
        particles = particles.take(kept)
    return steps


def membrane_distances(
    positions: NDArray[np.float64], mask: NDArray[np.bool_], voxel_size: float
) -> NDArray[np.float64]:
    """Distances as of :func:`mask_distances`; infinite where a tomogram has no membrane."""
    return mask_distances(positions, mask, voxel_size) if mask.any() else np.full(len(positions), np.inf)


def _measured(
    file: Path, measure: Callable[..., NDArray[np.float64]]
) -> Callable[[str, NDArray[np.float64]], NDArray[np.float64]]:
    def values(source: str, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        path = mask_file(file, plain_name(source))
        size, mask = read_header(path).voxel_size, read_mask(path)
        if size is None:
            message, remedy = "has no voxel size", f"`cryovox convert {path} OUT.mrc --voxel-size A`"
            raise RequestError(path, message, remedy)
        if not mask.any() and measure is not membrane_distances:
            raise RequestError(path, "is 0 everywhere", "name a mask that is not 0 inside")
        return measure(positions, mask, size)

    return values


def _duplicates(particles: Particles, config: FilterConfig, *_: Any) -> list[Step]:
    if config.duplicates is None:
        return []
    dropped = duplicates(particles, config.duplicates, by_species=not config.any_species)
    return [("duplicates", particles, ~dropped)]


def _neighbors(particles: Particles, config: FilterConfig, *_: Any) -> list[Step]:
    if config.neighbor_distance is None:
        return []
    counts = neighbor_counts(particles, config.neighbor_distance)
    columns = {"neighbors": counts, "nearest_neighbor": np.round(nearest_neighbors(particles), 3)}
    low = config.min_neighbors or 0
    high = np.inf if config.max_neighbors is None else config.max_neighbors
    particles = replace(particles, extra={**particles.extra, **columns})
    return [("neighbors", particles, (counts >= low) & (counts <= high))]


def _best(particles: Particles, config: FilterConfig, *_: Any) -> list[Step]:
    if config.max_count is None:
        return []
    kept = np.zeros(len(particles), dtype=bool)
    for rows in groups(particles):
        kept[rows[np.argsort(-particles.scores[rows], kind="stable")[: config.max_count]]] = True
    return [("max_count", particles, kept)]


def _each_tomogram(
    particles: Particles,
    name: str,
    measure: Callable[[str, NDArray[np.float64]], NDArray[np.float64]],
    on_progress: ProgressCallback = no_progress,
) -> NDArray[np.float64]:
    """Values of all particles, tomogram by tomogram."""
    values = np.zeros(len(particles))
    for rows in tracked(list(groups(particles, by_species=False)), on_progress, "tomograms"):
        source = name if particles.tomograms is None else str(particles.tomograms[rows[0]])
        values[rows] = measure(source, particles.positions[rows])
    return values
