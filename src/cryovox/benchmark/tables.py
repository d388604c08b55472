"""From the rows of a suite to tables: mean, spread, and whether a difference is more than chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95


def conditions(result: Mapping[str, Any]) -> list[str]:
    """Conditions of a result, in the order in which they were scored."""
    rows = [run["scores"] for run in result["runs"] if "scores" in run]
    return list(dict.fromkeys(c for scores in [*rows, *result["references"].values()] for c in scores))


def values(
    result: Mapping[str, Any], contestant: str, budget: str, condition: str, metric: str
) -> list[float]:
    """One value for each seed that did not fail."""
    return [
        run["scores"][condition][metric]
        for run in result["runs"]
        if (run["contestant"], run["budget"]) == (contestant, budget)
        and metric in run.get("scores", {}).get(condition, {})
    ]


def cell(found: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds."""
    if not found:
        return "failed"
    spread = f" ± {np.std(found, ddof=1):.3f}" if len(found) > 1 else ""
    return f"{np.mean(found):.3f}{spread}"


def difference(found: Sequence[float], reference: Sequence[float]) -> tuple[float, float, float]:
    """Mean difference and its Welch t interval over the seeds; NaN limits below two seeds each.

    With three seeds the interval is wide: it says what a repetition with other seeds on the same
    data would give, and nothing of other data.
    """
    a, b = np.asarray(found, dtype=float), np.asarray(reference, dtype=float)
    mean = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return mean, float("nan"), float("nan")
    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    error = float(np.sqrt(parts.sum()))
    if error == 0:
        return mean, mean, mean
    freedom = parts.sum() ** 2 / (parts**2 / np.array([len(a) - 1, len(b) - 1])).sum()
    half = error * float(stats.t.ppf((1 + LEVEL) / 2, freedom))
    return mean, mean - half, mean + half


def apart(found: Sequence[float], reference: Sequence[float]) -> bool:
    """Whether the interval of the difference excludes 0."""
    if min(len(found), len(reference)) < 2:
        return False
    _, low, high = difference(found, reference)
    return low > 0 or high < 0


def spread_tells(result: Mapping[str, Any], budget: str, condition: str, metric: str) -> bool:
    """Whether the contestants lie further apart than one typical standard deviation over seeds."""
    lists = [
        found
        for c in result["plan"]["contestants"]
        if len(found := values(result, c["name"], budget, condition, metric)) > 1
    ]
    if len(lists) < 2:
        return False
    means: NDArray[np.float64] = np.array([np.mean(found) for found in lists])
    typical = np.sqrt(np.mean([np.var(found, ddof=1) for found in lists]))
    return bool(np.ptp(means) > typical)


def markdown(result: Mapping[str, Any]) -> str:
    """All tables of a result: one for each metric and budget; of an unfinished one, the rows begun."""
    result = _begun(result)
    budgets = dict.fromkeys(run["budget"] for run in result["runs"])
    of = [(b, metric) for metric in result["headlines"] for b in budgets]
    whole = [_table(result, *which) for which in of]
    parts = [
        _by_part(result, *which, c, parts)
        for which in of
        for c in conditions(result)
        if (parts := _parts(result, c, which[1]))
    ]
    return "\n\n".join([*whole, *parts, *_unfinished(result)])


