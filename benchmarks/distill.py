"""Distillation on a CPU: light students of a teacher beside the same networks trained on annotations.

Small tomograms of the six species of the CZII phantom, drawn by seed with the weights: two are annotated, four are not, two
are scored. The teacher, heatmap-unet in size s, learns from the two. Students learn the teacher's scores on the other four
without annotations (`cryovox train distill`), or the annotations of the two (`cryovox train supervised`), for the same
processor time. F1 with the species at the own thresholds of a model and average precision without one, within half a
radius. Second, processor seconds of the tiler for each network with random weights, in turns within one run.

Prediction, after one trial with seed 9 (60 s and 35 s; F1 of the teacher 0.69, of a light student 0.63 distilled and
0.52 from annotations, average precision 0.61 both): distilled students 0.05 of F1 above those of annotations and
within 0.03 of average precision, the teacher 0.05 to 0.10 above both. The tiler takes 1 / 2.4 of the time of the
teacher with light students and 1 / 1.6 with xs.

    OMP_NUM_THREADS=1 python benchmarks/distill.py --work DIR       # about 7 processor minutes; resumes
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from common import cryovox, write_result
from cryovox.benchmark.tomograms import Scale, scaled_preset, stand_in
from cryovox.core.atomic import replacing
from cryovox.core.dataset import Dataset
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_particles, read_volume, scores
from cryovox.metrics.detection import average_precision, detection
from cryovox.picking import PickConfig, pick

SCALE = Scale((48, 128, 128), count=16, n_train=6, n_test=2, voxel_size=20.0)
ANNOTATED = 2
STUDENTS = ("light",)
TILED = ("s", "light", "xs")
"""Sizes whose time is measured, the first as the reference."""
VOLUME, TILE, OVERLAP, SPECIES, TURNS = (64, 128, 128), 64, 0.25, 6, 3


def without_annotations(dataset: Dataset, split: str = "train") -> Dataset:
    """The tomograms of a dataset alone."""
    entries = [
        e.model_copy(update={"labels": None, "particles": None, "split": split}) for e in dataset.entries
    ]
    return dataset.model_copy(update={"entries": tuple(entries)})


def worlds(folder: Path, seed: int) -> Dataset:
    """Simulate; writes annotated.yaml and bare.yaml, and returns the tomograms to score."""
    config = scaled_preset("czii-phantom", SCALE)
    if not (folder / "bare.yaml").exists():
        stand_in(folder, config, SCALE.n_train, SCALE.n_test, seed=100 + seed)
    dataset = dataset_files.read(folder)
    train, test = dataset.split("train"), dataset.split("test")
    parts = {"annotated": train[:ANNOTATED], "bare": train[ANNOTATED:]}
    for name, entries in parts.items():
        part = dataset.model_copy(update={"entries": entries})
        dataset_files.write(folder, without_annotations(part) if name == "bare" else part, f"{name}.yaml")
    return dataset.model_copy(update={"entries": test})


def processor_seconds(*words: object, log: Path) -> float:
    """Run a command; returns its processor seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    cryovox(*words, log=log)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)


def run(folder: Path, test: Dataset, seed: int, how: tuple[object, ...], budget: str) -> dict[str, Any]:
    """Train a model, pick with it, and score its picks."""
    folder.mkdir(parents=True, exist_ok=True)
    log, model = folder / "log.txt", folder / "run" / "model.safetensors"
    common = ("--device", "cpu", "--quiet")
    timed = ("--max-time", budget, "--clock", "processor", "--seed", seed)
    seconds = processor_seconds("train", *how, "--out", folder / "run", *timed, *common, log=log)
    tomograms = [entry.tomogram for entry in test.entries]
    segment = ("segment", *tomograms, "--model", model, "--out", folder / "found")
    found = processor_seconds(*segment, *common, log=log)
    steps = json.loads((folder / "run" / "manifest.json").read_text(encoding="utf-8"))["steps"]
    return {
        "train_seconds": seconds,
        "segment_seconds": found,
        "steps": steps,
        **score(folder / "found", test),
    }


