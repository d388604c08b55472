"""What is expected of picks: precision and recall at each cut, and picks in noise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cryovox.report.doctor import Finding
from cryovox.report.html import Table

Summary = Mapping[str, Mapping[str, Any]]
"""Species to what is expected of its picks; see `cryovox.picking.rated.RatedPicks.summary`."""

NOISE = {
    "tomogram": "noise of the same power, the tomogram with random phases",
    "background": "noise with random phases and the power of the tomogram beside its strongest picks",
    "halves": "half the difference of the half tomograms",
}
"""Noise in which a model is run."""
MANY = 0.1
"""Expected picks in noise, relative to those of the tomogram, above which there is a warning."""


def expected_tables(summaries: Sequence[Summary]) -> list[Table]:
    """Expected precision and recall at each cut, pooled over tomograms; none where no model is calibrated."""
    rows: dict[tuple[str, str, Any], list[Mapping[str, Any]]] = {}
    for summary in summaries:
        for species, values in summary.items():
            for row in values.get("cuts", ()):
                key = (species, row["cut"], row["score"] if not row["cut"] else None)
                rows.setdefault(key, []).append(row)
    if not rows:
        return []
    columns = ("species", "cut", "score", "picks", "expected precision", "expected recall")
    cells = [[species, cut, *_pooled(own)] for (species, cut, _), own in rows.items()]
    note = (
        "Precision and recall are computed from the calibrated probabilities of all candidates. "
        "--for averaging, --for counting and --for czii choose the cuts of these names in each tomogram."
    )
    return [Table("Expected precision and recall", columns, cells, note)]


def noise_finding(summary: Summary, share: float, source: str = "tomogram") -> Finding:
    """The noise control of a tomogram in a sentence; a warning where much of what is picked may be noise.

    Parameters
    ----------
    share
        Size of the noise relative to the tomogram.
    source
        What the noise is, one of `NOISE`.
    """
    picks = sum(int(own["picks"]) for own in summary.values())
    expected = sum(float(own["noise"]["expected"]) for own in summary.values())
    text = (
        f"{_count(expected)} picks are expected in {NOISE[source]} ({100 * share:.3g} % of the size of the "
        f"tomogram was searched); {picks} in the tomogram"
    )
    if expected <= MANY * picks or not expected:
        return Finding("ok", "noise control", text)
    if doubtful := [name for name, own in summary.items() if own.get("contradicted")]:
        names = ", ".join(doubtful)
        text += f"; this contradicts the expected precision of {names}, which is left out"
    return Finding("warning", "noise control", text, "raise --threshold, or use --fdr 0.05")


def _count(value: float) -> str:
    """An expected number, such as 0.4, 8.7 or 1,320."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def rate_finding(summary: Summary, fdr: float, trusted: bool) -> Finding:
    """How picks were cut at a false discovery rate.

    Parameters
    ----------
    trusted
        Whether the rate was estimated from probabilities, and not from picks in noise.
    """
    if trusted:
        text = f"picks with an expected rate of at most {fdr:g} are kept, by calibrated probabilities"
        return Finding("note", "false discoveries", text)
    text = (
        f"picks with an estimated rate of at most {fdr:g} are kept, by picks in noise; false picks on "
        "membranes or other particles are not covered"
    )
    return Finding("note", "false discoveries", f"{text}. {_rates(summary)}")


def control_notes(findings: Iterable[Finding | None]) -> list[str]:
    """Lines for the screen: the noise control always, other checks unless all is well."""
    shown = [f for f in findings if f is not None and (f.check == "noise control" or f.level != "ok")]
    return [f"{f.check}: {f.message}" + (f"; {f.remedy}" if f.remedy else "") for f in shown]


def _rates(summary: Summary) -> str:
    """Estimated rates with their intervals."""
    parts = []
    for name, own in summary.items():
        noise = own["noise"]
        if noise["fdr"] is None:
            parts.append(f"{name}: no pick qualifies")
        else:
            low, high = (100 * limit for limit in noise["interval"])
            parts.append(f"{name}: {100 * noise['fdr']:.3g} % ({low:.2g} to {high:.2g} %)")
    return "; ".join(parts)


def _pooled(rows: Sequence[Mapping[str, Any]]) -> list[object]:
    """Scores, picks, precision and recall of one cut in several tomograms."""
    picks, hits, particles = (sum(row[key] for row in rows) for key in ("picks", "hits", "particles"))
    scores = [row["score"] for row in rows if row["score"] is not None]
    low, high = (f"{limit(scores):.3g}" if scores else "-" for limit in (min, max))
    precision = round(hits / picks, 3) if picks else None
    recall = round(min(1.0, hits / particles), 3) if particles else None
    return [low if low == high else f"{low} to {high}", picks, precision, recall]