def _begun(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same without contestants of which nothing has been run."""
    if not result.get("jobs_left"):
        return result
    names = {run["contestant"] for run in result["runs"]}
    rows = [c for c in result["plan"]["contestants"] if c["name"] in names]
    return {**result, "plan": {**result["plan"], "contestants": rows}}


def _unfinished(result: Mapping[str, Any]) -> list[str]:
    """What a reader must know of a result that is not whole, or that several versions of the code made."""
    left, codes = result.get("jobs_left", 0), {run["code"] for run in result["runs"] if "code" in run}
    notes = [f"{left} of {left + len(result['runs'])} trainings have not been run yet."] if left else []
    if len(codes) > 1:
        notes.append(f"The trainings were run with {len(codes)} versions of the code.")
    return [" ".join(notes)] if notes else []


def _table(result: Mapping[str, Any], budget: str, metric: str) -> str:
    shown = result.get("shown", ())
    seen = [
        c
        for c in conditions(result)
        if _has(result, c, metric) and (not shown or c.partition(",")[0] in shown)
    ]
    against, seeds = result["reference"], result["plan"]["seeds"]
    groups = _groups(result, seen) if against else {}
    rows = [
        [name, *(f"{scores[c][metric]:.3f}" if metric in scores.get(c, {}) else "" for c in seen)]
        + [""] * (len(groups) + 1)
        for name, scores in result["references"].items()
    ]
    base = {c: values(result, against, budget, c, metric) for c in seen}
    for contestant in result["plan"]["contestants"]:
        name = contestant["name"]
        own = {c: values(result, name, budget, c, metric) for c in seen}
        cells = [cell(own[c]) + " *" * (name != against and apart(own[c], base[c])) for c in seen]
        gaps = ["" if name == against else _gap(_means(own, some), _means(base, some))
                for some in groups.values()]  # fmt: skip
        rows.append([name, *cells, *gaps, _steps(result, name, budget)])
    told = f"{metric}, mean ± standard deviation over {seeds} seed{'s' * (seeds > 1)}; budget {budget}"
    titles = [f"{group} less {against} [95 %]" for group in groups]
    table = f"{told}:\n\n{grid(['', *seen, *titles, 'steps'], rows)}"
    if any(text.endswith(" *") for row in rows for text in row):
        table += f"\n\n\\* The 95 % interval of the difference to {against} excludes 0, each cell by itself."
    several = seeds > 1 and len(result["plan"]["contestants"]) > 1
    alike = [c for c in seen if several and not spread_tells(result, budget, c, metric)]
    return table + (
        f"\n\nToo close to tell, within one standard deviation: {', '.join(alike)}." if alike else ""
    )


def _parts(result: Mapping[str, Any], condition: str, metric: str) -> list[str]:
    """What a metric is also given of by itself, as species: of "f1/ribosome" what follows the stroke."""
    rows = [run.get("scores", {}).get(condition, {}) for run in result["runs"]]
    return list(dict.fromkeys(n.partition("/")[2] for row in rows for n in row if n.startswith(f"{metric}/")))


def _by_part(
    result: Mapping[str, Any], budget: str, metric: str, condition: str, parts: Sequence[str]
) -> str:
    names = [f"{metric}/{part}" for part in parts]
    floor = [
        [name, *(f"{scores[condition][n]:.3f}" if n in scores.get(condition, {}) else "" for n in names)]
        for name, scores in result["references"].items()
    ]
    rows = [
        [c["name"], *(cell(values(result, c["name"], budget, condition, n)) for n in names)]
        for c in result["plan"]["contestants"]
    ]
    return f"{metric} by species, {condition}; budget {budget}:\n\n{grid(['', *parts], [*floor, *rows])}"


def _has(result: Mapping[str, Any], condition: str, metric: str) -> bool:
    return any(metric in run.get("scores", {}).get(condition, {}) for run in result["runs"])


def _groups(result: Mapping[str, Any], seen: Sequence[str]) -> dict[str, list[str]]:
    """Conditions over which contestants are compared in the mean."""
    over = [c for c in seen if c in result.get("compared", ())]
    named = {
        name: [c for c in seen if c.endswith(tuple(endings))]
        for name, endings in result.get("groups", {}).items()
    }
    everything = {" and ".join(over) or "mean of all": over or list(seen)}
    return everything | {name: some for name, some in named.items() if some}


def _means(found: Mapping[str, Sequence[float]], some: Sequence[str]) -> list[float]:
    """The mean over conditions, one value for each seed."""
    return np.mean([found[c] for c in some], axis=0).tolist() if some else []


def _gap(own: Sequence[float], base: Sequence[float]) -> str:
    if not own or not base:
        return ""
    mean, low, high = difference(own, base)
    return f"{mean:+.3f}" if np.isnan(low) else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def _steps(result: Mapping[str, Any], name: str, budget: str) -> str:
    found = [
        run["steps"]
        for run in result["runs"]
        if (run["contestant"], run["budget"]) == (name, budget) and "steps" in run
    ]
    if not found:
        return ""
    return f"{min(found)}" if min(found) == max(found) else f"{min(found)}-{max(found)}"


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
