"""Frozen, typed settings that are read from and written to YAML; unknown keys are errors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator

from cryovox.core.errors import RenamedWarning, RequestError
from cryovox.core.names import suggestion
from cryovox.core.reading import check_readable
from cryovox.core.safe_yaml import load_yaml

Contrast = Literal["auto", "dark", "bright"]
"""Contrast of particles against their surroundings."""
_OPTIONS: ContextVar[tuple[str, ...] | None] = ContextVar("options", default=None)


class Config(BaseModel):
    """Base class of all settings; each is declared once, beside the code that uses it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    nested: ClassVar[bool] = False
    """Whether options on the command line are named by the full path of the field."""
    basic: ClassVar[tuple[str, ...] | None] = None
    """Fields that `--help` shows; `--help-all` shows the others. By default all are shown."""
    renamed: ClassVar[dict[str, str]] = {}
    """Former names of fields with their current names. For one version, YAML files and options may still use
    the former names, with a note."""
    renamed_values: ClassVar[dict[str, dict[str, str]]] = {}
    """Field to former values with their current names; they work in the same way."""

    @classmethod
    def current_value(cls, name: str, value: Any) -> Any:
        """The value of a field, by its current name."""
        former = cls.renamed_values.get(name, {})
        return former.get(value, value) if isinstance(value, str) else value

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Accept former names, and refuse an option by the name that the user typed."""
        if isinstance(values, dict):
            values = _current(cls, values)
        try:
            return handler(values)
        except ValidationError as error:
            args = _OPTIONS.get()
            if args is None:
                raise
            raise _refusal(error.errors(include_url=False)[0], args) from None


C = TypeVar("C", bound=BaseModel)


def to_yaml(config: BaseModel) -> str:
    """Write as YAML, in the order of declaration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def from_yaml(kind: type[C], path: Path) -> C:
    """Read a YAML file as *kind*; an unknown key is an error that names the key."""
    check_readable(path)
    try:
        values: Any = load_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise RequestError(path, f"cannot be read as YAML: {error}", "correct the file") from None
    if not isinstance(values, dict):
        raise RequestError(path, "holds no keys", "see `--print-config` for an example")
    return validated(kind, values, path)


def validated(kind: type[C], values: dict[str, Any], where: object) -> C:
    """Check values against *kind*; the error names the first few problems, each with its key."""
    token = _OPTIONS.set(None)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems: list[Any] = error.errors(include_url=False)[:5]
        unknown = [p["loc"] for p in problems if p["type"] == "extra_forbidden"]
        remedy = _known_keys(kind, unknown[0]) if unknown else "change these values"
        raise RequestError(where, "; ".join(_line(p) for p in problems), remedy) from None
    finally:
        _OPTIONS.reset(token)


def note_renamed(old: str, new: str) -> None:
    """Warn that a name is a former one, which only this version still accepts."""
    message = f"{old} is now called {new}; the old name will go in the next version"
    warnings.warn(RenamedWarning(message), stacklevel=2)


def _current(kind: type[Config], values: dict[str, Any]) -> dict[str, Any]:
    """Values of one section under the current names of its fields."""
    for old in kind.renamed.keys() & values.keys():
        new = kind.renamed[old]
        if new in values:
            raise ValueError(f"{old!r} is the old name of {new!r}; give only {new!r}")
        note_renamed(old, new)
    current = {kind.renamed.get(name, name): value for name, value in values.items()}
    for name, value in current.items():
        if (new := kind.current_value(name, value)) is not value:
            note_renamed(f"{name}: {value}", str(new))
            current[name] = new
    return current


def current_names(kind: type[BaseModel], values: Any) -> Any:
    """Values read from a file that an earlier version may have written, under the current names.

    Sections of *kind* are followed; values are not checked, and no note is given.
    """
    if not isinstance(values, dict):
        return values
    renamed = kind.renamed if issubclass(kind, Config) else {}
    current: dict[Any, Any] = {renamed.get(name, name): value for name, value in values.items()}
    if issubclass(kind, Config):
        current = {name: kind.current_value(name, value) for name, value in current.items()}
    return {name: current_names(_inner(kind, name) or BaseModel, value) for name, value in current.items()}


def _known_keys(kind: type[BaseModel], path: tuple[int | str, ...]) -> str:
    """Suggestion for an unknown key, from the keys of its section."""
    for part in path[:-1]:
        kind = _inner(kind, part) or kind
    return suggestion(path[-1], kind.model_fields)


def _inner(kind: type[BaseModel], key: int | str) -> type[BaseModel] | None:
    """The settings of a section; None for the index of an element."""
    if key not in kind.model_fields:
        return None
    hints: list[Any] = [kind.model_fields[str(key)].annotation]
    while hints:
        hint = hints.pop()
        if isinstance(hint, type) and issubclass(hint, BaseModel):
            return hint
        hints += get_args(hint)
    return None


def _line(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if not key:
        return _message(problem)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}"
    value = problem.get("input")
    return f"{key}: {_message(problem)}" + ("" if isinstance(value, dict | list) else f" (found {value!r})")


def _message(problem: Any) -> str:
    return str(problem["msg"]).removeprefix("Value error, ")


@contextmanager
def refusing_options(args: Sequence[str] | None) -> Iterator[None]:
    """Name the option in errors of settings that are built from a command line; None names no option."""
    token = _OPTIONS.set(None if args is None else tuple(args))
    try:
        yield
    finally:
        _OPTIONS.reset(token)


def _refusal(problem: Any, args: Sequence[str]) -> RequestError:
    """Error of the value of an option, named as the user wrote it."""
    key = str(problem["loc"][0]).replace("_", "-") if problem["loc"] else ""
    options = [arg.split("=")[0] for arg in args if arg.startswith("--")]
    matching = [o for o in options if o.lstrip("-").replace("_", "-").split(".")[-1] == key]
    if not key:
        return RequestError("options", _message(problem), "change one of these options")
    option = matching[0] if matching else f"--{key}"
    return RequestError(
        option, f"is {problem.get('input')!r}: {_message(problem)}", "see --help for the values that it takes"
    )
