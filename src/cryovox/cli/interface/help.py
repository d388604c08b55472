"""What `--help` prints: options as the commands and their settings declare them."""

from __future__ import annotations

import inspect
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from docstring_parser import DocstringStyle, parse
from tyro.conf import Positional

from cryovox.core.config import Config
from cryovox.core.durations import Duration

COLUMN, WIDEST = 26, 100
PLACEHOLDERS: dict[Any, str] = {int: "N", float: "X", Path: "PATH", str: "NAME"}
LAST = ("seed", "device", "devices", "workers", "dry_run", "overwrite", "quiet", "json")
"""Options that most commands share; they stand at the end."""


@dataclass(frozen=True)
class Option:
    """One line of help.

    Attributes
    ----------
    name
        As it is typed; empty for positional arguments.
    value
        Placeholder of its value; empty for a flag.
    text, default
        What it does, and what applies without it, for people.
    heading
        Of the group that it belongs to.
    basic
        Whether `--help` shows it; `--help-all` shows all.
    """

    name: str
    value: str
    text: str
    default: str = ""
    required: bool = False
    heading: str = ""
    basic: bool = True


def help_text(command: Callable[..., Any], prog: str, *, everything: bool = False) -> str:
    """Describe a command and its options."""
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    every = options_of(command)
    shown = [option for option in every if everything or option.basic]
    named = [option for option in shown if option.name]
    required = [f"{o.name} {o.value}" for o in named if o.required]
    words = [prog, *(o.value for o in shown if not o.name), *required, "[OPTIONS]"]
    blocks = [textwrap.fill("usage: " + " ".join(words), width, subsequent_indent="    "), describe(command)]
    if notes := getattr(command, "notes", None):
        blocks.append(notes())
    blocks.append(_block("Arguments", [o for o in shown if not o.name], width))
    grouped = everything or len(shown) == len(every)
    for heading in dict.fromkeys(o.heading if grouped else "" for o in named):
        block = [o for o in named if o.heading == heading] if grouped else sorted(named, key=_shared)
        blocks.append(_block(heading or "Options", block, width))
    if len(shown) < len(every):
        blocks.append(f"--help-all shows all {len(every)} options.")
    if _configs(command):
        blocks.append(f"Settings in YAML: {prog} --print-config writes them, --config FILE reads them.")
    return "\n\n".join(block for block in blocks if block) + "\n"


def describe(command: Callable[..., Any]) -> str:
    """What a command does: its own description, or its docstring without the parameters."""
    own: str | None = getattr(command, "description", None)
    if own is not None:
        return own
    documentation = _documentation(command)
    parts = (documentation.short_description, documentation.long_description)
    return "\n\n".join(part for part in parts if part)


def two_columns(summaries: Mapping[str, str], every: Iterable[str] = ()) -> str:
    """Names with a line each, in the order of *summaries*; names of *every* without one come last."""
    names = [*summaries, *(name for name in every if name not in summaries)]
    return "\n".join(f"  {name:<{COLUMN - 2}}{summaries.get(name, '')}".rstrip() for name in names)


def options_of(command: Callable[..., Any]) -> list[Option]:
    """All options of a command, in the order in which help shows them."""
    texts = {p.arg_name: p.description or "" for p in _documentation(command).params}
    hints = get_type_hints(command, include_extras=True)
    own: list[tuple[str, Option]] = []
    settings: list[Option] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if isinstance(parameter.default, Config):
            settings.extend(_settings(parameter.default, ""))
        else:
            own.append((name, _own(name, parameter, hints[name], texts.get(name, ""))))
    first = [option for name, option in own if name not in LAST]
    required = [option for option in first if option.required]
    optional = [option for option in first if not option.required]
    plain = [option for option in settings if not option.heading]
    return [
        *required,
        *optional,
        *plain,
        *(option for name, option in own if name in LAST),
        *(option for option in settings if option.heading),
    ]


def _shared(option: Option) -> bool:
    """Whether most commands have an option."""
    return option.name.removeprefix("--").replace("-", "_") in LAST


def _documentation(command: Callable[..., Any]) -> Any:
    return parse(inspect.getdoc(command) or "", style=DocstringStyle.NUMPYDOC)


