"""Rows of template matching with the true structures: TM, and TM-F with flat spectra.

Each species is searched for in the test tomograms. As the difference-of-Gaussians picker, both are given the
true number of particles, here of each species. Of two overlapping picks of different species the one with the
lower score is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.benchmark.suite import Scores, Tier
from cryovox.core.atomic import replacing
from cryovox.core.dataset import Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species, concatenate
from cryovox.simulate.particles import library
from cryovox.workflows.matching.config import DEFAULT_TILTS, MatchConfig

ROWS: dict[str, dict[str, Any]] = {"TM": {}, "TM-F": {"whiten": True}}
"""Settings in which the rows differ. What the published TM-F filters is not known."""
ANGLES: dict[Tier, float] = {"smoke": 60.0, "cpu": 21.1, "gpu": 15.0}
SMOKE = 4
"""Rotations of the tier "smoke", which only shows that everything runs."""
FILE = "template_matching.json"


def write_rows(
    folder: Path,
    dataset: Dataset,
    true: Particles,
    tier: Tier,
    scores: Callable[[Particles], Scores],
) -> None:
    """Search the test tomograms for all species of *true* with a known structure, and keep the scores."""
    rows = {}
    for name, settings in ROWS.items():
        picks = matches(dataset, true, ANGLES[tier], settings, SMOKE if tier == "smoke" else None)
        if picks is not None:
            rows[f"{name}, given the true particle counts"] = scores(picks)
    with replacing(folder / FILE) as beside:
        beside.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def read_rows(folder: Path) -> dict[str, Scores]:
    """Rows of :func:`write_rows`; none where it was not called."""
    file = folder / FILE
    if not file.exists():
        return {}
    rows: dict[str, Scores] = json.loads(file.read_text(encoding="utf-8"))
    return rows


def matches(
    dataset: Dataset,
    true: Particles,
    angle: float,
    settings: Mapping[str, Any],
    rotations: int | None = None,
) -> Particles | None:
    """Best matches of each species in each test tomogram, as many as there are particles.

    None if no structure is known. *rotations* limits their number.
    """
    names = set(true.species.tolist())
    kinds = [s for s in dataset.species if s.name in names and template_of(s) is not None]
    lists = []
    for entry in dataset.split("test"):
        there = true.within(entry.name)
        counts = {kind.name: len(there.named(kind.name)) for kind in kinds}
        picks = [
            _best(entry, kind, MatchConfig(angle=angle, max_count=counts[kind.name], **settings), rotations)
            for kind in kinds
            if counts[kind.name]
        ]
        if picks:
            lists.append(_without_overlaps(concatenate(picks), {kind.name: kind.radius for kind in kinds}))
    return concatenate(lists) if lists else None


def template_of(species: Species) -> tuple[Path, str] | None:
    """Structure file of a species, or its name if it is built in, and its point group."""
    if species.structure is not None and Path(species.structure).exists():
        return Path(species.structure), "C1"
    try:
        return Path(species.name), library.SPECIES[library.canonical_name(species.name)].group
    except RequestError:
        return None


def _best(entry: Entry, species: Species, config: MatchConfig, rotations: int | None) -> Particles:
    """Best matches of a species in a tomogram."""
    from cryovox.inference.matching import match
    from cryovox.inference.rotation_grid import rotation_grid
    from cryovox.picking import pick_counted
    from cryovox.workflows.devices import choose_device
    from cryovox.workflows.matching.background import score_map
    from cryovox.workflows.matching.search_grid import on_search_grid
    from cryovox.workflows.matching.target import Imaging, open_target

    known = template_of(species)
    if known is None:
        return Particles.of(np.zeros((0, 3)), [])
    template, symmetry = known
    changes = {"symmetry": symmetry, "name": species.name, "radius": species.radius, "border": 0.0}
    config = config.model_copy(update=changes)
    imaging = Imaging(entry.tilt_range or DEFAULT_TILTS, entry.tilt_axis, entry.contrast, entry.mask)
    try:
        target = on_search_grid(open_target(entry.tomogram, entry.name, template, imaging, config))
    except RequestError:  # smaller than three voxels, or larger than the tomogram
        return Particles.of(np.zeros((0, 3)), [])
    values, _ = match(
        target.volume.data, target.normalize, target.search,
        rotation_grid(config.angle, symmetry)[:rotations], mask=target.inside,
        device=choose_device("auto"),
    )  # fmt: skip
    scores = score_map(values, target.volume, target.species, 0.0)
    picks, _ = pick_counted(scores, config.picking(0.0), target.inside)
    return Particles.of(picks.positions, species.name, picks.scores, tomograms=entry.name)


def _without_overlaps(picks: Particles, radii: Mapping[str, float]) -> Particles:
    """Leave out picks within the smaller of two radii of a higher-scoring pick, best first."""
    picks = picks.sorted()
    radius = np.array([radii[name] for name in picks.species.tolist()], dtype=np.float64)
    kept: list[int] = []
    for number, position in enumerate(picks.positions):
        gaps = np.linalg.norm(picks.positions[kept] - position, axis=1)
        if (gaps >= np.minimum(radius[kept], radius[number])).all():
            kept.append(number)
    return picks.take(np.array(kept, dtype=np.intp))
