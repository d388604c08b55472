"""Train a candidate of the embedded detector, and score it on simulations kept for the choice between candidates.

The candidate is a heatmap U-Net with one channel for each class of particle sizes, trained on `stream:embedded`
and on structures of the user. The choice worlds are simulated with full tilt series and reconstruction:

- phantom: the CZII phantom with six species that the training also has as models;
- crowded: species that the training does not have, with vesicles, membrane sheets, microtubules and gold;
- small: species below 150 Å that the training does not have, with gold.

Scores do not distinguish species or sizes. A pick is a hit within half the radius of a particle, at least 30 Å. Real
tomograms take no part. The difference-of-Gaussians picker has the best of five widths and two distances for each
world.

    python benchmarks/embedded.py --work DIR --time 2h --structures structures structures_more   # resumes
"""

from __future__ import annotations

import argparse
import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from common import DATA, write_result
from cryovox.benchmark.tomograms import Scale, in_tomogram, scaled_preset, stand_in, true_particles
from cryovox.benchmark.training import nested
from cryovox.core.config import to_yaml, validated
from cryovox.core.dataset import Dataset
from cryovox.core.durations import seconds
from cryovox.core.interrupt import Interrupted
from cryovox.core.particles import Particles, concatenate
from cryovox.formats import read_volume, scores
from cryovox.metrics.detection import average_precision, precision_recall, recall_at_budget
from cryovox.models.card import read_card
from cryovox.picking import PickConfig, pick
from cryovox.picking.blobs import dog
from cryovox.simulate.config.microscope import TiltConfig
from cryovox.simulate.config.scene import (
    FiducialConfig,
    FilamentConfig,
    SceneConfig,
    SheetConfig,
    VesicleConfig,
)
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.training.state import progress_in
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.devices import choose_device
from cryovox.workflows.segment import segment
from cryovox.workflows.training.network import prepare_training
from cryovox.workflows.training.run import TrainingRun
from cryovox.workflows.training.run_folder import check_settings, prepare_folder
from cryovox.workflows.training.simulated import SimulatedData

WIDTHS = {"s": [8, 16, 32, 64], "m": [12, 24, 48, 96]}
"""Channels of the network of each size."""
CROWDED, SMALL = (
    ("mitoribosome", "groel-groes", "rubisco", "clpb"),
    ("esterase", "hsp110-hsc70", "get3", "cand1-cul1"),
)
SHAPE, TOMOGRAMS, WORLD_SEED = (64, 128, 128), 2, 2_611
BUDGETS = (1, 2, 3, 4)
SIGMAS, DISTANCES = (1.0, 2.0, 3.0, 4.5, 6.0), (60.0, 120.0)
"""Widths in voxels and distances in Å of the difference-of-Gaussians picker."""
COARSEST = 70.0
"""Resolution in Å to which boxes are whitened at least: that of voxels of 32 Å."""
MIN_DISTANCE = 30.0
MIN_SCORE = 0.02


def crowded() -> SimulationConfig:
    """A crowded scene with membranes, filaments and gold."""
    return SimulationConfig(
        species=CROWDED,
        scene=SceneConfig(
            shape=SHAPE,
            occupancy=0.12,
            vesicles=VesicleConfig(count=2, radius=(150.0, 250.0), protein_mass=0.5),
            sheets=SheetConfig(count=1, protein_mass=1.0),
            filaments=FilamentConfig(count=1),
            fiducials=FiducialConfig(count=3),
        ),
        tilts=TiltConfig(range=(-55, 55), step=3, total_dose=110, defocus=(2.5, 4), shift=3.0),
    )


def small() -> SimulationConfig:
    """Small particles with gold, close to focus."""
    return SimulationConfig(
        species=SMALL,
        scene=SceneConfig(shape=SHAPE, counts=dict.fromkeys(SMALL, 20), fiducials=FiducialConfig(count=3)),
        tilts=TiltConfig(range=(-60, 60), step=2, total_dose=140, defocus=(1.5, 2.5)),
    )


