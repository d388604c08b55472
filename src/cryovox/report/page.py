"""HTML templates; all extend `base.html`, which holds the style sheet."""

from __future__ import annotations

import base64
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template


def template(name: str) -> Template:
    """A template of this package."""
    return Environment(
        loader=FunctionLoader(text_of),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)


def embedded(kind: str, data: bytes) -> str:
    """Data URI of an image (``png`` or ``svg+xml``)."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def text_of(name: str) -> str:
    """A file of this package."""
    return files("cryovox.report").joinpath(name).read_text(encoding="utf-8")
