"""Domain generalization: train on one simulated source, test in unseen imaging domains.

Every method trains on the same source and is scored in all domains. Two references use the first domain:
`vox-uda` without labels, `target-supervised` with the labels of 85 % of it. Scores in the first domain are
therefore reported on the other 15 % (plain) and on all of it ("all").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryovox.benchmark.adaptation.cubes import (
    NOISY,
    OFFSET,
    OTHER_MICROSCOPE,
    SOURCE,
    CubeSuite,
    Scale,
    TargetFactory,
    unseen_target,
)
from cryovox.benchmark.adaptation.suite import (
    NETWORK,
    SOURCE_ONLY,
    VOX_ZSDA,
    AdaptationMethod,
    MethodsOfSize,
    SubsetScores,
    as_chosen,
    variant,
    zsda_methods,
)
from cryovox.benchmark.adaptation.tomograms import TomogramAdaptationSuite
from cryovox.benchmark.real_tomogram import RealSuite
from cryovox.benchmark.subtomograms import (
    THRESHOLD,
    bright_images,
    labels,
    scores,
    simulate_set,
    threshold_baseline,
)
from cryovox.benchmark.suite import Scores
from cryovox.formats import subtomograms as files
from cryovox.formats.subtomograms import Subtomograms
from cryovox.simulate.config.subtomograms import SubtomogramConfig
from cryovox.workflows.devices import Device

FIRST = "target"
MATCH_RADIUS = 0.5
"""Largest distance of a hit from the center of the target, in radii of the target."""


Species = Callable[[Scale], tuple[str, ...]]
VALIDATION_SPECIES = ("clpb", "photosystem-ii", "fatty-acid-synthase")
"""Of the sizes of the source species, and in no domain of `zsda`."""
VALIDATION_MICROSCOPE = SubtomogramConfig(
    snr=0.03, defocus=4.0, tilt=50.0, resolution=30.0, envelope=0.7, offset=OFFSET
)
"""A microscope that is not tested in `zsda`."""


def source_species(scale: Scale) -> tuple[str, ...]:
    """Species of the source."""
    return scale.train_species


def target_species(scale: Scale) -> tuple[str, ...]:
    """Species of the target."""
    return scale.novel_species


def validation_species(scale: Scale) -> tuple[str, ...]:
    """Species for validation, as many as the target has."""
    return VALIDATION_SPECIES[: len(scale.novel_species)]


def domain(species: Species, config: SubtomogramConfig, seed: int, *, shared: bool = True) -> TargetFactory:
    """A domain with the target's number of subtomograms for each species, or *shared* by all of them."""
    return partial(simulate_domain, species, config, seed, shared)


