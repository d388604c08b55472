"""Settings of published trainings, as far as they are published: YAML beside this file."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml

from cryovox.core.errors import RequestError


def recipes() -> list[str]:
    """Names of the recipes."""
    return sorted(
        file.name.removesuffix(".yaml") for file in files(__name__).iterdir() if file.name.endswith(".yaml")
    )


def recipe(name: str) -> dict[str, Any]:
    """Settings of a recipe, for the same keys as `--config`; what is left out keeps its default.

    Examples
    --------
    >>> recipe("mvgformer")["loop"]["batch"]
    72
    """
    if name not in recipes():
        raise RequestError("--recipe", f"there is none called {name!r}", f"there are: {', '.join(recipes())}")
    found: dict[str, Any] = yaml.safe_load((files(__name__) / f"{name}.yaml").read_text(encoding="utf-8"))
    return found
