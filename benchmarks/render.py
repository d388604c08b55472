"""Render the summary `docs/benchmarks.md` with its figures, a page for each result, and `docs/networks.md`.

python benchmarks/render.py            # write them
python benchmarks/render.py --check    # fail if they do not match the result files
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import figures
import pages
from cryovox.benchmark.tables import grid
from cryovox.core.atomic import discard
from cryovox.core.config import Config, from_yaml
from pages import RESULTS, ROOT

NOTES = ROOT / "benchmarks" / "notes"
DOCS = ROOT / "docs"
SUMMARY = """# Benchmarks

Every number below comes from a result file in `benchmarks/results`, which contains the values of every seed, the settings,
the versions and the command; `python benchmarks/render.py` writes these pages from them. Unless a page says otherwise,
trainings took minutes of one CPU core and the data are simulated. Intervals are 95 % confidence intervals over seeds: they
describe a repetition with other seeds on the same data, not other data.
"""


class Question(Config):
    """A question of the summary page."""

    question: str
    """Heading of the section."""
    answer: str
    """One or two sentences with the decisive number."""
    results: tuple[str, ...]
    """Result files of the answer; the figure shows the first."""
    metric: str | None = None
    """Metric of the figure, as in the result file."""
    condition: str | None = None
    """Condition of the figure."""
    budget: str | None = None
    """Budget of the figure; the first of the result by default."""


class Summary(Config):
    """The summary page."""

    questions: tuple[Question, ...] = ()


def page_of(stem: str) -> str:
    """Name of the page on which a result file is shown."""
    for name in pages.PAGES:
        if stem == name or stem.startswith((f"{name}_", f"{name}-")):
            return name
    return stem


def result_pages() -> dict[str, str]:
    """Name -> text of every result page."""
    texts = {}
    for name, parts in pages.PAGES.items():
        if body := "".join(part() for part in parts):
            texts[name] = body
    for path in sorted(RESULTS.glob("suite-*.json")):
        texts[path.stem] = pages.suite(path)
    if (NOTES / "scored-data.md").exists():
        texts["scored-data"] = "\n## Every run on scored data\n\n"
    return {name: finished(name, text) for name, text in texts.items()}


def finished(name: str, body: str) -> str:
    """A page with one title, its remarks, and a link back."""
    title, _, rest = body.lstrip("\n").removeprefix("## ").partition("\n")
    notes = [path for path in sorted(NOTES.glob("*.md")) if page_of(path.stem) == name]
    remarks = "\n\n".join(path.read_text(encoding="utf-8").strip() for path in notes)
    heading = "" if name == "scored-data" or not remarks else "\n## Remarks\n"
    text = f"# {title}\n\n[All benchmarks](../benchmarks.md)\n{rest.rstrip()}\n{heading}\n{remarks}"
    return text.rstrip() + "\n"


def summary(texts: dict[str, str], questions: tuple[Question, ...]) -> str:
    """The summary page, with the questions and a list of all pages."""
    parts = [SUMMARY]
    for number, question in enumerate(questions, 1):
        links = ", ".join(
            f"[{name}](benchmarks/{name}.md)" for name in dict.fromkeys(map(page_of, question.results))
        )
        parts.append(f"\n## {question.question}\n\n{question.answer.strip()}\n")
        if question.metric is not None:
            parts.append(f"\n![{question.question}](images/benchmarks/question-{number}.svg)\n")
        parts.append(f"\nTables: {links}\n")
    rows = [[f"[{name}](benchmarks/{name}.md)", text.partition("\n")[0].removeprefix("# ")]
            for name, text in texts.items()]  # fmt: skip
    parts.append(f"\n## All results\n\n{grid(['page', 'what it shows'], rows)}\n")
    return "".join(parts)


def figures_of(questions: tuple[Question, ...]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Path and data of every figure."""
    for number, question in enumerate(questions, 1):
        if question.metric is None or question.condition is None:
            continue
        result = json.loads((RESULTS / f"{question.results[0]}.json").read_text(encoding="utf-8"))
        budget = question.budget or result["runs"][0]["budget"]
        data = figures.figure_data(result, question.metric, question.condition, budget)
        if not data["rows"]:
            raise SystemExit(
                f"{question.question}: {question.results[0]} holds no such metric, condition or budget"
            )
        yield DOCS / "images" / "benchmarks" / f"question-{number}.svg", data


SPEED = {
    "speed-limits": ("speed-limits", figures.cost_data, figures.draw_cost),
    "speed-growth": ("speed-limits-growth", figures.growth_data, figures.draw_growth),
    "roofline": ("patches", figures.roofline_data, figures.draw_roofline),
}
"""Picture -> its result file, what it needs of it, and how it is drawn."""
Draw = Callable[[Path, dict[str, Any]], None]


def figures_of_speed() -> Iterator[tuple[Path, tuple[Draw, dict[str, Any]]]]:
    """Path, function and data of the pictures of the pages on speed."""
    for name, (stem, data_of, draw) in SPEED.items():
        if result := pages.load(stem):
            yield DOCS / "images" / "benchmarks" / f"{name}.svg", (draw, data_of(result))


def main() -> int:
    """Write or check the pages."""
    listed = NOTES / "summary.yaml"
    questions = from_yaml(Summary, listed).questions if listed.exists() else ()
    results = result_pages()
    texts = {DOCS / "benchmarks" / f"{name}.md": text for name, text in results.items()}
    texts |= {DOCS / "benchmarks.md": summary(results, questions), DOCS / "networks.md": pages.networks()}
    drawings = dict(figures_of(questions))
    costs = dict(figures_of_speed())
    stale = set((DOCS / "benchmarks").glob("*.md")) - set(texts)
    stale |= set((DOCS / "images" / "benchmarks").glob("*.svg")) - {*drawings, *costs}
    if "--check" in sys.argv:
        wrong = [p for p, text in texts.items() if not p.exists() or p.read_text(encoding="utf-8") != text]
        wrong += [path for path, (_, data) in costs.items() if not figures.is_current(path, data)]
        wrong += [path for path, data in drawings.items() if not figures.is_current(path, data)]
        for path in (*wrong, *stale):
            print(
                f"{path.relative_to(ROOT)} does not match the result files; run python benchmarks/render.py"
            )
        return 1 if wrong or stale else 0
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for path, data in drawings.items():
        if not figures.is_current(path, data):
            figures.draw(path, data)
    for path, (draw, data) in costs.items():
        if not figures.is_current(path, data):
            draw(path, data)
    for path in stale:
        discard(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