def simulate_domain(
    species: Species, config: SubtomogramConfig, seed: int, shared: bool, folder: Path, scale: Scale
) -> Subtomograms:
    """Simulate a domain. The function is at the top of the module so that it can be pickled."""
    names = species(scale)
    count = max(1, scale.target // len(names)) if shared else scale.target
    return simulate_set(folder / f"world-{seed}.zarr", names, config, count, seed)


DOMAINS: dict[str, TargetFactory] = {
    FIRST: unseen_target,
    "unseen, more noise": domain(target_species, NOISY, 700),
    "seen, other microscope": domain(source_species, OTHER_MICROSCOPE, 800),
    "seen, same microscope": domain(source_species, SOURCE, 900),
}
VALIDATION_DOMAINS: dict[str, TargetFactory] = {
    FIRST: domain(validation_species, VALIDATION_MICROSCOPE, 1300, shared=False),
    "unseen, more noise": domain(validation_species, NOISY, 1700),
    "seen, other microscope": domain(source_species, VALIDATION_MICROSCOPE, 1800),
    "seen, same microscope": domain(source_species, SOURCE, 1900),
}
"""Domains for the selection of settings, separate from the test domains of `zsda`."""
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
"""Vox-ZSDA with one setting changed."""


def variants(size: str) -> tuple[AdaptationMethod, ...]:
    """Source-only training, heavy augmentation, and Vox-ZSDA with one setting changed."""
    changed = (variant(name, size, VOX_ZSDA, own) for name, own in VARIANTS.items())
    names = (SOURCE_ONLY, "heavy-augmentation")
    return (*changed, *(AdaptationMethod(name, NETWORK, size, strategy=name) for name in names))


class ZeroShotSuite(CubeSuite):
    """Subtomograms with one particle each, in several domains."""

    headlines: tuple[str, ...] = ("mean_iou_per_sample", "iou", "dice", "localisation_f1")
    shown = ("chosen",)
    """Only the adapting reference has more than one model."""

    def __init__(
        self,
        name: str,
        title: str,
        methods: MethodsOfSize,
        domains: dict[str, TargetFactory] = DOMAINS,
    ) -> None:
        source = "our own protocol, because only the abstract of Vox-ZSDA (IJCV 2026) is public"
        super().__init__(name, title, source, methods, domains)

    def user_targets(self) -> tuple[str, ...]:
        return (FIRST,)

    def score(
        self, model: Path, method: AdaptationMethod, folder: Path, out: Path, device: Device
    ) -> SubsetScores:
        from cryovox.workflows.label_sets import label_set

        def predict(data: Subtomograms) -> NDArray[Any]:
            return label_set(model, data, device)

        return self._score_domains(folder, predict)

    def references(self, folder: Path) -> dict[str, Scores]:
        baseline = self._score_domains(folder, lambda data: threshold_baseline(bright_images(data)))
        return {THRESHOLD: as_chosen(baseline)}

    def domain_names(self) -> tuple[str, ...]:
        """Names of the domains that are scored."""
        return tuple(self.targets)

    def _score_domains(self, folder: Path, predict: Callable[[Subtomograms], NDArray[Any]]) -> SubsetScores:
        table: dict[str, dict[str, float]] = {}
        for name in (name for name in self.domain_names() if (folder / f"{name}.zarr").exists()):
            data = files.read(folder / f"{name}.zarr")
            predicted, true = predict(replace(data, masks=None)), labels(data)
            names = [s.name for s in data.species]
            if name != FIRST:
                table[name] = self.evaluate(predicted, true, names)
                continue
            n_train = len(files.read(folder / f"{name}-train.zarr"))
            table[""] = self.evaluate(predicted[n_train:], true[n_train:], names)
            table["all"] = self.evaluate(predicted, true, names)
        return table

    def evaluate(
        self, predicted: NDArray[Any], truth: NDArray[Any], names: Sequence[str]
    ) -> dict[str, float]:
        """Scores of predicted labels (n, z, y, x) in one domain; label i + 1 has name i."""
        return cube_scores(predicted, truth)


def cube_scores(predicted: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
    """Overlap of masks and F1 of the localization."""
    return {**scores(predicted, truth), "localisation_f1": round(localization(predicted, truth), 5)}


def localization(predicted: NDArray[Any], truth: NDArray[Any]) -> float:
    """F1 of the center of the largest component in every cube.

    A hit lies within `MATCH_RADIUS` of the center of the target, whose radius is that of a ball with as many
    voxels. An empty prediction is a false negative; a center elsewhere is also a false positive.

    Parameters
    ----------
    predicted, truth : (n, z, y, x)
        Binary masks.
    """
    hits, predictions, targets = 0, 0, int(truth.any((1, 2, 3)).sum())
    for mask, true in zip(predicted, truth, strict=True):
        if (center := largest_component_center(mask)) is None:
            continue
        predictions += 1
        if not true.any():
            continue
        radius = (3 * true.sum() / (4 * np.pi)) ** (1 / 3)
        distance = np.linalg.norm(np.subtract(center, ndimage.center_of_mass(true)))
        hits += int(distance <= MATCH_RADIUS * radius)
    return 2 * hits / max(1, predictions + targets)


def largest_component_center(mask: NDArray[Any]) -> tuple[float, ...] | None:
    """Center of mass of the largest connected component; None for an empty mask."""
    components, count = ndimage.label(mask)
    if not count:
        return None
    label = 1 + int(np.argmax(ndimage.sum_labels(mask > 0, components, range(1, count + 1))))
    center: tuple[float, ...] = ndimage.center_of_mass(components == label)
    return center


ZSDA = ZeroShotSuite(
    "zsda",
    "Domain generalization to unseen structures, noise levels and microscopes",
    zsda_methods,
)
ABLATIONS = ZeroShotSuite("zsda-ablations", "Ablations of Vox-ZSDA", variants, VALIDATION_DOMAINS)
ABLATIONS.reference = VOX_ZSDA
TOMOGRAMS = TomogramAdaptationSuite(
    "zsda-tomograms",
    "Domain generalization from our simulated tomograms to those of another simulator",
    zsda_methods,
)
REAL = RealSuite(
    "zsda-real",
    "Domain generalization from simulations to a real tomogram: recall of ribosomes",
    zsda_methods,
    matched=False,
)
TOMOGRAMS.shown = REAL.shown = ZeroShotSuite.shown
