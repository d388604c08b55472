"""Tables of a suite: mean and standard deviation over seeds, and differences with 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
DOG = "difference-of-Gaussians picker"
DISPLAY_NAMES = {
    "floor: blobs, told how many": f"{DOG}, given the true particle count",
    "floor: blobs of each size, told how many": f"{DOG}, given the true count per species",
    "floor: blobs of one size, told how many": f"{DOG}, given the true count and mean size",
    "blobs, as they come": f"{DOG}, default settings",
    "blobs, settings chosen with labels of y < cut": f"{DOG}, settings selected on labels",
    "floor: threshold, no training": "threshold baseline, no training",
    "truth in tokens of 4 voxels": "ground truth at the resolution of tokens (4 voxels)",
    "oracle: voxresnet, no noise": "voxresnet on noise-free data",
    "all, none wrong": "all, no errors",
    "any particle": "any species",
    "chosen": "selected",
    "took adapted": "adapted model selected",
    "right": "correct selection",
    "lost": "loss against the better model",
    "teacher follows": "EMA teacher from the start",
    "one species in a place": "one species per position",
    "risk of what is unknown": "positive-unlabeled risk",
    "noisy source not judged": "no loss on the noisy source",
    "mean-teacher, target statistics": "mean-teacher, target batch-norm statistics",
    "vox-uda, statistics of both": "vox-uda, batch-norm statistics of both domains",
    "statistics of both domains": "batch-norm statistics of both domains",
    "one threshold for all": "one threshold for all classes",
    "target is source": "target drawn like the source",
    "nothing in it": "empty target",
    "prior alone": "random appearance only",
    "every view varied": "every view randomized",
    "nodes are blocks": "nodes from blocks",
    "VSL apart": "VSL in a separate pass",
    "views weigh half": "view losses weighted 0.5",
    "rule": "model selection",
    "noise not asked": "without noise test",
    "iou": "IoU",
    "mean_iou": "mean IoU",
    "mean_iou_per_sample": "mean IoU per sample",
    "dice": "Dice",
    "f1": "F1",
    "best_f1": "F1 at the best threshold",
    "average_precision": "average precision",
    "f_beta4": "F-beta (beta = 4)",
    "class_accuracy": "accuracy of the class",
    "localisation_f1": "localization F1",
    "recall_1x": "recall at 1 candidate per pick",
    "recall_2x": "recall at 2 candidates per pick",
    "recall_3x": "recall at 3 candidates per pick",
    "recall_4x": "recall at 4 candidates per pick",
    "recall_3x_4x": "recall, mean of 3 and 4 candidates per pick",
}
"""Name of a row, condition or metric in a result file -> its name in tables and figures."""


def display_name(name: str) -> str:
    """A stored name as tables and figures show it; parts separated by commas are translated too.

    Examples
    --------
    >>> display_name("chosen, nothing in it")
    'selected, empty target'
    """
    if name in DISPLAY_NAMES:
        return DISPLAY_NAMES[name]
    return ", ".join(DISPLAY_NAMES.get(part, part) for part in name.split(", "))


def conditions(result: Mapping[str, Any]) -> list[str]:
    """Conditions of a result, in the order of scoring."""
    rows = [run["scores"] for run in result["runs"] if "scores" in run]
    return list(dict.fromkeys(c for scores in [*rows, *result["references"].values()] for c in scores))


def values(result: Mapping[str, Any], method: str, budget: str, condition: str, metric: str) -> list[float]:
    """One value for each seed whose training did not fail."""
    return [
        run["scores"][condition][metric]
        for run in result["runs"]
        if (run["contestant"], run["budget"]) == (method, budget)
        and metric in run.get("scores", {}).get(condition, {})
    ]


def cell(scores: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds."""
    if not scores:
        return "failed"
    spread = f" ± {np.std(scores, ddof=1):.3f}" if len(scores) > 1 else ""
    return f"{np.mean(scores):.3f}{spread}"


def difference(scores: Sequence[float], reference: Sequence[float]) -> tuple[float, float, float]:
    """Mean difference and its Welch t interval over the seeds; the limits are NaN below two seeds each.

    The interval describes a repetition with other seeds on the same data. It does not cover other data.
    """
    a, b = np.asarray(scores, dtype=float), np.asarray(reference, dtype=float)
    mean = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return mean, float("nan"), float("nan")
    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    error = float(np.sqrt(parts.sum()))
    if error == 0:
        return mean, mean, mean
    freedom = parts.sum() ** 2 / (parts**2 / np.array([len(a) - 1, len(b) - 1])).sum()
    half = error * float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
    return mean, mean - half, mean + half


