"""Where an output came from, and how to make it again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryovox.core.errors import RequestError
from cryovox.core.invocation import Invocation
from cryovox.core.reading import check_readable
from cryovox.workflows.manifest import NAME, sha256, stamp

RERUNS = ("find", "segment", "match", "denoise", "simulate")
"""Commands that can be run again from a manifest."""
FACTS = ("settings", "imaging", "seed", "number")
"""Parts of the key of an entry that describe how it was computed."""


@dataclass(frozen=True)
class Record:
    """An entry of a manifest.

    Attributes
    ----------
    folder
        Folder of the manifest.
    whole
        The manifest.
    part
        The section with the entry.
    name, entry
        Name of the input, and its entry.
    """

    folder: Path
    whole: Mapping[str, Any]
    part: Mapping[str, Any]
    name: str
    entry: Mapping[str, Any]

    @property
    def outputs(self) -> dict[str, Path]:
        """Kind -> file."""
        files = dict(self.entry.get("outputs", {}))
        particles = self.entry.get("particles", {})
        if "file" in particles:
            files["particles"] = particles["file"]
        if "mask" in particles.get("lamella", {}):
            files["sample mask"] = particles["lamella"]["mask"]
        return {kind: self.folder / file for kind, file in files.items()}

    @property
    def view_files(self) -> dict[str, Path]:
        """Kind -> file that shows the outputs; they hold absolute paths, and so are not compared."""
        files = self.entry.get("view") or self.entry.get("particles", {}).get("view", {})
        return {kind: self.folder / file for kind, file in files.items()}

    @property
    def invocation(self) -> Invocation | None:
        return _invocation(self.whole, self.entry.get("invocation"))

    def inputs(self) -> dict[str, str]:
        """Input files, each with `unchanged`, `changed` or `missing`."""
        key = self.entry.get("key", {})
        files = {key["input"]: key.get("input_sha256")} if "input" in key else {}
        model = self.part.get("model")
        if model and self.part.get("model_sha256") == key.get("model_sha256"):
            files[str(model)] = key.get("model_sha256")
        if "mask" in self.entry:
            files[self.entry["mask"]] = key.get("mask_sha256")
        if "picks_sha256" in key:
            files[key["picks"]] = key["picks_sha256"]
        picked_with = self.entry.get("particles", {}).get("inputs", {})
        files |= {path: record["sha256"] for path, record in picked_with.items()}
        folder = Path(self.invocation.folder) if self.invocation else Path()
        return {path: _state(folder / path, digest) for path, digest in files.items()}


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest, given as the file or its folder."""
    path = path / NAME if path.is_dir() else path
    check_readable(path)
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(path, f"is no manifest ({error})", "name the manifest.json of a result") from None
    if not isinstance(whole, dict) or not isinstance(whole.get("versions"), dict):
        raise RequestError(path, "is no manifest of cryovox", "name the manifest.json of a result")
    return whole


def records(folder: Path, whole: Mapping[str, Any]) -> Iterator[Record]:
    """All entries of a manifest."""
    for part in (whole, *(value for value in whole.values() if isinstance(value, dict))):
        entries = part.get("entries")
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            if isinstance(entry, dict):
                yield Record(folder, whole, part, name, entry)


def explain(path: Path) -> dict[str, Any]:
    """Where an output came from: the command, its inputs, settings and versions.

    Parameters
    ----------
    path
        A file or folder that a command wrote.

    Raises
    ------
    RequestError
        If no manifest of its folder, or of one above, records it.
    """
    if not path.exists():
        raise RequestError(path, "does not exist", "name an output of a command")
    target = path.resolve()
    for folder in target.parents:
        if not (folder / NAME).is_file():
            continue
        whole = read_manifest(folder)
        for record in records(folder, whole):
            for kind, file in (record.outputs | record.view_files).items():
                if target == file.resolve() or file.resolve() in target.parents:
                    return _facts(record, kind, file)
        return _of_folder(target, folder, whole)
    message = "is recorded in no manifest.json, neither in its folder nor above"
    raise RequestError(path, message, "name an output where the command wrote it")


def _facts(record: Record, kind: str, file: Path) -> dict[str, Any]:
    key, invocation = record.entry.get("key", {}), record.invocation
    known = record.entry.get("stamps", {}).get(kind)
    facts: dict[str, Any] = {
        "file": str(file),
        "kind": kind,
        "of": record.name,
        "state": "not recorded" if known is None else "unchanged" if known == stamp(file) else "changed",
        "command": None if invocation is None else ["cryovox", *invocation.words],
        "folder": None if invocation is None else invocation.folder,
        "inputs": record.inputs(),
        "seconds": record.entry.get("seconds"),
    }
    facts |= {name: key[name] for name in FACTS if name in key}
    steps = {n: record.part[n] for n in ("pick", "control", "poses", "seed") if n in record.part}
    return facts | (steps if kind == "particles" else {}) | {"versions": record.whole["versions"]}


