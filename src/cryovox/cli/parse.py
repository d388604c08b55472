"""From typed functions to command lines: every option is declared once, where it is used."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import tyro

from cryovox.core.config import Config, from_yaml, to_yaml, validated
from cryovox.core.errors import RequestError


def call(command: Callable[..., Any], args: list[str], prog: str) -> Any:
    """Parse the arguments and run the command.

    `--config FILE` takes settings from YAML, which options on the command line override;
    `--print-config` prints the settings that would be used.
    """
    args, path = _without(args, "--config")
    printing = "--print-config" in args
    args = [a for a in args if a != "--print-config"]
    command = command if path is None else _with_settings(command, Path(path))
    if printing:
        print(_settings_text(command))
        return 0
    return tyro.cli(
        command,
        args=args,
        prog=prog,
        description=_description(command, prog),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff),
    )


def _description(command: Callable[..., Any], prog: str) -> str:
    text = inspect.getdoc(command) or ""
    told = text.split("Parameters\n")[0].strip()
    if _configs(command):
        told += f"\n\nSettings in YAML: {prog} --print-config, {prog} --config FILE."
    return told


def _configs(command: Callable[..., Any]) -> dict[str, Config]:
    parameters = inspect.signature(command).parameters.values()
    return {p.name: p.default for p in parameters if isinstance(p.default, Config)}


def _settings_text(command: Callable[..., Any]) -> str:
    configs = _configs(command)
    if len(configs) == 1:
        return to_yaml(next(iter(configs.values())))
    return "".join(f"{name}:\n" + _indented(to_yaml(config)) for name, config in configs.items())


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def _with_settings(command: Callable[..., Any], path: Path) -> Callable[..., Any]:
    """The same command with other defaults."""
    configs = _configs(command)
    if not configs:
        raise RequestError("--config", "this command has no settings in YAML", "leave --config out")
    if len(configs) == 1:
        (name, config), *_ = configs.items()
        return _redefault(command, {name: from_yaml(type(config), path)})
    import yaml

    found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if unknown := set(found) - set(configs):
        raise RequestError(path, f"unknown key {sorted(unknown)[0]!r}", f"known keys: {', '.join(configs)}")
    return _redefault(command, {n: validated(type(configs[n]), values, path) for n, values in found.items()})


def _redefault(command: Callable[..., Any], new: dict[str, Any]) -> Callable[..., Any]:
    assert isinstance(command, FunctionType)
    names = list(inspect.signature(command).parameters)
    given = command.__defaults__ or ()
    positional = names[: command.__code__.co_argcount]
    defaults = tuple(
        new.get(n, d) for n, d in zip(positional[len(positional) - len(given) :], given, strict=True)
    )
    copy = FunctionType(
        command.__code__, command.__globals__, command.__name__, defaults, command.__closure__
    )
    copy.__kwdefaults__ = {n: new.get(n, d) for n, d in (command.__kwdefaults__ or {}).items()}
    copy.__annotations__, copy.__doc__ = command.__annotations__, command.__doc__
    copy.__module__ = command.__module__
    return copy


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
