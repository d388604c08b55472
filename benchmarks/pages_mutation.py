"""Text of the page on the mutation score."""

from __future__ import annotations

import json
from pathlib import Path

from cryovox.benchmark.tables import grid

RESULT = Path(__file__).parent / "results" / "mutation.json"


def page() -> str:
    """Score, modules and the errors that no test noticed."""
    if not RESULT.exists():
        return ""
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    rows = [[f"`{name}`", str(m["mutants"]), str(m["noticed"])] for name, m in result["modules"].items()]
    survivors = [f"- `{line}`" for module in result["modules"].values() for line in module["survivors"]]
    share = 100 * result["noticed"] / result["mutants"]
    return "\n".join(
        [
            "\n## Mutation score of a sample of formats, geometry and metrics\n",
            f"`{result['command']}`, {result['written']}.\n",
            f"Of {result['mutants']} small errors that cosmic-ray makes in {len(rows)} modules, the tests of these modules notice "
            f"{result['noticed']}: {share:.0f} % (target: 70 %). The sample is drawn at random in each module.\n",
            grid(["module", "errors", "noticed"], rows),
            "\nNot noticed; some change no result, such as the size of a cache:\n",
            *survivors,
        ]
    )  # fmt: skip
