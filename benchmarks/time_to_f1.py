"""Time to F1: processor seconds until a training is useful, with the settings of before and now.

The worlds kept for choices are simulated: three tomograms are trained on and two others scored; seeds draw weights and
patches. `sim_deepfinder` is only measured: three of its tomograms are trained on, a held-out part of the same three is
scored, and the fourth is not read. Each training has a fixed processor time on one thread. Copies of the network
that would be kept are taken on the way and scored afterwards, so that scoring takes no training time. The score is
that of validation: mean F1 over the species at the best thresholds for heatmaps, mean Dice for masks.

    python benchmarks/time_to_f1.py --work DIR       # about 2 processor hours; resumes after an interruption
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

import sim_deepfinder
from common import write_result
from cryovox.benchmark.semi.suite import SCALES
from cryovox.benchmark.tomograms import Scale, scaled_preset, stand_in
from cryovox.benchmark.training import NEVER, nested
from cryovox.core.atomic import replacing
from cryovox.core.config import validated
from cryovox.data.sampling import SamplingConfig
from cryovox.formats import dataset as dataset_files
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.presets import PRESETS
from cryovox.training.config import LoopConfig
from cryovox.training.logbook import Logbook
from cryovox.training.loop import fit, share
from cryovox.training.state import Progress
from cryovox.training.strategies.base import Strategy
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.training.network import prepare_training
from cryovox.workflows.training.open_data import open_training_data
from cryovox.workflows.training.run import launch_fabric, measured_loop, validation_tiles

TRAINED, SCORED, SIMULATION_SEED = 3, 2, 911
MOMENTS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Fractions of the time after which the network is scored."""
NINE = ("1BXN", "1QVR", "1S3X", "1U6G", "2CG9", "3CF3", "3D2F", "4CR2", "4V94")
SETTINGS: dict[str, dict[str, Any]] = {
    "before": {"loop.batch": 8, "loop.lr": 1e-3, "loop.warmup": 50, "loop.precision": "32-true"},
    "now": {},
    "float32": {"loop.precision": "32-true"},
    "batch-2": {"loop.batch": 2},
    "patch-32": {"patches.patch": 32},
    "rate-1e-2": {"loop.lr": 1e-2},
}
"""Settings that differ from the defaults."""


def nine_classes() -> SimulationConfig:
    """Nine species of SHREC 2021 in small noisy tomograms without membranes and gold."""
    whole = scaled_preset("shrec2021-slab", Scale((64, 112, 112), count=4, n_train=TRAINED))
    none = {"count": 0, "most": 0}
    scene = {
        "counts": dict.fromkeys(NINE, 4),
        "vesicles": whole.scene.vesicles.model_copy(update=none),
        "fiducials": whole.scene.fiducials.model_copy(update=none),
    }
    changes = {"species": NINE, "scene": whole.scene.model_copy(update=scene), "snr": 0.1}
    return whole.model_copy(update=changes)


SIMULATIONS: dict[str, Callable[[], SimulationConfig]] = {
    "toy": lambda: PRESETS["toy"],
    "czii": lambda: scaled_preset("czii-phantom", SCALES["cpu"]),
    "nine": nine_classes,
}


@dataclass(frozen=True)
class World:
    """Tomograms, the network that is trained on them, and the score to reach."""

    data: str
    network: str
    target: float


WORLDS = {
    "toy-picking": World("toy", "heatmap-unet", 0.8),
    "toy-masks": World("toy", "voxresnet", 0.6),
    "czii-picking": World("czii", "heatmap-unet", 0.6),
    "nine-masks": World("nine", "voxresnet", 0.3),
    "sim_deepfinder": World("sim_deepfinder", "deepfinder", 0.6),
}


def open_world(name: str, folder: Path) -> Path:
    """Folder with the dataset; simulated once, with the tomograms to score as validation."""
    if (folder / "dataset.yaml").exists():
        return folder
    if name == "sim_deepfinder":
        return sim_deepfinder.dataset(folder, [1, 2, 3])
    dataset, _ = stand_in(folder, SIMULATIONS[name](), TRAINED, SCORED, seed=SIMULATION_SEED)
    scored = {"train": "train", "test": "val"}
    entries = tuple(e.model_copy(update={"split": scored[e.split]}) for e in dataset.entries)
    dataset_files.write(folder, dataset.model_copy(update={"entries": entries}))
    return folder


