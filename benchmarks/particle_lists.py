"""Time and memory of `cryovox convert` for long particle lists: STAR of RELION 5 to CSV and back.

    python benchmarks/particle_lists.py --work /tmp/lists [--count 1000000] [--rounds 3] [--other CHECKOUT]

Processor time is that of the command with all of its threads; memory is its largest resident set. With `--other`, a
checkout of another version (`git worktree add CHECKOUT COMMIT`) converts the same files in turn with this one, so that
the ratio of both is that of the code, not that of the load of the machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

import cryovox
from common import write_result
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import read_particles, write_particles, write_volume

SHAPE, SIZE = (200, 400, 400), 10.0
TOMOGRAMS = 100


def write_lists(folder: Path, count: int) -> None:
    """A list of *count* particles in 100 tomograms, with angles, scores and two species."""
    rng = np.random.default_rng(0)
    names = [f"TS_{i:03d}" for i in range(TOMOGRAMS)]
    particles = Particles.of(
        rng.uniform(0, 1, (count, 3)) * (np.array(SHAPE) - 1) * SIZE,
        np.where(rng.random(count) < 0.5, "ribosome", "proteasome"),
        scores=rng.random(count),
        rotations=Rotation.random(count, rng=rng).as_matrix(),
        tomograms=np.repeat(names, -(-count // TOMOGRAMS))[:count],
    )
    write_particles(folder / "long.star", particles, tomogram=dict.fromkeys(names, FRAME))
    (folder / "tomograms").mkdir(exist_ok=True)
    first = folder / "tomograms" / f"{names[0]}.mrc"
    write_volume(first, Volume(np.zeros((2, 2, 2), np.int8), SIZE))
    header = bytearray(first.read_bytes()[:1024])
    header[:12] = np.array(SHAPE[::-1], "<i4").tobytes()
    header[28:40] = header[:12]
    header[40:52] = np.array([n * SIZE for n in SHAPE[::-1]], "<f4").tobytes()
    for name in names:
        path = folder / "tomograms" / f"{name}.mrc"
        path.write_bytes(header)
        os.truncate(path, 1024 + int(np.prod(SHAPE)))  # sparse: no voxel is stored


FRAME = Volume(np.broadcast_to(np.int8(0), SHAPE), SIZE)


def measured(source: Path, *args: object) -> dict[str, float]:
    """Run the command of the package in a source folder; seconds and gigabytes."""
    code = (
        "import resource, sys; from cryovox.cli import main; code = main(sys.argv[1:]);"
        "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-c", code, *map(str, args)]
    environment = os.environ | {"PYTHONPATH": str(source)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = int(done.stdout.rsplit("peak", 1)[1]) / 1e6
    return {"wall_s": round(wall, 2), "processor_s": round(cpu, 2), "memory_GB": round(peak, 3)}


def versions(other: Path | None) -> dict[str, Path]:
    """Source folders: "this version", and the other one by its commit."""
    own = {"this version": Path(cryovox.__file__).resolve().parents[1]}
    return own if other is None else own | {commit_of(other): other / "src"}


def commit_of(folder: Path) -> str:
    """Abbreviated commit of a checkout."""
    command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def summary(rows: list[dict[str, Any]], first: str) -> list[dict[str, Any]]:
    """Least processor time and memory by conversion and version, and their ratios to the first version."""
    keys = dict.fromkeys((row["conversion"], row["version"]) for row in rows)
    best = {
        key: {
            value: min(row[value] for row in rows if (row["conversion"], row["version"]) == key)
            for value in ("processor_s", "memory_GB")
        }
        for key in keys
    }
    return [
        {"conversion": what, "version": version}
        | best[what, version]
        | {
            f"{v}_of_this / it": round(best[what, first][v] / best[what, version][v], 3)
            for v in best[what, version]
        }
        for what, version in keys
    ]


def main() -> None:
    """Measure both conversions and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--other", type=Path, help="checkout of another version")
    parser.add_argument("--name", default="particle_lists", help="name of the result file")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    write_lists(options.work, options.count)
    star, table, again = (options.work / name for name in ("long.star", "long.csv", "again.star"))
    tomograms = ("--tomogram", options.work / "tomograms", "--overwrite")
    sources, rows = versions(options.other), list[dict[str, Any]]()
    for number in range(options.rounds):
        for version, source in reversed(sources.items()):  # this version last: its files are compared
            for what, paths in (("STAR to CSV", (star, table)), ("CSV to STAR", (table, again))):
                facts = {"conversion": what, "particles": options.count, "version": version, "round": number}
                rows.append(facts | measured(source, "convert", *paths, *tomograms))
                print(rows[-1], flush=True)
        best = summary(rows, next(iter(sources)))
        result = {"rows": rows, "best": best, "largest_difference_A": largest_difference(star, again)}
        print(write_result(options.name, result))
    for row in best:
        print(row)


def largest_difference(first: Path, again: Path) -> float:
    """Largest difference in Å of the positions in two lists."""
    frames = dict.fromkeys((f"TS_{i:03d}" for i in range(TOMOGRAMS)), FRAME)
    a, b = (read_particles(path, tomogram=frames).positions for path in (first, again))
    return float(np.abs(a - b).max())


if __name__ == "__main__":
    main()
