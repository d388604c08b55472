"""Frozen, typed settings that go to YAML and back; unknown keys are errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cryovox.core.errors import RequestError
from cryovox.core.reading import check_readable

Contrast = Literal["auto", "dark", "bright"]
"""Of particles against their surroundings."""


class Config(BaseModel):
    """Base of all settings: declared once, beside the code that they steer."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    nested: ClassVar[bool] = False
    """Whether options on the command line go by the whole path of their names."""
    basic: ClassVar[tuple[str, ...] | None] = None
    """Fields that `--help` shows; the others stand under `--help-all`. By default all are shown."""


C = TypeVar("C", bound=BaseModel)


def to_yaml(config: BaseModel) -> str:
    """Write as YAML, in the order of declaration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def from_yaml(kind: type[C], path: Path) -> C:
    """Read a file into *kind*; what it does not know is an error that names the key."""
    check_readable(path)
    try:
        found: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise RequestError(path, f"cannot be read as YAML: {error}", "mend the file") from None
    if not isinstance(found, dict):
        raise RequestError(path, "holds no keys", "see `--print-config` for an example")
    return validated(kind, found, path)


def validated(kind: type[C], found: dict[str, Any], where: object) -> C:
    """Check values against *kind*; the first few problems are told, each with its key."""
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        lines = [_line(problem) for problem in error.errors()[:5]]
        known = ", ".join(kind.model_fields)
        raise RequestError(where, "; ".join(lines), f"known keys: {known}") from None


def _line(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "it"
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}"
    found = problem.get("input")
    told = "" if isinstance(found, dict | list) else f" (found {found!r})"
    return f"{key}: {problem['msg']}{told}"
