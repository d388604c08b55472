"""Data of the interactive part of the picking report: slices, scores, picks and what is expected of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import astuple, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from cryovox.core.particles import Particles, Species, concatenate
from cryovox.metrics.matching import greedy
from cryovox.picking.lamella import Lamella
from cryovox.picking.rated import PROBABILITY
from cryovox.report import planes
from cryovox.report.figures import COLORS, dense_place
from cryovox.report.page import text_of
from cryovox.report.pick_lists import list_texts

if TYPE_CHECKING:
    from cryovox.report.html import ReportEntry

SLICE_BYTES, SCORE_BYTES = 5_600_000, 1_300_000
"""Bytes of all slices and of all scores of a page before base64, which adds a third."""
MAX_THUMBNAILS = 1800
"""Thumbnails on a page."""
MAX_PICKS = 12_000
"""Picks of a tomogram in the viewer, best first."""
HIT = 0.5
"""Maximum distance between a pick and a particle, as a fraction of the radius of the particle."""


def viewer_context(entries: Sequence[ReportEntry]) -> dict[str, Any] | None:
    """What the template needs; None where there is nothing to show."""
    if not entries:
        return None
    picks = [_candidates(entry) for entry in entries]
    names = _unique([entry.name for entry in entries])
    frames = [entry.volume for entry in entries]
    lists = list_texts(dict(zip(names, picks, strict=True)), dict(zip(names, frames, strict=True)))
    share = 1 / len(entries)
    tomograms, first = [], 0
    for name, entry, own in zip(names, entries, picks, strict=True):
        tomograms.append(_tomogram(name, entry, own, first, share))
        first += len(own)
    data: dict[str, Any] = {"tomograms": tomograms}
    data["lists"] = {kind: _list(text) for kind, text in lists.items()}
    rows = "\n".join(lists["star"].rows) if lists else ""
    data["id"] = sha256(rows.encode()).hexdigest()[:16]
    return {
        "data": Markup(json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")),
        "script": Markup(text_of("viewer.js")),
        "style": Markup(text_of("viewer.css")),
        "names": names,
        "has_scores": any(one["scores"] for one in tomograms),
        "has_lamella": any(one["lamella"] for one in tomograms),
        "has_picks": first > 0,
    }


def _unique(names: Sequence[str]) -> list[str]:
    """Names without duplicates."""
    return [name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names)]


def _candidates(entry: ReportEntry) -> Particles:
    """Picks of a tomogram, and weaker candidates below the threshold, best first."""
    picks = entry.particles
    weaker = entry.weaker() if entry.weaker is not None and picks.rotations is None else None
    if weaker is None or not len(weaker):
        return picks.sorted().take(_first(MAX_PICKS, len(picks)))
    unknown = {name: np.full(len(weaker), "nan") for name in picks.extra}
    weaker = replace(weaker, extra=unknown, rotations=None, metadata=picks.metadata)
    if not len(picks):
        return weaker.sorted().take(_first(MAX_PICKS, len(weaker)))
    joined = concatenate([replace(one, tomograms=None) for one in (picks, weaker)])
    return joined.sorted().take(_first(MAX_PICKS, len(joined)))


def _first(most: int, count: int) -> NDArray[np.intp]:
    """Indices of the first *most* of *count* items."""
    return np.arange(min(most, count))


def _tomogram(name: str, entry: ReportEntry, picks: Particles, first: int, share: float) -> dict[str, Any]:
    """Everything that the page shows of a tomogram.

    Parameters
    ----------
    first
        Row of its first pick in the particle lists.
    share
        Part of the size of the page that it may take.
    """
    kinds = entry.kinds()
    stack = planes.slices(entry.volume, int(SLICE_BYTES * share))
    some = picks.take(_first(int(MAX_THUMBNAILS * share), len(picks)))
    return {
        "name": name,
        "shape": list(entry.volume.shape),
        "voxel": entry.volume.voxel_size,
        "sign": entry.sign,
        "slices": {
            "pixel": stack.sampling.pixel,
            "depth": stack.sampling.depth,
            "rows": stack.shape[0],
            "columns": stack.shape[1],
            "window": list(stack.window),
            "images": [_base64(image) for image in stack.images],
        },
        "scores": _scores(entry, stack, picks, share),
        "species": [_species(i, kind, entry, picks) for i, kind in enumerate(kinds)],
        "picks": _picks(entry, picks, kinds),
        "first": first,
        "thumbnails": {
            "side": planes.THUMBNAIL,
            "columns": planes.COLUMNS,
            "reach": planes.REACH,
            "count": len(some) if kinds else 0,
            "image": _base64(planes.thumbnails(entry.volume, some, kinds)) if kinds and len(some) else "",
        },
        "lamella": _lamella(entry.lamella),
        "truth": None if entry.truth is None else len(entry.truth),
        "start": _start(entry, stack),
    }


def _start(entry: ReportEntry, stack: planes.Slices) -> int:
    """Slice to open: that of the static figures."""
    return dense_place(entry.volume, entry.particles, entry.kinds())[0] // stack.sampling.depth


def _scores(
    entry: ReportEntry, stack: planes.Slices, picks: Particles, share: float
) -> dict[str, Any] | None:
    scores = entry.scores
    if scores is None or not scores.species:
        return None
    depth, order = stack.sampling.depth, {kind.name: i for i, kind in enumerate(entry.kinds())}
    centers = [
        (min((k + 1) * depth, entry.volume.shape[0]) - 1 + k * depth) / 2 * entry.volume.voxel_size
        for k in range(len(stack.images))
    ]
    least = min([value for value in entry.thresholds.values() if value > 0], default=0.2)
    best = float(picks.scores.max()) if len(picks) else 1.0
    coded = planes.score_slices(scores, centers, least, best, int(SCORE_BYTES * share))
    return {
        "pixel": coded.pixel * scores.voxel_size / entry.volume.voxel_size,
        "start": (scores.offset - scores.voxel_size / 2) / entry.volume.voxel_size,
        "rows": coded.shape[0],
        "columns": coded.shape[1],
        "levels": coded.levels,
        "low": round(coded.low, 5),
        "high": round(coded.high, 5),
        "species": [order.get(kind.name, -1) for kind in scores.species],
        "first": list(coded.first),
        "images": {str(z): _base64(image) for z, image in coded.images.items()},
    }


def _species(i: int, kind: Species, entry: ReportEntry, picks: Particles) -> dict[str, Any]:
    own = picks.named(kind.name).scores
    threshold = entry.thresholds.get(kind.name, float(own.min()) if len(own) else 0.0)
    expected = entry.expected.get(kind.name, {})
    noise = None
    if entry.decoys is not None:
        scores, scale = entry.decoys.of(kind.name)
        lowest = min(threshold, float(own.min()) if len(own) else threshold)
        kept = np.sort(scores[scores >= lowest])[::-1]
        noise = {"scores": np.round(kept, 4).tolist(), "scale": round(float(scale), 4)}
    curve = expected.get("curve") or [
        [row["score"], row["precision"], row["recall"]]
        for row in expected.get("cuts", ())
        if row["score"] is not None and row["picks"]
    ]
    return {
        "name": kind.name,
        "radius": kind.radius,
        "extended": kind.extended,
        "color": COLORS[i % len(COLORS)],
        "threshold": round(float(threshold), 6) if np.isfinite(threshold) else 1.0,
        "curve": sorted(curve),
        "particles": expected["cuts"][0]["particles"] if expected.get("cuts") else None,
        "noise": noise,
        "truth": _truth_count(kind, entry),
    }


def _picks(entry: ReportEntry, picks: Particles, kinds: Sequence[Species]) -> dict[str, Any]:
    """Columns of the picks: positions in voxels, species by number, and whether they are particles."""
    order = {kind.name: i for i, kind in enumerate(kinds)}
    zyx = np.round(picks.positions / entry.volume.voxel_size, 2)
    columns: dict[str, Any] = {axis: zyx[:, i].tolist() for i, axis in enumerate("zyx")}
    columns["species"] = [order.get(str(name), 0) for name in picks.species]
    columns["score"] = [round(float(score), 5) for score in picks.scores]
    probability = picks.extra.get(PROBABILITY)
    columns["probability"] = None if probability is None else [_number(cell) for cell in probability]
    columns["hit"] = None if entry.truth is None else _hits(entry, picks, entry.truth).astype(int).tolist()
    return columns


def _number(cell: object) -> float | None:
    value = float(str(cell))
    return round(value, 4) if np.isfinite(value) else None


def _names_differ(truth: Particles, kinds: Sequence[Species]) -> bool:
    """Whether no true particle has the name of a species that is picked, as with models of any size."""
    return not np.isin(truth.species, [kind.name for kind in kinds]).any()


def _truth_count(kind: Species, entry: ReportEntry) -> int | None:
    if entry.truth is None or _names_differ(entry.truth, entry.kinds()):
        return None
    return int((entry.truth.species == kind.name).sum())


def _hits(entry: ReportEntry, picks: Particles, truth: Particles) -> NDArray[np.bool_]:
    """Which picks match a particle one to one; species count only if they have the same names."""
    kinds, radii = entry.kinds(), entry.truth_radii
    middle = float(np.median([kind.radius for kind in kinds])) if kinds else 0.0
    hits = np.zeros(len(picks), dtype=bool)
    if _names_differ(truth, kinds):
        within = np.array([HIT * radii.get(str(name), middle) for name in truth.species])
        hits[greedy(picks.positions, truth.positions, within, picks.scores).predicted] = True
        return hits
    for kind in kinds:
        own = np.flatnonzero(picks.species == kind.name)
        pairs = greedy(
            picks.positions[own], truth.named(kind.name).positions, HIT * kind.radius, picks.scores[own]
        )
        hits[own[pairs.predicted]] = True
    return hits


def _lamella(lamella: Lamella | None) -> dict[str, Any] | None:
    if lamella is None:
        return None
    faces = {"lower": lamella.lower, "upper": lamella.upper}
    return {k: None if f is None else [round(v, 5) for v in astuple(f)] for k, f in faces.items()}


def _list(text: Any) -> dict[str, Any]:
    return {"head": text.head, "rows": list(text.rows), "columns": text.columns}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
