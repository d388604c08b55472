"""Search of whole tomograms for a template."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryovox.core.atomic import replacing
from cryovox.core.intensity import Normalization
from cryovox.core.particles import Particles
from cryovox.core.progress import ProgressCallback, no_progress, portion
from cryovox.core.unfinished import NO_PARTS, UnfinishedParts
from cryovox.core.volume import ScoreMap, Volume, Voxels
from cryovox.formats import mrc, scores
from cryovox.formats.angles import eulers_of
from cryovox.formats.particles.manifest import Origin
from cryovox.inference import matching, search_template
from cryovox.inference.membranes import AxisCone
from cryovox.inference.poses import Poses, PoseSearch
from cryovox.inference.rotation_grid import rotation_grid
from cryovox.picking import pick_counted
from cryovox.picking.side_lobes import side_lobes
from cryovox.workflows.batch import Result
from cryovox.workflows.lamella import FOLDER, SearchRegion, search_region
from cryovox.workflows.matching.background import (
    DECOY,
    MAX_LIKENESS,
    STEPS,
    Controls,
    controls,
    mirror_likeness,
    mirrored,
    score_map,
)
from cryovox.workflows.matching.search_grid import on_search_grid
from cryovox.workflows.matching.target import MatchJob, Target
from cryovox.workflows.model_grid import mask_on_grid
from cryovox.workflows.pick import left_out_notes, write_picks
from cryovox.workflows.view_files import write_view_files

BEST = 50
"""Maximum number of scores by which the hands are compared."""
MIN_ADVANTAGE = 0.01
"""Relative difference of these scores below which the hands count as alike."""
SMALL = "too few peaks in the control to estimate small numbers of false positives; raise --noise-control"
NO_DECOY = (
    "the mirror image of the template looks like the template at this voxel size, so there is no decoy: the "
    "expected false positives are those in noise, and other particles are not among them"
)


class Search(MatchJob):
    """Write scores, rotations and particles of one tomogram."""

    @cached_property
    def rotations(self) -> NDArray[np.float64]:
        return rotation_grid(self.config.angle, self.config.symmetry)

    def parts(self, name: str) -> UnfinishedParts:
        # voxels of blocks and the device decide how rotations are batched
        facts = {"device": self.device, "block_voxels": self.config.block_voxels}
        return UnfinishedParts.beside(self.out / "rotations" / f"{name}.mrc", **facts)

    def process(self, name: str, target: Target, on_progress: ProgressCallback) -> Result:
        volume, species = target.volume, target.species
        share = self.config.noise_control
        split = 1 / (2 + 2 * share if target.counts_everywhere else 1 + 3 * share)
        parts = self.parts(name)
        hand, grid, values, best, notes = self._hand(target, parts, portion(on_progress, 0.0, split))
        region = self._region(name, target)
        sample = grid
        if region.lamella is not None and region.mask is not None:
            sample = replace(grid, inside=mask_on_grid(region.mask, volume, grid.volume))
        tested = self._controls(sample, values, parts, portion(on_progress, split, 1.0)) if share else None
        threshold, picks, near_edge = self._pick(sample, values, tested)
        outside = 0 if sample is grid else region.outside(self._picks(grid, values, threshold)[0])
        notes += [*target.notes, *left_out_notes({"at_faces": near_edge, "lamella": outside})]
        picks = self._posed(picks, best, grid, target.mirrored() if hand == "mirrored" else target)
        if tested is not None:
            picks = _with_statistics(picks, tested)
            notes += [SMALL] if tested.main.is_too_small else []
            notes += [NO_DECOY] if self._lacks_decoy(target, tested) else []
        scores = score_map(values, grid.volume, species, threshold, volume)
        outputs = self._write(name, scores, grid.volume.with_data(best), picks, volume)
        outputs |= {} if region.file is None else {"sample mask": region.file}
        facts = {
            "voxel_size": volume.voxel_size, "contrast": target.contrast, "count": len(picks),
            "rotations": len(self.rotations), "threshold": round(threshold, 5),
            "search_voxel_size": round(grid.volume.voxel_size, 3),
            "radius": round(species.radius, 2), "species": species.name,
            "template": {k: v for k, v in target.template.facts.items() if k != "doubt"},
            "best": round(float(values.max()), 5),
            "median": round(float(np.median(picks.scores)), 5) if len(picks) else None,
            "noise": None if tested is None else _control_facts(tested, "noise", threshold),
            "decoy": None if tested is None else _control_facts(tested, "decoy", threshold),
            "lamella": region.record(self.out), "notes": notes,
        }  # fmt: skip
        view = write_view_files(self.out, name, target.path, picks, target.volume)
        return Result(outputs, facts | {"view": view})

    def _region(self, name: str, target: Target) -> SearchRegion:
        if not self.config.lamella:
            return SearchRegion(target.inside)
        file = self.out / FOLDER / f"{name}.mrc"
        return search_region(target.volume, target.species.radius, target.inside, file, target.imaging.mask)

    def _match(
        self,
        data: Voxels,
        normalize: Normalization,
        template: search_template.SearchTemplate,
        mask: NDArray[np.bool_] | None = None,
        cone: AxisCone | None = None,
        parts: UnfinishedParts = NO_PARTS,
        on_progress: ProgressCallback = no_progress,
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Scores, and indices of the best rotations."""
        values, best = matching.match(
            data, normalize, template, self.rotations, mask=mask, cone=cone,
            floor=float(self.config.regularize), block_voxels=self.config.block_voxels, device=self.device,
            parts=parts, on_progress=on_progress,
        )  # fmt: skip
        return top_hat(values) if self.config.top_hat else values, best

    def search_share(self, name: str, target: Target, share: tuple[int, int]) -> None:
        """Search the tomogram with a share of the rotations: number of the share, and of shares.

        What is searched for then, in one or both hands and as a decoy everywhere, does not depend on what
        is found. The control in noise does, and is left to :meth:`process`.
        """
        grid, parts = on_search_grid(target), self.parts(name)
        templates = {hand: (grid.mirrored() if hand == "mirrored" else grid).search for hand in self._hands}
        # the filter of whitening depends on the sample that is estimated from the scores
        if grid.counts_everywhere and len(templates) == 1 and not self.config.whiten:
            ((hand, template),) = templates.items()
            if self.has_decoy(grid.mirrored() if hand == "mirrored" else grid):
                templates[DECOY] = mirrored(template)
        for step, template in templates.items():
            matching.match_share(
                grid.volume.data, grid.normalize, template, self.rotations, parts.within(step), share,
                mask=grid.inside, cone=grid.cone, block_voxels=self.config.block_voxels, device=self.device,
            )  # fmt: skip

    @property
    def _hands(self) -> tuple[str, ...]:
        return ("given", "mirrored") if self.config.hand == "both" else (self.config.hand,)

    def _hand(
        self, target: Target, parts: UnfinishedParts, on_progress: ProgressCallback
    ) -> tuple[str, Target, NDArray[np.float32], NDArray[np.int32], list[str]]:
        """Search with the template in the hand that is asked for, or in both; the better one is kept.

        Returns the hand, the target on the grid of the search, scores, rotations and notes.
        """
        target = on_search_grid(target)
        hands, results = self._hands, []
        for number, hand in enumerate(hands):
            of_hand = target.mirrored() if hand == "mirrored" else target
            part = portion(on_progress, number / len(hands), (number + 1) / len(hands))
            values, best = self._match(
                target.volume.data, target.normalize, of_hand.search, target.inside, target.cone,
                parts.within(hand), part,
            )  # fmt: skip
            results.append((_mean_of_best(values, of_hand), hand, of_hand, values, best))
        kept, other = results[0], results[-1]
        if other[0] - kept[0] >= MIN_ADVANTAGE * other[0]:
            kept, other = other, kept
        mean, hand, of_hand, values, best = kept
        notes = [] if len(results) == 1 else [_hand_note(hand, mean, other[0])]
        return hand, of_hand, values, best, notes

    def _controls(
        self,
        target: Target,
        values: NDArray[np.float32],
        parts: UnfinishedParts,
        on_progress: ProgressCallback,
    ) -> Controls:
        def scores(
            name: str,
            data: Voxels,
            normalize: Normalization,
            template: search_template.SearchTemplate,
            mask: NDArray[np.bool_] | None,
            cone: AxisCone | None,
        ) -> NDArray[np.float32]:
            number = STEPS.index(name)
            part = portion(on_progress, number / len(STEPS), (number + 1) / len(STEPS))
            return self._match(data, normalize, template, mask, cone, parts.within(name), part)[0]

        return controls(target, values, scores, self.has_decoy(target), self.seed)

    def has_decoy(self, target: Target) -> bool:
        """Whether the mirror image of the template is searched for: on request, or if it differs enough."""
        if self.config.decoy != "auto":
            return self.config.decoy == "mirror"
        return mirror_likeness(target.search, self.config.symmetry) <= MAX_LIKENESS

    def _lacks_decoy(self, target: Target, tested: Controls) -> bool:
        """Whether expected false positives were asked for, and there is no decoy for them."""
        return target.counts_everywhere and self.config.decoy == "auto" and "decoy" not in tested.backgrounds

    def _pick(
        self, target: Target, values: NDArray[np.float32], tested: Controls | None
    ) -> tuple[float, Particles, int]:
        """Threshold, picks, and number of picks that were dropped near the faces."""
        config, threshold = self.config, self.config.threshold
        if threshold is None and tested is not None:
            threshold = tested.best["noise"]
            if config.false_positives is not None:
                threshold = tested.main.threshold(config.false_positives)
        if config.fdr is not None and tested is not None:
            candidates, _ = self._picks(target, values, 0.0)
            kept = candidates.scores[tested.main.q_values(candidates.scores) <= config.fdr]
            threshold = float(kept.min()) if len(kept) else 1.0
        threshold = threshold or 0.0
        return threshold, *self._picks(target, values, threshold)

    def _picks(self, target: Target, values: NDArray[np.float32], threshold: float) -> tuple[Particles, int]:
        """Picks without side lobes, and number of picks that were dropped near the faces."""
        scores = score_map(values, target.volume, target.species, threshold)
        config = self.config.picking(threshold)
        picks, near_edge = pick_counted(scores, config.model_copy(update={"max_count": None}), target.inside)
        picks = picks.take(~side_lobes(picks.positions, picks.scores, target.species.radius))
        return picks.take(np.arange(len(picks))[: config.max_count]), near_edge

    def _posed(self, picks: Particles, best: NDArray[np.int32], grid: Target, target: Target) -> Particles:
        """The picks with the best rotations of their voxels of the grid, refined on request."""
        voxel_size = target.volume.voxel_size
        nearest = np.rint(picks.positions / grid.volume.voxel_size).astype(int)
        z, y, x = np.clip(nearest, 0, np.array(best.shape) - 1).T
        poses = Poses(picks.positions / voxel_size, self.rotations[best[z, y, x]], picks.scores)
        if self.config.refine:
            search = PoseSearch(target.volume.data, target.normalize, target.search, self.device)
            reach = 1 if grid.volume is target.volume else ceil(grid.volume.voxel_size / voxel_size)
            poses = search.refine(poses, self.config.angle, reach)
        return Particles.of(poses.positions * voxel_size, picks.species, picks.scores, poses.rotations)

    def _write(
        self, name: str, score_map: ScoreMap, best: Volume, picks: Particles, volume: Volume
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
        mrc.write(files["rotations"], best.with_data(np.asarray(best.data).astype(kind)))
        with replacing(files["angles"]) as beside:
            rows = np.column_stack([np.arange(len(self.rotations)), eulers_of(self.rotations)])
            np.savetxt(beside, rows, "%d,%.4f,%.4f,%.4f", header="index,rot,tilt,psi", comments="")
        origin = Origin(model=str(self.template), thresholds=score_map.thresholds)
        return {**files, "particles": write_picks(name, self.out, picks, volume, self.output, origin)}


def top_hat(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """White top-hat of scores over the 18 nearest voxels."""
    return ndimage.white_tophat(values, footprint=ndimage.generate_binary_structure(3, 2))


def _mean_of_best(values: NDArray[np.float32], target: Target) -> float:
    """Mean of the highest scores of peaks: `BEST`, or the number of particles that is asked for."""
    count = min(BEST, target.config.max_count or BEST)
    picking = target.config.picking(0.0).model_copy(update={"max_count": count})
    scores = score_map(values, target.volume, target.species, 0.0)
    picks, _ = pick_counted(scores, picking, target.inside)
    return float(picks.scores.mean()) if len(picks) else 0.0


def _hand_note(hand: str, mean: float, other: float) -> str:
    name = "mirrored template" if hand == "mirrored" else "template as given"
    scores = f"mean of the best scores {mean:.3f}, of the other hand {other:.3f}"
    if mean - other < MIN_ADVANTAGE * mean:
        return f"both hands score alike, so the hand is not determined, and the {name} is kept: {scores}"
    text = f"the {name} scores higher: {scores}"
    if hand == "given":
        return text
    return f"{text}; the hand of template or tomogram is wrong, and poses are those of the mirror image"


def _with_statistics(picks: Particles, tested: Controls) -> Particles:
    """Picks with the expected number of false positives at or above each score, and its rate."""
    columns = {
        "cryovoxFalsePositives": [f"{value:.4g}" for value in tested.main.expected(picks.scores)],
        "cryovoxFalseDiscoveryRate": [f"{value:.4g}" for value in tested.main.q_values(picks.scores)],
    }
    return replace(picks, extra={k: np.array(v, dtype=np.str_) for k, v in columns.items()})


def _control_facts(tested: Controls, kind: str, threshold: float) -> dict[str, Any] | None:
    """Best score in noise or of the decoy, and the number of false positives to expect from it."""
    if kind not in tested.backgrounds:
        return None
    background = tested.backgrounds[kind]
    return {
        "share": round(background.share, 4),
        "best": round(tested.best[kind], 5),
        "expected": round(float(background.expected(threshold)[0]), 1),
    }
