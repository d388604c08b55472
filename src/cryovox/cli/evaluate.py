"""`cryovox evaluate particles` and `cryovox evaluate labels`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryovox.cli.interface.screen import check_json, table, terminal_meter, write_json
from cryovox.core.errors import RequestError
from cryovox.metrics.table import BUDGETS, Row, tidy
from cryovox.workflows.config import Rule

if TYPE_CHECKING:
    from cryovox.workflows.evaluate import Evaluation

HIDDEN = ("false_picks", "misses")
"""Follow from the other counts; in the JSON file only."""
SHORT = {"average_precision": "AP", "mean_distance": "distance (Å)", "surface_dice": "surface Dice"} | {
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
    """Compare picks with the ground truth: precision, recall, F1, average precision, CZII and SHREC scores.

    The table has one row per tomogram and species, and rows over all tomograms ("all"), regardless of species
    ("any") and averaged over species ("mean"). recall@1x is the recall of the n best picks, where n is the
    number of true particles; recall@2x and recall@4x take the 2n and 4n best. These need neither a threshold
    nor an exhaustive annotation.

    Parameters
    ----------
    truth
        True particles: particle file, or a folder of them.
    picks
        Picks to evaluate: particle file, or a folder of them with the same names.
    rule
        How picks are matched with true particles: radius (one to one, within the radius), or as in the czii
        or shrec challenge.
    radius
        Particle radius in Å, for every species; by default the radii in --dataset.
    fraction
        Maximum distance between a pick and its true particle, as a fraction of the radius.
    dataset
        dataset.yaml with species and tomograms. Only the region (box and mask) of each entry is scored, and
        species that are not annotated exhaustively get no precision.
    tomogram
        Tomogram, or folder of tomograms, for particle files whose coordinates start at the center (RELION 5).
    occupancy
        Occupancy mask of the SHREC challenge, for --rule shrec.
    report
        Write the table and the precision-recall curves to this HTML file.
    json
        Write the table ("rows") and the precision-recall curves ("precision_recall") to this JSON file.
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
        on_progress=terminal_meter(),
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


def labels(
    *,
    truth: Path,
    predictions: Path,
    dataset: Path | None = None,
    tolerance: float | None = None,
    json: Path | None = None,
) -> int:
    """Compare label maps with the ground truth: Dice, IoU and surface Dice per species.

    Surface Dice is the fraction of the surfaces of both maps that lie within --tolerance of the other; it
    suits membranes and filaments. Further rows pool all tomograms, ignore the species ("any") or average
    over species ("mean"). For subtomogram sets, the mean IoU over the subtomograms is given as well.

    Parameters
    ----------
    truth
        True labels: label map, folder of label maps, or subtomogram set with masks.
    predictions
        Label maps to evaluate: label map, folder with the same file names, or subtomogram set from
        `cryovox segment`.
    dataset
        dataset.yaml with the names of the labels.
    tolerance
        Distance in Å within which surfaces agree, for surface Dice; by default one voxel.
    json
        Write the table to this JSON file.
    """
    from cryovox.workflows.evaluate import evaluate_label_files

    check_json(json)
    if tolerance is not None and not tolerance >= 0:
        raise RequestError("--tolerance", f"{tolerance:g} is below 0", "give a distance in Å")
    rows = evaluate_label_files(predictions, truth, dataset, tolerance, on_progress=terminal_meter())
    return _show(rows, json)


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
