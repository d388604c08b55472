"""Templates of pages; all extend `base.html`, which holds the style."""

from __future__ import annotations

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


def _text(name: str) -> str:
    return files("cryovox.report").joinpath(name).read_text(encoding="utf-8")
