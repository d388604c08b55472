"""Picks of one tomogram from its scores, with what is expected of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RunError
from cryovox.core.intensity import sign_of
from cryovox.core.particles import Particles, pickable
from cryovox.core.progress import ProgressCallback
from cryovox.core.volume import ScoreMap, Volume
from cryovox.formats import read_volume, scores
from cryovox.inference.label_map import write_label_map
from cryovox.models.card import Card
from cryovox.picking import PickConfig
from cryovox.picking.config import ControlConfig
from cryovox.picking.curation import Curation
from cryovox.picking.dense import dense_picks
from cryovox.picking.rated import (
    Decoys,
    RatedPicks,
    calibration_of,
    candidates,
    pick_at,
    pick_rated,
    trusted_species,
)
from cryovox.picking.selection import size_notes
from cryovox.workflows.config import PickOutput
from cryovox.workflows.contrast import selected
from cryovox.workflows.curated import Decided, Pool, curate, curation_finding
from cryovox.workflows.finding.results import score_file
from cryovox.workflows.halves import halves_finding
from cryovox.workflows.inputs import calibration_finding, read_search_mask
from cryovox.workflows.lamella import FOLDER, SearchRegion, search_region
from cryovox.workflows.noise_control import NoiseControl
from cryovox.workflows.pick import origin_of, tomogram_frame, write_picks
from cryovox.workflows.view_files import write_view_files

if TYPE_CHECKING:
    from cryovox.workflows.matching.poses import PickPoses


@dataclass(frozen=True, eq=False)
class _Opened:
    """A tomogram with its scores, the mask of the user, the region that is searched, and remarks."""

    scores: ScoreMap
    path: Path
    volume: Volume
    inside: NDArray[np.bool_] | None
    region: SearchRegion
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Picker:
    """Picks from the scores of a tomogram, and records what is expected of the picks."""

    out: Path
    card: Card
    mask: Path | None
    picking: PickConfig
    output: PickOutput
    keep_dense: bool
    lamella: bool
    control: ControlConfig
    noise: NoiseControl
    poses: PickPoses | None
    on_progress: ProgressCallback
    model: Path
    curation: Curation | None = None

    def curated(
        self, decided: Mapping[str, Decided], entries: Mapping[str, Any], failures: Mapping[str, Exception]
    ) -> Picker:
        """A picker whose probabilities follow decisions on these tomograms, of which some may have failed."""
        pools, calibration = {}, None
        for name, own in decided.items():
            if name in failures:
                continue
            opened = self._open(name, entries[name])
            calibration = calibration_of(opened.scores)
            pool = candidates(opened.scores, self.picking, opened.region.mask)
            pools[name] = Pool(pool, opened.scores.species, own)
        if not pools:
            reasons = "; ".join(f"{name}: {failures[name]}" for name in decided)
            message = f"no tomogram with decisions could be searched, so nothing was picked ({reasons})"
            raise RunError("--curated", message, "correct them, or leave the option out")
        return replace(self, curation=curate(calibration, pools, self.control.curated))

    def __call__(self, name: str, entry: Mapping[str, Any]) -> tuple[Particles, dict[str, Any]]:
        """Picks of a tomogram, and the new parts of its entry in the manifest."""
        from cryovox.report.doctor import examine
        from cryovox.report.expected import control_notes, noise_finding, rate_finding

        opened = self._open(name, entry)
        score_map, path, region = opened.scores, opened.path, opened.region
        frame, volume = tomogram_frame(score_map), opened.volume
        transfer = calibration_finding(volume, self.card, path)
        fdr, transfers = self.control.fdr, transfer is not None and transfer.level == "ok"
        certain = trusted_species(calibration_of(score_map), transfers, self.curation)
        names = {species.name for species in pickable(score_map.species)}
        trusted = certain >= names
        curated = self.curation.certain if self.curation is not None else frozenset()
        decoys, noise = self._decoys(name, entry, opened, fdr is not None and not curated >= names)
        rated = pick_rated(
            score_map, self.picking, region.mask,
            fdr=fdr, decoys=decoys, trusted=transfers, curation=self.curation,
        )  # fmt: skip
        picks, dense = rated.picks, 0
        if not self.keep_dense:
            on_specks = dense_picks(volume, picks, score_map.species, sign_of(entry["contrast"]))
            picks, dense = picks.take(~on_specks), int(on_specks.sum())
        agreement = None
        if self.noise.halves is not None:
            halves = self.noise.halves.search(name, entry, score_map, region.mask, self.on_progress)
            picks, agreement = self.noise.halves.compared(picks, halves, score_map, region.mask)
        notes = [*opened.notes, *rated.notes(self.picking)]
        if self.poses is not None:
            picks, of_poses = self.poses(name, path, picks, entry)
            notes += of_poses
        file = write_picks(name, self.out, picks, frame, self.output, origin_of(self.model, rated))
        if score_map.kind == "heatmap":  # its labels are balls around these picks
            write_label_map(score_map, frame, self.out / "labels" / f"{name}.mrc", picks, opened.inside)
        view = write_view_files(self.out, name, path, picks, frame)
        expected = replace(rated, picks=picks).summary()
        controls = [
            None if score_map.calibration is None or (self.curation is not None and trusted) else transfer,
            None if self.curation is None else curation_finding(self.curation),
            None if agreement is None else halves_finding(agreement),
            None if noise is None else noise_finding(expected, noise["share"], noise["source"]),
            None if fdr is None else rate_finding(expected, fdr, rated.by_probabilities >= names),
        ]
        findings = [*filter(None, controls), *region.findings, *examine(volume, path)]
        outside = self._outside(region, score_map, rated, opened.inside)
        record = {
            "file": str(file.relative_to(self.out)),
            "view": view,
            "count": len(picks),
            "left_out": {"at_faces": rated.near_edge, "dense": dense, "lamella": outside},
            "lamella": region.record(self.out),
            "species": list(self.picking.species),
            "by_contrast": self.picking.by_contrast,
            "expected": expected,
            "notes": [*control_notes(controls), *notes],
            "findings": [astuple(finding) for finding in findings],
        }
        return picks, {"particles": record} | ({} if noise is None else {"noise": noise})

    def inputs(self, name: str) -> list[Path]:
        """Files besides the tomogram, its mask and the model on which the picks depend."""
        halves = () if self.noise.halves is None else self.noise.halves.files(name)
        return [*halves, *(() if self.poses is None else self.poses.posing.templates().values())]

    def _open(self, name: str, entry: Mapping[str, Any]) -> _Opened:
        stored = scores.in_memory(scores.read(score_file(self.out, name)))
        stored = replace(stored, calibration=self.card.calibration)
        score_map = selected(stored, self.picking, self.out, name, entry, self.card)
        inside = read_search_mask(self.mask, name, tomogram_frame(score_map).shape)
        path = Path(entry["key"]["input"])
        volume = read_volume(path, entry["voxel_size"])
        region = self._region(name, volume, score_map, inside)
        notes = tuple(size_notes(stored, self.picking, self.control.fdr))
        return _Opened(score_map, path, volume, inside, region, notes)

    def _decoys(
        self, name: str, entry: Mapping[str, Any], opened: _Opened, needed: bool
    ) -> tuple[Decoys | None, dict[str, Any] | None]:
        """Candidates in noise and the record of their search; `--fdr` needs noise of the background."""
        share = 1.0 if needed else self.control.noise_control
        if not share:
            return None, None
        pool = candidates(opened.scores, self.picking, opened.region.mask) if needed else None
        decoys, record = self.noise.run(name, entry, share, self.on_progress, pool)
        return decoys.scaled(opened.region.fraction), record

    def _region(
        self, name: str, volume: Volume, score_map: ScoreMap, inside: NDArray[np.bool_] | None
    ) -> SearchRegion:
        if not self.lamella:
            return SearchRegion(inside)
        radius = max(species.radius for species in score_map.species)
        return search_region(volume, radius, inside, self.out / FOLDER / f"{name}.mrc", self.mask)

    def _outside(
        self, region: SearchRegion, score_map: ScoreMap, rated: RatedPicks, inside: NDArray[np.bool_] | None
    ) -> int:
        """Number of picks that the estimated boundary of the sample leaves out."""
        if region.lamella is None:
            return 0
        everything = self.picking.model_copy(update={"max_count": None, "purpose": None})
        return region.outside(pick_at(score_map, everything, inside, rated.thresholds)[0])