def _configs(command: Callable[..., Any]) -> list[Config]:
    parameters = inspect.signature(command).parameters.values()
    return [p.default for p in parameters if isinstance(p.default, Config)]


def _own(name: str, parameter: inspect.Parameter, hint: Any, text: str) -> Option:
    """An option that is a parameter of the command."""
    remarks = hint.__metadata__ if get_origin(hint) is Annotated else ()
    renamed = _renamed(name, remarks)
    required = parameter.default is parameter.empty
    positional = Positional in remarks
    default = None if required else parameter.default
    value = _placeholder(hint)
    if positional and not any(getattr(r, "metavar", None) for r in remarks):
        value = name.upper()
    return Option(
        "" if positional else _flag(renamed, default),
        f"[{value}]" if positional and not required else value,
        " ".join(text.split()),
        _default(default),
        required,
    )


def _settings(config: Config, prefix: str, parent: bool = True) -> Iterator[Option]:
    """Options of settings and of the settings in them; the group's heading is its docstring."""
    kind = type(config)
    heading = "" if parent else inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].rstrip(".")
    inner: list[tuple[str, Config]] = []
    for name, field in kind.model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Config):
            inner.append((name, value))
            continue
        yield Option(
            _flag(prefix + _renamed(name, tuple(field.metadata)), value),
            _placeholder(field.annotation, tuple(field.metadata)),
            " ".join((field.description or "").split()),
            _default(value),
            heading=heading,
            basic=kind.basic is None or name in kind.basic,
        )
    for name, value in inner:
        yield from _settings(value, f"{prefix}{name}." if config.nested or prefix else "", parent=False)


def _renamed(name: str, remarks: tuple[Any, ...]) -> str:
    """Name of an option: that of its `tyro.conf.arg`, else that of the parameter or field."""
    return next((remark.name for remark in remarks if getattr(remark, "name", None)), name)


def _flag(name: str, default: object) -> str:
    """As an option is typed; of a flag that is on by default, with what turns it off."""
    flag = "--" + name.replace("_", "-")
    if default is not True:
        return flag
    path, dot, last = flag.removeprefix("--").rpartition(".")
    return f"--{path}{dot}[no-]{last}"


def _placeholder(kind: Any, remarks: tuple[Any, ...] = ()) -> str:
    """What stands for the value: N, X, PATH, NAME or the choices."""
    for remark in remarks:
        if isinstance(getattr(remark, "metavar", None), str):
            return str(remark.metavar)
        if remark in Duration.__metadata__:  # type: ignore[attr-defined]
            return "TIME"
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _placeholder(args[0], args[1:])
    if origin is Literal:
        return "|".join(str(arg) for arg in args)
    if origin in (Union, UnionType):
        return " | ".join(dict.fromkeys(_placeholder(arg) for arg in args if arg is not NoneType))
    if origin is tuple:
        parts = [_placeholder(arg) if arg is not Ellipsis else "..." for arg in args]
        return " ".join(parts)
    if origin is dict:
        return f"{_placeholder(args[0])} {_placeholder(args[1])} ..."
    return PLACEHOLDERS.get(kind, "")


def _default(value: object) -> str:
    """A default for people; nothing where there is none to name."""
    if value is True:
        return "on"
    if value is None or value is False or value == "":
        return ""
    if isinstance(value, dict):
        value = [part for pair in value.items() for part in pair]
    if isinstance(value, tuple | list):
        return " ".join(_default(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _block(heading: str, options: list[Option], width: int) -> str:
    if not options:
        return ""
    title = textwrap.fill(f"{heading}:", width)
    return "\n".join([title, *(_lines(option, width) for option in options)])


def _lines(option: Option, width: int) -> str:
    left = f"  {option.name} {option.value}".rstrip() if option.name else f"  {option.value}"
    text = option.text + (" (required)" if option.required and option.name else "")
    text += f" [default: {option.default}]" if option.default else ""
    body = textwrap.wrap(text, max(20, width - COLUMN), break_on_hyphens=False) or [""]
    lines = [f"{'':{COLUMN}}{line}".rstrip() for line in body]
    if len(left) <= COLUMN - 2:
        return left.ljust(COLUMN) + "\n".join(lines)[COLUMN:]
    return "\n".join([left, *lines])
