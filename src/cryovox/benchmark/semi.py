"""Picking from few labels and many unlabelled tomograms.

The protocol follows SemiETPicker (ISBI 2026), whose label fractions and tables are not public: a stand-in of
the CZII phantom in which few particles are labelled. Every method is trained once for each amount of labels,
and these are the conditions of the table. Voxels without a pick count as unlabelled, not as background.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.benchmark.suite import Budget, Job, Method, Plan, Scores, Suite, Tier
from cryovox.benchmark.tomograms import Scale, in_tomogram, scaled_preset, stand_in, true_particles
from cryovox.benchmark.training import SHARED, job_settings, shared_settings
from cryovox.core.dataset import Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.intensity import sign_of
from cryovox.core.particles import Particles, concatenate
from cryovox.core.volume import ScoreMap
from cryovox.data.config import PatchConfig
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_particles, read_volume, stem, write_particles
from cryovox.formats import scores as score_files
from cryovox.metrics import czii
from cryovox.metrics.detection import detection, f_beta, precision_recall
from cryovox.models import MODELS
from cryovox.picking import PickConfig, pick
from cryovox.picking.blobs import dog
from cryovox.workflows.devices import Device

SCALES: dict[Tier, Scale] = {
    "smoke": Scale((48, 96, 96), count=2, n_train=2),
    "cpu": Scale((48, 96, 96), count=16, n_train=4, voxel_size=20.0),
    "gpu": Scale((184, 630, 630), count=50, n_train=7),
}
Labels = dict[Tier, tuple[str, ...]]
BUDGETS: Labels = {"smoke": ("30 picks",), "cpu": ("1 %", "30 picks"), "gpu": ("1 %", "30 picks")}
OTHER = ("5 %", "10 %", "one tomogram", "all")
AMOUNTS: Labels = {"smoke": OTHER[:1], "cpu": OTHER, "gpu": OTHER}
NO_ERRORS, BOTH_ERRORS = "all, none wrong", "all, 30 % missing, 20 % shifted"
ERRORS: Labels = {
    "smoke": (BOTH_ERRORS,),
    "cpu": (NO_ERRORS, BOTH_ERRORS),
    "gpu": (NO_ERRORS, "all, 30 % missing", "all, 20 % shifted", BOTH_ERRORS),
}
SHIFT = 0.5
"""Distance of a shifted pick from its particle, in radii."""
MethodsOfSize = Callable[[str], tuple["PickingMethod", ...]]
LEVELS = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8)
"""Thresholds of the candidates for `best_f1`: heatmaps use the lowest only, masks use all."""


@dataclass(frozen=True)
class PickingMethod(Method):
    """A network and the strategy that trains it from few labels.

    Attributes
    ----------
    strategy
        Row of the table of strategies.
    own
        Settings of the strategy of this row alone, by dotted name, such as ``{"own.views": 1}``.
    class_prior
        Whether the method is given the true share of unlabelled particles, as positive-unlabelled learning
        needs.
    """

    strategy: str = "supervised"
    own: Mapping[str, Any] = field(default_factory=dict)
    class_prior: bool = False


NETWORK = "heatmap-unet"
DOG_PICKER = "difference-of-Gaussians picker, given the true count per species"
MASKS = "residual-unet"
"""The same backbone with mask output; picks are the connected regions, split at necks."""
TEACHER_STUDENT = {
    "pseudo-labels, two rounds": "pseudo-labels",
    "mean teacher": "heatmap-mean-teacher",
    "fixmatch": "heatmap-fixmatch",
    "semi-etpicker": "semi-etpicker",
}
"""Name of a row -> its teacher-student strategy."""
ALL_METHODS = {"supervised.drop_block": 0.03}
"""Settings of all methods. The averaging of weights is the same too, for teachers and for final models."""
TEACHER = {"own.teacher_decay": SHARED["supervised.ema"]}


def semi_methods(size: str) -> tuple[PickingMethod, ...]:
    """Supervised training with and without a positive-unlabelled loss, and teacher-student strategies."""
    return (
        PickingMethod("supervised", NETWORK, size, train={"supervised.unknown": "ignore"}),
        PickingMethod("nnpu", NETWORK, size, train={"supervised.unknown": "pu"}, class_prior=True),
        PickingMethod("masks and regions", MASKS, size, train={"supervised.unknown": "ignore"}),
        *(
            PickingMethod(name, NETWORK, size, strategy=strategy, own=TEACHER)
            for name, strategy in TEACHER_STUDENT.items()
        ),
    )


VARIANTS: dict[str, dict[str, Any]] = {
    "semi-etpicker": {},
    "teacher follows": {"own.rounds": 0},
    "one view": {"own.views": 1, "own.agreement": 0.0},
    "8 views": {"own.views": 8},
    "no agreement": {"own.agreement": 0.0},
    "no DropBlock": {"own.student_drop": 0.0, "own.deep_drop": 0.0},
    "no ignore band": {"own.ignore": False},
    "fixed thresholds": {"own.adaptive": False},
    "threshold 0.5": {"own.high": 0.5},
    "one species in a place": {"own.exclusive": True},
}
"""SemiETPicker with one setting changed."""


def variants(size: str) -> tuple[PickingMethod, ...]:
    """SemiETPicker with one setting changed."""
    changed = (
        PickingMethod(name, NETWORK, size, strategy="semi-etpicker", own=TEACHER | own)
        for name, own in VARIANTS.items()
    )
    positive_unlabelled = PickingMethod(
        "risk of what is unknown", NETWORK, size, train={"supervised.unknown": "pu"},
        strategy="semi-etpicker", own=TEACHER, class_prior=True,
    )  # fmt: skip
    return (*changed, positive_unlabelled)


class SemiSuite(Suite):
    """F1 of picks within half a radius, by amount of labels.

    Parameters
    ----------
    methods
        Function that returns the methods of a size.
    labels
        Amounts of labels, see `labelled`.
    """

    source = "our own protocol, after SemiETPicker (ISBI 2026) on a stand-in of the CZII phantom"
    headlines: tuple[str, ...] = ("f1", "best_f1", "f_beta4")

    def __init__(self, name: str, title: str, reference: str, methods: MethodsOfSize, labels: Labels) -> None:
        self.name, self.title, self.reference = name, title, reference
        self.methods, self.labels = methods, labels

    def plan(self, tier: Tier) -> Plan:
        models = len(self.labels[tier])
        if tier == "smoke":
            return Plan(self.methods("s")[-1:], (Budget(steps=4),), seeds=1, models_per_job=models)
        if tier == "cpu":
            return Plan(self.methods("s"), (Budget(time="4m"),), models_per_job=models)
        return Plan(self.methods("paper"), (Budget(time="9m"),), models_per_job=models)

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        if data is None:
            scale = SCALES[tier]
            dataset, metadata = stand_in(
                folder / "phantom", scaled_preset("czii-phantom", scale), scale.n_train, scale.n_test
            )
            metadata["stand-in"] = "simulated: preset czii-phantom in a smaller box, built-in structures"
        else:
            dataset, metadata = dataset_files.read(data), {"folder": data.name}
            check_user_data(data, dataset)
        dataset_files.write(folder / "test", dataset)
        counts = {}
        for labels in self.labels[tier]:
            few = labelled(dataset, labels, folder / labels)
            dataset_files.write(folder / labels, few)
            picked = tuple(e for e in few.entries if e.particles is not None)
            counts[labels] = sum(len(read_picks(e)) for e in picked)
            dataset_files.write(folder / f"{labels}, alone", few.model_copy(update={"entries": picked}))
        return metadata | {"labels": counts}

    def run(self, job: Job, folder: Path, out: Path, device: Device) -> Scores:
        models = {name: self.trained(job, folder, name, out / name, device) for name in label_amounts(folder)}
        return {
            name: {**self.score(folder, model, out / name, device), "steps": steps(model)}
            for name, model in models.items()
        }

    def score(self, folder: Path, model: Path, out: Path, device: Device) -> dict[str, float]:
        """Scores of the picks of a model in the test tomograms."""
        return score(dataset_files.read(folder / "test"), model, out, device)

    def trained(self, job: Job, folder: Path, labels: str, out: Path, device: Device) -> Path:
        """Train a method on an amount of labels; returns its model file."""
        from cryovox.training.strategies import STRATEGIES
        from cryovox.workflows.config import train_config
        from cryovox.workflows.training.run import train

        method = job.method if isinstance(job.method, PickingMethod) else PickingMethod(**vars(job.method))
        semi = STRATEGIES[method.strategy].task == "semi-supervised"
        common = shared_settings(device) | ALL_METHODS | dict(method.own)
        if method.class_prior:
            common |= self.unlabelled_particles(folder, labels)
        config = job_settings(replace(job, method=method), common, kind=train_config(method.strategy))
        data = folder / (labels if semi else f"{labels}, alone")
        return train(data, out / "run", config, device=device)

    def unlabelled_particles(self, folder: Path, labels: str) -> dict[str, float]:
        """Expected number of unlabelled particles per labelled one in the training patches."""
        complete = self.picked_entries(folder)
        few = dataset_files.read(folder / f"{labels}, alone").split("train")
        total, labelled = (sum(len(read_picks(e)) for e in entries) for entries in (complete, few))
        voxels = sum(voxel_count(e) for e in complete)
        per_patch = (total - labelled) * min(1.0, MODELS[NETWORK].patch ** 3 / voxels)
        return {"supervised.unlabelled_ratio": round(per_patch / PatchConfig().foreground, 3)}

    def picked_entries(self, folder: Path) -> list[Entry]:
        """Training entries with all of their picks."""
        entries = dataset_files.read(folder / "test").split("train")
        return [e for e in entries if e.particles is not None]

    def references(self, folder: Path) -> dict[str, Scores]:
        """A difference-of-Gaussians picker for each species, given the true counts."""
        tests = dataset_files.read(folder / "test")
        picks = dog_baseline(tests)
        row = species_scores(picks, [picks], tests)
        return {DOG_PICKER: dict.fromkeys(label_amounts(folder), row)}


def check_user_data(data: Path, dataset: Dataset) -> None:
    """Raise an error for datasets without training picks, test picks, or unique names of test tomograms."""
    tests = dataset.split("test")
    if not tests:
        raise RequestError(data, "has no entry with split: test", "set `split:` in dataset.yaml")
    unpicked = [e.name for e in tests if e.particles is None]
    if unpicked:
        message = f"{unpicked[0]} of split test has no particle list"
        raise RequestError(data, message, "add `particles:`, or use another split")
    names = [stem(e.tomogram) for e in tests]
    duplicates = sorted(name for name in set(names) if names.count(name) > 1)
    if duplicates:
        message = f"several tomograms of split test are called {duplicates[0]}"
        raise RequestError(data, message, "rename them; `cryovox fetch dataset` links them by entry")
    if not len(true_particles(dataset)):
        raise RequestError(
            data, "has no particles in its test entries", "add particle lists that are not empty"
        )
    if not any(e.particles is not None for e in dataset.split("train")):
        raise RequestError(data, "has no particle lists for training", "add `particles:` to training entries")


def voxel_count(entry: Entry) -> int:
    """Number of voxels of an entry within its box."""
    bounds = entry.box.bounds(read_volume(entry.tomogram).shape)
    return int(np.prod([high - low for low, high in bounds]))


def steps(model: Path) -> int:
    """Number of training steps of a model."""
    return int(json.loads((model.parent / "manifest.json").read_text(encoding="utf-8"))["steps"])


def label_amounts(folder: Path) -> list[str]:
    """Names of the amounts of labels that `prepare` wrote."""
    return sorted(p.name for p in folder.iterdir() if (folder / f"{p.name}, alone").is_dir())


def labelled(dataset: Dataset, labels: str, folder: Path) -> Dataset:
    """The training entries with some of their picks; entries without picks are unlabelled.

    Parameters
    ----------
    labels
        "1 %" of each species (at least one), "30 picks" evenly over the species, "one tomogram", "all", or
        all picks in lists marked as incomplete, with or without errors: "all, none wrong", "all, 30 %
        missing, 20 % shifted".
    folder
        Output folder of the remaining picks.
    """
    entries = [e for e in dataset.split("train") if e.particles is not None]
    unpicked = [without_picks(e) for e in dataset.split("train") if e.particles is None]
    if labels == "all":
        kept = entries
    elif labels == "one tomogram":
        kept = [entries[0], *map(without_picks, entries[1:])]
    elif labels.startswith("all, "):
        kept = with_errors(entries, {s.name: s.radius for s in dataset.species}, labels, folder)
    else:
        kept = subsampled(entries, [s.name for s in dataset.species], labels, folder)
    entries = [e.model_copy(update={"labels": None}) for e in (*kept, *unpicked)]
    return dataset.model_copy(update={"entries": tuple(entries)})


def subsampled(entries: list[Entry], species: list[str], labels: str, folder: Path) -> list[Entry]:
    """Entries with few picks of each species, drawn over all entries with a fixed seed."""
    lists = [read_picks(e) for e in entries]
    owner = np.concatenate([np.full(len(p), i) for i, p in enumerate(lists)])
    names = np.concatenate([p.species for p in lists])
    rng, chosen = np.random.default_rng(0), np.zeros(len(names), bool)
    for i, name in enumerate(species):
        own = rng.permutation(np.flatnonzero(names == name))
        if labels.endswith("%"):
            count = max(1, round(float(labels.rstrip("% ")) / 100 * len(own)))
        else:
            count = len(range(i, int(labels.split()[0]), len(species)))
        chosen[own[:count]] = True
    kept = []
    for i, (entry, picks) in enumerate(zip(entries, lists, strict=True)):
        index = np.flatnonzero(chosen[owner == i])
        if not len(index):
            kept.append(without_picks(entry))
            continue
        path = folder / "picks" / f"{entry.name}.csv"
        write_particles(path, picks.take(index))
        kept.append(entry.model_copy(update={"particles": path, "exhaustive": False}))
    return kept


def with_errors(entries: list[Entry], radii: dict[str, float], labels: str, folder: Path) -> list[Entry]:
    """Entries with some picks removed, and some of the others shifted by half a radius.

    The lists are marked as incomplete, so every method decides how to treat voxels without a pick.
    """
    share = {kind: int(number) / 100 for number, kind in re.findall(r"(\d+) % (\w+)", labels)}
    rng, kept = np.random.default_rng(0), []
    for entry in entries:
        picks = read_picks(entry)
        order = rng.permutation(len(picks))[round(share.get("missing", 0.0) * len(picks)) :]
        picks = picks.take(np.sort(order))
        moved = rng.permutation(len(picks))[: round(share.get("shifted", 0.0) * len(picks))]
        shifts = rng.standard_normal((len(moved), 3))
        shifts *= SHIFT / np.linalg.norm(shifts, axis=1, keepdims=True)
        positions = picks.positions.copy()
        positions[moved] += shifts * np.array([[radii[str(n)]] for n in picks.species[moved]]).reshape(-1, 1)
        volume = read_volume(entry.tomogram)
        inside = positions.clip(0, volume.voxel_size * (np.array(volume.shape) - 1))
        path = folder / "picks" / f"{entry.name}.csv"
        write_particles(path, replace(picks, positions=inside))
        kept.append(entry.model_copy(update={"particles": path, "exhaustive": False}))
    return kept


def without_picks(entry: Entry) -> Entry:
    """The tomogram without annotations."""
    return entry.model_copy(update={"labels": None, "particles": None, "exhaustive": True})


def read_picks(entry: Entry) -> Particles:
    """The picks of an entry."""
    assert entry.particles is not None
    return read_particles(entry.particles, tomogram=read_volume(entry.tomogram))


def score(tests: Dataset, model: Path, out: Path, device: Device) -> dict[str, float]:
    """F1 and F-beta within half a radius; the mean over the species is weighted as in the challenge.

    "f1" and "f_beta4" are scores of the picks that `find` returns. "best_f1" is the F1 at the best threshold
    of each species, selected on the test labels; it measures the ranking of the candidates.
    """
    from cryovox.workflows.find import find

    picks, failures = find([e.tomogram for e in tests.split("test")], model, out / "found", device=device)
    for error in failures.values():
        raise error
    all_picks = concatenate(in_tomogram(picks[stem(e.tomogram)], e.name) for e in tests.split("test"))
    maps = {e.name: read_scores(e, out / "found") for e in tests.split("test")}
    heatmaps = all(scores.kind == "heatmap" for scores in maps.values())
    thresholds = LEVELS[:1] if heatmaps else LEVELS
    candidates = [
        concatenate(pick_candidates(name, maps[name], threshold) for name in maps) for threshold in thresholds
    ]
    return species_scores(all_picks, candidates, tests)


def species_scores(picks: Particles, candidates: Sequence[Particles], tests: Dataset) -> dict[str, float]:
    """Weighted mean scores over the species, and "f1/NAME" and "f_beta4/NAME" of each species.

    Parameters
    ----------
    picks
        Picks that are scored.
    candidates
        Candidates at each of several thresholds, for "best_f1".
    """
    true = true_particles(tests)
    table: dict[str, dict[str, float]] = {}
    for kind in tests.species:
        radius, truth = czii.FRACTION * kind.radius, true.named(kind.name)
        if not len(truth):
            continue
        own = picks.named(kind.name)
        curves = [precision_recall(some.named(kind.name), truth, radius)[:2] for some in candidates]
        table[kind.name] = {
            "f1": detection(own, truth, radius).f1,
            "best_f1": max(
                (f_beta(p, r, 1.0) for curve in curves for p, r in zip(*curve, strict=True)), default=0.0
            ),
            "f_beta4": czii.exact_f(czii.count(own, truth, radius)),
        }
    weights = [czii.WEIGHTS.get(name, 1.0) for name in table]
    weights = weights if any(weights) else [1.0] * len(weights)
    means = {m: np.average([row[m] for row in table.values()], weights=weights) for m in SemiSuite.headlines}
    each = {f"{m}/{name}": row[m] for m in ("f1", "f_beta4") for name, row in table.items()}
    return {name: round(float(value), 5) for name, value in (means | each).items()}


def dog_baseline(tests: Dataset) -> Particles:
    """Blobs of the size of each species, given the true counts; dark particles unless the entry is bright."""
    lists = []
    for entry in tests.split("test"):
        volume, true = read_volume(entry.tomogram), true_particles(tests).within(entry.name)
        data = np.asarray(volume.data)
        for kind in tests.species:
            width = kind.radius / 2 / volume.voxel_size
            count = len(true.named(kind.name))
            sign = sign_of(entry.contrast)
            blobs = dog(data, volume.voxel_size, width, sign=sign, max_count=count, species=kind.name)
            lists.append(in_tomogram(blobs, entry.name))
    return concatenate(lists)


def read_scores(entry: Entry, folder: Path) -> ScoreMap:
    """Score map of an entry in the output folder of `find`."""
    return score_files.read(folder / "scores" / f"{stem(entry.tomogram)}.zarr")


def pick_candidates(name: str, scores: ScoreMap, threshold: float) -> Particles:
    """Picks above a threshold for each species alone, because species compete at low thresholds."""
    return in_tomogram(pick(scores, PickConfig(threshold=threshold, exclusive=False, border=0.0)), name)


SEMI = SemiSuite(
    "semi", "Picking from few labels and unlabeled tomograms", "supervised", semi_methods, BUDGETS
)
ABLATIONS = SemiSuite("semi-ablations", "Ablations of SemiETPicker", "semi-etpicker", variants, BUDGETS)
OTHER_AMOUNTS = SemiSuite(
    "semi-amounts", "Picking from other amounts of labels", "supervised", semi_methods, AMOUNTS
)
LABEL_ERRORS = SemiSuite("semi-errors", "Picking from labels with errors", "supervised", semi_methods, ERRORS)
