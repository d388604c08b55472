"""Networks at equal time on third-party simulated tomograms.

Four tomograms of 100^3 voxels with nine species and three objects of each per tomogram: leave-one-out
cross-validation with pooled scores. All trainings have the same processor time on one thread and the same loss;
the rest are defaults of the package. No setting was selected on these data. The only scores that a choice may rest on
are those of the slab of the training tomograms that each training holds out (`held_out` of each run).

The folds can be run one after the other: finished trainings are kept and unfinished ones continue.

    python benchmarks/sim_deepfinder.py            # 3 networks x 4 folds x 3 seeds
    python benchmarks/sim_deepfinder.py --networks voxresnet --folds 1 --seeds 1 --time 60m --name one-fold
"""

from __future__ import annotations

import argparse
import json
import shlex
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common import DATA, cryovox, in_parallel, write_result
from cryovox.core.dataset import Dataset, Entry
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import LabelMap
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_labels, read_particles, read_volume, write_particles
from cryovox.metrics.evaluation import evaluate_particles
from cryovox.metrics.segmentation import evaluate_labels
from cryovox.metrics.table import ANY, MEAN, POOLED, Row

FOLDER = DATA / "sim_deepfinder"
NUMBERS = (1, 2, 3, 4)
NETWORKS = ("deepfinder", "voxresnet", "mvgformer")
CHOICES = ("deepfinder", "voxresnet", "mvgformer", "residual-unet", "unet3d")
CLASSES = tuple(range(1, 10))
COMMON = ("--size", "s", "--patch", 32, "--batch", 4, "--loss", "ce+dice")


@dataclass(frozen=True)
class Job:
    """One training."""

    network: str
    test: int
    seed: int


def objects(number: int) -> Particles:
    """True objects of a tomogram, in Å."""
    voxel = read_volume(FOLDER / f"tomo{number}_f16.mrc").voxel_size
    objects_list = ET.parse(FOLDER / f"tomo{number}_objlist.xml").getroot()
    positions = [[float(o.attrib[axis]) * voxel for axis in "zyx"] for o in objects_list]
    return Particles.of(
        positions, [f"class{o.attrib['class_label']}" for o in objects_list], tomograms=f"tomo{number}_f16"
    )


def species(numbers: list[int]) -> tuple[Species, ...]:
    """Species with the radius of a ball of the mean object volume in the training tomograms."""
    maps = [read_labels(FOLDER / f"tomo{n}_labels.mrc.gz") for n in numbers]
    species_list = []
    for label in CLASSES:
        voxels = sum(int((m.data == label).sum()) for m in maps) / (3 * len(maps))
        radius = (3 * voxels / (4 * np.pi)) ** (1 / 3) * maps[0].voxel_size
        species_list.append(Species(name=f"class{label}", label=label, radius=round(float(radius), 1)))
    return tuple(species_list)


def dataset(folder: Path, numbers: list[int]) -> Path:
    """The training tomograms as a dataset."""
    entries = []
    for n in numbers:
        path = folder / "particles" / f"tomo{n}.csv"
        write_particles(path, objects(n))
        tomogram, labels = FOLDER / f"tomo{n}_f16.mrc", FOLDER / f"tomo{n}_labels.mrc.gz"
        entries.append(
            Entry(
                name=f"tomo{n}_f16",
                tomogram=tomogram.resolve(),
                labels=labels.resolve(),
                particles=path,
                contrast="dark",
            )
        )
    dataset_files.write(folder, Dataset(voxel_size=10.0, species=species(numbers), entries=tuple(entries)))
    return folder


def run_job(job: Job, work: Path, time: str, options: list[str]) -> dict[str, Any]:
    """Train on three tomograms and pick in the fourth, unless results of an earlier run exist."""
    folder = work / f"{job.network}-test{job.test}-seed{job.seed}"
    run, output, log = folder / "run", folder / "found", folder / "log.txt"
    if not (output / "report.html").exists():
        data = dataset(folder / "dataset", [n for n in NUMBERS if n != job.test])
        log.unlink(missing_ok=True)
        cryovox(
            "train", "supervised", "--data", data, "--out", run, "--model", job.network, *COMMON, *options, "--seed", job.seed,
            "--steps", 100_000, "--max-time", time, "--clock", "processor", "--validate-every", 100_000, "--held-out", 0.15, "--keep", "last",
            log=log,
        )  # fmt: skip
        tomogram = FOLDER / f"tomo{job.test}_f16.mrc"
        cryovox("find", tomogram, "--model", run / "model.safetensors", "--out", output, log=log)
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    print(f"{job}: {manifest['steps']} steps in {manifest['seconds']:.0f} s", flush=True)
    return {
        "network": job.network,
        "test": job.test,
        "seed": job.seed,
        "steps": manifest["steps"],
        "train_seconds": manifest["seconds"],
        "held_out": manifest["best_score"],
    }


