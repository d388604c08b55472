"""Generalisation without a target: one simulated source, and worlds that no contestant has seen.

Every contestant learns from the same source and is scored in all worlds; two references know more:
`vox-uda` sees the first world without its labels, `target-supervised` 85 % of it with labels. Scores in
the first world are therefore given on the other 15 % (plain) and on all of it ("all").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
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
)
from cryovox.benchmark.adaptation_cubes import (
    ELSEWHERE,
    NOISY,
    OFFSET,
    SOURCE,
    CubeSuite,
    Make,
    Scale,
    unseen,
)
from cryovox.benchmark.adaptation_real import RealSuite
from cryovox.benchmark.adaptation_tomograms import TomogramAdaptationSuite
from cryovox.benchmark.subtomograms import blobs, bright, masks, scores, simulated
from cryovox.benchmark.suite import Scores
from cryovox.formats import subtomograms as files
from cryovox.formats.subtomograms import Subtomograms
from cryovox.simulate.config.subtomograms import SubtomogramConfig
from cryovox.workflows.devices import Device

FIRST = "target"
NEAR = 0.5
"""How far the middle of what is found may lie from the middle of the target, over its radius."""


Species = Callable[[Scale], tuple[str, ...]]
OTHERS = ("clpb", "photosystem-ii", "fatty-acid-synthase")
"""As large as those of the source, and in no world of `zsda`."""
OTHER = SubtomogramConfig(snr=0.03, defocus=4.0, tilt=50.0, resolution=30.0, envelope=0.7, offset=OFFSET)
"""A microscope that `zsda` does not test."""


def known(scale: Scale) -> tuple[str, ...]:
    """The species of the source."""
    return scale.seen


def unknown(scale: Scale) -> tuple[str, ...]:
    """Those of the target."""
    return scale.unseen


def others(scale: Scale) -> tuple[str, ...]:
    """As many as of the target, for choices."""
    return OTHERS[: len(scale.unseen)]


def drawn(species: Species, config: SubtomogramConfig, seed: int, *, shared: bool = True) -> Make:
    """A world with as many subtomograms of each species as the target has, or *shared* by all of them."""
    return partial(draw, species, config, seed, shared)


def draw(
    species: Species, config: SubtomogramConfig, seed: int, shared: bool, folder: Path, scale: Scale
) -> Subtomograms:
    """Simulate it; at the top of the module, so that other processes find it."""
    named = species(scale)
    count = max(1, scale.target // len(named)) if shared else scale.target
    return simulated(folder / f"world-{seed}.zarr", named, config, count, seed)


WORLDS: dict[str, Make] = {
    FIRST: unseen,
    "unseen, more noise": drawn(unknown, NOISY, 700),
    "seen, other microscope": drawn(known, ELSEWHERE, 800),
    "seen, same microscope": drawn(known, SOURCE, 900),
}
CHOICES: dict[str, Make] = {
    FIRST: drawn(others, OTHER, 1300, shared=False),
    "unseen, more noise": drawn(others, NOISY, 1700),
    "seen, other microscope": drawn(known, OTHER, 1800),
    "seen, same microscope": drawn(known, SOURCE, 1900),
}
"""Worlds to choose by, so that nothing is chosen by what `zsda` tests."""
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

    def __init__(self, name: str, title: str, rows: Rows, worlds: dict[str, Make] = WORLDS) -> None:
        source = "our own protocol, as only the abstract of Vox-ZSDA (IJCV 2026) is public"
        super().__init__(name, title, source, rows, worlds)

    def of_the_user(self) -> tuple[str, ...]:
        return (FIRST,)

    def score(self, model: Path, row: Adapter, folder: Path, out: Path, device: Device) -> Parts:
        from cryovox.workflows.segment import label_set

        def found(images: Subtomograms) -> NDArray[Any]:
            return label_set(model, images, device)

        return self._in_all_worlds(folder, found)

    def references(self, folder: Path) -> dict[str, Scores]:
        floor = self._in_all_worlds(folder, lambda given: blobs(bright(given)))
        named = {", ".join(filter(None, ("chosen", part))): dict(row) for part, row in floor.items()}
        return {"floor: threshold, no training": named}

    def _in_all_worlds(self, folder: Path, label: Callable[[Subtomograms], NDArray[Any]]) -> Parts:
        parts: dict[str, dict[str, float]] = {}
        for world in (w for w in self.targets if (folder / f"{w}.zarr").exists()):
            truth = files.read(folder / f"{world}.zarr")
            found, true = label(replace(truth, masks=None)), masks(truth)
            if world != FIRST:
                parts[world] = judged(found, true)
                continue
            known = len(files.read(folder / f"{world}-train.zarr"))
            parts |= {"": judged(found[known:], true[known:]), "all": judged(found, true)}
        return parts


def judged(found: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
    """Overlap, and how often the target was found where it is."""
    return {**scores(found, truth), "localisation_f1": round(localisation(found, truth), 5)}


def localisation(found: NDArray[Any], truth: NDArray[Any]) -> float:
    """F1 of the middle of the largest piece in every cube against the middle of the target.

    Parameters
    ----------
    found, truth : (n, z, y, x)
        The radius of a target is that of a ball with as many voxels. Finding nothing is a miss; a
        middle elsewhere is a miss and a false alarm, and where there is no target a false alarm.
    """
    hits, claims, targets = 0, 0, int(truth.any((1, 2, 3)).sum())
    for mask, true in zip(found, truth, strict=True):
        if (middle := largest(mask)) is None:
            continue
        claims += 1
        if not true.any():
            continue
        radius = (3 * true.sum() / (4 * np.pi)) ** (1 / 3)
        away = np.linalg.norm(np.subtract(middle, ndimage.center_of_mass(true)))
        hits += int(away <= NEAR * radius)
    return 2 * hits / max(1, claims + targets)


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
ABLATIONS = ZeroShotSuite("zsda-ablations", "Ablations of Vox-ZSDA", variants, CHOICES)
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
