"""Former names of options: they work for one version, with a note, and are not shown in the help."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cryovox.core.config import Config, note_renamed
from cryovox.core.errors import RequestError

RENAMED: dict[str, dict[str, str]] = {
    "benchmark": {"--contestants": "--methods"},
    "evaluate particles": {"--found": "--picks"},
    "evaluate labels": {"--found": "--predictions"},
    "fetch structure": {"--base": "--base-url"},
    "suggest": {"--labelled": "--annotated"},
}
"""Command, or family of commands, to former and current names of its own options. Former names of settings
stand at the settings (:attr:`cryovox.core.config.Config.renamed`)."""


def with_current_names(args: list[str], command: str, settings: Iterable[Config]) -> list[str]:
    """Replace former names of options and of their values by the current ones.

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
    sections = [pair for config in settings for pair in _sections(config, "")]
    for prefix, section in sections:
        renamed |= {_option(prefix + old): _option(prefix + new) for old, new in section.renamed.items()}
    for old, new in list(renamed.items()):
        renamed[_negated(old)] = _negated(new)
    typed = [_name(arg) for arg in args]
    for old in dict.fromkeys(name for name in typed if name in renamed):
        if renamed[old] in typed:
            raise RequestError(
                old, f"is the old name of {renamed[old]}; both cannot be used", f"remove {old}"
            )
        note_renamed(old, renamed[old])
    current = [
        renamed[name] + arg[len(name) :] if name in renamed else arg
        for name, arg in zip(typed, args, strict=True)
    ]
    for prefix, section in sections:
        for field in section.renamed_values:
            current = _with_current_values(current, _option(prefix + field), section, field)
    return current


def _with_current_values(args: list[str], option: str, section: Config, field: str) -> list[str]:
    """Replace former values of one option, written after it or behind `=`."""
    current = list(args)
    for i, arg in enumerate(args):
        if _name(arg) != option:
            continue
        place, head = (i, arg.partition("=")[0] + "=") if "=" in arg else (i + 1, "")
        value = args[place].removeprefix(head) if place < len(args) else ""
        if (new := section.current_value(field, value)) != value:
            note_renamed(f"{option} {value}", f"{option} {new}")
            current[place] = head + new
    return current


def _sections(config: Config, prefix: str) -> Iterator[tuple[str, Config]]:
    """Settings and the sections in them, each with the prefix of its options."""
    yield prefix, config
    for name in type(config).model_fields:
        section = getattr(config, name)
        if isinstance(section, Config):
            yield from _sections(section, f"{prefix}{name}." if config.nested or prefix else "")


def _name(arg: str) -> str:
    """The option of an argument, as help writes it; empty if the argument is a value."""
    return _option(arg.split("=")[0].removeprefix("--")) if arg.startswith("--") else ""


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _negated(option: str) -> str:
    """What turns a flag off."""
    path, dot, last = option.removeprefix("--").rpartition(".")
    return f"--{path}{dot}no-{last}"
