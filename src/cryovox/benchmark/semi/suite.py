"""Picking from few labels and many unlabeled tomograms.

The protocol follows SemiETPicker (ISBI 2026), whose label fractions and tables are not public: a stand-in of
the CZII phantom in which few particles are labeled. Every method is trained once for each amount of labels,
and these are the conditions of the table. Voxels without a pick count as unlabeled, not as background.
The seed draws the training tomograms, the labels and the weights (docs/decisions/0021).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryovox.benchmark.semi.labels import (
    drawn_tomograms,
    labeled,
    named_species,
    read_picks,
    unlabeled_particles,
)
from cryovox.benchmark.semi.methods import (
    ALL_METHODS,
    DOG_PICKER,
    MethodsOfSize,
    PickingMethod,
    semi_methods,
    variants,
)
from cryovox.benchmark.semi.scores import HEADLINES, dog_baseline, score, species_scores
from cryovox.benchmark.suite import Budget, Job, Plan, Scores, Suite, Tier
from cryovox.benchmark.tomograms import Scale, scaled_preset, stand_in, true_particles
from cryovox.benchmark.training import job_settings, shared_settings
from cryovox.core.dataset import Dataset
from cryovox.core.errors import RequestError
from cryovox.formats import dataset as dataset_files
from cryovox.formats import stem
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
PROTOCOL = "protocol.json"
"""File in the data folder with the amounts of labels and the number of training tomograms of a seed."""


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
    headlines: tuple[str, ...] = HEADLINES

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


def steps(model: Path) -> int:
    """Number of training steps of a model."""
    return int(json.loads((model.parent / "manifest.json").read_text(encoding="utf-8"))["steps"])


SEMI = SemiSuite(
    "semi", "Picking from few labels and unlabeled tomograms", "supervised", semi_methods, BUDGETS
)
ABLATIONS = SemiSuite("semi-ablations", "Ablations of SemiETPicker", "semi-etpicker", variants, BUDGETS)
OTHER_AMOUNTS = SemiSuite(
    "semi-amounts", "Picking from other amounts of labels", "supervised", semi_methods, AMOUNTS
)
LABEL_ERRORS = SemiSuite("semi-errors", "Picking from labels with errors", "supervised", semi_methods, ERRORS)
