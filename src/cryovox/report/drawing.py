"""Drawings in SVG without a plotting library: panels with images, circles, bars, lines and text."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Plane = NDArray[np.float32]
Extent = tuple[float, float, float, float]
"""Left, right, bottom, top."""

INK, FAINT = "#2b2f36", "#8a909a"
FONT = 11
"""Size of text in pixels."""
ENCODINGS = ((1, 85), (1, 65), (1, 45), (2, 75), (3, 60), (4, 50), (8, 40))
"""Voxels per pixel and JPEG quality of gray images, best first."""
LEVELS = 16
"""Levels of opacity of a tint."""


@dataclass(frozen=True, slots=True, eq=False)
class Gray:
    """A gray image; row 0 is at the bottom, NaN is white.

    Attributes
    ----------
    values : (rows, columns)
    limits : (black, white)
    """

    values: Plane
    extent: Extent
    limits: tuple[float, float]

    def encoded(self, pixel: int, quality: int) -> str:
        """Data URI of a JPEG image."""
        low, high = self.limits
        gray = np.clip((self.values[::-1] - low) * (255 / (high - low)), 0, 255)
        image = Image.fromarray(np.where(np.isfinite(gray), gray, 255).astype(np.uint8))
        small = (max(1, image.width // pixel), max(1, image.height // pixel))
        image = image if pixel == 1 else image.resize(small, Image.Resampling.BOX)
        return _uri(image, "jpeg", quality=quality)


@dataclass(frozen=True, slots=True, eq=False)
class Tint:
    """A color with an opacity in 0 to 1 at each pixel; row 0 is at the bottom."""

    opacity: Plane
    extent: Extent
    color: str
    label: str = ""

    def encoded(self) -> str:
        """Data URI of a PNG image with a palette of opacities."""
        image = Image.fromarray(np.rint(self.opacity[::-1] * (LEVELS - 1)).astype(np.uint8), mode="P")
        image.putpalette([int(self.color[i : i + 2], 16) for i in (1, 3, 5)] * LEVELS)
        return _uri(image, "png", transparency=bytes(255 * i // (LEVELS - 1) for i in range(LEVELS)))


@dataclass(frozen=True, slots=True)
class Ring:
    """A circle."""

    center: tuple[float, float]
    radius: float
    color: str
    dashes: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points (horizontal, vertical)."""

    points: Sequence[tuple[float, float]]
    color: str = FAINT
    width: float = 1.0
    dashes: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """A filled rectangle."""

    extent: Extent
    color: str


@dataclass(frozen=True, slots=True)
class Note:
    """Text that begins at a point."""

    at: tuple[float, float]
    text: str
    size: float = FONT


Item = Gray | Tint | Ring | Line | Bar | Note


@dataclass(slots=True)
class Panel:
    """A rectangle of a drawing with its own coordinates; the vertical one grows upwards.

    Attributes
    ----------
    box
        Left, top, width and height in pixels of the drawing.
    span
        Coordinates of the edges.
    labels : (horizontal, vertical)
        Names of the axes; without them no ticks are drawn.
    frame
        Whether all four edges are drawn, or the left and the bottom one.
    """

    name: str
    box: tuple[float, float, float, float]
    span: Extent
    title: str = ""
    labels: tuple[str, str] | None = None
    frame: bool = True
    items: list[Item] = field(default_factory=list)

    def of(self, kind: type[Any]) -> list[Any]:
        """Items of one kind, in the order in which they are drawn."""
        return [item for item in self.items if isinstance(item, kind)]

    def point(self, at: tuple[float, float]) -> tuple[float, float]:
        """Pixels from the left and the top edge."""
        left, right, bottom, top = self.span
        _, _, width, height = self.box
        return (at[0] - left) / (right - left) * width, (top - at[1]) / (top - bottom) * height


