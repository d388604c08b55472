"""Report page that compares a measured tomogram with its matched simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cryovox.report import plotting
from cryovox.report.drawing import FAINT, INK
from cryovox.report.figures import COLORS
from cryovox.report.html import Picture, Table
from cryovox.report.page import embedded, template
from cryovox.report.plotting import WIDTH
from cryovox.simulate.realism.spectrum import radial_frequency, radial_power, z_score
from cryovox.simulate.realism.tilt_range import tilt_profile

Named = Mapping[str, NDArray[Any]]


def simulation_match_page(
    real: NDArray[Any],
    simulated: NDArray[Any],
    voxel_size: float,
    *,
    unmatched: NDArray[Any] | None = None,
    scores: Mapping[str, Sequence[object]] | None = None,
    facts: Mapping[str, object] | None = None,
    title: str = "Tomogram and matched simulation",
    sign: int = -1,
) -> str:
    """The whole page as HTML text that needs no other file.

    Parameters
    ----------
    real, simulated, unmatched : (z, y, x)
        The tomogram, its matched simulation, and the same scene with default settings: gray values as in
        the files, all with particles of the same contrast. Each is z-scored for display.
    scores : name -> values
        One value for the matched simulation, or two for the unmatched and the matched simulation, such as
        ``{"log-spectrum RMSE": (0.79, 0.11)}``.
    facts : name -> value
        Properties measured in the real tomogram; long lists are skipped.
    sign
        +1 if particles are bright, -1 if dark; the figures always show them dark.
    """
    shown = {"real": real, "simulated": simulated}
    if unmatched is not None:
        shown["simulated, unmatched"] = unmatched
    shown = {name: z_score(data) for name, data in shown.items()}
    tables = [_score_table(scores or {}, unmatched is not None), _fact_table(facts or {})]
    return template("figures_and_tables.html").render(
        title=title,
        pictures=_pictures(shown, voxel_size, sign),
        tables=[table for table in tables if table.rows],
    )


def side_by_side(shown: Named, voxel_size: float, sign: int = -1) -> Figure:
    """Central XY slices (top) and XZ slices (bottom), one column per tomogram, with dark particles."""
    across = len(shown)
    tall = [max(d.shape[1] for d in shown.values()), max(d.shape[0] for d in shown.values())]
    wide = max(d.shape[2] for d in shown.values())
    inch = min(WIDTH / across / wide, 11.0 / sum(tall))
    figure = Figure(figsize=(wide * inch * across + 0.7, sum(tall) * inch + 1.1), layout="constrained")
    grid = figure.subplots(2, across, squeeze=False, gridspec_kw={"height_ratios": tall})
    for column, (name, data) in zip(grid.T, shown.items(), strict=True):
        z, y = data.shape[0] // 2, data.shape[1] // 2
        for axes, plane, label in ((column[0], data[z], "y (nm)"), (column[1], data[:, y], "z (nm)")):
            scale = voxel_size / 10
            extent = (0, plane.shape[1] * scale, 0, plane.shape[0] * scale)
            axes.imshow(-sign * plane, cmap="gray", vmin=-3, vmax=3, origin="lower", extent=extent)
            axes.set_ylabel(label if axes in grid[:, 0] else "", fontsize=8, color=INK)
            _style(axes)
        column[0].set_title(name, fontsize=9, color=INK, loc="left")
        column[1].set_xlabel("x (nm)", fontsize=8, color=INK)
    return figure


def curves(shown: Named, voxel_size: float) -> Figure:
    """Radial spectrum, power by tilt, histogram, and standard deviation along z, one line per tomogram."""
    figure = Figure(figsize=(WIDTH, 5.4), layout="constrained")
    (spectrum, tilt), (histogram, along) = figure.subplots(2, 2)
    bins = np.linspace(-5, 5, 101)
    for (name, data), tint in zip(shown.items(), (INK, *COLORS), strict=False):
        style: dict[str, Any] = {"color": tint, "lw": 1.3, "label": name}
        spectrum.semilogy(radial_frequency() / voxel_size, radial_power(data), **style)
        profile = tilt_profile(data)
        if profile is not None:
            tilt.semilogy(np.arange(-90, 91), np.maximum(profile, 1e-4), **style)
        counts, _ = np.histogram(data, bins=bins, density=True)
        histogram.semilogy((bins[1:] + bins[:-1]) / 2, np.maximum(counts, 1e-6), **style)
        along.plot(np.arange(len(data)) * voxel_size / 10, data.std(axis=(1, 2)), **style)
    for axes, title, label in (
        (spectrum, "power", "frequency (1/Å)"),
        (tilt, "power by tilt angle", "tilt (degrees)"),
        (histogram, "density of gray values", "gray value (standard deviations)"),
        (along, "standard deviation along z", "z (nm)"),
    ):
        axes.set_title(title, fontsize=9, color=INK, loc="left")
        axes.set_xlabel(label, fontsize=8, color=INK)
        _style(axes)
    spectrum.legend(frameon=False, fontsize=8)
    return figure


def _pictures(shown: Named, voxel_size: float, sign: int) -> list[Picture]:
    names = ", ".join(shown)
    slices = plotting.png(side_by_side(shown, voxel_size, sign), 1_200_000)
    lines = plotting.svg(curves(shown, voxel_size))
    return [
        Picture(
            embedded("png", slices),
            f"Slices side by side: {names}",
            "Central XY and XZ slices. The gray scale spans -3 to 3 standard deviations; particles are dark.",
        ),
        Picture(
            embedded("svg+xml", lines),
            f"Spectra, histograms and profiles of {names}",
            "All tomograms are z-scored. Power by tilt angle is relative to the mean within 25 degrees of 0.",
        ),
    ]


def _score_table(scores: Mapping[str, Sequence[object]], pair: bool) -> Table:
    columns = ["", "unmatched", "matched"] if pair else ["", "matched"]
    rows = []
    for name, values in scores.items():
        cells = [_cell(v) for v in values][-(len(columns) - 1) :]
        rows.append([name, *[""] * (len(columns) - 1 - len(cells)), *cells])
    return Table("Similarity", columns, rows)


def _fact_table(facts: Mapping[str, object]) -> Table:
    rows = [
        [name.replace("_", " "), _cell(value)]
        for name, value in facts.items()
        if not isinstance(value, list | tuple) or len(value) <= 3
    ]
    return Table("Measured in the real tomogram", ["", "value"], rows)


def _cell(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_cell(v) for v in value)
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def _style(axes: Axes) -> None:
    axes.tick_params(labelsize=7, colors=INK, length=3, width=0.6, which="both")
    for spine in axes.spines.values():
        spine.set_linewidth(0.6)
        spine.set_color(FAINT)
