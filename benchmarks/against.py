"""Differences of all rows of a suite's result to one of them, which need not be the reference of its tables.

python benchmarks/against.py suite-zsda heavy-augmentation --metric iou
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from common import RESULTS
from cryovox.benchmark.tables import conditions, difference, values


def main() -> None:
    """Print mean differences and their Welch intervals, as the tables have them."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("result", help="name of a file in benchmarks/results, without its ending")
    options.add_argument("row", help="what the others are compared with")
    options.add_argument("--metric", required=True)
    chosen = options.parse_args()
    result = json.loads((RESULTS / f"{chosen.result}.json").read_text(encoding="utf-8"))
    names = [c["name"] for c in result["plan"]["contestants"]]
    for budget in dict.fromkeys(run["budget"] for run in result["runs"]):
        for condition in conditions(result):
            base = values(result, chosen.row, budget, condition, chosen.metric)
            for name in names:
                own = values(result, name, budget, condition, chosen.metric)
                if own and base and name != chosen.row:
                    mean, low, high = difference(own, base)
                    print(
                        f"{budget}  {condition:34s} {name:22s} {np.mean(own):.3f}",
                        f"less {chosen.row} {mean:+.3f} [{low:+.3f}, {high:+.3f}]",
                    )


if __name__ == "__main__":
    main()
