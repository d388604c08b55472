"""Scores and picks in float32 and bfloat16, on simulated tomograms.

The embedded model on the choice worlds of `embedded.py` and on third-party simulations, with particles of any size, and a heatmap network that
is trained here on the preset `toy`, with its species, on tomograms of another seed. F1 is that of the picks of `cryovox find` at the model's own thresholds, hits within
half a radius (60 Å in the third-party simulations). Differences are those of the score maps that `find` writes, of F1, and the picks that have no other one of the same
species within half a voxel. Processor seconds of the whole command are measured on a larger tomogram, as in `limits.py`, in turn.

    OMP_NUM_THREADS=1 python benchmarks/speed/bfloat16.py --work DIR [--time 4m]       # about eight processor minutes
    OMP_NUM_THREADS=1 python benchmarks/speed/bfloat16.py --work DIR --only-speed      # one of them, into the same result
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import KDTree

sys.path.insert(0, str(Path(__file__).parents[1]))
from limits import measured, tomogram

from common import DATA, RESULTS, cryovox, write_result
from cryovox.benchmark.adaptation.tomograms import sim_deepfinder, write_centers
from cryovox.core.particles import Particles, concatenate
from cryovox.formats import read_particles, stem
from cryovox.formats import scores as score_files
from cryovox.metrics.matching import greedy
from cryovox.models.card import EMBEDDED, read_card
from cryovox.picking.config import ControlConfig
from cryovox.simulate.presets import PRESETS
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.find import find
from embedded import WORLDS, World, in_tomogram, open_world
from embedded_scored import TOLERANCE

PRECISIONS = ("fp32", "bf16")
TOY_TOMOGRAMS, TOY_SEED = 3, 77
SHAPE = (128, 256, 256)


def trained(work: Path, duration: str) -> Path:
    """A heatmap network trained on the preset `toy`, unless an earlier run has."""
    data, run = work / "toy-training", work / "run"
    if not (data / "dataset.yaml").exists():
        cryovox("simulate", "--preset", "toy", "--count", 6, "--out", data, log=work / "log.txt")
    if not (run / "model.safetensors").exists():
        words = ("--data", data, "--model", "heatmap-unet", "--max-time", duration, "--clock", "processor")
        cryovox("train", "supervised", *words, "--out", run, log=work / "log.txt")
    return run / "model.safetensors"


def found(world: World, model: Path, out: Path, precision: str) -> tuple[Particles, list[Any]]:
    """Picks at the model's own thresholds, and score maps."""
    entries = world.dataset.split("test")
    picks, failures = find(
        [entry.tomogram for entry in entries],
        model,
        out,
        SegmentConfig(precision=precision),  # type: ignore[arg-type]
        control=ControlConfig(noise_control=0),
        device="cpu",
        overwrite=True,
        report=False,
    )
    for error in failures.values():
        raise error
    maps = [score_files.read(out / "scores" / f"{stem(entry.tomogram)}.zarr").data[:] for entry in entries]
    named = [in_tomogram(picks[stem(entry.tomogram)], entry.name) for entry in entries]
    return concatenate(named), maps


def f1(picks: Particles, world: World, by_species: bool) -> float:
    """F1 over all particles; with species, a hit has the species of its particle."""
    hits, names = 0, np.unique(world.truth.species) if by_species else [None]
    for name in names:
        own = picks if name is None else picks.named(str(name))
        mine = np.full(len(world.truth), True) if name is None else world.truth.species == name
        hits += len(greedy(own.positions, world.truth.positions[mine], world.tolerance[mine], own.scores))
    return 2 * hits / max(1, len(picks) + len(world.truth))


