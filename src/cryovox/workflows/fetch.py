"""Structures from the Protein Data Bank: whole, checked, recorded, resumed.

What comes in is kept in `.NAME.part` until all of it is there, so that a lost connection costs nothing
where the server can continue (`Range` with `If-Range`, RFC 9110 section 14). Only a file whose length and
gzip checksum are right gets its name.
"""

from __future__ import annotations

import gzip
import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryovox import __version__
from cryovox.core.atomic import discard, replacing, writable_folder
from cryovox.core.errors import RequestError, RunError
from cryovox.workflows.manifest import sha256

BASE = "https://files.rcsb.org/download"
RECORD = "fetched.json"

_ID = re.compile(r"[0-9][a-z0-9]{3}|pdb_[a-z0-9]{8}")
_TRIES = 3
_WAIT = 1.0
_TIMEOUT = 30.0
_BLOCK = 1 << 16
_DROPPED = (http.client.HTTPException, ConnectionError, TimeoutError)


class _NotThereError(Exception):
    """The server knows no such file."""


def fetch_structure(
    ids: Sequence[str], out: Path, *, base: str = BASE, overwrite: bool = False
) -> list[Path]:
    """Download mmCIF files; what is there already, as it was fetched, is left alone.

    Parameters
    ----------
    ids
        Of the Protein Data Bank: four characters ("1bxn") or "pdb_" and eight ("pdb_00001bxn").
    out
        Folder; its `fetched.json` says where each file came from, when, and its sha256.
    base
        Address of the folder on the server.
    overwrite
        Download again what is there.

    Returns
    -------
    list of Path
        `ID.cif.gz` in lower case, in the order of *ids*, each once.

    Raises
    ------
    RequestError
        Before anything is written: an identifier that cannot be one, an address that is none, a file in
        the way. Also where the server does not know the only identifier.
    RunError
        Where the server cannot be reached or stops answering, and where it does not know some
        identifiers of several; the others are fetched.
    """
    names = dict.fromkeys(_checked(given) for given in ids)
    if urllib.parse.urlsplit(base).scheme not in ("http", "https"):
        raise RequestError("--base", f"{base!r} is no web address", f"give one like {BASE}")
    folder = writable_folder(out)
    record = _read_record(folder)
    paths = [folder / f"{name}.cif.gz" for name in names]
    todo = [path for path in paths if overwrite or not _done(path, record)]
    unknown = []
    for path in todo:
        try:
            part = _fetch(path, base, record)
        except _NotThereError:
            unknown.append(path.name.removesuffix(".cif.gz"))
            continue
        with replacing(folder / RECORD) as beside:  # first: a file without its record would be in the way
            beside.write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")
        with replacing(path) as beside:
            shutil.move(part.path, beside)
        part.drop()
    if unknown:
        kind = RequestError if len(names) == 1 else RunError
        told = f"the server has no such structure ({base}, HTTP 404)"
        raise kind(", ".join(unknown), told, "check the identifier at https://www.rcsb.org")
    return paths


def _checked(given: str) -> str:
    name = given.strip().lower()
    if not _ID.fullmatch(name):
        remedy = "an identifier is a digit and three letters or digits (1bxn), or pdb_ and eight characters"
        raise RequestError(given or "ID", "is no identifier of the Protein Data Bank", remedy)
    return name


def _done(path: Path, record: dict[str, Any]) -> bool:
    """Whether the file is there as it was fetched; what is there otherwise is not ours to replace."""
    if not path.exists():
        return False
    entry = record.get(path.name)
    if isinstance(entry, dict) and path.is_file() and entry.get("sha256") == sha256(path):
        return True
    raise RequestError(path, f"is there, but not as {RECORD} knows it", "move it away, or pass --overwrite")


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _fetch(path: Path, base: str, record: dict[str, Any]) -> _Part:
    """Download one file, still under its own name, and note what is known of it."""
    name = path.name.removesuffix(".cif.gz")
    url = f"{base.rstrip('/')}/{name.upper() if len(name) == 4 else name}.cif.gz"
    part = _Part(path.with_name(f".{path.name}.part"))
    for attempt in range(_TRIES):
        try:
            if _download(url, part):
                break
        except _DROPPED as error:
            if attempt == _TRIES - 1:
                raise _unreachable(url, error) from None
        except OSError as error:
            told = f"cannot go on ({error.strerror or error})"
            raise RunError(url, told, "mend that and run the same command again") from None
        time.sleep(_WAIT * (attempt + 1))
    else:
        told = f"the connection was lost {_TRIES} times; {part.size} bytes are kept"
        raise RunError(url, told, "run the same command again: it goes on where it stopped")
    _check(url, part)
    facts = {"url": url, "sha256": sha256(part.path), "bytes": part.size}
    record[path.name] = {**facts, "fetched": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    return part


@dataclass(frozen=True)
class _Part:
    """What has come in so far, and which version of the file it is a part of."""

    path: Path

    @property
    def mark(self) -> Path:
        return self.path.with_suffix(".etag")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def version(self) -> str:
        """What the server calls it; without that, nobody knows that the rest belongs to it."""
        return self.mark.read_text(encoding="latin-1") if self.mark.is_file() else ""

    def begin(self, version: str) -> None:
        self.drop()
        self.path.touch()
        self.mark.write_text(version, encoding="latin-1")

    def drop(self) -> None:
        discard(self.path)
        discard(self.mark)


def _download(url: str, part: _Part) -> bool:
    """Ask for the rest, or for all; whether all of it is there."""
    headers = {"User-Agent": f"cryovox/{__version__}", "Accept-Encoding": "identity"}
    if part.size and part.version:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": part.version}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT) as answer:
            return _take(answer, part)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (404, 410):
            part.drop()
            raise _NotThereError from None
        if error.code == 416:  # the part is as long as the file, or longer: begin again
            part.drop()
            return False
        told = f"the server answers {error.code} ({error.reason})"
        raise RunError(url, told, "try again later, or name another server with --base") from None
    except urllib.error.URLError as error:
        raise _unreachable(url, error.reason) from None


def _take(answer: Any, part: _Part) -> bool:
    start, total = _range(answer)
    if start != part.size or start == 0:
        if start:  # not the bytes that were asked for
            part.drop()
            return False
        version = answer.headers.get("ETag") or ""
        part.begin("" if version.startswith("W/") else version or answer.headers.get("Last-Modified") or "")
    with part.path.open("ab") as out:
        while block := answer.read(_BLOCK):
            out.write(block)
    return total is None or part.size >= total


def _range(answer: Any) -> tuple[int, int | None]:
    """First byte of an answer, and the length of the whole file where it is told."""
    if answer.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range") or "")
        if found is None:
            return -1, None
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = answer.headers.get("Content-Length") or ""
    return 0, int(length) if length.isdigit() else None


def _check(url: str, part: _Part) -> None:
    """Unpack it all: what is damaged, or no mmCIF, goes."""
    try:
        with gzip.open(part.path, "rb") as packed:
            first = packed.read(_BLOCK)
            while packed.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        part.drop()
        raise RunError(url, f"what came is damaged ({error})", "run the same command again") from None
    if b"data_" not in first:
        part.drop()
        raise RunError(url, "what came is no mmCIF file", "check the address given with --base")


def _unreachable(url: str, reason: object) -> RunError:
    host = urllib.parse.urlsplit(url).netloc
    remedy = (
        "connect to the network, or set https_proxy, and run the same command again; "
        "or copy the files by hand, or use the built-in species"
    )
    return RunError(host, f"cannot be reached ({reason or 'no answer'})", remedy)
