"""Render `docs/benchmarks.md` from the result files.

python benchmarks/render.py            # write it
python benchmarks/render.py --check    # fail if it is not what the result files say
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Rendered by `python benchmarks/render.py` from `benchmarks/results/*.json`, which hold the raw numbers of every seed,
the settings, the versions and the command. Data: see each script; none of it is in this repository.
"""


def load(name: str) -> dict[str, Any] | None:
    """A result file, or None where it is not there."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def grid(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def span(found: dict[str, float], sign: str = "") -> str:
    """A value with its interval."""
    return f"{found['value']:{sign}.3f} [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]"


def real(name: str, title: str) -> str:
    """Recall at candidate budgets on the real tomogram."""
    result = load(name)
    if result is None:
        return ""
    rows = [
        [
            f"{budget}x",
            span(row["recall"]),
            ", ".join(f"{v:.3f}" for v in row["per_seed"]),
            span(row["blobs"]),
            span(row["difference"], "+"),
            f"{row['aim']:.2f}",
        ]
        for budget, row in result["table"].items()
    ]
    columns = ["budget", "recall [95 %]", "by seed", "difference of Gaussians", "paired difference", "aim"]
    seconds = [run["train_seconds"] for run in result["runs"]]
    settings = result["settings"]
    blobs = "; ".join(f"y {b['block'][0]}-{b['block'][1]}: {b['settings']}" for b in result["blobs"])
    return f"""
## {title}

Recall of {sum(b["picks"] for b in result["blobs"])} ribosomes (EMPIAR-11658, 31.36 Å, half a tomogram) within
{settings["match_A"]:.0f} Å among so many candidates per pick. Each of three y-blocks is searched by a network trained
on the other two; {len({r["seed"] for r in result["runs"]})} seeds; the unit of the bootstrap is the pick, its value
the mean over the seeds.

{grid(columns, rows)}

One training took {min(seconds):.0f} to {max(seconds):.0f} s on one thread, beside other runs on the same two cores. Settings of the blob picker,
chosen on the training blocks: {blobs}.

Command: `{result["command"]}`
"""


def limit() -> str:
    """What classifiers of candidates make of the same picks."""
    result = load("real_ribosomes_limit")
    if result is None:
        return ""
    budgets = list(next(iter(result["table"].values())))
    rows = [[name, *(f"{values[b]:.3f}" for b in budgets)] for name, values in result["table"].items()]
    return f"""
### The same picks at the level of candidates

{result["candidates"]} candidates of the blob picker on y < 160, {result["picks"]} picks, four folds: recall when small
classifiers, which learn picked against unpicked candidates and nothing else, rank them.

{grid(["ranked by", *budgets], rows)}

Command: `{result["command"]}`
"""


def simulated() -> str:
    """Dice and F1 of three networks on the third-party simulations."""
    result = load("sim_deepfinder")
    if result is None:
        return ""
    table = result["table"]
    kinds = list(next(iter(table.values())))
    cell = lambda pair: f"{pair[0]:.3f} ± {pair[1]:.3f}"  # noqa: E731
    parts = []
    for metric in ("dice", "f1"):
        rows = [[kind, *(cell(table[net][kind][metric]) for net in table)] for kind in kinds]
        parts.append(
            f"{'Dice' if metric == 'dice' else 'F1'}, mean ± standard deviation over seeds:\n\n"
            + grid(["class", *table], rows)
        )
    steps = {net: [r["steps"] for r in result["runs"] if r["network"] == net] for net in table}
    told = ", ".join(f"{net} {min(s)} to {max(s)}" for net, s in steps.items())
    return f"""
## Third-party simulations: three networks at equal time

Four simulated tomograms of 100^3 voxels with nine classes, three objects of a class in each. Trained on three, tested
on the fourth, in rotation and pooled; {result["settings"]["time"]} of one thread for each training. `any` takes no
notice of the class; `mean` is over classes. Steps in that time: {told}.

{parts[0]}

{parts[1]}

Command: `{result["command"]}`
"""


def main() -> int:
    """Write or check the page."""
    text = HEAD + real("real_ribosomes", "Ribosomes in a real tomogram") + limit() + simulated()
    notes = ROOT / "docs" / "benchmarks-notes.md"
    if notes.exists():
        text += "\n" + notes.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        return 0 if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