def score(network: str, seed: int, folds: list[int], work: Path) -> dict[str, dict[str, float]]:
    """Dice and F1 of one network and seed, pooled over the folds."""
    kinds = species(list(NUMBERS))
    predicted: dict[str, LabelMap] = {}
    truth: dict[str, LabelMap] = {}
    picks, true_objects = [], []
    for n in folds:
        name, folder = f"tomo{n}_f16", work / f"{network}-test{n}-seed{seed}" / "found"
        predicted[name] = read_labels(folder / "labels" / f"{name}.mrc", kinds)
        truth[name] = read_labels(FOLDER / f"tomo{n}_labels.mrc.gz", kinds)
        tomogram = read_volume(FOLDER / f"{name}.mrc")
        picks.append(read_particles(folder / "particles" / f"{name}.star", tomogram=tomogram))
        true_objects.append(objects(n))
    rows = evaluate_labels(predicted, truth, surfaces=False) + evaluate_particles(
        joined(picks, folds), joined(true_objects, folds), {k.name: k.radius for k in kinds}
    )
    return table(rows)


def joined(lists: list[Particles], folds: list[int]) -> Particles:
    """Lists of several tomograms in one."""
    return Particles.of(
        np.concatenate([p.positions for p in lists]),
        np.concatenate([p.species for p in lists]).tolist(),
        np.concatenate([p.scores for p in lists]),
        tomograms=[f"tomo{n}_f16" for n, p in zip(folds, lists, strict=True) for _ in range(len(p))],
    )


def table(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Pooled Dice and F1 by class, regardless of the class, and on average."""
    names = [f"class{c}" for c in CLASSES] + [ANY, MEAN]
    pooled = [r for r in rows if r["tomogram"] == POOLED and r["metric"] in ("dice", "f1")]
    return {
        s: {str(r["metric"]): round(float(r["value"]), 4) for r in pooled if r["species"] == s} for s in names
    }


def summarize(scores: dict[str, list[dict[str, dict[str, float]]]]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds."""
    return {
        network: {
            kind: {
                metric: [
                    round(float(np.mean(v)), 4),
                    round(float(np.std(v, ddof=1)) if len(v) > 1 else 0.0, 4),
                ]
                for metric in ("dice", "f1")
                for v in [[one[kind].get(metric, 0.0) for one in of_seed]]
            }
            for kind in of_seed[0]
        }
        for network, of_seed in scores.items()
    }


def main() -> None:
    """Run all trainings and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("runs/sim_deepfinder"), help="folder for the runs")
    parser.add_argument("--time", default="2m", help="processor time of each training")
    parser.add_argument("--name", default="sim_deepfinder", help="name of the result file")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each network and fold")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, one thread each")
    parser.add_argument(
        "--networks", nargs="+", default=list(NETWORKS), choices=CHOICES, help="networks to run"
    )
    parser.add_argument(
        "--folds", nargs="+", type=int, default=list(NUMBERS), choices=NUMBERS, help="test tomograms"
    )
    parser.add_argument("--options", default="", help="further options of `cryovox train`, in quotes")
    args = parser.parse_args()
    jobs = [Job(n, t, s) for s in range(args.seeds) for t in args.folds for n in args.networks]
    options = shlex.split(args.options)
    runs = in_parallel(jobs, lambda job: run_job(job, args.work, args.time, options), args.jobs)
    scores = {n: [score(n, s, args.folds, args.work) for s in range(args.seeds)] for n in args.networks}
    means = summarize(scores)
    for network, rows in means.items():
        text = "  ".join(f"{k} {v['dice'][0]:.2f}/{v['f1'][0]:.2f}" for k, v in rows.items())
        print(f"{network} (Dice/F1): {text}")
    settings = {"time": args.time, "threads": 1, "common": [*map(str, COMMON), *options], "folds": args.folds}
    print(write_result(args.name, {"settings": settings, "table": means, "seeds": scores, "runs": runs}))


if __name__ == "__main__":
    main()
