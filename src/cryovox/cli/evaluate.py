"""`cryovox evaluate particles` and `cryovox evaluate labels`."""

from __future__ import annotations

from pathlib import Path

from cryovox.cli.screen import check_json, table, write_json
from cryovox.metrics.table import Row
from cryovox.workflows.evaluate import Rule, evaluate_label_files, evaluate_particle_files


def particles(  # noqa: PLR0913 (the options of a command)
    *,
    truth: Path,
    found: Path,
    rule: Rule = "radius",
    radius: float | None = None,
    fraction: float = 1.0,
    dataset: Path | None = None,
    tomogram: Path | None = None,
    occupancy: Path | None = None,
    json: Path | None = None,
) -> int:
    """Compare picks with the truth: precision, recall, F1, average precision, or the CZII and SHREC scores.

    Parameters
    ----------
    truth
        Particle file, or a folder of them.
    found
        Particle file, or a folder of them with the same names.
    rule
        radius: one to one within the radius; czii and shrec: as those challenges count.
    radius
        Radius in Å of every species; those of the dataset by default.
    fraction
        Largest distance of a hit, in radii.
    dataset
        dataset.yaml with species and tomograms.
    tomogram
        The tomogram, for files that count from its centre.
    occupancy
        Occupancy mask of the SHREC rule.
    json
        File for the table.
    """
    check_json(json)
    rows = evaluate_particle_files(
        found,
        truth,
        rule,
        radius=radius,
        fraction=fraction,
        dataset=dataset,
        tomogram=tomogram,
        occupancy=occupancy,
    )
    return _show(rows, json)


def labels(*, truth: Path, found: Path, dataset: Path | None = None, json: Path | None = None) -> int:
    """Compare label maps: Dice and IoU per species, pooled, regardless of species, and their mean.

    Of subtomogram sets, also the mean IoU over the subtomograms.

    Parameters
    ----------
    truth
        Label map, or a folder of them; or a subtomogram set with masks.
    found
        Label map, or a folder of them with the same names; or what `cryovox segment` made of the set.
    dataset
        dataset.yaml with the names of the labels.
    json
        File for the table.
    """
    check_json(json)
    return _show(evaluate_label_files(found, truth, dataset), json)


def _show(rows: list[Row], json: Path | None) -> int:
    columns = ("tomogram", "species", "metric", "value")
    print(table(columns, [[row[c] for c in columns] for row in rows]))
    write_json(json, rows)
    return 0