def _of_folder(target: Path, folder: Path, whole: Mapping[str, Any]) -> dict[str, Any]:
    """Facts on a file that belongs to all inputs, such as a report or a model."""
    used = [one for one in (_invocation(whole, i) for i in whole.get("invocations", {})) if one]
    names = sorted({record.name for record in records(folder, whole)})
    return {
        "file": str(target),
        "kind": "file of the folder",
        "of": ", ".join(names) or "the whole run",
        "commands": [["cryovox", *one.words] for one in used],
        "written": whole.get("written"),
        "versions": whole["versions"],
    }


def _invocation(whole: Mapping[str, Any], identity: Any) -> Invocation | None:
    stored = whole.get("invocations", {}).get(identity)
    try:
        words, folder = stored["words"], stored["folder"]
    except (KeyError, TypeError):
        return None
    if not (isinstance(words, list) and all(isinstance(w, str) for w in words) and isinstance(folder, str)):
        return None
    return Invocation(tuple(words), folder)


def _state(path: Path, digest: str | None) -> str:
    if not path.exists():
        return "missing"
    if digest is None:
        return "not recorded"
    return "unchanged" if sha256(path) == digest else "changed"


@dataclass(frozen=True)
class Rerun:
    """Commands that make the outputs of a manifest again.

    Attributes
    ----------
    invocations
        The commands, with another output folder.
    outputs
        Files of the manifest, relative to its folder.
    differences
        What differs on this machine from the one that is recorded: versions.
    """

    invocations: tuple[Invocation, ...]
    outputs: tuple[Path, ...]
    differences: dict[str, tuple[str, str]]


def plan_rerun(manifest: Path, out: Path) -> Rerun:
    """Commands that make the outputs of a manifest again in another folder.

    Parameters
    ----------
    manifest
        `manifest.json` or its folder.
    out
        New output folder.

    Raises
    ------
    RequestError
        If an input is missing or has changed, or the manifest records no command that can be run again.
    """
    from cryovox.workflows.manifest import versions

    whole = read_manifest(manifest)
    folder = (manifest if manifest.is_dir() else manifest.parent).resolve()
    if out.resolve() == folder:
        raise RequestError(out, "is the folder of the manifest", "choose another --out")
    rows = list(records(folder, whole))
    used = {one.id: one for one in (record.invocation for record in rows) if one is not None}
    order = list(whole.get("invocations", {}))
    chosen = sorted(used.values(), key=lambda one: order.index(one.id) if one.id in order else len(order))
    if not chosen:
        message = "records no command: its outputs were made from Python, or by an older version"
        raise RequestError(manifest, message, "run the command again by hand")
    for record in rows:
        for path, state in record.inputs().items():
            if state in ("missing", "changed"):
                message = f"is {state}" if state == "missing" else "has changed since"
                raise RequestError(path, message, f"bring back the input of {record.name!r}")
    then, now = whole["versions"], versions()
    differences = {n: (str(then[n]), str(now[n])) for n in then if n in now and then[n] != now[n]}
    files = [file.relative_to(folder) for record in rows for file in record.outputs.values()]
    return Rerun(tuple(_redirected(one, out, manifest) for one in chosen), tuple(files), differences)


def _redirected(invocation: Invocation, out: Path, manifest: Path) -> Invocation:
    """The same command with another output folder, and without other files that it would write."""
    if not invocation.words or invocation.words[0] not in RERUNS:
        words = " ".join(invocation.words[:2]) or "nothing"
        message = f"was written by `cryovox {words}`, which cannot be run again from a manifest"
        raise RequestError(manifest, message, f"it works for {', '.join(RERUNS)}")
    dropped, kept, skip = {"--out": True, "--json": True, "--overwrite": False}, [], False
    for word in invocation.words:
        option = word.split("=", 1)[0]
        if skip:
            skip = False
        elif option in dropped:
            skip = dropped[option] and "=" not in word
        else:
            kept.append(word)
    return Invocation((*kept, "--out", str(out.resolve())), invocation.folder)


def compare(outputs: tuple[Path, ...], first: Path, second: Path) -> dict[str, str]:
    """Whether outputs in two folders are `identical`, `different` or `missing`, by file."""
    states = {}
    for file in outputs:
        a, b = first / file, second / file
        if not (a.exists() and b.exists()):
            states[str(file)] = "missing"
        else:
            states[str(file)] = "identical" if sha256(a) == sha256(b) else "different"
    return states
