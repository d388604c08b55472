"""Domain generalization with classes of equal size and unlike shape.

In `zsda` one class holds all structures, so a blob as large as the particle is nearly right. Here every
structure is a class, the classes have the same size, and the confusion between them is scored: the network
has to distinguish shapes under imaging conditions that it has not seen. Settings are chosen in
`zsda-classes-ablations`, whose classes and target microscopes are not those of `zsda-classes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.benchmark.adaptation.cubes import Scale, TargetFactory
from cryovox.benchmark.adaptation.suite import (
    NETWORK,
    SOURCE_ONLY,
    SUPERVISED,
    VOX_UDA,
    VOX_ZSDA,
    AdaptationMethod,
    MethodsOfSize,
    variant,
)
from cryovox.benchmark.suite import Scores, Tier
from cryovox.benchmark.training import SHORT
from cryovox.benchmark.zero_shot.suite import FIRST, ZeroShotSuite
from cryovox.core.errors import RequestError
from cryovox.formats import subtomograms as files
from cryovox.formats.subtomograms import Subtomograms
from cryovox.metrics import segmentation
from cryovox.simulate.config.subtomograms import SubtomogramConfig
from cryovox.simulate.subtomograms import write_subtomograms
from cryovox.workflows.simulation.templates import templates

NOTHING = "nothing"
"""Column of a confusion matrix for cubes without any predicted voxel."""
SOURCE = SubtomogramConfig(voxel_size=8.0, snr=0.5, resolution=25.0, envelope=0.7, offset=0.06)
MICROSCOPE = {"snr": 0.3, "resolution": 15.0, "envelope": 1.0}
"""What the targets have in common; with less signal no method knows the classes (decision 39)."""
TARGET = SOURCE.model_copy(update=MICROSCOPE | {"defocus": 3.0, "tilt": 40.0})
VALIDATION_TARGET = SOURCE.model_copy(update=MICROSCOPE | {"defocus": 3.5, "tilt": 45.0})
NOISY = SOURCE.model_copy(update={"snr": 0.15})
CLASSES = ("beta-galactosidase", "apo-ferritin", "p97", "atp-synthase")
"""465 to 560 kDa, masks of 1,524 to 1,916 voxels (8 % in diameter); pairs correlate at 0.50 to 0.75."""
VALIDATION_CLASSES = ("clpb", "thyroglobulin", "proteasome-20s", "photosystem-ii")
"""593 to 700 kDa, masks of 2,176 to 2,364 voxels; pairs correlate at 0.59 to 0.72."""
COUNTS: dict[Tier, int] = {"smoke": 2, "cpu": 150, "gpu": 500}
"""Subtomograms of each class in every domain."""


def simulate_classes(
    path: Path, species: Sequence[str], config: SubtomogramConfig, count: int, seed: int
) -> Subtomograms:
    """Simulate *count* subtomograms of every species, each of which is a class."""
    found = templates(list(species), config.voxel_size, None, config.resolution)
    write_subtomograms(path, found, config, count * len(species), seed)
    return files.read(path)


def simulate_domain(config: SubtomogramConfig, seed: int, folder: Path, scale: Scale) -> Subtomograms:
    """Simulate the classes of the source under another microscope."""
    return simulate_classes(folder / f"world-{seed}.zarr", scale.train_species, config, scale.target, seed)


def domains(seed: int, target: SubtomogramConfig) -> dict[str, TargetFactory]:
    """Domains of a suite: another microscope, more noise, and the conditions of the source."""
    conditions = {FIRST: target, "more noise": NOISY, "same microscope": SOURCE}
    return {
        name: partial(simulate_domain, config, seed + number)
        for number, (name, config) in enumerate(conditions.items())
    }


NO_CONSISTENCY, VARIED = {"consistency": False}, {"clean": 0.0}
NO_RECONSTRUCTION, NO_CONTRAST = {"graph.graph_learning": False}, {"graph.graph_contrast": False}
NO_GRAPH: dict[str, Any] = NO_RECONSTRUCTION | NO_CONTRAST
FIXED: dict[str, Any] = {
    "graph.gradient_share": 0.0, "graph.foreground_nodes": 0.0, "graph.node_position": 0.0,
    "graph.contrast_edges": False,
}  # fmt: skip
"""The graph with weights of 0.1, nodes of the features alone, and a contrast of single nodes."""
BALANCED: dict[str, Any] = {
    "graph.gradient_share": 0.3, "graph.foreground_nodes": 0.5, "graph.node_position": 1.0,
    "graph.contrast_edges": True,
}  # fmt: skip
"""The graph with balanced gradients, half of the nodes in the foreground, and edges in the contrast."""
VARIANTS: dict[str, dict[str, Any]] = {
    "fixed weights": FIXED,
    "balanced graph": BALANCED,
    "balanced graph, no reconstruction": BALANCED | NO_RECONSTRUCTION,
    "balanced graph, no contrast": BALANCED | NO_CONTRAST,
    "balanced graph, nodes without foreground": BALANCED
    | {"graph.foreground_nodes": 0.0, "graph.node_position": 0.0},
    "balanced graph, contrast without edges": BALANCED | {"graph.contrast_edges": False},
    "balanced graph, 32 nodes": BALANCED | {"graph.clusters": 32},
    "no graph": NO_GRAPH,
    "no graph, no consistency": NO_GRAPH | NO_CONSISTENCY,
    "no graph, every view varied": NO_GRAPH | VARIED,
    "no graph, no consistency, every view varied": NO_GRAPH | NO_CONSISTENCY | VARIED,
}
"""Vox-ZSDA with another graph, or with less than the graph."""
HALF_BATCH = ("fixed weights", "balanced graph", "no graph")
"""Also with half of the batch of a CPU: two views of a cube take as long as one view of two."""
HEAVY = "heavy-augmentation"
"""Also with twice the batch of a CPU: as many images in each step as with two views."""


def methods(size: str) -> tuple[AdaptationMethod, ...]:
    """Source-only training, domain generalization, and two references that use the target."""
    names = (SOURCE_ONLY, HEAVY, "fourier-mixing", VOX_ZSDA, VOX_UDA, SUPERVISED)
    plain = (AdaptationMethod(name, NETWORK, size, strategy=name) for name in names)
    return (*plain, variant(f"{VOX_ZSDA}, balanced graph", size, VOX_ZSDA, BALANCED))


def variants(size: str) -> tuple[AdaptationMethod, ...]:
    """Vox-ZSDA with several graphs, heavy augmentation, and both bounds."""
    half: dict[str, Any] = {"train": {"loop.batch": SHORT["loop.batch"] // 2}}
    changed = (
        *(variant(name, size, VOX_ZSDA, own) for name, own in VARIANTS.items()),
        *(variant(f"{name}, half the batch", size, VOX_ZSDA, VARIANTS[name], **half) for name in HALF_BATCH),
    )
    twice = AdaptationMethod(
        f"{HEAVY}, twice the batch",
        NETWORK,
        size,
        train={"loop.batch": 2 * SHORT["loop.batch"]},
        strategy=HEAVY,
    )
    names = (HEAVY, SOURCE_ONLY, SUPERVISED)
    return (*changed, twice, *(AdaptationMethod(name, NETWORK, size, strategy=name) for name in names))


class ClassesSuite(ZeroShotSuite):
    """Subtomograms of several classes in several domains.

    Parameters
    ----------
    rows
        Function that returns the methods of a size.
    classes
        Species, each of which is a class.
    targets
        Name -> function that simulates a target.
    microscope
        Imaging conditions of the source.
    """

    headlines = ("mean_iou", "class_accuracy", "iou")

    def __init__(
        self,
        name: str,
        title: str,
        rows: MethodsOfSize,
        classes: tuple[str, ...],
        targets: dict[str, TargetFactory],
        microscope: SubtomogramConfig = SOURCE,
    ) -> None:
        super().__init__(name, title, rows, targets)
        self.classes, self.microscope = classes, microscope

    def scale(self, tier: Tier) -> Scale:
        return Scale(self.classes, (), COUNTS[tier], COUNTS[tier])

    def simulate_source(self, path: Path, scale: Scale, snr: float, seed: int) -> Subtomograms:
        return simulate_classes(path, scale.train_species, self.microscope, scale.source, seed)

    def classes_of(self, data: Subtomograms) -> Subtomograms:
        return data

    def _prepare_user_data(self, folder: Path, data: Path) -> dict[str, Any]:
        facts = super()._prepare_user_data(folder, data)
        sets = (files.read(folder / f"{name}.zarr") for name in (AdaptationMethod.data, FIRST))
        source, target = ([s.name for s in one.species] for one in sets)
        if source != target:
            message = (
                f"has the species {', '.join(source)} in its source and {', '.join(target)} in its target"
            )
            raise RequestError(data, message, "give both sets the same species with the same labels")
        return facts

    def references(self, folder: Path) -> dict[str, Scores]:
        """None: a threshold does not distinguish classes."""
        return {}

    def evaluate(
        self, predicted: NDArray[Any], truth: NDArray[Any], names: Sequence[str]
    ) -> dict[str, float]:
        return class_scores(predicted, truth, names)


def class_scores(predicted: NDArray[Any], truth: NDArray[Any], names: Sequence[str]) -> dict[str, float]:
    """Overlap by class, and confusion of the classes of whole cubes.

    Parameters
    ----------
    predicted, truth : (n, z, y, x)
        Labels, 0 is background, i + 1 is class i.
    names
        Of the classes.

    Returns
    -------
    dict
        "mean_iou" over the classes and "iou" of their union, from pooled voxels; "class_accuracy", the mean
        over the classes of the share of cubes with the right class; and this share for every pair of classes,
        such as "confusion/p97 as clpb".
    """
    flat, true_flat = (maps.reshape(-1, *maps.shape[2:]) for maps in (predicted, truth))
    counts = segmentation.confusion(flat, true_flat, len(names) + 1)
    shares = cube_confusion(predicted, truth, len(names))
    matrix = {
        f"confusion/{true} as {guess}": round(float(share), 5)
        for true, row in zip(names, shares, strict=True)
        for guess, share in zip((NOTHING, *names), row, strict=True)
    }
    return {
        "mean_iou": round(segmentation.macro(segmentation.iou(counts)), 5),
        "class_accuracy": round(float(np.diag(shares[:, 1:]).mean()), 5),
        "iou": round(float(segmentation.iou(segmentation.binary(counts))[1]), 5),
        **matrix,
    }


def cube_confusion(predicted: NDArray[Any], truth: NDArray[Any], classes: int) -> NDArray[np.float64]:
    """Share of the cubes of each class that are taken for each class, the one of most voxels.

    Returns
    -------
    (classes, classes + 1)
        Rows are true classes and sum to 1; the first column counts cubes without any foreground.
    """
    guesses, trues = majority_class(predicted, classes), majority_class(truth, classes)
    counts = np.zeros((classes + 1, classes + 1))
    np.add.at(counts, (trues, guesses), 1)
    shares: NDArray[np.float64] = counts[1:] / np.maximum(counts[1:].sum(1, keepdims=True), 1)
    return shares


def majority_class(labels: NDArray[Any], classes: int) -> NDArray[np.intp]:
    """Class with most voxels of every cube (n, z, y, x), 0 for an empty one."""
    sizes = np.stack([(labels == label).sum((1, 2, 3)) for label in range(1, classes + 1)], 1)
    return np.where(sizes.any(1), sizes.argmax(1) + 1, 0)


CLASSES_SUITE = ClassesSuite(
    "zsda-classes",
    "Domain generalization with classes of equal size under unseen imaging conditions",
    methods,
    CLASSES,
    domains(2100, TARGET),
)
ABLATIONS = ClassesSuite(
    "zsda-classes-ablations",
    "Ablations of Vox-ZSDA with classes of equal size",
    variants,
    VALIDATION_CLASSES,
    domains(2200, VALIDATION_TARGET),
)
ABLATIONS.reference = HEAVY