WORLDS = {
    "phantom": lambda: scaled_preset("czii-phantom", Scale(SHAPE, count=6, n_train=0)),
    "crowded": crowded,
    "small": small,
}


@dataclass(frozen=True, eq=False)
class World:
    """Test tomograms with the particles that a detector shall pick.

    Attributes
    ----------
    tolerance : (n,)
        Maximum distance in Å of a hit, for each particle.
    """

    dataset: Dataset
    truth: Particles
    tolerance: np.ndarray[Any, Any]


def open_world(
    config: SimulationConfig, folder: Path, count: int = TOMOGRAMS, seed: int = WORLD_SEED
) -> World:
    """Simulate a world, unless an earlier run has; gold beads and membranes are no particles."""
    dataset, _ = stand_in(folder, config, 0, count, seed=seed)
    truth = true_particles(dataset)
    truth = truth.take(np.isin(truth.species, config.species))
    radii = {kind.name: kind.radius for kind in dataset.species}
    tolerance = np.array([max(MIN_DISTANCE, radii[str(name)] / 2) for name in truth.species])
    return World(dataset, truth, tolerance)


def metrics(picks: Particles, world: World) -> dict[str, float]:
    """F1 at the best threshold, average precision, and recall at a number of picks per particle."""
    precision, recall, threshold = precision_recall(picks, world.truth, world.tolerance)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    best = int(f1.argmax()) if len(f1) else None
    row = {
        "f1": 0.0 if best is None else float(f1[best]),
        "threshold": 0.0 if best is None else float(threshold[best]),
        "average_precision": average_precision(picks, world.truth, world.tolerance),
    }
    budgets = recall_at_budget(picks, world.truth, world.tolerance, BUDGETS)
    row |= {f"recall@{budget}x": float(value) for budget, value in budgets.items()}
    return {name: round(value, 4) for name, value in row.items()}


def candidate(world: World, model: Path, out: Path, device: str) -> Particles:
    """Picks of a model in the tomograms of a world."""
    entries = world.dataset.split("test")
    _, failures = segment([e.tomogram for e in entries], model, out, device=device, overwrite=True)  # type: ignore[arg-type]
    for error in failures.values():
        raise error
    maps = {e.name: scores.read(out / "scores" / f"{e.tomogram.stem}.zarr") for e in entries}
    return concatenate(
        in_tomogram(pick(score_map, PickConfig(threshold=MIN_SCORE, border=0.0)), name)
        for name, score_map in maps.items()
    )


def blobs(world: World, sigma: float, distance: float) -> Particles:
    """Picks of the difference-of-Gaussians picker with one width and minimum distance."""
    lists = []
    for entry in world.dataset.split("test"):
        volume = read_volume(entry.tomogram)
        lists.append(
            in_tomogram(dog(np.asarray(volume.data), volume.voxel_size, sigma, distance=distance), entry.name)
        )
    return concatenate(lists)


def best_blobs(world: World) -> dict[str, float]:
    """Metrics of the settings with the highest F1 on the world itself, which favors this baseline."""
    rows = [
        metrics(blobs(world, sigma, distance), world) | {"sigma": sigma, "distance": distance}
        for sigma, distance in itertools.product(SIGMAS, DISTANCES)
    ]
    return max(rows, key=lambda row: row["f1"])


def stream_file(args: argparse.Namespace) -> Path:
    """Write the settings of the stream to the folder of the run."""
    settings: dict[str, Any] = {
        "base": "embedded",
        "exclude": [*CROWDED, *SMALL],
        "voxel_size": args.voxel_size,
        "processes": args.processes,
    }
    if args.whiten:
        settings["domain"] = {"whiten": [0.0, COARSEST]}
    if args.ribosomes != 1:
        settings["abundance"] = dict.fromkeys(("ribosome-70s", "ribosome-80s"), args.ribosomes)
    if args.structures:
        settings["structures"] = [str(structure_folder(folder)) for folder in args.structures]
    path: Path = args.work / "stream.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def structure_folder(name: str) -> Path:
    """A folder, or one of that name among the test data."""
    return (Path(name) if Path(name).is_dir() else DATA / name).resolve()


