"""Differences of all rows of a suite's result from any one of them.

python benchmarks/against.py suite-zsda heavy-augmentation --metric iou
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from common import RESULTS
from cryovox.benchmark.tables import conditions, difference, values


def main() -> None:
    """Print mean differences and Welch intervals, as in the tables."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("result", help="name of a file in benchmarks/results, without its ending")
    options.add_argument("row", help="row that the others are compared with")
    options.add_argument("--metric", required=True)
    args = options.parse_args()
    result = json.loads((RESULTS / f"{args.result}.json").read_text(encoding="utf-8"))
    names = [c["name"] for c in result["plan"]["contestants"]]
    for budget in dict.fromkeys(run["budget"] for run in result["runs"]):
        for condition in conditions(result):
            base = values(result, args.row, budget, condition, args.metric)
            for name in names:
                scores = values(result, name, budget, condition, args.metric)
                if scores and base and name != args.row:
                    mean, low, high = difference(scores, base)
                    print(
                        f"{budget}  {condition:34s} {name:22s} {np.mean(scores):.3f}",
                        f"less {args.row} {mean:+.3f} [{low:+.3f}, {high:+.3f}]",
                    )


if __name__ == "__main__":
    main()
