"""The whole path on a small example: phantoms, a network trained on them, picks, scores and a report."""

from __future__ import annotations

from pathlib import Path

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.progress import ProgressCallback, no_progress, renamed
from cryovox.data.config import AugmentConfig
from cryovox.formats import dataset as dataset_files
from cryovox.metrics.evaluation import evaluate_particles
from cryovox.metrics.table import Row
from cryovox.report.html import Table
from cryovox.simulate.phantom import PhantomConfig
from cryovox.training.config import LoopConfig
from cryovox.workflows.config import NetworkConfig, TrainConfig
from cryovox.workflows.devices import Device
from cryovox.workflows.find import find
from cryovox.workflows.simulation.phantoms import write_phantoms
from cryovox.workflows.training.run import train
from cryovox.workflows.training.run_folder import check_settings


def demo(
    out: Path,
    *,
    steps: int = 240,
    device: Device = "auto",
    seed: int = 0,
    overwrite: bool = False,
    command: str = "",
    on_progress: ProgressCallback = no_progress,
) -> tuple[list[Row], Path]:
    """Make phantoms, train on some of them, find particles in another one, and evaluate.

    Returns
    -------
    rows, page
        Precision, recall and F1 on the test phantom, and the report.
    """
    data, run, results = out / "dataset", out / "run", out / "found"
    config = TrainConfig(
        network=NetworkConfig(model="heatmap-unet"),
        loop=LoopConfig(steps=steps, batch=8, validate_every=max(1, steps // 3)),
        augment=AugmentConfig(),
        seed=seed,
    )
    if not overwrite:
        check_settings(run, config)  # before its phantoms are replaced
    write_phantoms(data, PhantomConfig(), ("train", "train", "val", "test"), seed)
    on_progress("phantoms", 1.0)
    model = train(data, run, config, device=device, overwrite=overwrite, on_progress=on_progress)
    dataset = dataset_files.read(data)
    (test,) = dataset.split("test")

    truth = dataset_files.load_annotations(test, dataset)[1]
    if truth is None:
        raise RequestError(data, "holds no truth", "delete the folder and run the demonstration again")
    radii = {s.name: s.radius for s in dataset.species}
    rows: list[Row] = []

    def evaluation_tables(picks: dict[str, Particles]) -> list[Table]:
        rows.extend(evaluate_particles(picks[test.name], truth, radii))
        return [summary(rows)]

    _, failures = find(
        [test.tomogram],
        model,
        results,
        device=device,
        overwrite=overwrite,
        command=command,
        tables=evaluation_tables,
        on_progress=renamed(on_progress, "searching"),
    )
    if failures:
        raise next(iter(failures.values()))
    return rows, results / "report.html"


def summary(rows: list[Row]) -> Table:
    """Table that the demonstration prints and the report shows."""
    metrics = ("precision", "recall", "f1")
    tomogram = rows[0]["tomogram"]
    values = {(str(r["species"]), r["metric"]): float(r["value"]) for r in rows if r["tomogram"] == tomogram}
    species = [name for name, metric in values if metric == "f1"]
    body = [[name, *(round(values[name, m], 3) for m in metrics)] for name in species]
    return Table("Evaluation on a phantom that was not used for training", ("species", *metrics), body)
