"""Template matching: predicted from some rotations of a block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.volume import Volume
from cryovox.formats.resample import resampled_on_access
from cryovox.inference.correlation import Block
from cryovox.inference.matching import BATCH_VOXELS, BlockSearch, searched_blocks
from cryovox.workflows.devices import Device
from cryovox.workflows.dry_run import prediction
from cryovox.workflows.dry_run.prediction import Prediction, mrc_bytes
from cryovox.workflows.inputs import expand
from cryovox.workflows.match import match_job
from cryovox.workflows.matching.config import MatchConfig
from cryovox.workflows.matching.search import Search
from cryovox.workflows.matching.search_grid import on_grid_of, search_voxel_size
from cryovox.workflows.matching.target import Target
from cryovox.workflows.memory import CUDA_CONTEXT, resident

PROBE_SECONDS = 0.5
"""Time after which no further rotation is probed."""
PER_VOXEL = 2e-7
"""Seconds per voxel for statistics, resampling, picking, report and files, measured on one core (2026)."""
HELD = 64
"""Bytes per voxel of a transform that a block holds while its local standard deviation is computed."""
SEARCHED = 12
"""Bytes per voxel of the search: scores, rotations and a copy."""
AFTERWARDS = 150_000_000
"""Bytes for picking and report."""


@dataclass(frozen=True)
class _Search:
    """A search that the command makes: in how many blocks, with how many rotations."""

    target: Target
    blocks: list[Block]

    @property
    def largest(self) -> Block:
        return self.blocks[0]


def predict(
    template: Path,
    tomograms: list[Path],
    config: MatchConfig,
    *,
    at: Path | None = None,
    dataset: Path | None = None,
    device: Device = "auto",
) -> list[Prediction]:
    """Predict time, memory and size of the outputs of :func:`cryovox.workflows.match.match`.

    The refinement of the particles, whose number is not known, is not counted.
    """
    job = match_job(template, Path(), config, at=at, dataset=dataset, device=device)
    if not isinstance(job, Search):
        message = "predicts a search of whole tomograms, and --at searches at particles"
        raise RequestError(
            "--dry-run", message, "leave out --dry-run: --at takes about a second per particle"
        )
    return [_of(job, name, path) for name, path in expand(tomograms).items()]


def _of(job: Search, name: str, path: Path) -> Prediction:
    target = job.load(name, path)
    volume, grid = target.volume, _grid(target)
    searches, measured = list(_searches(job, grid)), dict[tuple[int, int, int], tuple[float, float]]()
    held, seconds = resident(), PER_VOXEL * volume.data.size
    for search in searches:
        if search.largest.fft not in measured:
            measured[search.largest.fft] = _probe(job, search)
        setup, per_rotation = measured[search.largest.fft]
        seconds += len(search.blocks) * (setup + len(job.rotations) * per_rotation)
    block = max(prod(search.largest.fft) for search in searches)
    block = max(block, BATCH_VOXELS[job.device]) if job.device != "cpu" else block
    searched = SEARCHED * grid.volume.data.size
    on_gpu = job.device != "cpu"
    ram = held + searched + AFTERWARDS + (8 if on_gpu else HELD) * block
    blocks = sum(len(search.blocks) for search in searches)
    steps = f"{blocks} blocks x {len(job.rotations)} rotations"
    vram = CUDA_CONTEXT + HELD * block if on_gpu else 0
    return Prediction(name, grid.volume.shape, steps, seconds, ram, vram, _output(job, target, grid))


def _grid(target: Target) -> Target:
    """The target on the grid of the search, with noise in place of the resampled tomogram."""
    volume = target.volume
    voxel_size = search_voxel_size(target.config, target.species.radius, volume.voxel_size)
    if voxel_size == volume.voxel_size:
        return target
    shape = resampled_on_access(volume, voxel_size).shape
    plane = np.random.default_rng(0).standard_normal((1, *shape[1:])).astype(np.float32)
    return on_grid_of(target, Volume(np.broadcast_to(plane, shape), voxel_size, volume.place))


def _searches(job: Search, grid: Target) -> Iterator[_Search]:
    """Searches of the tomogram, of noise and for the decoy, as the command makes them."""
    whole = _Search(grid, _blocks(job, grid, grid.volume.shape, grid.inside))
    yield whole
    if job.config.hand == "both":
        yield whole
    if not job.config.noise_control:
        return
    piece = _Search(grid, _blocks(job, grid, tuple(s.stop - s.start for s in grid.piece), None))
    yield piece
    yield piece  # again, without the particles that stand out
    if job.has_decoy(grid):
        yield whole if grid.counts_everywhere else piece


def _blocks(
    job: Search, grid: Target, shape: tuple[int, ...], inside: NDArray[np.bool_] | None
) -> list[Block]:
    z, y, x = shape
    return searched_blocks((z, y, x), grid.search, inside, job.config.block_voxels)


def _probe(job: Search, search: _Search) -> tuple[float, float]:
    """Seconds to begin a block, and seconds per rotation."""
    grid, block, start = search.target, search.largest, prediction.now()
    noise = np.random.default_rng(0).standard_normal((1, *block.size[1:])).astype(np.float32)
    data = np.broadcast_to(noise, block.size)
    at_origin = Block((0, 0, 0), block.size, block.fft, block.lead)
    searching = BlockSearch(data, grid.normalize, grid.search, at_origin, job.device)
    began, done, steps = prediction.now(), 0, searching.run(job.rotations)
    while done < len(job.rotations) and prediction.now() - began < PROBE_SECONDS:
        done = next(steps)
    return began - start, (prediction.now() - began) / done


def _output(job: Search, target: Target, grid: Target) -> int:
    """Bytes of score map, at most, rotations and the mask of the sample."""
    kind = np.uint16 if len(job.rotations) <= np.iinfo(np.uint16).max else np.float32
    mask = mrc_bytes(target.volume.shape, np.int8) if job.config.lamella else 0
    return 2 * grid.volume.data.size + mrc_bytes(grid.volume.shape, kind) + mask