def is_significant(scores: Sequence[float], reference: Sequence[float]) -> bool:
    """Whether the interval of the difference excludes 0."""
    if min(len(scores), len(reference)) < 2:
        return False
    _, low, high = difference(scores, reference)
    return low > 0 or high < 0


def separates_methods(result: Mapping[str, Any], budget: str, condition: str, metric: str) -> bool:
    """Whether the means of the methods span more than one pooled standard deviation over seeds."""
    lists = [
        scores
        for method in result["plan"]["contestants"]
        if len(scores := values(result, method["name"], budget, condition, metric)) > 1
    ]
    if len(lists) < 2:
        return False
    means: NDArray[np.float64] = np.array([np.mean(scores) for scores in lists])
    pooled = np.sqrt(np.mean([np.var(scores, ddof=1) for scores in lists]))
    return bool(np.ptp(means) > pooled)


def markdown(result: Mapping[str, Any]) -> str:
    """All tables of a result, one for each metric and budget. An unfinished result shows its started rows."""
    result = _started(result)
    budgets = dict.fromkeys(run["budget"] for run in result["runs"])
    tables = [(budget, metric) for metric in result["headlines"] for budget in budgets]
    main = [_table(result, *table) for table in tables]
    by_species = [
        _species_table(result, *table, condition, species)
        for table in tables
        for condition in conditions(result)
        if (species := _species(result, condition, table[1]))
    ]
    matrices = [_confusion_table(result, budget, c) for budget in budgets for c in _confused(result)]
    return "\n\n".join([*main, *by_species, *matrices, *_caveats(result)])


