"""Training on simulated tomograms: a DeepFinder-type U-Net, ten minutes, test on new tomograms.

Training uses three tomograms of the preset `toy` with four species from small to large, testing two more. The same
network on noise-free tomograms is the upper bound. A difference-of-Gaussians picker without species, given the
true particle count, is the baseline.

    python benchmarks/simulator_learnable.py            # 3 seeds, and the oracle
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common import cryovox, in_parallel, write_result
from cryovox.core.config import to_yaml
from cryovox.core.dataset import Dataset
from cryovox.core.particles import Particles, concatenate
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_particles, read_volume
from cryovox.metrics.evaluation import evaluate_particles
from cryovox.metrics.matching import greedy
from cryovox.metrics.table import POOLED
from cryovox.picking.blobs import dog
from cryovox.simulate.presets import PRESETS

SIZES = {
    "ribosome-80s": "4.0 MDa",
    "proteasome-20s": "700 kDa",
    "apo-ferritin": "480 kDa",
    "hsp90": "190 kDa",
}
COUNTS = {"ribosome-80s": 6, "proteasome-20s": 14, "apo-ferritin": 14, "hsp90": 20}
TOMOGRAMS, LEARNED = 5, 3
TRAIN = ("--model", "deepfinder", "--size", "s", "--patch", 32, "--batch", 4, "--loss", "ce+dice",
         "--lr", 2e-3, "--warmup", 20, "--ema", 0.98, "--keep", "last", "--validate-every", 100_000)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One training."""

    noise: bool
    seed: int

    @property
    def name(self) -> str:
        return f"{'noisy' if self.noise else 'clean'}-seed{self.seed}"


def simulate(work: Path) -> Dataset:
    """Simulate five tomograms; the last two are for testing."""
    settings = work / "settings.yaml"
    work.mkdir(parents=True, exist_ok=True)
    log = work / "simulate.log"
    toy = PRESETS["toy"]
    config = toy.model_copy(
        update={"species": tuple(COUNTS), "scene": toy.scene.model_copy(update={"counts": COUNTS})}
    )
    settings.write_text(to_yaml(config), encoding="utf-8")
    data = work / "data"
    cryovox("simulate", "--out", data, "--config", settings, "--count", TOMOGRAMS, "--keep", "clean", "--quiet",
            log=log)  # fmt: skip
    return dataset_files.read(data)


def run_job(job: Job, work: Path, dataset: Dataset, time: str) -> dict[str, Any]:
    """Train on three tomograms, with or without noise, and pick in the other two."""
    folder = work / job.name
    run, output, log = folder / "run", folder / "found", folder / "log.txt"
    entries = [with_input(e, job.noise) for e in dataset.entries]
    if not (output / "report.html").exists():
        data = folder / "dataset"
        data.mkdir(parents=True, exist_ok=True)
        dataset_files.write(data, dataset.model_copy(update={"entries": tuple(entries[:LEARNED])}))
        cryovox("train", "supervised", "--data", data, "--out", run, *TRAIN, "--seed", job.seed,
                "--steps", 100_000, "--max-time", time, log=log)  # fmt: skip
        tomograms = [e.tomogram for e in entries[LEARNED:]]
        cryovox("find", *tomograms, "--model", run / "model.safetensors", "--out", output, log=log)
    picks = concatenate(
        named(
            read_particles(output / "particles" / f"{e.name}.star", tomogram=read_volume(e.tomogram)), e.name
        )
        for e in entries[LEARNED:]
    )
    f1 = by_species(picks, truth(dataset), dataset)
    print(job.name, f1, flush=True)
    return {"noise": job.noise, "seed": job.seed, "f1": f1}


def with_input(entry: Any, noise: bool) -> Any:
    """The entry, or the entry with its noise-free tomogram."""
    if noise:
        return entry
    return entry.model_copy(update={"tomogram": entry.tomogram.parents[1] / "clean" / entry.tomogram.name})


def truth(dataset: Dataset) -> Particles:
    """All particles of the test tomograms."""
    return concatenate(
        named(read_particles(e.particles, tomogram=read_volume(e.tomogram)), e.name)
        for e in dataset.entries[LEARNED:]
        if e.particles is not None
    )


def named(particles: Particles, tomogram: str) -> Particles:
    """The particles with the name of their tomogram."""
    return Particles.of(particles.positions, particles.species.tolist(), particles.scores, tomograms=tomogram)


def by_species(picks: Particles, true: Particles, dataset: Dataset) -> dict[str, float]:
    """Pooled F1 of each species, on average, and regardless of the species."""
    rows = evaluate_particles(picks, true, {s.name: s.radius for s in dataset.species})
    return {
        str(r["species"]): round(float(r["value"]), 4)
        for r in rows
        if r["metric"] == "f1" and r["tomogram"] == POOLED
    }


def dog_baseline(dataset: Dataset) -> dict[str, float]:
    """Difference-of-Gaussians picker, given the true particle count: recall by species, and F1 of all."""
    hits: dict[str, list[bool]] = {name: [] for name in COUNTS}
    n_hits = total = 0
    for entry in dataset.entries[LEARNED:]:
        volume = read_volume(entry.tomogram)
        assert entry.particles is not None
        true = read_particles(entry.particles, tomogram=volume)
        blobs = dog(np.asarray(volume.data), volume.voxel_size, 3.0, species="blob", distance=80.0).sorted()
        blobs = blobs.take(np.arange(min(len(blobs), len(true))))
        matched = np.zeros(len(true), bool)
        matched[greedy(blobs.positions, true.positions, 80.0, blobs.scores).truth] = True
        for name in COUNTS:
            hits[name] += matched[true.species == name].tolist()
        n_hits, total = n_hits + int(matched.sum()), total + len(true)
    return {name: round(float(np.mean(v)), 4) for name, v in hits.items()} | {"any": round(n_hits / total, 4)}


def main() -> None:
    """Simulate, train, pick, and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("runs/simulator_learnable"))
    parser.add_argument("--time", default="10m", help="wall time of each training on one thread")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--oracles", type=int, default=1, help="trainings without noise")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    dataset = simulate(args.work)
    jobs = [Job(True, s) for s in range(args.seeds)] + [Job(False, s) for s in range(args.oracles)]
    runs = in_parallel(jobs, lambda job: run_job(job, args.work, dataset, args.time), args.jobs)
    table = {}
    for noise in (True, False):
        scores = [r["f1"] for r in runs if r["noise"] == noise]
        if not scores:
            continue
        table["learned" if noise else "oracle, no noise"] = {
            k: [round(float(np.mean([f[k] for f in scores])), 4),
                round(float(np.std([f[k] for f in scores], ddof=1)), 4) if len(scores) > 1 else None]
            for k in scores[0]
        }  # fmt: skip
    result = {
        "settings": {"time": args.time, "train": list(map(str, TRAIN)), "counts": COUNTS, "mass": SIZES}
    }
    print(
        write_result(
            "simulator_learnable",
            {**result, "f1": table, "floor_recall": dog_baseline(dataset), "runs": runs},
        )
    )


if __name__ == "__main__":
    main()
