"""`cryovox evaluate particles` and `cryovox evaluate labels`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryovox.cli.screen import check_json, table, write_json
from cryovox.metrics.table import BUDGETS, Row, tidy
from cryovox.workflows.config import Rule

if TYPE_CHECKING:
    from cryovox.workflows.evaluate import Evaluation

HIDDEN = ("false_picks", "misses")
"""Follow from the other counts; in the JSON file only."""
SHORT = {"average_precision": "AP", "mean_distance": "distance (Å)"} | {
    f"recall_at_{k}x": f"recall@{k}x" for k in BUDGETS
}


def particles(  # noqa: PLR0913 (the options of a command)
    *,
    truth: Path,
    picks: Path,
    rule: Rule = "radius",
    radius: float | None = None,
    fraction: float = 1.0,
    dataset: Path | None = None,
    tomogram: Path | None = None,
    occupancy: Path | None = None,
    report: Path | None = None,
    json: Path | None = None,
) -> int:
    """Compare picks with the truth: precision, recall, F1, average precision, or the CZII and SHREC scores.

    One row per tomogram and species, over all tomograms ("all"), regardless of species ("any") and averaged
    over species ("mean"). recall@1x, 2x and 4x is the recall of the best picks, as many as there are true
    particles, and twice and four times as many; it needs no threshold and no exhaustive annotation.

    Parameters
    ----------
    truth
        Particle file, or a folder of them.
    picks
        Particle file, or a folder of them with the same names.
    rule
        radius: one to one within the radius; czii and shrec: as those challenges count.
    radius
        Radius in Å of every species; those of the dataset by default.
    fraction
        Largest distance of a hit, in radii.
    dataset
        dataset.yaml with species and tomograms. Only the box and mask of each entry are scored; species that
        are not annotated exhaustively get no precision.
    tomogram
        The tomogram, or the folder of tomograms, for files that count from the centre.
    occupancy
        Occupancy mask of the SHREC rule.
    report
        HTML file for a page with the table and the precision-recall curve of each species.
    json
        File for the table ("rows") and the precision-recall curve of each species ("precision_recall").
    """
    from cryovox.workflows.evaluate import evaluate_particle_files

    check_json(json)
    check_json(report, "--report")
    outcome = evaluate_particle_files(
        picks,
        truth,
        rule,
        radius=radius,
        fraction=fraction,
        dataset=dataset,
        tomogram=tomogram,
        occupancy=occupancy,
    )
    for note in outcome.notes:
        print(f"note: {note}", file=sys.stderr)
    if report is not None:
        _page(
            report,
            outcome,
            {"picks": picks, "truth": truth, "rule": rule, "fraction of the radius": fraction},
        )
    return _show(outcome.rows, json, outcome.curves)


def _page(path: Path, outcome: Evaluation, facts: dict[str, object]) -> None:
    from cryovox.report.evaluation import write_evaluation_page
    from cryovox.report.html import Table

    columns, cells = _cells(outcome.rows)
    rows = [[f"{cell:.3f}" if isinstance(cell, float) else cell for cell in row] for row in cells]
    write_evaluation_page(path, Table("Scores", columns, rows), outcome.curves, outcome.notes, facts)


def labels(*, truth: Path, predictions: Path, dataset: Path | None = None, json: Path | None = None) -> int:
    """Compare label maps: Dice and IoU per species, pooled, regardless of species, and their mean.

    Of subtomogram sets, also the mean IoU over the subtomograms.

    Parameters
    ----------
    truth
        Label map, or a folder of them; or a subtomogram set with masks.
    predictions
        Label map, or a folder of them with the same names; or what `cryovox segment` made of the set.
    dataset
        dataset.yaml with the names of the labels.
    json
        File for the table.
    """
    from cryovox.workflows.evaluate import evaluate_label_files

    check_json(json)
    return _show(evaluate_label_files(predictions, truth, dataset), json)


def _show(rows: list[Row], json: Path | None, curves: dict[str, dict[str, list[float]]] | None = None) -> int:
    """Print one row per tomogram and species; curves go to the file alone."""
    print(table(*_cells(rows)))
    write_json(json, {"rows": tidy(rows), "precision_recall": curves or {}})
    return 0


def _cells(rows: list[Row]) -> tuple[list[str], list[list[Any]]]:
    """Titles of the columns, and one row per tomogram and species."""
    wide = tidy(rows)
    columns = list(dict.fromkeys(name for row in wide for name in row if name not in HIDDEN))
    return [SHORT.get(c, c) for c in columns], [[row.get(c, "") for c in columns] for row in wide]
