"""Processor time to simulate subtomograms of many structures: `cryovox simulate --preset subtomogram-50`.

python benchmarks/subtomogram_speed.py --structures ../shared/data      # under a minute
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from common import DATA, write_result
from cryovox.benchmark.zero_shot.classes import SOURCE
from cryovox.benchmark.zero_shot.shapes import TESTED, TRAINED, read_shapes
from cryovox.simulate.subtomograms import write_subtomograms


def main() -> None:
    """Time both parts and write `results/subtomogram_speed.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--structures", type=Path, default=DATA, help="folder as the suite zsda-50 takes it")
    parser.add_argument("--count", type=int, default=2 * (TRAINED + TESTED))
    args = parser.parse_args()
    start = time.process_time()
    shapes = read_shapes(args.structures)
    read = time.process_time()
    with TemporaryDirectory() as folder:
        write_subtomograms(Path(folder) / "set.zarr", shapes[: TRAINED + TESTED], SOURCE, args.count, seed=0)
    written = time.process_time()
    times = {"read_seconds": round(read - start, 1), "write_seconds": round(written - read, 1)}
    write_result(
        "subtomogram_speed",
        {"shapes": len(shapes), "count": args.count, "box": SOURCE.box, "clock": "processor", **times},
    )
    print(times)


if __name__ == "__main__":
    main()