def train(
    data: Path, config: TrainConfig, on_step: Callable[[Strategy, Progress], None]
) -> Callable[[nn.Module], float]:
    """Train without validation; returns the function that scores a network on the held-out data."""
    opened = open_training_data(str(data), config, None)
    prepared = prepare_training(config, opened)
    strategy, card, loop = prepared.strategy, prepared.card, measured_loop(config, prepared, "cpu", 1)
    sampling = SamplingConfig(
        prepared.spec, card.patch, loop.batch, config.patches, config.augment, (config.seed, 0), "cpu"
    )
    stream, fabric = opened.stream(sampling), launch_fabric("cpu", 1, loop)
    with TemporaryDirectory() as folder:
        fit(
            strategy, {"labeled": stream}, loop, fabric, Logbook(None), Path(folder), lambda network: {},
            lambda *kept: None, config.seed, lambda now, loss: on_step(strategy, now),
        )  # fmt: skip
    stream.close()
    return lambda network: opened.validate(network, prepared.spec, validation_tiles(card))["score"]


def settings_of(network: str, seed: int, changes: Mapping[str, Any]) -> TrainConfig:
    """Settings of a training without validations."""
    fixed = {"network.model": network, "seed": seed, "loop.validate_every": NEVER}
    return validated(TrainConfig, nested(fixed | dict(changes)), Path("settings"))


def run(world: World, data: Path, settings: Mapping[str, Any], seed: int, budget: str) -> dict[str, Any]:
    """Train with a budget of processor time, and score the copies taken on the way."""
    timed = {"loop.max_time": budget, "loop.clock": "processor", "loop.steps": NEVER}
    config = settings_of(world.network, seed, timed | dict(settings))
    copies: list[tuple[Progress, nn.Module]] = []

    def on_step(strategy: Strategy, now: Progress) -> None:
        if share(now, config.loop) >= MOMENTS[len(copies)]:
            copies.append((now, deepcopy(strategy.network()).eval()))

    score = train(data, config, on_step)
    return {
        "seconds": [round(now.seconds, 1) for now, _ in copies],
        "steps": [now.step for now, _ in copies],
        "scores": [round(score(network), 4) for _, network in copies],
    }


def cached(file: Path, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The run of a file, computed where an interrupted script has not yet."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as beside:
            beside.write_text(json.dumps(work()), encoding="utf-8")
    return dict(json.loads(file.read_text(encoding="utf-8")))


def seconds_until(run: Mapping[str, Any], target: float) -> float | None:
    """Processor seconds until the score is reached, linear between two copies; None if never."""
    before = (0.0, 0.0)
    for now in zip(run["seconds"], run["scores"], strict=True):
        if now[1] >= target:
            part = (target - before[1]) / (now[1] - before[1])
            return round(before[0] + part * (now[0] - before[0]), 1)
        before = now
    return None


def main() -> None:
    """Run all trainings and write `results/time_to_f1.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of tomograms and finished trainings")
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=WORLDS)
    parser.add_argument("--settings", nargs="+", default=["before", "now"], choices=SETTINGS)
    parser.add_argument("--time", default="240s", help="processor time of each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--name", default="time_to_f1", help="name of the result file")
    args = parser.parse_args()
    runs = []
    for seed in range(args.seeds):
        for name in args.worlds:
            world = WORLDS[name]
            data = open_world(world.data, args.work / world.data)
            for kind in args.settings:
                file = args.work / "runs" / f"{name}, {kind}, {seed}, {args.time}.json"
                row = cached(file, partial(run, world, data, SETTINGS[kind], seed, args.time))
                until = seconds_until(row, world.target)
                runs.append({"world": name, "settings": kind, "seed": seed, "until": until, **row})
                print(f"{name}, {kind}, seed {seed}: {until} s, in the end {row['scores'][-1]}", flush=True)
    worlds = {name: asdict(WORLDS[name]) for name in args.worlds}
    settings = {kind: SETTINGS[kind] for kind in args.settings}
    result = {"time": args.time, "worlds": worlds, "settings": settings, "defaults": defaults(), "runs": runs}
    print(write_result(args.name, result))


def defaults() -> dict[str, Any]:
    """Defaults of the command that settings change."""
    loop, supervised = LoopConfig(), SupervisedConfig()
    return {"batch": loop.batch, "lr": loop.lr, "warmup": loop.warmup, "ema": supervised.ema}


if __name__ == "__main__":
    main()
