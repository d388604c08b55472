"""Picking report: one self-contained HTML page."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from cryovox.core.atomic import replacing
from cryovox.core.particles import Particles, Species, pickable
from cryovox.core.volume import ScoreMap, Volume
from cryovox.picking.lamella import Lamella
from cryovox.report import figures
from cryovox.report.doctor import Finding, summary
from cryovox.report.next_steps import Step, steps_without_picks, threshold_step
from cryovox.report.page import embedded, template
from cryovox.report.viewer import viewer_context

if TYPE_CHECKING:
    from cryovox.picking.rated import Decoys

TIMES = " \u00d7 "
PAGE_LIMIT = 3_000_000  # bytes of all static images together
PICTURE_LIMIT = 280_000  # bytes of one image before base64, which adds a third


@dataclass(frozen=True, slots=True, eq=False)
class ReportEntry:
    """One tomogram with its picks, checks and output files.

    Attributes
    ----------
    particles
        Picks in this tomogram.
    thresholds : name -> score
        Picking threshold of each species.
    outputs : kind -> path
        Output files, such as ``{"scores": ..., "particles": ...}``.
    seconds
        Computing time.
    species
        Names and radii; by default those of `scores`.
    sign
        +1 if particles are bright in `volume`, -1 if dark.
    tomogram
        File of the tomogram, for suggested commands.
    lamella
        Faces of the sample, drawn as lines.
    expected : name -> what is expected of the picks of a species
        See `cryovox.picking.rated.RatedPicks.summary`.
    decoys
        Candidates in noise.
    weaker
        Makes the candidates below the threshold that the viewer shows as well.
    truth, truth_radii
        Known particles, and radii in Å by species, for precision and recall.
    surroundings
        Scores of membranes and other surroundings, whose masks the figure shows.
    """

    name: str
    volume: Volume
    scores: ScoreMap | None
    particles: Particles
    thresholds: Mapping[str, float] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    outputs: Mapping[str, Path] = field(default_factory=dict)
    seconds: float = 0.0
    species: tuple[Species, ...] = ()
    sign: int = -1
    tomogram: Path | None = None
    lamella: Lamella | None = None
    expected: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    decoys: Decoys | None = None
    weaker: Callable[[], Particles] | None = None
    truth: Particles | None = None
    truth_radii: Mapping[str, float] = field(default_factory=dict)
    surroundings: ScoreMap | None = None

    def kinds(self) -> tuple[Species, ...]:
        """Species that the report shows."""
        return self.species or (self.scores.species if self.scores is not None else ())


@dataclass(frozen=True, slots=True)
class Table:
    """A table with an optional note."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """An embedded image with alternative text and caption."""

    uri: str
    alt: str
    caption: str = ""


def write_find_report(
    path: Path,
    entries: Sequence[ReportEntry],
    run: Mapping[str, Any],
    tables: Sequence[Table] = (),
    title: str = "Picking report",
    figures_for: int = 12,
) -> None:
    """Write the report atomically as one self-contained HTML file.

    Parameters
    ----------
    run
        Metadata of the run, all of which are shown: ``command`` (a line or a list of words), mappings such as
        ``model``, ``versions``, ``timings`` and ``inputs`` (name to hash), and values such as ``seed``.
    tables
        Tables after the summary, for instance an evaluation.
    figures_for
        Number of tomograms with figures; the page states if there are more.
    """
    drawn, first = entries[:figures_for], next((e.outputs for e in entries if e.outputs), {})
    each = max(1, sum(1 + len(e.kinds()) for e in drawn))
    limit = min(PICTURE_LIMIT, PAGE_LIMIT // each)
    page = template("picking.html").render(
        title=title,
        tiles=_tiles(entries),
        summary=_summary(entries),
        tables=[_table_context(table) for table in tables],
        overview=_overview(entries),
        entries=[
            _section(e, path.parent, limit if i < figures_for else 0, run) for i, e in enumerate(entries)
        ],
        figures_for=min(figures_for, len(entries)),
        viewer=viewer_context(drawn),
        command=_command(run.get("command", "")),
        facts=_facts(run),
        total=sum(len(e.particles) for e in entries),
        particles=shlex.quote(str(first.get("particles", "PARTICLES.star"))),
        threshold=threshold_step(
            [e.particles for e in entries], entries[0].thresholds if entries else {}, first.get("scores"), run
        ),
    )
    with replacing(path) as beside:
        beside.write_text(page, encoding="utf-8")


def _tiles(entries: Sequence[ReportEntry]) -> list[tuple[str, str]]:
    """Key numbers at the top of the page."""
    tiles = [(f"{len(entries):,}", "tomogram" if len(entries) == 1 else "tomograms")]
    names = list(dict.fromkeys(s.name for e in entries for s in pickable(e.kinds())))
    for name in names[:4]:
        tiles.append((f"{sum(int((e.particles.species == name).sum()) for e in entries):,}", name))
    if len(names) != 1:
        tiles.append((f"{sum(len(e.particles) for e in entries):,}", "picks in total"))
    wrong = sum(f.level in ("warning", "error") for e in entries for f in e.findings)
    tiles.append((f"{wrong:,}", "warning" if wrong == 1 else "warnings"))
    return [*tiles, (_time(sum(e.seconds for e in entries)), "computing time")]


def _summary(entries: Sequence[ReportEntry]) -> list[dict[str, Any]]:
    rows = []
    for number, entry in enumerate(entries):
        listed = sorted(set(entry.particles.species.tolist()))
        names = [s.name for s in pickable(entry.kinds())] or listed or ["-"]
        for name in names:
            scores = entry.particles.named(name).scores
            rows.append(
                {
                    "anchor": f"tomogram-{number}",
                    "name": entry.name,
                    "species": name,
                    "count": len(scores),
                    "median": f"{np.median(scores):.2f}" if len(scores) else "",
                    "threshold": f"{entry.thresholds[name]:.3g}" if name in entry.thresholds else "",
                    "warnings": sum(f.level in ("warning", "error") for f in entry.findings),
                    "seconds": entry.seconds,
                    "time": _time(entry.seconds),
                }
            )
    return rows


def _table_context(table: Table) -> dict[str, Any]:
    numeric = [
        all(isinstance(row[i], int | float | np.number) or row[i] in ("", None) for row in table.rows)
        for i in range(len(table.columns))
    ]
    rows = [[_cell(value) for value in row] for row in table.rows]
    return {
        "title": table.title,
        "columns": list(zip(table.columns, numeric, strict=True)),
        "rows": [list(zip(row, numeric, strict=True)) for row in rows],
        "note": table.note,
    }


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def _overview(entries: Sequence[ReportEntry]) -> Picture | None:
    picks = {e.name: e.particles for e in entries}
    names = list(dict.fromkeys(s.name for e in entries for s in pickable(e.kinds())))
    if len(picks) < 2 or not names:
        return None
    from cryovox.report.charts import counts
    from cryovox.report.plotting import svg

    return Picture(
        embedded("svg+xml", svg(counts(picks, names))), f"Picks per tomogram, for {len(picks)} tomograms"
    )


def _section(entry: ReportEntry, folder: Path, limit: int, run: Mapping[str, Any]) -> dict[str, Any]:
    z, y, x = entry.volume.shape
    voxels = TIMES.join(str(n) for n in (x, y, z))
    nm = TIMES.join(f"{n * entry.volume.voxel_size / 10:.0f}" for n in (x, y, z))
    return {
        "name": entry.name,
        "facts": f"{voxels} voxels (x, y, z) of {entry.volume.voxel_size:.4g} Å, {nm} nm",
        "count": len(entry.particles),
        "findings": entry.findings,
        "verdict": summary(entry.findings)
        if len(entry.particles)
        else _verdict_without_picks(entry.findings),
        "steps": [] if len(entry.particles) else _steps(entry, run),
        "outputs": [
            (kind, _shortest(out, folder), _link(out, folder)) for kind, out in entry.outputs.items()
        ],
        "pictures": _pictures(entry, limit) if limit else None,
    }


def _pictures(entry: ReportEntry, limit: int) -> dict[str, Any]:
    kinds = entry.kinds()
    drawn = figures.slices(
        entry.volume, entry.scores, entry.particles, kinds,
        sign=entry.sign, lamella=entry.lamella, surroundings=entry.surroundings,
    )  # fmt: skip
    species_counts = (
        ", ".join(f"{int((entry.particles.species == s.name).sum())} {s.name}" for s in kinds) or "no species"
    )
    whole = Picture(
        embedded("svg+xml", drawn.svg(limit)),
        f"Three orthogonal slices of {entry.name} with picks as circles; in the tomogram: {species_counts}",
        "Slices at the place with the most picks. Circles are intersections of particles with the slice, "
        "so small ones belong to particles above or below it. The overlay shows the score."
        if len(entry.particles)
        else "Slices through the center. The overlay shows the score.",
    )
    thumbnails = []
    for i, one in enumerate(kinds):
        picks = entry.particles.named(one.name)
        if len(picks) == 0:
            continue
        shown = 24 if len(kinds) <= 2 else 12
        tint = figures.COLORS[i % len(figures.COLORS)]
        drawn = figures.montage(entry.volume, picks, one, shown, entry.sign, tint)
        alt = (
            f"Thumbnails of the best, middle and worst of {len(picks)} picks of {one.name}, with their scores"
        )
        thumbnails.append(
            Picture(embedded("svg+xml", drawn.svg(limit)), alt, f"{one.name}, {len(picks)} picks")
        )
    histogram = None
    if len(entry.particles):
        drawn = figures.score_histogram(entry.particles, entry.thresholds, [s.name for s in kinds])
        histogram = Picture(
            embedded("svg+xml", drawn.svg()), f"Histogram of the scores of the picks: {species_counts}"
        )
    return {"slices": whole, "thumbnails": thumbnails, "histogram": histogram}


def _command(command: str | Sequence[object]) -> str:
    return command if isinstance(command, str) else shlex.join(str(word) for word in command)


def _facts(run: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Metadata in groups: one group per mapping, and one of all plain values."""
    plain = [(k, _words(v)) for k, v in run.items() if k != "command" and not isinstance(v, Mapping)]
    groups = [
        (name, [(str(k), _words(v, name)) for k, v in values.items()])
        for name, values in run.items()
        if isinstance(values, Mapping) and values
    ]
    return [("run", plain), *groups] if plain else groups


def _words(value: object, group: str = "") -> str:
    if group == "timings" and isinstance(value, int | float):
        return _time(float(value))
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_words(v)}" for k, v in value.items())
    if isinstance(value, list | tuple | set):
        return ", ".join(_words(v) for v in value)
    return _cell(value)


def _verdict_without_picks(findings: Sequence[Finding]) -> str:
    """Headline of a tomogram without picks, which is a problem even if all checks pass."""
    has_problems = any(f.level in ("warning", "error") for f in findings)
    return "no particles found" + (f", {summary(findings)}" if has_problems else "")


def _steps(entry: ReportEntry, run: Mapping[str, Any]) -> list[Step]:
    where = entry.outputs.get("scores"), entry.tomogram
    return steps_without_picks(entry.scores, entry.thresholds, *where, entry.sign, run)


def _shortest(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _link(path: Path, folder: Path) -> str:
    return quote(path.relative_to(folder).as_posix()) if path.is_relative_to(folder) else ""


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
