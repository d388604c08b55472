"""From typed functions to command lines: every option is declared once, where it is used."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import field, make_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import tyro
from pydantic import RootModel

from cryovox.cli.interface.help import help_text
from cryovox.cli.interface.renamed import with_current_names
from cryovox.core.config import Config, from_yaml, refusing_options, to_yaml, validated
from cryovox.core.errors import RequestError
from cryovox.core.names import suggestion

HELP = ("-h", "--help", "--help-all")
STYLE = (tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff)
NESTED = (tyro.conf.HelptextFromCommentsOff,)


def call(command: Callable[..., Any], args: list[str], prog: str) -> Any:
    """Parse the arguments and run the command.

    `--config FILE` takes settings from YAML, which options on the command line override;
    `--print-config` prints the settings that would be used. A command with an attribute `preset`
    takes `--preset NAME` and gives the command to run instead.
    """
    if asked := next((arg for arg in args if arg in HELP), None):
        print(help_text(_preset(command, args)[0], prog, everything=asked == "--help-all"), end="")
        return 0
    command, args = _preset(command, args)
    args = with_current_names(args, prog.partition(" ")[2], _configs(command).values())
    args, path = _without(args, "--config")
    command = command if path is None else _with_settings(command, Path(path))
    if "--print-config" in args:
        print(_settings_text(command, [a for a in args if a != "--print-config"]), end="")
        return 0

    @wraps(command)
    def run(*values: Any, **options: Any) -> Any:
        with refusing_options(None):  # what the command itself makes is no option
            return command(*values, **options)

    with refusing_options(args):
        return tyro.cli(run, args=args, prog=prog, description="", config=_style(command))


def _preset(command: Callable[..., Any], args: list[str]) -> tuple[Callable[..., Any], list[str]]:
    """The command with the defaults of `--preset`, and the other arguments."""
    if not hasattr(command, "preset"):
        return command, args
    args, preset = _without(args, "--preset")
    return command.preset(preset), args


def _style(command: Callable[..., Any]) -> tuple[Any, ...]:
    """Options go by the last part of their names, unless their settings ask for the whole path."""
    return NESTED if any(config.nested for config in _configs(command).values()) else STYLE


def _configs(command: Callable[..., Any]) -> dict[str, Config]:
    parameters = inspect.signature(command).parameters.values()
    return {p.name: p.default for p in parameters if isinstance(p.default, Config)}


def _settings_text(command: Callable[..., Any], args: list[str]) -> str:
    """The settings as YAML, with those of the command line on top; other options are not looked at."""
    configs = _configs(command)
    if not configs:
        raise RequestError("--print-config", "this command has no settings in YAML", "leave it out")
    hints = get_type_hints(command, include_extras=True)  # tyro's own remarks stay
    fields = [(name, hints[name], field(default=config)) for name, config in configs.items()]
    kind: Any = make_dataclass("Settings", fields)
    with refusing_options(args):
        settings, _ = tyro.cli(kind, args=args, return_unknown_args=True, config=_style(command))
    values: dict[str, Config] = {name: getattr(settings, name) for name in configs}
    if len(values) == 1:
        return to_yaml(next(iter(values.values())))
    return "".join(f"{name}:\n" + _indented(to_yaml(config)) for name, config in values.items())


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def _with_settings(command: Callable[..., Any], path: Path) -> Callable[..., Any]:
    """The same command with other defaults."""
    configs = _configs(command)
    if not configs:
        raise RequestError("--config", "this command has no settings in YAML", "leave --config out")
    if len(configs) == 1:
        (name, config), *_ = configs.items()
        return with_settings(command, {name: from_yaml(type(config), path)})
    sections = from_yaml(RootModel[dict[str, Any]], path).root
    if unknown := set(sections) - set(configs):
        key = sorted(map(str, unknown))[0]
        raise RequestError(path, f"unknown key {key!r}", suggestion(key, configs))
    return with_settings(
        command, {name: validated(type(configs[name]), values, path) for name, values in sections.items()}
    )


def with_settings(
    command: Callable[..., int],
    settings: Mapping[str, Config],
    *,
    description: str | None = None,
    option_names: Mapping[str, str] | None = None,
) -> Callable[..., int]:
    """Make a command that runs another one, with other default settings.

    Parameters
    ----------
    command
        Function with keyword-only parameters for its settings.
    settings
        Default values by parameter. Their types may be subclasses of those that *command* declares: every
        field becomes an option.
    description
        Text for the help; by default that of *command*.
    option_names
        Names of the options of parameters that go by another name than the parameter's.
    """

    def run(*values: Any, **options: Any) -> int:
        return command(*values, **{**settings, **options})

    hints = get_type_hints(command, include_extras=True)
    hints |= {name: _retyped(hints[name], type(config)) for name, config in settings.items()}
    for name, option in (option_names or {}).items():
        hints[name] = Annotated[hints[name], tyro.conf.arg(name=option)]
    signature = inspect.signature(command)
    parameters = [
        parameter.replace(annotation=hints[name], default=settings.get(name, parameter.default))
        for name, parameter in signature.parameters.items()
    ]
    run.__name__, run.__doc__, run.__annotations__ = command.__name__, command.__doc__, hints
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.description = description or getattr(command, "description", None)  # type: ignore[attr-defined]
    return run


def _retyped(hint: Any, kind: type[Config]) -> Any:
    """Another type with the remarks of an annotation, such as the name of its option."""
    return Annotated[(kind, *hint.__metadata__)] if get_origin(hint) is Annotated else kind


def _without(args: list[str], option: str) -> tuple[list[str], str | None]:
    """Take an option and its value out of the arguments."""
    for i, arg in enumerate(args):
        if arg.startswith(f"{option}="):
            return args[:i] + args[i + 1 :], arg.split("=", 1)[1]
        if arg == option:
            if i + 1 == len(args):
                raise RequestError(option, "names no file", f"{option} FILE")
            return args[:i] + args[i + 2 :], args[i + 1]
    return args, None
