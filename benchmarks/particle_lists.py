"""Time and memory of `cryovox convert` for long particle lists: STAR of RELION 5 to CSV and back.

    python benchmarks/particle_lists.py --work /tmp/lists [--count 1000000]

Processor time is that of the command with all of its threads; memory is its largest resident set.
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
        rng.uniform(0, 1, (count, 3)) * np.array(SHAPE) * SIZE,
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


def measured(*args: object) -> dict[str, float]:
    """Run the command; seconds and gigabytes."""
    code = (
        "import resource, sys; from cryovox.cli import main; code = main(sys.argv[1:]);"
        "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-c", code, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = int(done.stdout.rsplit("peak", 1)[1]) / 1e6
    return {"wall_s": round(wall, 2), "processor_s": round(cpu, 2), "memory_GB": round(peak, 3)}


def main() -> None:
    """Measure both conversions and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--name", default="particle_lists", help="name of the result file")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    write_lists(options.work, options.count)
    star, table, again = (options.work / name for name in ("long.star", "long.csv", "again.star"))
    tomograms = ("--tomogram", options.work / "tomograms", "--overwrite")
    rows: list[dict[str, Any]] = []
    for what, paths in (("STAR to CSV", (star, table)), ("CSV to STAR", (table, again))):
        rows.append(
            {"conversion": what, "particles": options.count, **measured("convert", *paths, *tomograms)}
        )
        print(rows[-1], flush=True)
    frames = dict.fromkeys((f"TS_{i:03d}" for i in range(TOMOGRAMS)), FRAME)
    first, last = (read_particles(path, tomogram=frames).positions for path in (star, again))
    largest = float(np.abs(first - last).max())
    print(f"largest difference after both: {largest:.2g} Å")
    print(write_result(options.name, {"rows": rows, "largest_difference_A": largest}))


if __name__ == "__main__":
    main()
