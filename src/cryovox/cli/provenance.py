"""`cryovox explain` and `cryovox rerun`."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from cryovox.cli.interface.screen import check_json, write_json


def explain(
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    /,
    *,
    json: Path | None = None,
) -> int:
    """Explain where an output came from: command, inputs, model, settings and versions.

    Inputs are compared with their recorded hashes: unchanged, changed or missing.

    Parameters
    ----------
    file
        A file that a command wrote.
    json
        Write the facts to this JSON file.
    """
    from cryovox.workflows.provenance import explain as facts_of

    check_json(json)
    facts = facts_of(file)
    for name, value in facts.items():
        for line in _lines(name, value):
            print(line)
    write_json(json, facts)
    return 0


def _lines(name: str, value: Any) -> list[str]:
    if value is None:
        return []
    if name in ("command", "commands"):
        commands = [value] if name == "command" else value
        return [f"{name:<10} {shlex.join(words)}" for words in commands]
    if isinstance(value, dict):
        width = max((len(str(key)) for key in value), default=0)
        return [name, *(f"    {key!s:<{width}}  {item}" for key, item in value.items())]
    return [f"{name:<10} {value}"]


def rerun(
    manifest: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MANIFEST")],
    /,
    *,
    out: Path,
    dry_run: bool = False,
    json: Path | None = None,
) -> int:
    """Run the commands of a manifest again in a new folder, and compare the outputs byte by byte.

    Inputs must have the hashes that are recorded. Exit code 1 if an output differs.

    Parameters
    ----------
    manifest
        manifest.json, or the folder with it.
    out
        New output folder.
    dry_run
        Print the commands, without a run.
    json
        Write the comparison to this JSON file.
    """
    from cryovox.workflows.provenance import compare, plan_rerun

    check_json(json)
    plan = plan_rerun(manifest, out)
    for name, (then, now) in plan.differences.items():
        print(f"note: {name} was {then} and is {now} now: results may differ", file=sys.stderr)
    for one in plan.invocations:
        print(shlex.join(["cryovox", *one.words]), flush=True)
    if dry_run:
        return 0
    folder, out = manifest if manifest.is_dir() else manifest.parent, out.resolve()
    folder, json = folder.resolve(), json.resolve() if json else None
    codes = [_run(list(one.words), Path(one.folder)) for one in plan.invocations]
    states = compare(plan.outputs, folder, out)
    for file, state in states.items():
        print(f"{state:<10} {file}")
    write_json(json, states)
    identical = sum(state == "identical" for state in states.values())
    print(f"{identical} of {len(states)} outputs are identical")
    return 0 if identical == len(states) and not any(codes) else 1


def _run(words: list[str], folder: Path) -> int:
    """Run a command in the folder in which it was started."""
    from cryovox.cli import main
    from cryovox.core.errors import RequestError

    before = Path.cwd()
    if not folder.is_dir():
        raise RequestError(folder, "does not exist, and the command was started there", "create it")
    os.chdir(folder)
    try:
        return main(words)
    finally:
        os.chdir(before)
