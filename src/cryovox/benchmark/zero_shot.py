"""Generalisation without a target: one simulated source, and worlds that no contestant has seen.

Every contestant learns from the same source and is scored in all worlds; two references know more:
`vox-uda` sees the first world without its labels, `target-supervised` 85 % of it with labels. Scores in
the first world are therefore given on the other 15 % (plain) and on all of it ("all").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryovox.benchmark.adaptation import (
    NETWORK,
    SOURCE_ONLY,
    VOX_ZSDA,
    Adapter,
    Parts,
    Rows,
    blind,
    smoke,
)
from cryovox.benchmark.adaptation_cubes import (
    ELSEWHERE,
    NOISY,
    SOURCE,
    CubeSuite,
    Make,
    Scale,
    unseen,
)
from cryovox.benchmark.adaptation_real import RealSuite
from cryovox.benchmark.adaptation_tomograms import TomogramAdaptationSuite
from cryovox.benchmark.subtomograms import blobs, images, masks, scores, simulated
from cryovox.benchmark.suite import Budget, Plan, Scores, Tier
from cryovox.formats import subtomograms as files
from cryovox.formats.subtomograms import Subtomograms
from cryovox.workflows.devices import Device

FIRST = "target"
NEAR = 0.5
"""How far the middle of what is found may lie from the middle of the target, over its radius."""


def noisier(folder: Path, scale: Scale) -> Subtomograms:
    """Structures that the source does not know, in more noise, under its own microscope."""
    return simulated(folder / "noisier.zarr", scale.unseen, NOISY, few(scale, scale.unseen), 700)


def elsewhere(folder: Path, scale: Scale) -> Subtomograms:
    """The structures of the source under another microscope."""
    return simulated(folder / "elsewhere.zarr", scale.seen, ELSEWHERE, few(scale, scale.seen), 800)


def alike(folder: Path, scale: Scale) -> Subtomograms:
    """Others drawn as those of the source."""
    return simulated(folder / "alike.zarr", scale.seen, SOURCE, few(scale, scale.seen), 900)


def few(scale: Scale, species: tuple[str, ...]) -> int:
    """Subtomograms of each species that make about as many as one species of the target has."""
    return max(1, scale.target // len(species))


WORLDS: dict[str, Make] = {
    FIRST: unseen,
    "unseen, more noise": noisier,
    "seen, other microscope": elsewhere,
    "seen, same microscope": alike,
}
VARIANTS: dict[str, dict[str, Any]] = {
    VOX_ZSDA: {},
    "no graph learning": {"graph.graph_learning": False},
    "no graph contrast": {"graph.graph_contrast": False},
    "no graph": {"graph.graph_learning": False, "graph.graph_contrast": False},
    "no consistency": {"consistency": False},
    "prior alone": {"consistency": False, "graph.graph_learning": False, "graph.graph_contrast": False},
    "static edges": {"graph.edges": "static"},
    "K 8": {"graph.clusters": 8},
    "K 32": {"graph.clusters": 32},
    "nodes are blocks": {"graph.nodes": "blocks"},
    "same node only": {"graph.positives": "matched"},
    "same label only": {"graph.positives": "labels"},
    "coarser features": {"graph.tokens": 64},
    "finer features": {"graph.tokens": 4096},
    "every view varied": {"clean": 0.0},
    "graph x10": {"graph.graph_weight": 1.0, "graph.contrast_weight": 1.0},
}
"""One thing changed in Vox-ZSDA."""


def variants(size: str) -> tuple[Adapter, ...]:
    """The source alone, heavy augmentation, and Vox-ZSDA with one thing changed."""
    changed = (
        Adapter(name, NETWORK, size, strategy=VOX_ZSDA, adapting={f"own.{k}": v for k, v in own.items()})
        for name, own in VARIANTS.items()
    )
    plain = (Adapter(name, NETWORK, size, strategy=name) for name in (SOURCE_ONLY, "heavy-augmentation"))
    return (*changed, *plain)


class ZeroShotSuite(CubeSuite):
    """Subtomograms with one target each, in several worlds."""

    headlines = ("mean_iou_per_sample", "iou", "dice", "localisation_f1")
    shown = ("chosen",)
    """There is one model of each training, but for the reference that adapts."""

    def __init__(self, name: str, title: str, rows: Rows) -> None:
        source = "our own protocol, as only the abstract of Vox-ZSDA (IJCV 2026) is public"
        super().__init__(name, title, source, rows, WORLDS)

    def plan(self, tier: Tier) -> Plan:
        found = super().plan(tier)
        return found if tier != "smoke" else seconds_of(self.contestants("xs"))

    def score(self, model: Path, row: Adapter, folder: Path, out: Path, device: Device) -> Parts:
        from cryovox.workflows.sets import label_set

        def found(images: Subtomograms) -> NDArray[Any]:
            return label_set(model, images, device)

        return self._in_all_worlds(folder, found)

    def references(self, folder: Path) -> dict[str, Scores]:
        floor = self._in_all_worlds(folder, lambda given: blobs(images(given)))
        named = {", ".join(filter(None, ("chosen", part))): dict(row) for part, row in floor.items()}
        return {"floor: threshold, no training": named}

    def _in_all_worlds(self, folder: Path, label: Callable[[Subtomograms], NDArray[Any]]) -> Parts:
        parts: dict[str, dict[str, float]] = {}
        for world in self.targets:
            truth = files.read(folder / f"{world}.zarr")
            found, true = label(replace(truth, masks=None)), masks(truth)
            if world != FIRST:
                parts[world] = judged(found, true)
                continue
            known = len(files.read(folder / f"{world}-train.zarr"))
            parts |= {"": judged(found[known:], true[known:]), "all": judged(found, true)}
        return parts


def seconds_of(rows: tuple[Adapter, ...]) -> Plan:
    """A plan of seconds: the source alone, what generalises, and what adapts."""
    kept = smoke(rows).contestants
    more = tuple(r for r in rows if r.strategy in (VOX_ZSDA, "heavy-augmentation"))[:2]
    return Plan((*kept, *more), (Budget(steps=4),), seeds=1)


def judged(found: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
    """Overlap, and how often the target was found where it is."""
    return {**scores(found, truth), "localisation_f1": round(localisation(found, truth), 5)}


def localisation(found: NDArray[Any], truth: NDArray[Any]) -> float:
    """F1 of the middle of the largest piece in every cube against the middle of the target.

    Parameters
    ----------
    found, truth : (n, z, y, x)
        The radius of a target is that of a ball with as many voxels. Finding nothing is a miss; a
        middle elsewhere is a miss and a false alarm.
    """
    hits, claims = 0, 0
    for mask, true in zip(found, truth, strict=True):
        if (middle := largest(mask)) is None:
            continue
        claims += 1
        radius = (3 * true.sum() / (4 * np.pi)) ** (1 / 3)
        away = np.linalg.norm(np.subtract(middle, ndimage.center_of_mass(true)))
        hits += int(away <= NEAR * radius)
    return 2 * hits / max(1, claims + len(truth))


def largest(mask: NDArray[Any]) -> tuple[float, ...] | None:
    """The middle of the largest connected piece."""
    pieces, number = ndimage.label(mask)
    if not number:
        return None
    of = 1 + int(np.argmax(ndimage.sum_labels(mask > 0, pieces, range(1, number + 1))))
    middle: tuple[float, ...] = ndimage.center_of_mass(pieces == of)
    return middle


ZSDA = ZeroShotSuite(
    "zsda",
    "From one simulated source to unseen structures, noises and microscopes, without any target",
    blind,
)
ABLATIONS = ZeroShotSuite("zsda-ablations", "Ablations of Vox-ZSDA", variants)
ABLATIONS.reference = VOX_ZSDA
TOMOGRAMS = TomogramAdaptationSuite(
    "zsda-tomograms", "From our simulated tomograms to those of another simulator, without any target", blind
)
REAL = RealSuite(
    "zsda-real",
    "From simulations to a real tomogram, without any target: recall of ribosomes",
    blind,
    likeness=False,
)
TOMOGRAMS.shown = REAL.shown = ZeroShotSuite.shown
