"""Picking from few labels and many unlabeled tomograms.

The protocol follows SemiETPicker (ISBI 2026), whose label fractions and tables are not public: a stand-in of
the CZII phantom in which few particles are labeled. Every method is trained once for each amount of labels,
and these are the conditions of the table. Voxels without a pick count as unlabeled, not as background.
The seed draws the training tomograms, the labels and the weights (docs/decisions/0021).
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
from cryovox.metrics.detection import average_precision, detection, f_beta, precision_recall
from cryovox.models import MODELS
from cryovox.picking import PickConfig, pick
from cryovox.picking.blobs import dog
from cryovox.simulate.config.scene import FiducialConfig, VesicleConfig
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.workflows.devices import Device

SCALES: dict[Tier, Scale] = {
    "smoke": Scale((48, 96, 96), count=2, n_train=2),
    "cpu": Scale((48, 128, 128), count=24, n_train=12, n_test=4, voxel_size=20.0),
    "gpu": Scale((184, 630, 630), count=50, n_train=14, n_test=4),
}
"""Data of a tier; `n_train` counts the tomograms from which each seed draws `TRAINED`."""
TRAINED: dict[Tier, int] = {"smoke": 2, "cpu": 4, "gpu": 7}
"""Training tomograms of a seed."""
SNR, TILT = 0.15, 42.0
"""Signal-to-noise ratio of the tomograms, gold and membranes included, and maximum tilt in degrees."""
Labels = dict[Tier, tuple[str, ...]]
BUDGETS: Labels = dict.fromkeys(SCALES, ("30 picks",))
FEW = ("1 %", "one tomogram")
AMOUNTS: Labels = {"smoke": FEW[:1], "cpu": FEW, "gpu": (*FEW, "5 %", "10 %", "all")}
NO_ERRORS, BOTH_ERRORS = "all, none wrong", "all, 30 % missing, 20 % shifted"
ERRORS: Labels = {
    "smoke": (BOTH_ERRORS,),
    "cpu": (NO_ERRORS, BOTH_ERRORS),
    "gpu": (NO_ERRORS, "all, 30 % missing", "all, 20 % shifted", BOTH_ERRORS),
}
SHIFT = 0.5
"""Distance of a shifted pick from its particle, in radii."""
MethodsOfSize = Callable[[str], tuple["PickingMethod", ...]]
LEVELS = (0.02, 0.2, 0.35, 0.5, 0.65, 0.8)
"""Thresholds of the candidates for `best_f1` and average precision: heatmaps use the lowest, masks all."""
PROTOCOL = "protocol.json"
"""File in the data folder with the amounts of labels and the number of training tomograms of a seed."""


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
        Whether the method is given the true share of unlabeled particles, as positive-unlabeled learning
        needs.
    """

    strategy: str = "supervised"
    own: Mapping[str, Any] = field(default_factory=dict)
    class_prior: bool = False


NETWORK = "heatmap-unet"
DOG_PICKER = "difference-of-Gaussians picker, given the true count per species"
MASKS = "residual-unet"
"""The same backbone with mask output; picks are the connected regions, split at necks."""
ALL_METHODS = {"supervised.drop_block": 0.03}
"""Settings of all methods. The averaging of weights is the same too, for teachers and for final models."""
TEACHER = {"own.teacher_decay": SHARED["supervised.ema"]}