def _started(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The result without methods of which no training has finished."""
    if not result.get("jobs_left"):
        return result
    names = {run["contestant"] for run in result["runs"]}
    rows = [c for c in result["plan"]["contestants"] if c["name"] in names]
    return {**result, "plan": {**result["plan"], "contestants": rows}}


def _caveats(result: Mapping[str, Any]) -> list[str]:
    """A note on results that are incomplete or come from several versions of the code."""
    left, codes = result.get("jobs_left", 0), {run["code"] for run in result["runs"] if "code" in run}
    notes = [f"{left} of {left + len(result['runs'])} trainings have not finished yet."] if left else []
    if len(codes) > 1:
        notes.append(f"The trainings were run with {len(codes)} versions of the code.")
    return [" ".join(notes)] if notes else []


def _table(result: Mapping[str, Any], budget: str, metric: str) -> str:
    reference, seeds, methods = result["reference"], result["plan"]["seeds"], result["plan"]["contestants"]
    columns = _columns(result, metric)
    groups = _groups(result, columns) if reference else {}
    rows = [
        [display_name(name), *cells, *[""] * (len(groups) + 1)]
        for name, scores in result["references"].items()
        if any(cells := _baseline_cells(scores, columns, metric))
    ]
    reference_name = display_name(reference)
    base = {c: values(result, reference, budget, c, metric) for c in columns}
    for name in (method["name"] for method in methods):
        own = {c: values(result, name, budget, c, metric) for c in columns}
        cells = [
            cell(own[c]) + " *" * (name != reference and is_significant(own[c], base[c])) for c in columns
        ]
        gaps = ["" if name == reference else _difference_cell(_means(own, group), _means(base, group))
                for group in groups.values()]  # fmt: skip
        rows.append([display_name(name), *cells, *gaps, _steps(result, name, budget)])
    plural = "s" * (seeds > 1)
    caption = f"{display_name(metric)}, mean ± standard deviation over {seeds} seed{plural}; budget {budget}"
    if left := result.get("jobs_left"):
        caption += f"; {left} training{'s' if left > 1 else ''} still missing"
    titles = [f"{display_name(group)}, difference from {reference_name} [95 % CI]" for group in groups]
    table = f"{caption}:\n\n{grid(['', *map(display_name, columns), *titles, 'steps'], rows)}"
    if any(text.endswith(" *") for row in rows for text in row):
        table += f"\n\n\\* The 95 % CI of the difference from {reference_name} excludes 0"
        table += " (not corrected for multiple comparisons)."
    if seeds > 1 and len(methods) > 1:
        similar = [display_name(c) for c in columns if not separates_methods(result, budget, c, metric)]
        if similar:
            table += f"\n\nAll methods lie within one standard deviation over seeds: {', '.join(similar)}."
    return table


def _columns(result: Mapping[str, Any], metric: str) -> list[str]:
    """Conditions that a table shows."""
    shown = result.get("shown", ())
    return [
        c
        for c in conditions(result)
        if (not shown or c.partition(",")[0] in shown)
        and any(metric in run.get("scores", {}).get(c, {}) for run in result["runs"])
    ]


def _baseline_cells(
    scores: Mapping[str, Mapping[str, float]], columns: Sequence[str], metric: str
) -> list[str]:
    return [f"{scores[c][metric]:.3f}" if metric in scores.get(c, {}) else "" for c in columns]


def _species(result: Mapping[str, Any], condition: str, metric: str) -> list[str]:
    """Species with a score of their own: NAME of every metric "METRIC/NAME"."""
    rows = [run.get("scores", {}).get(condition, {}) for run in result["runs"]]
    return list(dict.fromkeys(n.partition("/")[2] for row in rows for n in row if n.startswith(f"{metric}/")))


def _species_table(
    result: Mapping[str, Any], budget: str, metric: str, condition: str, species: Sequence[str]
) -> str:
    names = [f"{metric}/{one}" for one in species]
    baselines = [
        [
            display_name(name),
            *(f"{scores[condition][n]:.3f}" if n in scores.get(condition, {}) else "" for n in names),
        ]
        for name, scores in result["references"].items()
    ]
    rows = [
        [display_name(m["name"]), *(cell(values(result, m["name"], budget, condition, n)) for n in names)]
        for m in result["plan"]["contestants"]
    ]
    title = f"{display_name(metric)} by species, {display_name(condition)}; budget {budget}"
    return f"{title}:\n\n{grid(['', *species], [*baselines, *rows])}"


def _confused(result: Mapping[str, Any]) -> list[str]:
    """Compared conditions with a confusion matrix."""
    columns = _columns(result, "class_accuracy")
    return [
        c for c in columns if c in (result.get("compared") or columns) and _species(result, c, "confusion")
    ]


def _confusion_table(result: Mapping[str, Any], budget: str, condition: str) -> str:
    """Mean share of the cubes of a true class by predicted class; a row for each method and true class."""
    pairs = [pair.split(" as ") for pair in _species(result, condition, "confusion")]
    trues, guesses = (list(dict.fromkeys(column)) for column in zip(*pairs, strict=True))
    rows = []
    for name in (method["name"] for method in result["plan"]["contestants"]):
        for true in trues:
            shares = [
                values(result, name, budget, condition, f"confusion/{true} as {guess}") for guess in guesses
            ]
            rows.append([display_name(name), true, *(f"{np.mean(s):.2f}" if s else "failed" for s in shares)])
    title = f"Share of the cubes by true (rows) and predicted class, {display_name(condition)}"
    return f"{title}; budget {budget}:\n\n{grid(['', 'true class', *guesses], rows)}"


def _groups(result: Mapping[str, Any], columns: Sequence[str]) -> dict[str, list[str]]:
    """Conditions over which differences are averaged, by name of the group."""
    compared = [c for c in columns if c in result.get("compared", ())]
    groups = {
        name: [c for c in columns if c.endswith(tuple(endings))]
        for name, endings in result.get("groups", {}).items()
    }
    everything = {" and ".join(compared) or "mean of all": compared or list(columns)}
    return everything | {name: group for name, group in groups.items() if group}


def _means(scores: Mapping[str, Sequence[float]], group: Sequence[str]) -> list[float]:
    """Mean over conditions, one value for each seed."""
    return np.mean([scores[c] for c in group], axis=0).tolist() if group else []


def _difference_cell(own: Sequence[float], base: Sequence[float]) -> str:
    if not own or not base:
        return ""
    mean, low, high = difference(own, base)
    return f"{mean:+.3f}" if np.isnan(low) else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def _steps(result: Mapping[str, Any], name: str, budget: str) -> str:
    steps = [
        run["steps"]
        for run in result["runs"]
        if (run["contestant"], run["budget"]) == (name, budget) and "steps" in run
    ]
    if not steps:
        return ""
    return f"{min(steps)}" if min(steps) == max(steps) else f"{min(steps)}-{max(steps)}"


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
