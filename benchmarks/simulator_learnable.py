"""Can anything be learned from simulated tomograms? A DeepFinder-type U-Net, ten minutes, new tomograms.

Three tomograms of the kind of the `toy` preset with four species from small to large are learned
from; two more are searched. Beside it runs the same network on the noise-free tomograms, which is the
most that the labels hold, and a blob picker that knows no species and is given the true number of
particles, which is the floor.

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
    """Five tomograms; the last two are tested on."""
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


def run_job(job: Job, work: Path, found: Dataset, time: str) -> dict[str, Any]:
    """Train on three tomograms, or on what they are without noise, and search the other two."""
    folder = work / job.name
    run, out, log = folder / "run", folder / "found", folder / "log.txt"
    entries = [seen(e, job.noise) for e in found.entries]
    if not (out / "report.html").exists():
        data = folder / "dataset"
        data.mkdir(parents=True, exist_ok=True)
        dataset_files.write(data, found.model_copy(update={"entries": tuple(entries[:LEARNED])}))
        cryovox("train", "supervised", "--data", data, "--out", run, *TRAIN, "--seed", job.seed,
                "--steps", 100_000, "--max-time", time, log=log)  # fmt: skip
        tomograms = [e.tomogram for e in entries[LEARNED:]]
        cryovox("find", *tomograms, "--model", run / "model.safetensors", "--out", out, log=log)
    picks = concatenate(
        named(read_particles(out / "particles" / f"{e.name}.star", tomogram=read_volume(e.tomogram)), e.name)
        for e in entries[LEARNED:]
    )
    f1 = by_species(picks, truth(found), found)
    print(job.name, f1, flush=True)
    return {"noise": job.noise, "seed": job.seed, "f1": f1}


def seen(entry: Any, noise: bool) -> Any:
    """The entry, with the noise-free tomogram in place of the other."""
    if noise:
        return entry
    return entry.model_copy(update={"tomogram": entry.tomogram.parents[1] / "clean" / entry.tomogram.name})


def truth(found: Dataset) -> Particles:
    """All particles of the tomograms that are searched."""
    return concatenate(
        named(read_particles(e.particles, tomogram=read_volume(e.tomogram)), e.name)
        for e in found.entries[LEARNED:]
        if e.particles is not None
    )


def named(particles: Particles, tomogram: str) -> Particles:
    """The same, of one tomogram."""
    return Particles.of(particles.positions, particles.species.tolist(), particles.scores, tomograms=tomogram)


def by_species(picks: Particles, true: Particles, found: Dataset) -> dict[str, float]:
    """Pooled F1 of each species, on average, and regardless of the species."""
    rows = evaluate_particles(picks, true, {s.name: s.radius for s in found.species})
    return {
        str(r["species"]): round(float(r["value"]), 4)
        for r in rows
        if r["metric"] == "f1" and r["tomogram"] == POOLED
    }


def floor(found: Dataset) -> dict[str, float]:
    """A blob picker that is told how many particles there are: recall by species, and F1 of all."""
    hit: dict[str, list[bool]] = {name: [] for name in COUNTS}
    right = total = 0
    for entry in found.entries[LEARNED:]:
        volume = read_volume(entry.tomogram)
        assert entry.particles is not None
        true = read_particles(entry.particles, tomogram=volume)
        blobs = dog(np.asarray(volume.data), volume.voxel_size, 3.0, species="blob", distance=80.0).sorted()
        blobs = blobs.take(np.arange(min(len(blobs), len(true))))
        reached = np.zeros(len(true), bool)
        reached[greedy(blobs.positions, true.positions, 80.0, blobs.scores).truth] = True
        for name in COUNTS:
            hit[name] += reached[true.species == name].tolist()
        right, total = right + int(reached.sum()), total + len(true)
    return {name: round(float(np.mean(v)), 4) for name, v in hit.items()} | {"any": round(right / total, 4)}


def main() -> None:
    """Simulate, train, search, and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("runs/simulator_learnable"))
    parser.add_argument("--time", default="10m", help="wall time of each training on one thread")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--oracles", type=int, default=1, help="trainings without noise")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    found = simulate(args.work)
    jobs = [Job(True, s) for s in range(args.seeds)] + [Job(False, s) for s in range(args.oracles)]
    runs = in_parallel(jobs, lambda job: run_job(job, args.work, found, args.time), args.jobs)
    table = {}
    for noise in (True, False):
        of = [r["f1"] for r in runs if r["noise"] == noise]
        if not of:
            continue
        table["learned" if noise else "oracle, no noise"] = {
            k: [round(float(np.mean([f[k] for f in of])), 4),
                round(float(np.std([f[k] for f in of], ddof=1)), 4) if len(of) > 1 else None]
            for k in of[0]
        }  # fmt: skip
    told = {"settings": {"time": args.time, "train": list(map(str, TRAIN)), "counts": COUNTS, "mass": SIZES}}
    print(
        write_result("simulator_learnable", {**told, "f1": table, "floor_recall": floor(found), "runs": runs})
    )


if __name__ == "__main__":
    main()