def semi_methods(size: str) -> tuple[PickingMethod, ...]:
    """Supervised training, teacher-student strategies, and SemiETPicker without one of its parts."""

    def row(name: str, strategy: str, **own: Any) -> PickingMethod:
        changed = {f"own.{key}": value for key, value in own.items()}
        return PickingMethod(name, NETWORK, size, strategy=strategy, own=TEACHER | changed)

    ignoring = {"supervised.unknown": "ignore"}
    return (
        PickingMethod("supervised", NETWORK, size, train=ignoring),
        row("pseudo-labels, two rounds", "pseudo-labels"),
        row("semi-etpicker", "semi-etpicker"),
        PickingMethod("heavy augmentation", NETWORK, size, train=ignoring, strategy="heavy-augmentation"),
        row("mean teacher", "heatmap-mean-teacher"),
        row("fixmatch", "heatmap-fixmatch"),
        row("semi-etpicker, one view", "semi-etpicker", views=1, agreement=0.0),
        row("semi-etpicker, no DropBlock", "semi-etpicker", student_drop=0.0, deep_drop=0.0),
        row("semi-etpicker, no ignore band", "semi-etpicker", ignore=False),
        PickingMethod("nnpu", NETWORK, size, train={"supervised.unknown": "pu"}, class_prior=True),
        PickingMethod("masks and regions", MASKS, size, train=ignoring),
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
    positive_unlabeled = PickingMethod(
        "risk of what is unknown", NETWORK, size, train={"supervised.unknown": "pu"},
        strategy="semi-etpicker", own=TEACHER, class_prior=True,
    )  # fmt: skip
    return (*changed, positive_unlabeled)


class SemiSuite(Suite):
    """F1 of picks within half a radius, by amount of labels.

    Parameters
    ----------
    methods
        Function that returns the methods of a size.
    labels
        Amounts of labels, see `labeled`.
    """

    source = "our own protocol, after SemiETPicker (ISBI 2026) on a stand-in of the CZII phantom"
    headlines: tuple[str, ...] = ("f1", "average_precision", "best_f1", "f_beta4")

    def __init__(self, name: str, title: str, reference: str, methods: MethodsOfSize, labels: Labels) -> None:
        self.name, self.title, self.reference = name, title, reference
        self.methods, self.labels = methods, labels

    def plan(self, tier: Tier) -> Plan:
        models = len(self.labels[tier])
        if tier == "smoke":
            last = tuple(m for m in self.methods("s") if m.name == "semi-etpicker")
            return Plan(last, (Budget(steps=4),), seeds=1, models_per_job=models)
        if tier == "cpu":
            return Plan(self.methods("s"), (Budget(time="20m"),), models_per_job=models)
        return Plan(self.methods("paper"), (Budget(time="9m"),), models_per_job=models)

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        if data is None:
            scale = SCALES[tier]
            dataset, metadata = stand_in(folder / "phantom", phantom(scale), scale.n_train, scale.n_test)
            dataset = named_species(dataset, phantom(scale).species, folder / "particles")
            metadata["stand-in"] = "simulated: preset czii-phantom with membranes and gold, in a smaller box"
            trained = TRAINED[tier]
        else:
            dataset, metadata = dataset_files.read(data), {"folder": data.name}
            check_user_data(data, dataset)
            trained = len(dataset.split("train"))
        dataset_files.write(folder / "test", dataset)
        write_protocol(folder, self.labels[tier], trained)
        counts = {}
        for labels in self.labels[tier]:
            drawn = self.draw(folder, labels, 0, folder / "picks of seed 0" / labels)
            counts[labels] = sum(len(read_picks(e)) for e in drawn.entries if e.particles is not None)
        return metadata | {"trained": trained, "labels": counts}

    def draw(self, folder: Path, labels: str, seed: int, out: Path) -> Dataset:
        """Training tomograms of a seed with some of their picks, which are written to *out*."""
        return labeled(self.complete(folder, seed), labels, out, seed)

    def complete(self, folder: Path, seed: int) -> Dataset:
        """Training tomograms of a seed with all of their picks."""
        return drawn_tomograms(dataset_files.read(folder / "test"), seed, read_protocol(folder)["trained"])

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
        few = self.draw(folder, labels, job.seed, out / "labels")
        picked = tuple(e for e in few.entries if e.particles is not None)
        common = shared_settings(device) | ALL_METHODS | dict(method.own)
        if method.class_prior:
            common |= unlabeled_particles(picked, self.complete(folder, job.seed))
        config = job_settings(replace(job, method=method), common, kind=train_config(method.strategy))
        if STRATEGIES[method.strategy].task != "semi-supervised":
            few = few.model_copy(update={"entries": picked})
        dataset_files.write(out / "labels", few)
        return train(out / "labels", out / "run", config, device=device)

    def references(self, folder: Path) -> dict[str, Scores]:
        """A difference-of-Gaussians picker for each species, given the true counts."""
        tests = dataset_files.read(folder / "test")
        picks = dog_baseline(tests)
        row = species_scores(picks, [picks], tests)
        return {DOG_PICKER: dict.fromkeys(label_amounts(folder), row)}


def phantom(scale: Scale) -> SimulationConfig:
    """A smaller CZII phantom with membranes and gold, with the noise and tilts of this suite."""
    share = scale.shape[1] * scale.shape[2] * (scale.voxel_size / 2560) ** 2
    vesicles = VesicleConfig(
        count=round(2 * share), max_count=round(4 * share), radius=(150.0, 300.0), protein_mass=1.0
    )
    fiducials = FiducialConfig(count=round(2 * share), max_count=round(4 * share), diameter=(80.0, 120.0))
    config = scaled_preset("czii-phantom", scale, vesicles=vesicles, fiducials=fiducials)
    tilts = config.tilts.model_copy(update={"range": (-TILT, TILT)})
    return config.model_copy(update={"snr": SNR, "tilts": tilts})


def named_species(dataset: Dataset, names: Sequence[str], folder: Path) -> Dataset:
    """The dataset with the picks of these species, written to *folder*; membranes and gold are background."""
    entries = []
    for entry in dataset.entries:
        picks, path = read_picks(entry), folder / f"{entry.name}.csv"
        write_particles(path, picks.take(np.flatnonzero(np.isin(picks.species, names))))
        entries.append(entry.model_copy(update={"particles": path, "labels": None}))
    kept = tuple(s for s in dataset.species if s.name in names)
    return dataset.model_copy(update={"species": kept, "entries": tuple(entries)})


def write_protocol(folder: Path, amounts: Sequence[str], trained: int) -> None:
    """Write the amounts of labels and the number of training tomograms of a seed."""
    text = json.dumps({"amounts": list(amounts), "trained": trained})
    (folder / PROTOCOL).write_text(text, encoding="utf-8")


def read_protocol(folder: Path) -> dict[str, Any]:
    """What `write_protocol` wrote."""
    protocol: dict[str, Any] = json.loads((folder / PROTOCOL).read_text(encoding="utf-8"))
    return protocol


def label_amounts(folder: Path) -> list[str]:
    """Amounts of labels of prepared data."""
    return list(read_protocol(folder)["amounts"])


def drawn_tomograms(dataset: Dataset, seed: int, count: int) -> Dataset:
    """The next *count* training tomograms for each seed, from the start again where they are used up."""
    entries = dataset.split("train")
    drawn = tuple(entries[(seed * count + i) % len(entries)] for i in range(count))
    return dataset.model_copy(update={"entries": drawn})


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


def unlabeled_particles(picked: Sequence[Entry], complete: Dataset) -> dict[str, float]:
    """Expected number of unlabeled particles per labeled one in the training patches."""
    entries = [e for e in complete.entries if e.particles is not None]
    labeled, total = (sum(len(read_picks(e)) for e in some) for some in (picked, entries))
    per_patch = (total - labeled) * min(1.0, MODELS[NETWORK].patch ** 3 / sum(map(voxel_count, entries)))
    return {"supervised.unlabeled_ratio": round(per_patch / PatchConfig().foreground, 3)}


def labeled(dataset: Dataset, labels: str, folder: Path, seed: int = 0) -> Dataset:
    """The training entries with some of their picks; entries without picks are unlabeled.

    Parameters
    ----------
    labels
        "1 %" of each species (at least one), "30 picks" evenly over the species, "one tomogram", "all", or
        all picks in lists marked as incomplete, with or without errors: "all, none wrong", "all, 30 %
        missing, 20 % shifted".
    folder
        Output folder of the remaining picks.
    seed
        Draws the picks that remain, and the tomogram of "one tomogram".
    """
    entries = [e for e in dataset.split("train") if e.particles is not None]
    unpicked = [without_picks(e) for e in dataset.split("train") if e.particles is None]
    if labels == "all":
        kept = entries
    elif labels == "one tomogram":
        drawn = seed % len(entries)
        kept = [e if i == drawn else without_picks(e) for i, e in enumerate(entries)]
    elif labels.startswith("all, "):
        kept = with_errors(entries, {s.name: s.radius for s in dataset.species}, labels, folder, seed)
    else:
        kept = subsampled(entries, [s.name for s in dataset.species], labels, folder, seed)
    entries = [e.model_copy(update={"labels": None}) for e in (*kept, *unpicked)]
    return dataset.model_copy(update={"entries": tuple(entries)})


def subsampled(entries: list[Entry], species: list[str], labels: str, folder: Path, seed: int) -> list[Entry]:
    """Entries with few picks of each species, drawn over all entries."""
    lists = [read_picks(e) for e in entries]
    owner = np.concatenate([np.full(len(p), i) for i, p in enumerate(lists)])
    names = np.concatenate([p.species for p in lists])
    rng, chosen = np.random.default_rng(seed), np.zeros(len(names), bool)
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


def with_errors(
    entries: list[Entry], radii: dict[str, float], labels: str, folder: Path, seed: int
) -> list[Entry]:
    """Entries with some picks removed, and some of the others shifted by half a radius.

    The lists are marked as incomplete, so every method decides how to treat voxels without a pick.
    """
    share = {kind: int(number) / 100 for number, kind in re.findall(r"(\d+) % (\w+)", labels)}
    rng, kept = np.random.default_rng(seed), []
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
    of each species, selected on the test labels; it and "average_precision" measure the ranking of the
    candidates. "f1 in NAME" and "average_precision in NAME" are those of a single tomogram.
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
    scores = species_scores(all_picks, candidates, tests)
    for name in maps:
        single = tests.model_copy(update={"entries": tuple(e for e in tests.entries if e.name == name)})
        own = species_scores(all_picks.within(name), [some.within(name) for some in candidates], single)
        scores |= {f"{metric} in {name}": own[metric] for metric in ("f1", "average_precision")}
    return scores


def species_scores(picks: Particles, candidates: Sequence[Particles], tests: Dataset) -> dict[str, float]:
    """Weighted mean scores over the species, and "f1/NAME" and "f_beta4/NAME" of each species.

    Parameters
    ----------
    picks
        Picks that are scored.
    candidates
        Candidates at each of several thresholds, for "best_f1" and "average_precision".
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
            "average_precision": max(
                average_precision(some.named(kind.name), truth, radius) for some in candidates
            ),
            "best_f1": max(
                (f_beta(p, r, 1.0) for curve in curves for p, r in zip(*curve, strict=True)), default=0.0
            ),
            "f_beta4": czii.exact_f(czii.count(own, truth, radius)),
        }
    weights = [czii.WEIGHTS.get(name, 1.0) for name in table]
    weights = weights if any(weights) else [1.0] * len(weights)
    means = {m: np.average([row[m] for row in table.values()], weights=weights) for m in SemiSuite.headlines}
    each = {
        f"{m}/{name}": row[m] for m in ("f1", "average_precision", "f_beta4") for name, row in table.items()
    }
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
