"""Search of whole tomograms for a template."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import replacing
from cryovox.core.intensity import Normalization
from cryovox.core.particles import Particles, Species
from cryovox.core.progress import ProgressCallback, portion
from cryovox.core.volume import ScoreMap, Volume
from cryovox.formats import mrc, scores
from cryovox.formats.angles import eulers_of
from cryovox.formats.particles.manifest import Origin
from cryovox.inference import matching
from cryovox.inference.poses import Poses, PoseSearch
from cryovox.inference.rotation_grid import rotation_grid
from cryovox.picking import pick_counted
from cryovox.workflows.batch import Result
from cryovox.workflows.matching.target import MatchJob, Target
from cryovox.workflows.pick import left_out_notes, write_picks

AS_IS = Normalization(0.0, 1.0)


class Search(MatchJob):
    """Write scores, rotations and particles of one tomogram."""

    @cached_property
    def rotations(self) -> NDArray[np.float64]:
        return rotation_grid(self.config.angle, self.config.symmetry)

    def process(self, name: str, target: Target, on_progress: ProgressCallback) -> Result:
        volume, species = target.volume, target.species
        share = target.control.size / volume.data.size if self.config.noise_control else 0.0
        split = 1 / (1 + share)
        values, best = matching.match(
            volume.data, target.normalize, target.search, self.rotations, mask=target.inside,
            block_voxels=self.config.block_voxels, device=self.device,
            on_progress=portion(on_progress, 0.0, split),
        )  # fmt: skip
        noise = np.zeros(0, np.float32)
        if share:
            noise = self._noise_peaks(target, portion(on_progress, split, 1.0))
        threshold = self._threshold(noise)
        score_map = _score_map(values, volume, species, threshold)
        picks, near_edge = pick_counted(score_map, self.config.picking(threshold), target.inside)
        picks = self._posed(picks, best, target)
        outputs = self._write(name, score_map, best, picks, volume)
        searched = float(target.inside.mean()) if target.inside is not None else 1.0
        facts = {
            "voxel_size": volume.voxel_size, "contrast": target.contrast, "count": len(picks),
            "rotations": len(self.rotations), "threshold": round(threshold, 5),
            "radius": round(species.radius, 2), "species": species.name,
            "template": {k: v for k, v in target.template.facts.items() if k != "doubt"},
            "best": round(float(values.max()), 5),
            "median": round(float(np.median(picks.scores)), 5) if len(picks) else None,
            "noise": _noise_facts(noise, threshold, share, searched),
            "notes": [*target.notes, *left_out_notes({"at_faces": near_edge})],
        }  # fmt: skip
        return Result(outputs, facts)

    def _noise_peaks(self, target: Target, on_progress: ProgressCallback) -> NDArray[np.float32]:
        """Scores of the peaks in noise, best first."""
        piece = matching.phase_randomized(target.control, np.random.default_rng(self.seed))
        values, _ = matching.match(
            piece, AS_IS, target.search, self.rotations,
            block_voxels=self.config.block_voxels, device=self.device, on_progress=on_progress,
        )  # fmt: skip
        score_map = _score_map(values, Volume(piece, target.volume.voxel_size), target.species, 0.0)
        return pick_counted(score_map, self.config.picking(0.0))[0].scores

    def _threshold(self, noise: NDArray[np.float32]) -> float:
        if self.config.threshold is not None:
            return self.config.threshold
        return float(noise.max()) if len(noise) else 0.0

    def _posed(self, picks: Particles, best: NDArray[np.int32], target: Target) -> Particles:
        """The picks with the best rotations of their voxels, refined on request."""
        positions = picks.positions / target.volume.voxel_size
        z, y, x = np.clip(np.rint(positions).astype(int), 0, np.array(best.shape) - 1).T
        poses = Poses(positions, self.rotations[best[z, y, x]], picks.scores)
        if self.config.refine:
            search = PoseSearch(target.volume.data, target.normalize, target.search, self.device)
            poses = search.refine(poses, self.config.angle)
        return Particles.of(
            poses.positions * target.volume.voxel_size, picks.species, picks.scores, poses.rotations
        )

    def _write(
        self, name: str, score_map: ScoreMap, best: NDArray[np.int32], picks: Particles, volume: Volume
    ) -> dict[str, Path]:
        files = {
            "scores": self.out / "scores" / f"{name}.zarr",
            "rotations": self.out / "rotations" / f"{name}.mrc",
            "angles": self.out / "rotations" / f"{name}.csv",
        }
        for path in files.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        (self.out / "particles").mkdir(exist_ok=True)
        scores.write(files["scores"], score_map)
        # 16-bit integers, or floats that hold larger indices exactly
        kind = np.uint16 if len(self.rotations) <= np.iinfo(np.uint16).max else np.float32
        mrc.write(files["rotations"], volume.with_data(best.astype(kind)))
        with replacing(files["angles"]) as beside:
            rows = np.column_stack([np.arange(len(self.rotations)), eulers_of(self.rotations)])
            np.savetxt(beside, rows, "%d,%.4f,%.4f,%.4f", header="index,rot,tilt,psi", comments="")
        origin = Origin(model=str(self.template), thresholds=score_map.thresholds)
        return {**files, "particles": write_picks(name, self.out, picks, volume, self.output, origin)}


def _score_map(values: NDArray[np.float32], volume: Volume, species: Species, threshold: float) -> ScoreMap:
    return ScoreMap(
        values[None], volume.voxel_size, (species,), kind="heatmap",
        thresholds={species.name: threshold}, origin=volume.origin, nstart=volume.nstart,
        tomogram_shape=volume.shape, tomogram_voxel_size=volume.voxel_size,
    )  # fmt: skip


def _noise_facts(
    noise: NDArray[np.float32], threshold: float, share: float, searched: float
) -> dict[str, float] | None:
    """Best score in noise, and the number of picks to expect in noise of the searched volume."""
    if not share:
        return None
    above = int((noise >= threshold).sum())
    return {
        "share": round(share, 4),
        "best": round(float(noise.max()), 5) if len(noise) else 0.0,
        "expected": round(above * searched / share, 1),
    }
