"""Processor seconds of `cryovox find` on small volumes beside those of other versions, in turn.

Each version is a checkout (`git worktree add --detach FOLDER COMMIT`) that runs with the same Python and libraries, on the
embedded model and one thread. Rounds interleave the versions, so that ratios are those of the code, not of the load of the
machine. Picks of this version are compared with those of the last other one.

    python benchmarks/speed/versions.py --other FIRST SECOND --rounds 3      # about eight minutes
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from limits import measured, tomogram

from common import write_result
from cryovox.formats import read_particles, read_volume
from cryovox.models.card import read_card
from particle_lists import commit_of

OWN = Path(__file__).resolve().parents[2]
SHAPES = ((64, 64, 64), (128, 256, 256))


def measure(shape: tuple[int, int, int], versions: dict[str, Path], rounds: int) -> dict[str, Any]:
    """Runs of each version on one tomogram, and the largest distance in Å of its picks from ours."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tomogram.mrc"
        tomogram(path, shape, read_card(Path("embedded")).voxel_size)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in versions}
        outputs = {name: Path(folder) / f"out-{number}" for number, name in enumerate(versions)}
        for _ in range(rounds):
            for name, checkout in versions.items():
                words = ["find", str(path), "--model", "embedded", "--out", str(outputs[name]), "--quiet"]
                runs[name].append(measured([*words, "--overwrite"], checkout / "src"))
                print(shape, name, runs[name][-1], flush=True)
        frame = read_volume(path)
        *_, last, own = (
            read_particles(out / "particles" / "tomogram.star", tomogram=frame) for out in outputs.values()
        )
        same = len(own) == len(last)
        apart = float(np.abs(own.positions - last.positions).max(initial=0.0)) if same else None
    return {"shape": shape, "runs": runs, "picks": len(own), "largest_difference_A": apart}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--other", type=Path, nargs="+", required=True, help="checkouts, oldest first")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    versions = {commit_of(path): path for path in args.other} | {"this version": OWN}
    rows = [measure(shape, versions, args.rounds) for shape in SHAPES]
    write_result("speed-limits-versions", {"threads": 1, "rounds": args.rounds, "rows": rows})
    for row in rows:
        print(row["shape"], {k: median(r["processor_seconds"] for r in v) for k, v in row["runs"].items()})


if __name__ == "__main__":
    main()
