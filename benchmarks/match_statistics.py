"""Expected false positives of template matching beside those that are counted.

Tomograms hold colored noise with a missing wedge: alone, with particles of the template, or also with as many particles
of six other species. The template is searched as `cryovox match` does, with the control in noise and with the decoy, and
at the thresholds for 1, 10 and 100 expected false positives, picks that are not within a radius of a true particle are
counted. The mean over tomograms should agree within a factor of 1.5. Noise has no other particles, so only the decoy can
hold with them, and only on average over many species: each of them prefers one hand of the template.

    python benchmarks/match_statistics.py
    python benchmarks/match_statistics.py --shape 128 256 256 --tomograms 12 --device cuda --name match_statistics_large
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from common import write_result
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import read_particles, write_volume
from cryovox.picking.peaks import separate
from cryovox.simulate.particles import library
from cryovox.simulate.particles.rotate import add_box, rotate
from cryovox.workflows.devices import keep_freed_memory
from cryovox.workflows.match import match
from cryovox.workflows.matching.config import MatchConfig

OTHERS = ("proteasome-20s", "groel", "ribosome-70s", "apo-ferritin", "rubisco", "p97")
COUNTS = (1.0, 10.0, 100.0)
CASES = {"noise": (0, 0), "particles": (1, 0), "others": (1, 1)}
"""Particles of the template and of other species, in units of --particles."""
Rows = list[dict[str, object]]


def tomogram(path: Path, case: str, args: argparse.Namespace, seed: int) -> np.ndarray:
    """Write a tomogram; returns the places (z, y, x) of the particles of the template in Å."""
    rng, shape = np.random.default_rng(seed), args.shape
    volume = np.zeros(shape, np.float32)
    sites = rng.uniform(6, np.array(shape) - 6, (40 * args.particles, 3))
    sites = np.rint(
        sites[separate(sites, rng.random(len(sites)), args.distance)[: 2 * args.particles]]
    ).astype(int)
    own, other = (args.particles * n for n in CASES[case])
    kinds = [args.species] * own + [OTHERS[n % len(OTHERS)] for n in range(other)]
    turns = Rotation.random(len(sites), random_state=rng).as_matrix()
    for place, kind, turn in zip(sites, kinds, turns, strict=False):
        box, _ = rotate(library.build_template(kind, args.voxel), turn)
        add_box(volume, box, place - box.shape[0] // 2)
    kz, ky, kx = (
        np.fft.fftfreq(shape[0])[:, None, None],
        np.fft.fftfreq(shape[1])[:, None],
        np.fft.rfftfreq(shape[2]),
    )
    wedge = np.abs(kz) <= np.tan(np.pi / 3) * kx + 1e-9
    color = wedge / (0.1 + np.sqrt(kz**2 + ky**2 + kx**2))
    noise = np.fft.irfftn(np.fft.rfftn(rng.standard_normal(shape)) * color, s=shape, axes=(0, 1, 2))
    signal = np.fft.irfftn(np.fft.rfftn(volume) * wedge, s=shape, axes=(0, 1, 2))
    scale = np.sqrt(args.snr) / signal.std() if kinds else 0.0
    data = signal * scale + noise / noise.std()
    write_volume(path, Volume(data.astype(np.float32), args.voxel))
    return sites[:own] * args.voxel


def false_picks(picks: Particles, true: np.ndarray, radius: float) -> np.ndarray:
    """Which picks lie further than a radius from every true particle."""
    if not len(true):
        return np.ones(len(picks), bool)
    return KDTree(true).query(picks.positions)[0] > radius


def counted(path: Path, true: np.ndarray, decoy: str, args: argparse.Namespace) -> dict[str, dict[str, int]]:
    """False and true picks of a search at the thresholds of `COUNTS`."""
    config = MatchConfig(
        angle=args.angle, symmetry=library.SPECIES[args.species].group, contrast="bright",
        false_positives=max(COUNTS), decoy=decoy, refine=False,
    )  # fmt: skip
    out = path.with_name(f"{path.stem}-{decoy}")
    (entry,) = match(Path(args.species), [path], out, config, device=args.device)[0].values()
    frame = Volume(np.broadcast_to(np.int8(0), args.shape), args.voxel)
    picks = read_particles(out / entry["outputs"]["particles"], tomogram=frame)
    is_false = false_picks(picks, true, entry["radius"])
    expected = picks.extra["cryovoxFalsePositives"].astype(float)
    return {
        kind: {f"{count:g}": int((which & (expected <= count)).sum()) for count in COUNTS}
        for kind, which in (("false", is_false), ("true", ~is_false))
    }


def observed_over_expected(rows: Rows, case: str, decoy: str) -> dict[str, float]:
    """Mean over tomograms at each expected number."""
    chosen = [row["false"] for row in rows if row["case"] == case and row["decoy"] == decoy]
    return {f"{count:g}": float(np.mean([row[f"{count:g}"] for row in chosen]) / count) for count in COUNTS}


def main() -> None:
    """Simulate, search, count and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", nargs=3, type=int, default=(60, 96, 108))
    parser.add_argument("--voxel", type=float, default=20.0)
    parser.add_argument("--species", default="beta-galactosidase")
    parser.add_argument("--particles", type=int, default=24)
    parser.add_argument("--distance", type=float, default=9.0, help="between particles, in voxels")
    parser.add_argument("--snr", type=float, default=0.1)
    parser.add_argument("--angle", type=float, default=25.0)
    parser.add_argument("--decoys", nargs="+", default=("none", "mirror"))
    parser.add_argument("--cases", nargs="+", default=tuple(CASES), choices=tuple(CASES))
    parser.add_argument("--tomograms", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--name", default="match_statistics", help="of the result file")
    args = parser.parse_args()
    args.shape = tuple(args.shape)
    keep_freed_memory()
    torch.set_num_threads(1)
    rows: Rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case, seed in product(args.cases, range(args.tomograms)):
            path = Path(folder) / f"{case}-{seed}.mrc"
            true = tomogram(path, case, args, seed)
            for decoy in args.decoys:
                rows.append({"case": case, "seed": seed, "decoy": decoy, **counted(path, true, decoy, args)})
                print(rows[-1], flush=True)
    ratios = {
        case: {decoy: observed_over_expected(rows, case, decoy) for decoy in args.decoys}
        for case in args.cases
    }
    print("observed over expected:", ratios)
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(args).items()}
    print(
        write_result(args.name, {"settings": settings, "tomograms": rows, "observed_over_expected": ratios})
    )


if __name__ == "__main__":
    main()