def score(found: Path, test: Dataset) -> dict[str, float]:
    """Mean F1 and average precision over species and tomograms."""
    f1, precision = [], []
    for entry in test.entries:
        truth = read_particles(entry.particles, tomogram=read_volume(entry.tomogram))
        score_map = scores.read(found / "scores" / f"{entry.tomogram.stem}.zarr")
        picks, ranked = pick(score_map), pick(score_map, PickConfig(threshold=0.01))
        for kind in test.species:
            true = truth.named(kind.name)
            f1.append(detection(picks.named(kind.name), true, kind.radius / 2).f1)
            precision.append(average_precision(ranked.named(kind.name), true, kind.radius / 2))
    return {"f1": round(float(np.mean(f1)), 4), "average_precision": round(float(np.mean(precision)), 4)}


def arms(folder: Path, sizes: tuple[str, ...]) -> dict[str, tuple[object, ...]]:
    """Commands of the students."""
    teacher, annotated, bare = (
        folder / "teacher" / "run",
        folder / "world" / "annotated.yaml",
        folder / "world" / "bare.yaml",
    )
    commands: dict[str, tuple[object, ...]] = {}
    for size in sizes:
        commands[f"{size}, distilled"] = ("distill", "--teacher", teacher, "--data", bare, "--size", size)
        commands[f"{size}, annotations"] = ("supervised", "--data", annotated, "--size", size)
    return commands


def seed_rows(folder: Path, seed: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Teacher and students of one seed; rows that an interrupted run has written are read."""
    test = worlds(folder / "world", seed)
    plan = {"teacher": (("supervised", "--data", folder / "world" / "annotated.yaml"), args.teacher_time)}
    plan |= {name: (how, args.time) for name, how in arms(folder, tuple(args.students)).items()}
    rows = []
    for name, (how, budget) in plan.items():
        file = folder / f"{name}.json"
        if not file.exists():
            row = run(folder / name.replace(", ", "-"), test, seed, how, budget)
            with replacing(file) as beside:
                beside.write_text(json.dumps({"model": name, "seed": seed, **row}), encoding="utf-8")
        rows.append(json.loads(file.read_text(encoding="utf-8")))
        print(rows[-1], flush=True)
    return rows


def tiler_seconds(sizes: tuple[str, ...]) -> dict[str, list[float]]:
    """Processor seconds of the tiler for heatmap-unet in each size, in turns."""
    import torch

    from cryovox.core.intensity import Normalization
    from cryovox.inference.stream import TilePlan, stream
    from cryovox.models import build, options

    torch.manual_seed(0)
    volume = np.random.default_rng(0).standard_normal(VOLUME, np.float32)
    networks = {}
    for size in sizes:
        networks[size] = build("heatmap-unet", options("heatmap-unet", size), 1, SPECIES).eval()
    tiles = TilePlan(TILE, OVERLAP, 2, "sigmoid", batch=1)
    seconds: dict[str, list[float]] = {size: [] for size in sizes}
    for turn in range(TURNS + 1):  # the first warms up
        for size, network in networks.items():
            began = time.process_time()
            stream(network, volume, Normalization(0.0, 1.0), tiles, lambda first, block: None)
            if turn:
                seconds[size].append(round(time.process_time() - began, 3))
    return seconds


def main() -> None:
    """Run all seeds and write `results/distill.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of worlds and runs")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--students", nargs="+", default=list(STUDENTS), help="sizes")
    parser.add_argument("--teacher-time", default="40s")
    parser.add_argument("--time", default="25s", help="of a student")
    parser.add_argument("--name", default="distill", help="name of the result file")
    args = parser.parse_args()
    rows = [row for seed in args.seeds for row in seed_rows(args.work / f"seed-{seed}", seed, args)]
    settings = {
        "teacher_time": args.teacher_time,
        "time": args.time,
        "shape": SCALE.shape,
        "voxel_size": SCALE.voxel_size,
    }
    settings |= {"particles": SCALE.count, "annotated": ANNOTATED, "not_annotated": SCALE.n_train - ANNOTATED}
    tiler = {"volume": VOLUME, "tile": TILE, "overlap": OVERLAP, "seconds": tiler_seconds(TILED)}
    tiler["ratio"] = {
        size: round(median(tiler["seconds"]["s"]) / median(s), 2) for size, s in tiler["seconds"].items()
    }
    print(tiler)
    print(write_result(args.name, {"settings": settings, "runs": rows, "tiler": tiler}))


if __name__ == "__main__":
    main()
