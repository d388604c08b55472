"""Lists of picks that a person kept or rejected, and the candidates that they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cryovox.core.decisions import decisions_of
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species, concatenate
from cryovox.core.volume import Volume
from cryovox.formats import is_particles, read_header, read_particles, usable_voxel_size
from cryovox.formats.tomogram_names import OtherTomogramError, listed
from cryovox.metrics.matching import greedy
from cryovox.picking.calibration import Calibration
from cryovox.picking.curation import Curated, Curation, recalibrate
from cryovox.report.doctor import Finding

OPTION = "--curated"
CHECK = "curated picks"
SAME_PLACE = 1.0
"""Å within which two decisions are on the same pick."""
ANY = "*"
"""Species of picks of a list that names none: that of the nearest candidate."""


@dataclass(frozen=True, eq=False)
class Decided:
    """Picks of a tomogram on which a person decided.

    Attributes
    ----------
    picks
        Of which the species is `ANY` where the list names none.
    kept : (n,)
        1 for kept and 0 for rejected picks.
    """

    picks: Particles
    kept: NDArray[np.float64]


def read_decisions(
    lists: Sequence[Path], tomograms: Mapping[str, Path], voxel_size: float | None
) -> dict[str, Decided]:
    """Decisions on the picks of tomograms, by name of the tomogram; undecided picks are left out.

    Parameters
    ----------
    lists
        Particle lists with a column `keep`.
    tomograms
        Tomograms by name.
    voxel_size
        Of the tomograms in Å; overrides their headers.
    """
    frames = _frames(tomograms, voxel_size)
    parts: dict[str, list[Particles]] = {}
    for path in lists:
        for name, picks in _by_tomogram(path, frames).items():
            parts.setdefault(name, []).append(picks)
    decided = {name: _joined(own, lists) for name, own in parts.items()}
    decided = {name: own for name, own in decided.items() if len(own.kept)}
    if lists and not decided:
        message = f"{listed(map(str, lists))}: no pick is kept or rejected"
        raise RequestError(OPTION, message, "write 1 or yes, 0 or no into the column `keep`")
    return decided


def _frames(tomograms: Mapping[str, Path], voxel_size: float | None) -> dict[str, Volume]:
    """Shape and voxel size of the tomograms; those that cannot be read fail later."""
    frames = {}
    for name, path in tomograms.items():
        with suppress(RequestError, OSError):
            header = read_header(path)
            size = usable_voxel_size(path, header, voxel_size)
            empty = np.broadcast_to(np.int8(0), header.shape)
            frames[name] = Volume(empty, size, header.origin, header.nstart)
    return frames


def _by_tomogram(path: Path, frames: Mapping[str, Volume]) -> dict[str, Particles]:
    """Picks of a list by name of the tomogram."""
    if not is_particles(path):
        raise RequestError(OPTION, f"{path} is no particle list", "give a STAR, CSV or other particle list")
    picks, other = {}, None
    for name, frame in frames.items():
        try:
            own = read_particles(path, tomogram=frame, species=ANY, tomogram_names=(name,))
        except OtherTomogramError as error:
            other = error
            continue
        decisions_of(own, path)
        if len(frames) > 1 and (own.tomograms is None or not any(own.tomograms.tolist())):
            remedy = "add a column `tomogram` (CSV) or rlnTomoName (STAR), or search one tomogram"
            raise RequestError(path, "names no tomogram, and there are several", remedy)
        picks[name] = own
    if not picks and other is not None:
        remedy = "search the tomograms of the list, or name them as in the list"
        raise RequestError(OPTION, f"{path} has no picks of {listed(frames)}", remedy)
    return picks


def _joined(parts: Sequence[Particles], lists: Sequence[Path]) -> Decided:
    """Decisions of several lists; repeated ones count once, and those that contradict others are refused."""
    files = listed(map(str, lists))
    kept = np.concatenate([decisions_of(part, files) for part in parts])
    plain = [Particles.of(part.positions, part.species.tolist()) for part in parts]
    is_decided = np.isfinite(kept)
    picks, kept = concatenate(plain).take(is_decided), kept[is_decided]
    first, second = KDTree(picks.positions).query_pairs(SAME_PLACE, output_type="ndarray").T
    same = picks.species[first] == picks.species[second]
    first, second = first[same], second[same]
    if len(opposed := first[kept[first] != kept[second]]):
        z, y, x = picks.positions[opposed[0]]
        place = f"x {x:.1f}, y {y:.1f}, z {z:.1f} Å"
        message = f"{files}: {len(np.unique(opposed))} picks are both kept and rejected, such as {place}"
        raise RequestError(OPTION, message, "decide once on each pick")
    once = np.ones(len(kept), bool)
    once[second] = False
    return Decided(picks.take(once), kept[once])


@dataclass(frozen=True, eq=False)
class Pool:
    """Candidates of a tomogram, of which some are decided."""

    candidates: Particles
    species: tuple[Species, ...]
    decided: Decided

    def curated(self) -> tuple[dict[str, Curated], int]:
        """Decisions on the candidates of each species, and the number of those at no candidate."""
        nearest = self._species_of_decisions()
        curated, matched = {}, 0
        for kind in self.species:
            own = self.candidates.named(kind.name)
            which = np.flatnonzero(nearest == kind.name)
            kept = np.full(len(own), np.nan)
            positions = self.decided.picks.positions[which]
            if len(own) and len(which):
                distance = KDTree(own.positions).query(positions)[0]
                pairs = greedy(positions, own.positions, kind.radius, -distance)
                kept[pairs.truth] = self.decided.kept[which[pairs.predicted]]
                matched += len(pairs)
            curated[kind.name] = Curated(np.asarray(own.scores, np.float64), kept)
        return curated, len(self.decided.kept) - matched

    def _species_of_decisions(self) -> NDArray[np.str_]:
        """Species of each decision; that of the nearest candidate where the list names none."""
        names = self.decided.picks.species.astype(object)
        unnamed = names == ANY
        if unnamed.any() and len(self.candidates):
            nearest = KDTree(self.candidates.positions).query(self.decided.picks.positions[unnamed])[1]
            names[unnamed] = self.candidates.species[nearest]
        return names.astype(np.str_)


def curate(calibration: Calibration | None, pools: Mapping[str, Pool], lists: Sequence[Path]) -> Curation:
    """Recalibrate by the decisions on the candidates of tomograms.

    Parameters
    ----------
    calibration
        Of the model.
    pools
        Tomogram to its candidates and decisions.
    lists
        Files of the decisions, for messages.
    """
    files = listed(map(str, lists))
    known = {kind.name for pool in pools.values() for kind in pool.species}
    named = {str(name) for pool in pools.values() for name in pool.decided.picks.species}
    if not named & (known | {ANY}):
        message = f"{files} has picks of {listed(named)}; species that are picked: {listed(known)}"
        raise RequestError(OPTION, message, "name the species as in the picks that were inspected")
    parts: dict[str, list[Curated]] = {}
    unmatched = 0
    for pool in pools.values():
        curated, missing = pool.curated()
        unmatched += missing
        for name, own in curated.items():
            parts.setdefault(name, []).append(own)
    others = sorted(named - known - {ANY})
    of_others = sum(int(np.isin(pool.decided.picks.species, others).sum()) for pool in pools.values())
    curation = replace(recalibrate(calibration, parts, unmatched - of_others), others=tuple(others))
    if not curation.outcomes:
        message = f"{files}: none of {unmatched} decisions lies within a radius of a candidate of its species"
        remedy = (
            "check with `cryovox doctor TOMOGRAM --particles LIST` that list and tomogram belong together"
        )
        raise RequestError(OPTION, message, remedy)
    return curation


def curation_finding(curation: Curation) -> Finding:
    """How decisions changed probabilities."""
    parts = [
        f"{name}: {own.kept} kept, {own.rejected} rejected, mean probability of these {own.before:.2f} by "
        f"the model and {own.after:.2f} now"
        for name, own in sorted(curation.outcomes.items())
    ]
    text = f"probabilities and thresholds follow your decisions; {'; '.join(parts)}"
    if curation.unmatched:
        text += f"; {curation.unmatched} decisions lie at no candidate and are not used"
    if curation.others:
        text += f"; decisions on {listed(curation.others)}, which is not picked under this name, are not used"
    return Finding("note", CHECK, text)
