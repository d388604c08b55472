"""Template matching beside pyTME: time, memory and recall on the same tomogram, template and number of rotations.

pyTME (GPL) runs as a program of an environment of its own, and only its files are read. Without --pytme, that
environment is made in a temporary folder (462 MB, needs a package index). Both programs take turns on one thread,
and get the same tomogram and spherical mask; the template is the map that the search of cryovox makes from the
structure at the voxel size of the tomogram. Neither refines. Processor time and resident memory are those of the
whole program.

The tomogram holds 80S ribosomes and proteasomes in white noise with a missing wedge. Recall counts particles within
half a radius of one of the best candidates.

    python benchmarks/match_peers.py --pytme ENVIRONMENT/bin/pytme
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from common import write_result
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import read_particles, read_volume, write_volume
from cryovox.inference.rotation_grid import rotation_grid
from cryovox.inference.search_template import spherical_mask
from cryovox.metrics.matching import greedy
from cryovox.picking.peaks import separate
from cryovox.simulate.particles.library import build_template
from cryovox.simulate.particles.rotate import add_box, rotate

SPECIES, OTHER = "ribosome-80s", "proteasome-26s"
VERSION = "0.3.6"
STEPS = {"cryovox": 21.1, "pytme": 20.0}
"""Angular steps at which both programs search 648 rotations."""
BUDGETS = (1, 2, 4)


def tomogram(folder: Path, args: argparse.Namespace) -> np.ndarray:
    """Write the tomogram; returns the places (z, y, x) of the ribosomes in Å."""
    rng, shape = np.random.default_rng(args.seed), tuple(args.shape)
    volume = np.zeros(shape, np.float32)
    sites = rng.uniform(8, np.array(shape) - 8, (40 * args.particles, 3))
    sites = np.rint(sites[separate(sites, rng.random(len(sites)), args.distance)[: 2 * args.particles]])
    turns = Rotation.random(len(sites), random_state=rng).as_matrix()
    for number, (place, turn) in enumerate(zip(sites.astype(int), turns, strict=True)):
        kind = SPECIES if number < args.particles else OTHER
        box, _ = rotate(build_template(kind, args.voxel), turn)
        add_box(volume, box, place - box.shape[0] // 2)
    kz, kx = np.fft.fftfreq(shape[0])[:, None, None], np.fft.rfftfreq(shape[2])
    wedge = np.abs(kz) <= np.tan(np.pi / 3) * kx + 1e-9
    volume = np.fft.irfftn(np.fft.rfftn(volume) * wedge, s=shape, axes=(0, 1, 2))
    volume += volume.std() / np.sqrt(args.snr) * rng.standard_normal(shape)
    write_volume(folder / "tomogram.mrc", Volume(volume.astype(np.float32), args.voxel))
    return sites[: args.particles] * args.voxel


def write_templates(folder: Path, voxel: float) -> float:
    """Write the fine map for cryovox, and map and mask at the voxel size for pyTME; returns the radius in Å."""
    fine = build_template(SPECIES, voxel / 2, 2 * voxel)
    write_volume(folder / "map.mrc", Volume(fine.density, voxel / 2))
    coarse = fine.density[_every_second(fine.density.shape[0])]
    write_volume(folder / "template.mrc", Volume(np.ascontiguousarray(coarse), voxel))
    ball, mask = spherical_mask(fine.radius / voxel), np.zeros(coarse.shape, np.float32)
    cut = (mask.shape[0] - ball.shape[0]) // 2
    mask[(slice(cut, mask.shape[0] - cut),) * 3] = ball
    write_volume(folder / "mask.mrc", Volume(mask, voxel))
    return fine.radius


def _every_second(edge: int) -> tuple[slice, ...]:
    """Voxels of an odd cube with the middle one among them."""
    return (slice(edge // 2 % 2, None, 2),) * 3


def timed(command: Sequence[object], log: Path) -> dict[str, float]:
    """Wall and processor seconds and peak memory of a program."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA", "PYFFTW")}
    start = time.monotonic()
    with log.open("a", encoding="utf-8") as out:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **threads},
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}, see {log}")
    return {
        "wall_seconds": time.monotonic() - start,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "memory_gib": usage.ru_maxrss / 2**20,
    }