def moved(first: Particles, second: Particles, within: float) -> int:
    """Picks of either list without one of the same species and tomogram in the other, at most so many Å away."""
    count = 0
    for a, b in ((first, second), (second, first)):
        groups = {(str(t), str(s)) for t, s in zip(a.tomograms, a.species, strict=True)}
        for place, name in groups:
            own, other = (p.within(place).named(name).positions for p in (a, b))
            near = KDTree(other).query(own)[0] <= within if len(other) else np.zeros(len(own), bool)
            count += int((~near).sum())
    return count


def third_party(folder: Path) -> World:
    """Third-party simulations, with objects of any class."""
    dataset, truth = sim_deepfinder(DATA / "sim_deepfinder"), []
    for entry in dataset.entries:
        centers = folder / f"{entry.name}.csv"
        write_centers(centers, entry, dataset)
        truth.append(in_tomogram(read_particles(centers), entry.name))
    entries = tuple(entry.model_copy(update={"split": "test"}) for entry in dataset.entries)
    every = concatenate(truth)
    return World(dataset.model_copy(update={"entries": entries}), every, np.full(len(every), TOLERANCE))


def compare(name: str, world: World, model: Path, work: Path, by_species: bool) -> dict[str, Any]:
    """Both precisions on one world."""
    picks, maps = {}, {}
    for precision in PRECISIONS:
        out = work / f"{name}-{precision}"
        picks[precision], maps[precision] = found(world, model, out, precision)
    full, half = (picks[precision] for precision in PRECISIONS)
    size = world.dataset.voxel_size
    apart = [np.abs(a - b).max() for a, b in zip(*maps.values(), strict=True)]
    return {
        "world": name,
        "tomograms": len(maps["fp32"]),
        "particles": len(world.truth),
        "picks": {precision: len(picks[precision]) for precision in PRECISIONS},
        "f1": {p: round(f1(picks[p], world, by_species), 4) for p in PRECISIONS},
        "unmatched_picks": moved(full, half, size / 2),
        "largest_score_difference": round(float(max(apart)), 5),
    }


def whole_runs(rounds: int = 2) -> dict[str, Any]:
    """Processor seconds of `find` with the embedded model, in a process of its own for each precision in turn."""
    runs: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tomogram.mrc"
        tomogram(path, SHAPE, read_card(EMBEDDED).voxel_size)
        for number in range(rounds):
            for precision in PRECISIONS:
                words = ["find", str(path), "--out", str(Path(folder) / f"{precision}-{number}"), "--quiet"]
                runs[precision].append(measured([*words, "--precision", precision])["processor_seconds"])
                print(precision, runs[precision][-1], flush=True)
    return {"shape": SHAPE, "seconds": runs}


def main() -> None:
    """Compare, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--worlds", type=Path, help="folder of the choice worlds, by default in --work")
    parser.add_argument("--time", default="4m", help="processor time of the training")
    parser.add_argument("--only-speed", action="store_true", help="keep the scores of the result file")
    args = parser.parse_args()
    if args.only_speed:
        stored = json.loads((RESULTS / "bfloat16.json").read_text(encoding="utf-8"))
        write_result("bfloat16", {"threads": 1, "rows": stored["rows"], "find": whole_runs()})
        return
    args.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, make in WORLDS.items():
        world = open_world(make(), (args.worlds or args.work / "worlds") / name)
        rows.append({"model": "embedded", **compare(name, world, EMBEDDED, args.work, False)})
        print(rows[-1], flush=True)
    others = third_party(args.work / "centers")
    rows.append({"model": "embedded", **compare("third-party", others, EMBEDDED, args.work, False)})
    print(rows[-1], flush=True)
    toy = open_world(PRESETS["toy"], args.work / "toy", TOY_TOMOGRAMS, TOY_SEED)
    model = trained(args.work, args.time)
    rows.append({"model": f"heatmap-unet, {args.time}", **compare("toy", toy, model, args.work, True)})
    print(rows[-1], flush=True)
    write_result("bfloat16", {"threads": 1, "rows": rows, "find": whole_runs()})


if __name__ == "__main__":
    main()