@dataclass(slots=True)
class Drawing:
    """Panels and further text on white.

    Attributes
    ----------
    size : (width, height)
        In pixels.
    notes
        Text in pixels of the drawing.
    keys : (left, top), text, color
        Entries of the legend.
    """

    size: tuple[float, float]
    panels: list[Panel] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    keys: list[tuple[tuple[float, float], str, str]] = field(default_factory=list)

    def svg(self, limit: int = 400_000) -> bytes:
        """Encode as SVG of at most *limit* bytes where coarser images allow it."""
        drawn = b""
        for pixel, quality in ENCODINGS:
            drawn = "".join(self._parts(pixel, quality)).encode()
            if len(drawn) <= limit:
                break
        return drawn

    def _parts(self, pixel: int, quality: int) -> Iterator[str]:
        width, height = (f"{n:.0f}" for n in self.size)
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" font-family="sans-serif" font-size="{FONT}" fill="{INK}">'
            f'<rect width="{width}" height="{height}" fill="#fff"/>'
        )
        for panel in self.panels:
            yield from _panel(panel, pixel, quality)
        for note in self.notes:
            yield _text(note.at, note.text, note.size)
        for (left, top), text, color in self.keys:
            yield _circle((left, top), 5, color, 2)
            yield _text((left + 12, top + 4), text)
        yield "</svg>"


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from *low* to *high*, at most *most* steps of 1, 2 or 5 times a power of ten.

    Examples
    --------
    >>> ticks(0, 23)
    [0.0, 5.0, 10.0, 15.0, 20.0]
    """
    if not high > low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(m * power for m in (1, 2, 5, 10) if (high - low) / (m * power) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def _panel(panel: Panel, pixel: int, quality: int) -> Iterator[str]:
    left, top, width, height = panel.box
    yield f'<svg x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" overflow="hidden">'
    for item in panel.items:
        yield _item(panel, item, pixel, quality)
    yield "</svg>"
    edges = f"M{left:.1f} {top:.1f}v{height:.1f}h{width:.1f}"
    yield _path(edges + (f"v{-height:.1f}z" if panel.frame else ""), FAINT, 0.8)
    if panel.title:
        yield _text((left, top - 5), panel.title, FONT + 1)
    if panel.labels is not None:
        yield from _axes(panel)


def _axes(panel: Panel) -> Iterator[str]:
    """Ticks with their numbers, and names."""
    left, top, width, height = panel.box
    low, high, bottom, upper = panel.span
    for value in ticks(low, high, max(3, int(width / 60))):
        x = left + panel.point((value, bottom))[0]
        yield _path(f"M{x:.1f} {top + height:.1f}v3", INK, 0.8)
        yield _text((x, top + height + 14), f"{value:g}", FONT - 2, "middle")
    for value in ticks(bottom, upper, max(3, int(height / 40))):
        y = top + panel.point((low, value))[1]
        yield _path(f"M{left:.1f} {y:.1f}h-3", INK, 0.8)
        yield _text((left - 5, y + 3), f"{value:g}", FONT - 2, "end")
    horizontal, vertical = panel.labels or ("", "")
    yield _text((left + width / 2, top + height + 27), horizontal, FONT, "middle")
    x, y = left - 32, top + height / 2
    text = _text((0, 0), vertical, FONT, "middle")
    yield f'<g transform="translate({x:.1f} {y:.1f}) rotate(-90)">{text}</g>'


def _item(panel: Panel, item: Item, pixel: int, quality: int) -> str:
    match item:
        case Gray():
            return _image(panel, item.extent, item.encoded(pixel, quality))
        case Tint():
            return _image(panel, item.extent, item.encoded(), ' style="image-rendering:pixelated"')
        case Bar():
            return f'<rect {_rectangle(panel, item.extent)} fill="{item.color}"/>'
        case Ring():
            radius = item.radius / (panel.span[1] - panel.span[0]) * panel.box[2]
            return _circle(panel.point(item.center), radius, item.color, 1.5, item.dashes)
        case Line():
            points = "L".join(f"{x:.1f} {y:.1f}" for x, y in map(panel.point, item.points))
            return _path(f"M{points}", item.color, item.width, item.dashes)
        case Note():
            return _text(panel.point(item.at), item.text, item.size)


def _image(panel: Panel, extent: Extent, uri: str, style: str = "") -> str:
    return f'<image {_rectangle(panel, extent)} preserveAspectRatio="none"{style} href="{uri}"/>'


def _rectangle(panel: Panel, extent: Extent) -> str:
    left, right, bottom, top = extent
    (x, y), (end, low) = panel.point((left, top)), panel.point((right, bottom))
    return f'x="{x:.1f}" y="{y:.1f}" width="{end - x:.1f}" height="{low - y:.1f}"'


def _circle(at: tuple[float, float], radius: float, color: str, width: float, dashes: str = "") -> str:
    stroke = f'stroke="{color}" stroke-width="{width:g}"{_dashed(dashes)}'
    return f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius:.1f}" fill="none" {stroke}/>'


def _path(steps: str, color: str, width: float, dashes: str = "") -> str:
    return f'<path d="{steps}" fill="none" stroke="{color}" stroke-width="{width:g}"{_dashed(dashes)}/>'


def _dashed(dashes: str) -> str:
    return f' stroke-dasharray="{dashes}"' if dashes else ""


def _text(at: tuple[float, float], text: str, size: float = FONT, anchor: str = "start") -> str:
    style = "" if size == FONT else f' font-size="{size:g}"'
    placed = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}"{style}{placed}>{escape(text)}</text>'


def _uri(image: Image.Image, kind: str, **options: Any) -> str:
    raw = io.BytesIO()
    image.save(raw, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(raw.getvalue()).decode('ascii')}"