def settings_of(args: argparse.Namespace) -> TrainConfig:
    """Settings of the training."""
    dotted = {
        "network.model": "heatmap-unet",
        "network.size": "s",
        "network.options": {"widths": WIDTHS[args.size]},
        "network.start": None if args.start is None else str(args.start),
        "patches.patch": 48,
        "patches.foreground": 0.6,
        "loop.batch": args.batch,
        "loop.precision": args.precision,
        "loop.lr": args.lr,
        "loop.warmup": 200,
        "loop.max_time": args.time,
        "loop.clock": args.clock,
        "loop.keep": "last",
        "seed": args.seed,
    }
    return validated(TrainConfig, nested(dotted), Path("benchmarks/embedded.py"))


def train_candidate(args: argparse.Namespace) -> tuple[Path, SimulatedData]:
    """Train, or continue an interrupted training; one that is stopped leaves a model of its last step."""
    config, out = settings_of(args), args.work / "run"
    check_settings(out, config)
    data = SimulatedData.read(f"stream:{stream_file(args)}", config)
    print_now(f"{len(data.templates)} shapes, {len(data.left_out)} left out")
    prepared = prepare_training(config, data)
    prepare_folder(out, to_yaml(config), data.inputs(), False)
    run = TrainingRun(config, prepared, data, out, on_message=print_now)
    try:
        return run.fit(choose_device(args.device), 1), data
    except Interrupted:
        reached = progress_in(out)
        if reached is not None:
            run.keep(prepared.strategy.network(), {}, reached)
            print_now(f"stopped at step {reached.step}; the same command continues")
        raise


def print_now(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def arguments() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the run; gets NAME.safetensors")
    parser.add_argument("--worlds", type=Path, help="folder of the choice worlds, shared by candidates")
    parser.add_argument("--time", default="2h", help="time of the training, such as 90m")
    parser.add_argument("--clock", default="processor", choices=("processor", "wall"), help="clock of --time")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches; new for each --start")
    parser.add_argument("--size", default="s", choices=WIDTHS)
    parser.add_argument("--structures", nargs="*", default=[], help="folders of structures and maps")
    parser.add_argument("--voxel-size", type=float, default=10.0, help="of the network, in Å")
    parser.add_argument(
        "--ribosomes", type=float, default=1, help="how much oftener ribosomes are than others"
    )
    parser.add_argument("--whiten", action="store_true", help="whiten boxes, and tomograms before the search")
    parser.add_argument("--start", type=Path, help="model to continue with")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="32-true", help="of the training")
    parser.add_argument("--processes", type=int, default=0, help="that simulate, besides the training")
    parser.add_argument("--only-score", action="store_true", help="score --start, without a training")
    parser.add_argument("--name", default="embedded", help="name of the result file, embedded-...")
    args = parser.parse_args()
    seconds(args.time)
    return args


def main() -> None:
    """Train, score and write the result file."""
    args = arguments()
    facts: dict[str, Any] = {"size": args.size, "voxel_size": args.voxel_size, "seed": args.seed}
    if args.only_score:
        model = args.start
    else:
        trained, data = train_candidate(args)
        model = args.work / f"{args.name}.safetensors"
        shutil.copyfile(trained, model)
        facts |= {"shapes": len(data.templates), "left_out": sorted(data.left_out)}
    card = read_card(model)
    training = {key: card.training[key] for key in ("steps", "seconds", "held_out") if key in card.training}
    table = {}
    for name in WORLDS:
        world = open_world(WORLDS[name](), (args.worlds or args.work / "worlds") / name)
        picks = candidate(world, model, args.work / "scored" / name, args.device)
        table[name] = {
            "particles": len(world.truth),
            "model": metrics(picks, world),
            "blobs": best_blobs(world),
        }
        print_now(f"{name}: {table[name]}")
    print(write_result(args.name, {"settings": facts, "training": training, "worlds": table}))


if __name__ == "__main__":
    main()
