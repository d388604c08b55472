"""Settings of published trainings, as far as they are published: YAML beside this file."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml

from cryovox.core.errors import RequestError
from cryovox.core.names import suggestion

PACKAGE = "cryovox.training.recipes"


def recipes() -> list[str]:
    """Names of the recipes."""
    return sorted(
        file.name.removesuffix(".yaml") for file in files(PACKAGE).iterdir() if file.name.endswith(".yaml")
    )


def recipe(name: str) -> dict[str, Any]:
    """Settings of a recipe, for the same keys as `--config`; what is left out keeps its default.

    Examples
    --------
    >>> recipe("mvgformer")["loop"]["batch"]
    72
    """
    if name not in recipes():
        raise RequestError("--preset", f"there is none called {name!r}", suggestion(name, recipes()))
    settings: dict[str, Any] = yaml.safe_load((files(PACKAGE) / f"{name}.yaml").read_text(encoding="utf-8"))
    return settings
