"""Poses of particles of a list, by template matching at their positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.placement import check_positions
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.formats import is_particles, read_particles, stem
from cryovox.formats.particles.manifest import Origin
from cryovox.formats.tomogram_names import plain_name
from cryovox.inference.poses import PoseSearch
from cryovox.inference.rotation_grid import rotation_grid
from cryovox.workflows.batch import Result
from cryovox.workflows.manifest import sha256
from cryovox.workflows.matching.config import MatchConfig, PoseConfig
from cryovox.workflows.matching.target import Imaging, MatchJob, Target, open_target
from cryovox.workflows.pick import write_picks

COARSE = 1.0
"""Step of the rotations that are compared first, over that of the settings."""
SCORE = "rlnLCCmax"
"""Column with the correlation coefficients."""
ONE_FOR_ALL = "poses of all {count} species are those of one template; SPECIES=MAP limits them to one species"


def coarse_grid(config: MatchConfig) -> NDArray[np.float64]:
    """Rotations that are compared at known positions, before the refinement."""
    return rotation_grid(COARSE * config.angle, config.symmetry)


def with_poses(
    picks: Particles,
    target: Target,
    rotations: NDArray[np.float64],
    device: str = "cpu",
    species: str | None = None,
    on_progress: ProgressCallback = no_progress,
) -> Particles:
    """Particles with poses, centers refined by the template, and correlation coefficients.

    Parameters
    ----------
    picks
        Of this tomogram. All columns are kept, and so is the order.
    rotations : (r, 3, 3)
        Of :func:`coarse_grid`.
    species
        Species of the template; other particles keep their rotations, and have the score 0. By default all
        particles are of this species.
    """
    chosen = np.flatnonzero((picks.species == species) | (species is None))
    voxel_size, config = target.volume.voxel_size, target.config
    shift = target.species.radius / 4 if config.max_shift is None else config.max_shift
    search = PoseSearch(target.volume.data, target.normalize, target.search, device)
    poses = search.locate(
        picks.positions[chosen] / voxel_size, rotations, COARSE * config.angle, ceil(shift / voxel_size),
        on_progress,
    )  # fmt: skip
    positions, scores = picks.positions.copy(), _previous_scores(picks)
    turned = np.tile(np.eye(3), (len(picks), 1, 1)) if picks.rotations is None else picks.rotations.copy()
    positions[chosen], turned[chosen], scores[chosen] = (
        poses.positions * voxel_size, poses.rotations, poses.scores,
    )  # fmt: skip
    extra = {**picks.extra, SCORE: np.round(scores, 5)}
    return replace(picks, positions=positions, rotations=turned, extra=extra)


def _previous_scores(picks: Particles) -> NDArray[np.float64]:
    """Correlation coefficients of a list that has them for other species; 0 elsewhere."""
    column = picks.extra.get(SCORE)
    return np.zeros(len(picks)) if column is None else np.asarray(column, dtype=np.float64)


@dataclass(frozen=True)
class PosesAt(MatchJob):
    """Write the particles of a list with poses.

    Attributes
    ----------
    at
        A particle list, or a folder of lists that are named after the tomograms.
    """

    at: Path

    @cached_property
    def rotations(self) -> NDArray[np.float64]:
        return coarse_grid(self.config)

    def key(self, name: str) -> dict[str, Any]:
        file = list_of(self.at, name)
        return super().key(name) | {"picks": str(file.resolve()), "picks_sha256": sha256(file)}

    def load(self, name: str, path: Path) -> tuple[Target, Particles]:  # type: ignore[override]
        target, file = super().load(name, path), list_of(self.at, name)
        picks = read_particles(file, tomogram=target.volume, tomogram_names=(name,))
        check_positions(file, picks.positions, target.volume)
        if not len(picks):
            raise RequestError(file, f"holds no particles of {name}", "check the names of the tomograms")
        return target, picks

    def process(self, name: str, loaded: tuple[Target, Particles], on_progress: ProgressCallback) -> Result:
        target, picks = loaded
        picks = with_poses(picks, target, self.rotations, self.device, on_progress=on_progress)
        (self.out / "particles").mkdir(exist_ok=True)
        origin = Origin(model=str(self.template))
        file = write_picks(name, self.out, picks, target.volume, self.output, origin)
        scores = picks.extra[SCORE]
        facts = {
            "voxel_size": target.volume.voxel_size, "contrast": target.contrast, "count": len(picks),
            "radius": round(target.species.radius, 2), "species": target.species.name,
            "best": float(scores.max()), "median": round(float(np.median(scores)), 5),
            "notes": list(target.notes),
        }  # fmt: skip
        return Result({"particles": file}, facts)


@dataclass(frozen=True)
class PickPoses:
    """Poses of the picks of `cryovox find`."""

    posing: PoseConfig
    tilt_axis: str
    device: str

    @cached_property
    def config(self) -> MatchConfig:
        return MatchConfig(angle=self.posing.pose_angle, symmetry=self.posing.pose_symmetry)

    @cached_property
    def rotations(self) -> NDArray[np.float64]:
        return coarse_grid(self.config)

    def __call__(
        self, name: str, path: Path, picks: Particles, entry: Mapping[str, Any]
    ) -> tuple[Particles, list[str]]:
        """Picks of a tomogram with poses, and what to mention to the user.

        Parameters
        ----------
        entry
            Of the manifest, with the contrast and the voxel size of the tomogram.
        """
        notes: list[str] = []
        config = self.config.model_copy(update={"voxel_size": entry["voxel_size"]})
        imaging = Imaging(self.posing.tilt_range, self.tilt_axis, entry["contrast"], None)
        for species, template in self.posing.templates().items():
            target = open_target(path, name, template, imaging, config)
            count = len(set(picks.species.tolist()))
            notes += [ONE_FOR_ALL.format(count=count)] if species is None and count > 1 else []
            picks = with_poses(picks, target, self.rotations, self.device, species)
            notes += target.notes
        return picks, notes


def list_of(at: Path, name: str) -> Path:
    """The list of a tomogram: the file itself, or the list of that name in a folder."""
    if not at.exists():
        raise RequestError("--at", f"there is no such file: {at}", "check the path")
    if not at.is_dir():
        return at
    files = [p for p in sorted(at.iterdir()) if is_particles(p) and plain_name(stem(p)) == plain_name(name)]
    if not files:
        message = f"the folder {at} holds no list of {name!r}"
        raise RequestError("--at", message, "name each list after its tomogram, or name one list for all")
    return files[0]