def run_cryovox(folder: Path, radius: float, args: argparse.Namespace) -> tuple[dict[str, float], Particles]:
    """Search with the command; scores alone decide, so neither noise control nor refinement runs."""
    out = folder / "cryovox"
    program = "import sys; from cryovox.cli import run; run()"
    cost = timed(
        [sys.executable, "-c", program, "match", folder / "map.mrc", folder / "tomogram.mrc", "--out", out,
         "--angle", STEPS["cryovox"], "--radius", radius, "--contrast", "bright", "--threshold", 0,
         "--noise-control", 0, "--border", 0, "--no-lamella", "--no-refine", "--device", "cpu", "--threads", 1,
         "--overwrite", "--quiet"],
        folder / "log",
    )  # fmt: skip
    (file,) = (out / "particles").glob("*.star")
    return cost, read_particles(file, tomogram=read_volume(folder / "tomogram.mrc"))


def run_pytme(folder: Path, radius: float, args: argparse.Namespace) -> tuple[dict[str, float], Particles]:
    """Search with one process, and take its peaks at the same minimum distance."""
    cost = timed(
        [args.pytme, "match", "-m", folder / "tomogram.mrc", "-i", folder / "template.mrc",
         "-I", folder / "mask.mrc", "-o", folder / "pytme.pickle", "-s", "FLCSphericalMask",
         "-a", STEPS["pytme"], "--tilt-angles", "60,60", "--wedge-axes", "2,0", "-n", 1],
        folder / "log",
    )  # fmt: skip
    distance = round(radius / args.voxel)
    timed(
        [args.pytme, "postprocess", "--input-file", folder / "pytme.pickle", "--output-prefix", folder / "pytme",
         "--output-format", "orientations", "--min-distance", distance,
         "--num-peaks", BUDGETS[-1] * args.particles, "--no-stats"],
        folder / "log",
    )  # fmt: skip
    return cost, read_orientations(folder / "pytme.tsv", args.voxel)


def read_orientations(file: Path, voxel: float) -> Particles:
    """Peaks of pyTME, in voxels of the file."""
    table = np.genfromtxt(file, names=True, delimiter="\t")
    positions = np.stack([table[axis] for axis in ("z", "y", "x")], axis=1) * voxel
    return Particles.of(positions, SPECIES, table["score"])


def recall(picks: Particles, true: np.ndarray, radius: float) -> dict[str, float]:
    """Share of the particles among the best candidates, so many times as many as there are particles."""
    rows = {}
    for budget in BUDGETS:
        best = picks.sorted().take(np.arange(min(len(picks), budget * len(true))))
        rows[str(budget)] = len(greedy(best.positions, true, radius / 2, best.scores).truth) / len(true)
    return rows


def environment(folder: Path) -> Path:
    """Install pyTME in a new environment."""
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", f"pytme=={VERSION}"], check=True)
    return folder / "bin" / "pytme"


def main() -> None:
    """Take turns and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pytme", type=Path, help="the program pytme; by default it is installed")
    parser.add_argument("--shape", nargs=3, type=int, default=(56, 112, 128))
    parser.add_argument("--voxel", type=float, default=24.0)
    parser.add_argument("--particles", type=int, default=20, help="of each species")
    parser.add_argument("--distance", type=float, default=12.0, help="between particles, in voxels")
    parser.add_argument("--snr", type=float, default=0.02, help="variance of signal over noise")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="match_peers", help="of the result file")
    args = parser.parse_args()
    programs = {"cryovox": run_cryovox, "pytme": run_pytme}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        args.pytme = args.pytme or environment(folder / "environment")
        true, radius = tomogram(folder, args), write_templates(folder, args.voxel)
        for number in range(args.rounds):
            for program, run in programs.items():
                cost, picks = run(folder, radius, args)
                rows.append(
                    {"program": program, "round": number, **cost, "recall": recall(picks, true, radius)}
                )
                print(rows[-1], flush=True)
    best = {
        program: min(row["processor_seconds"] for row in rows if row["program"] == program)
        for program in programs
    }
    ratio = best["cryovox"] / best["pytme"]
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(args).items() if k != "pytme"}
    facts = {
        "particles_found": len(true),
        "radius": radius,
        "rotations": len(rotation_grid(STEPS["cryovox"])),
    }
    print(f"processor time of cryovox over pyTME: {ratio:.2f}")
    print(
        write_result(
            args.name, {"settings": settings, "pytme": VERSION, **facts, "runs": rows, "time_ratio": ratio}
        )
    )


if __name__ == "__main__":
    main()
