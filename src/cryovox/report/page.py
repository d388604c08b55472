"""Templates of pages; all extend `base.html`, which holds the style."""

from __future__ import annotations

import base64
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template


def template(name: str) -> Template:
    """One of the templates in this package."""
    return Environment(
        loader=FunctionLoader(_text),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)


def embedded(kind: str, data: bytes) -> str:
    """The address of a picture (``png``, ``svg+xml``) that is part of the page itself."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _text(name: str) -> str:
    return files("cryovox.report").joinpath(name).read_text(encoding="utf-8")
