"""The whole path on a small example: simulate a tomogram, find particles in it, evaluate and report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cryovox.core.dataset import Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.progress import ProgressCallback, no_progress, renamed
from cryovox.data.config import AugmentConfig
from cryovox.formats import dataset as dataset_files
from cryovox.metrics.evaluation import evaluate_particles
from cryovox.metrics.matching import greedy
from cryovox.models.card import EMBEDDED
from cryovox.report.html import Table
from cryovox.simulate.phantom import PhantomConfig
from cryovox.simulate.presets import PRESETS
from cryovox.training.config import LoopConfig
from cryovox.workflows.config import NetworkConfig, TrainConfig
from cryovox.workflows.devices import Device
from cryovox.workflows.find import find
from cryovox.workflows.simulation.dataset import simulate_dataset
from cryovox.workflows.simulation.phantoms import write_phantoms
from cryovox.workflows.training.run import train
from cryovox.workflows.training.run_folder import check_settings

Evaluate = Callable[[Particles, Particles, dict[str, float]], Table]
"""Table of picks, particles and radii by species."""
HIT = 0.5
"""Maximum distance between a pick and a particle, as a fraction of the radius of the particle."""


@dataclass(frozen=True)
class Demo:
    """Folder and settings of a demonstration.

    Attributes
    ----------
    out
        Output folder: `dataset/`, `found/` and, with a training, `run/`.
    """

    out: Path
    device: Device = "auto"
    seed: int = 0
    overwrite: bool = False
    command: str = ""
    on_progress: ProgressCallback = no_progress

    def with_embedded_model(self) -> tuple[Table, Path]:
        """Simulate a tomogram and search it with the embedded model.

        Returns
        -------
        table, page
            Particles and picks by species, and the report.
        """
        data = self.out / "dataset"
        simulate_dataset(
            data, PRESETS["example"], seed=self.seed, split=["test"], device=self.device,
            overwrite=self.overwrite, on_progress=self.on_progress,
        )  # fmt: skip
        return self._search(EMBEDDED, data, detected, PRESETS["example"].species)

    def with_training(self, steps: int = 240) -> tuple[Table, Path]:
        """Make phantoms, train on some of them, and search another one.

        Returns
        -------
        table, page
            Precision, recall and F1 by species, and the report.
        """
        data, run = self.out / "dataset", self.out / "run"
        config = TrainConfig(
            network=NetworkConfig(model="heatmap-unet"),
            loop=LoopConfig(steps=steps, batch=8, validate_every=max(1, steps // 3)),
            augment=AugmentConfig(),
            seed=self.seed,
        )
        if not self.overwrite:
            check_settings(run, config)  # before its phantoms are replaced
        write_phantoms(data, PhantomConfig(), ("train", "train", "val", "test"), self.seed)
        self.on_progress("phantoms", 1.0)
        model = train(
            data, run, config, device=self.device, overwrite=self.overwrite, on_progress=self.on_progress
        )
        return self._search(model, data, scored, ())

    def _search(
        self, model: Path, data: Path, evaluate: Evaluate, species: Sequence[str]
    ) -> tuple[Table, Path]:
        """Search the test tomogram of a dataset, and compare the picks with particles of these species."""
        dataset, results = dataset_files.read(data), self.out / "found"
        (test,) = dataset.split("test")
        truth = _truth(test, dataset)
        truth = truth.take(np.isin(truth.species, species)) if species else truth
        radii = {species.name: species.radius for species in dataset.species}
        tables: list[Table] = []

        def evaluation_tables(picks: dict[str, Particles]) -> list[Table]:
            tables.append(evaluate(picks[test.name], truth, radii))
            return tables

        _, failures = find(
            [test.tomogram],
            model,
            results,
            device=self.device,
            overwrite=self.overwrite,
            command=self.command,
            tables=evaluation_tables,
            truth={test.name: (truth, radii)},
            on_progress=renamed(self.on_progress, "searching"),
        )
        if failures:
            raise next(iter(failures.values()))
        return tables[0], results / "report.html"


def _truth(entry: Entry, dataset: Dataset) -> Particles:
    truth = dataset_files.load_annotations(entry, dataset)[1]
    if truth is None:
        message, remedy = "holds no truth", "delete the folder and run the demonstration again"
        raise RequestError(entry.tomogram, message, remedy)
    return truth


def detected(picks: Particles, truth: Particles, radii: dict[str, float]) -> Table:
    """How many particles of each species have a pick of any name, and how many picks have no particle."""
    within = np.array([HIT * radii[str(name)] for name in truth.species])
    hits = greedy(picks.positions, truth.positions, within, picks.scores)
    rows: list[list[object]] = []
    for name, radius in radii.items():
        is_species = truth.species == name
        if is_species.any():
            rows.append([name, f"{2 * radius:.0f}", int(is_species.sum()), int(is_species[hits.truth].sum())])
    rows.append(["all", "", len(truth), len(hits)])
    title = "Evaluation on a simulated tomogram"
    note = f"{len(picks)} picks, {len(picks) - len(hits)} of them at no particle."
    return Table(title, ("species", "diameter (Å)", "particles", "picked"), rows, note)


def scored(picks: Particles, truth: Particles, radii: dict[str, float]) -> Table:
    """Precision, recall and F1 of each species."""
    rows = evaluate_particles(picks, truth, radii)
    metrics = ("precision", "recall", "f1")
    tomogram = rows[0]["tomogram"]
    values = {(str(r["species"]), r["metric"]): float(r["value"]) for r in rows if r["tomogram"] == tomogram}
    species = [name for name, metric in values if metric == "f1"]
    body = [[name, *(round(values[name, m], 3) for m in metrics)] for name in species]
    return Table("Evaluation on a phantom that was not used for training", ("species", *metrics), body)
