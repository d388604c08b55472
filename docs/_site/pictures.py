"""Draw the pictures of the concept pages: `python docs/_site/pictures.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon, Rectangle

from cryovox.report.plotting import svg

FOLDER = Path(__file__).parents[1] / "images" / "conventions"
INK, BLUE, ORANGE, GREEN, GRAY = "#23272e", "#0072b2", "#e69f00", "#009e73", "#dfddd8"


def _axes(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title(title, fontsize=11, color=INK, loc="left")
    return figure, axes


def _arrow(axes: Axes, start: tuple[float, float], stop: tuple[float, float], text: str, color: str) -> None:
    axes.annotate(
        "", stop, start, arrowprops={"arrowstyle": "-|>", "color": color, "lw": 2, "shrinkA": 0, "shrinkB": 0}
    )
    at = np.array(stop) + 0.35 * (np.array(stop) - start) / np.linalg.norm(np.array(stop) - start)
    axes.text(*at, text, color=color, fontsize=11, ha="center", va="center", weight="bold")


def coordinates() -> Figure:
    """Order of the axes, and the place of position 0."""
    figure, axes = _axes(7.2, 3.6, "Arrays are (z, y, x); position 0 is the center of voxel (0, 0, 0)")
    for i in range(5):
        for j in range(4):
            axes.add_patch(Rectangle((i - 0.5, j - 0.5), 1, 1, fill=False, ec=GRAY))
    axes.add_patch(Rectangle((-0.5, -0.5), 1, 1, fc=BLUE, alpha=0.25))
    axes.plot(0, 0, "o", color=BLUE)
    axes.text(0, -0.95, "voxel (0, 0, 0), center at 0 Å", color=BLUE, fontsize=9, ha="center")
    axes.plot(3, 2, "o", color=ORANGE)
    axes.text(3, 2.2, "voxel [z, 2, 3]", color=INK, fontsize=9, ha="center")
    axes.text(3, 1.72, "y = 20 Å, x = 30 Å", color=INK, fontsize=9, ha="center")
    _arrow(axes, (0, 0), (5.2, 0), "x", INK)
    _arrow(axes, (0, 0), (0, 4.1), "y", INK)
    axes.text(5.9, 2.9, "voxel size 10 Å", fontsize=9, color=INK)
    axes.text(5.9, 2.4, "z points at you:", fontsize=9, color=INK)
    axes.text(5.9, 2.0, "along the beam", fontsize=9, color=INK)
    axes.add_patch(Circle((5.55, 2.5), 0.2, fill=False, ec=INK))
    axes.plot(5.55, 2.5, ".", color=INK)
    axes.set_xlim(-1.6, 8.4)
    axes.set_ylim(-1.3, 4.9)
    return figure


def centers() -> Figure:
    """From where centered coordinates count."""
    figure, axes = _axes(7.2, 3.0, "Where coordinates relative to the center count from")
    for row, size in ((1.6, 6), (0.0, 5)):
        for i in range(size):
            axes.add_patch(Rectangle((i - 0.5, row - 0.3), 1, 0.6, fill=False, ec=INK))
            axes.text(i, row - 0.02, str(i), fontsize=9, ha="center", va="center", color=INK)
        axes.plot([size / 2] * 2, [row - 0.42, row + 0.42], color=BLUE, lw=2.5)
        axes.plot([size / 2 - 1] * 2, [row - 0.42, row + 0.42], color=ORANGE, lw=2.5, ls=(0, (3, 2)))
        axes.plot([size // 2] * 2, [row - 0.42, row + 0.42], color=GREEN, lw=1.5, ls=":")
        axes.text(-1.0, row, f"n = {size}", fontsize=10, ha="right", va="center", color=INK)
    notes = (
        ("RELION 5: n / 2", BLUE, "-"),
        ("its Python pickers: n / 2 - 1", ORANGE, "--"),
        ("EMAN2, CETS: n // 2", GREEN, ":"),
    )
    for i, (text, color, style) in enumerate(notes):
        axes.plot([6.6, 7.1], [1.75 - 0.6 * i] * 2, color=color, ls=style, lw=2.5)
        axes.text(7.3, 1.75 - 0.6 * i, text, fontsize=9, va="center", color=INK)
    axes.set_xlim(-2.2, 12)
    axes.set_ylim(-0.7, 2.4)
    return figure


def wedge() -> Figure:
    """The part of Fourier space that a tilt series does not measure."""
    figure, axes = _axes(7.2, 3.4, "Tilt axis y: the missing wedge lies around kz")
    tilt = np.deg2rad(60)
    for sign in (1, -1):
        corners = [
            (0, 0),
            (2 * np.cos(tilt), 2 * sign * np.sin(tilt)),
            (-2 * np.cos(tilt), 2 * sign * np.sin(tilt)),
        ]
        axes.add_patch(Polygon(corners, fc=ORANGE, alpha=0.35, ec="none"))
    for angle in np.deg2rad(np.arange(-60, 61, 6)):
        x, z = 2 * np.cos(angle), 2 * np.sin(angle)
        axes.plot([-x, x], [-z, z], color=BLUE, lw=0.9)
    _arrow(axes, (0, 0), (2.5, 0), "kx", INK)
    _arrow(axes, (0, 0), (0, 2.2), "kz", INK)
    axes.text(3.4, 1.0, "lines: measured tilts,", fontsize=9, color=BLUE)
    axes.text(3.4, 0.6, "-60° to 60° in steps of 6°", fontsize=9, color=BLUE)
    axes.text(3.4, -0.1, "shaded: not measured", fontsize=9, color="#9a5b00")
    axes.text(3.4, -0.5, "ky is perpendicular to the page", fontsize=9, color=INK)
    axes.set_xlim(-3, 8)
    axes.set_ylim(-2.2, 2.7)
    return figure


def angles() -> Figure:
    """The three turns of ZYZ Euler angles, seen along the axis of each."""
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    figure.suptitle(
        "Rotations are active, from the reference to the tomogram: intrinsic Z, Y, Z",
        fontsize=11,
        color=INK,
        x=0.01,
        ha="left",
    )
    turns = (
        ("1. turn about z", "x", "y", 50),
        ("2. turn about the new y", "z", "x", 35),
        ("3. turn about the new z", "x", "y", 25),
    )
    for axes, (title, right, up, degrees) in zip(figure.subplots(1, 3), turns, strict=True):
        axes.set_aspect("equal")
        axes.set_axis_off()
        axes.set_title(title, fontsize=9, color=INK)
        _arrow(axes, (0, 0), (2, 0), right, GRAY)
        _arrow(axes, (0, 0), (0, 2), up, GRAY)
        turn = np.deg2rad(degrees)
        _arrow(axes, (0, 0), (2 * np.cos(turn), 2 * np.sin(turn)), right + "'", BLUE)
        _arrow(axes, (0, 0), (-2 * np.sin(turn), 2 * np.cos(turn)), up + "'", BLUE)
        arc = np.linspace(0, turn, 30)
        axes.plot(1.1 * np.cos(arc), 1.1 * np.sin(arc), color=ORANGE, lw=2)
        axes.set_xlim(-2.1, 2.7)
        axes.set_ylim(-0.4, 2.7)
    return figure


def contrast() -> Figure:
    """Dark and bright particles, as a row of gray values."""
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-20:21, -30:31]
    particle = np.exp(-((np.hypot(x + 10, y) - 8) ** 2) / 8) + np.exp(-(np.hypot(x - 15, y - 4) ** 2) / 30)
    noise = 0.35 * rng.standard_normal(particle.shape)
    rows = (("dark: most tomograms", -1), ("bright: EMDB maps, simulators, inside networks", 1))
    for axes, (title, sign) in zip(figure.subplots(1, 2), rows, strict=True):
        axes.imshow(sign * particle + noise, cmap="gray", vmin=-1.4, vmax=1.4, origin="lower")
        axes.set_axis_off()
        axes.set_title(title, fontsize=9, color=INK)
    return figure


PICTURES = {
    "coordinates": coordinates,
    "centers": centers,
    "wedge": wedge,
    "angles": angles,
    "contrast": contrast,
}


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        (FOLDER / f"{name}.svg").write_bytes(svg(draw()))


if __name__ == "__main__":
    main()
