"""Former names of options: they work for one version, with a note, and are not shown in the help."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cryovox.core.config import Config, note_renamed
from cryovox.core.errors import RequestError

RENAMED: dict[str, dict[str, str]] = {
    "evaluate particles": {"--found": "--picks"},
    "evaluate labels": {"--found": "--predictions"},
    "fetch structure": {"--base": "--base-url"},
    "suggest": {"--labelled": "--annotated"},
}
"""Command, or family of commands, to former and current names of its own options. Former names of settings
stand at the settings (:attr:`cryovox.core.config.Config.renamed`)."""


def with_current_names(args: list[str], command: str, settings: Iterable[Config]) -> list[str]:
    """Replace former names of options by the current ones.

    Parameters
    ----------
    args
        Command line, without the name of the command.
    command
        Name of the command, such as "train vox-uda".
    settings
        Settings whose fields are options of the command.
    """
    renamed = {**RENAMED.get(command.split()[0], {}), **RENAMED.get(command, {})}
    for config in settings:
        renamed |= dict(_of_settings(config, ""))
    for old, new in list(renamed.items()):
        renamed[_negated(old)] = _negated(new)
    typed = [_name(arg) for arg in args]
    for old in dict.fromkeys(name for name in typed if name in renamed):
        if renamed[old] in typed:
            raise RequestError(
                old, f"is the old name of {renamed[old]}; both cannot be used", f"remove {old}"
            )
        note_renamed(old, renamed[old])
    return [
        renamed[name] + arg[len(name) :] if name in renamed else arg
        for name, arg in zip(typed, args, strict=True)
    ]


def _of_settings(config: Config, prefix: str) -> Iterator[tuple[str, str]]:
    """Former and current options of settings and of the sections in them."""
    for old, new in config.renamed.items():
        yield _option(prefix + old), _option(prefix + new)
    for name in type(config).model_fields:
        section = getattr(config, name)
        if isinstance(section, Config):
            yield from _of_settings(section, f"{prefix}{name}." if config.nested or prefix else "")


def _name(arg: str) -> str:
    """The option of an argument, as help writes it; empty if the argument is a value."""
    return _option(arg.split("=")[0].removeprefix("--")) if arg.startswith("--") else ""


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _negated(option: str) -> str:
    """What turns a flag off."""
    path, dot, last = option.removeprefix("--").rpartition(".")
    return f"--{path}{dot}no-{last}"
