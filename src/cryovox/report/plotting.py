"""Figures of matplotlib as PNG and SVG."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

WIDTH = 9.0
"""Width of a page in inches."""


def png(figure: Figure, limit: int = 400_000, dpi: float = 110) -> bytes:
    """Encode a figure as PNG of at most *limit* bytes, with fewer colors and then fewer pixels if needed."""
    while True:
        drawn, raw = _drawn(figure, dpi), io.BytesIO()
        drawn.save(raw, format="png")
        if raw.tell() <= limit:
            return raw.getvalue()
        small = io.BytesIO()
        # noisy gray values compress poorly; a palette image is a third of the size of RGB
        drawn.quantize(160).save(small, format="png", optimize=True)
        if small.tell() <= limit or dpi < 30:
            return small.getvalue()
        dpi *= max(0.5, 0.95 * (limit / small.tell()) ** 0.5)


def _drawn(figure: Figure, dpi: float) -> Image.Image:
    """A figure as pixels, laid out and drawn once; `savefig` does both twice."""
    figure.set_dpi(dpi)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def svg(figure: Figure) -> bytes:
    """Encode a figure as SVG; equal figures give equal bytes."""
    raw = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "cryovox"}):
        figure.savefig(raw, format="svg", facecolor="white", metadata={"Date": None})
    return raw.getvalue()
