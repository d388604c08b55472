"""Files from the web: whole, recorded, resumed.

What comes in is kept in `.NAME.part` until all of it is there, so that a lost connection costs nothing
where the server can continue (`Range` with `If-Range`, RFC 9110 section 14). Who calls checks the part
before it gets its name.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryovox import __version__
from cryovox.core.atomic import discard, replacing
from cryovox.core.errors import RequestError, RunError
from cryovox.workflows.manifest import locked, sha256

RECORD = "fetched.json"

_TRIES = 3
_WAIT = 1.0
_TIMEOUT = 30.0
_BLOCK = 1 << 16
_DROPPED = (http.client.HTTPException, ConnectionError, TimeoutError)

OnBytes = Callable[[int], None]
"""Takes the bytes that are there."""


class NotThereError(Exception):
    """The server knows no such file."""


@dataclass(frozen=True)
class Part:
    """What has come in so far, and which version of the file it is a part of."""

    path: Path

    @classmethod
    def of(cls, path: Path) -> Part:
        """That of a file with this name."""
        return cls(path.with_name(f".{path.name}.part"))

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


@dataclass(frozen=True)
class Client:
    """How a command asks for files, and what it says where that fails.

    Attributes
    ----------
    option
        That names another server.
    offline
        What to do without a network.
    """

    option: str
    offline: str

    def fetch(self, url: str, part: Part, on_bytes: OnBytes = lambda size: None) -> None:
        """Download until all of it is there; what is there already is not asked for again."""
        for attempt in range(_TRIES):
            try:
                if self._download(url, part, on_bytes):
                    return
            except _DROPPED as error:
                if attempt == _TRIES - 1:
                    raise self.unreachable(url, error) from None
            except OSError as error:
                told_why = f"cannot go on ({error.strerror or error})"
                raise RunError(url, told_why, "mend that and run the same command again") from None
            time.sleep(_WAIT * (attempt + 1))
        lost = f"the connection was lost {_TRIES} times; {part.size} bytes are kept"
        raise RunError(url, lost, "run the same command again: it goes on where it stopped")

    def text(self, url: str) -> str:
        """A short answer as a whole."""
        try:
            with self._open(url, {"Accept": "application/json"}) as answer:
                return str(answer.read().decode("utf-8"))
        except (*_DROPPED, UnicodeDecodeError, OSError) as error:
            raise self.unreachable(url, error) from None

    def unreachable(self, url: str, reason: object) -> RunError:
        """What is said without a network."""
        host = urllib.parse.urlsplit(url).netloc
        return RunError(host, f"cannot be reached ({reason or 'no answer'})", self.offline)

    def check_address(self, base: str, example: str) -> None:
        """Refuse what is no address of the web."""
        if urllib.parse.urlsplit(base).scheme not in ("http", "https"):
            raise RequestError(self.option, f"{base!r} is no web address", f"give one like {example}")

    def _download(self, url: str, part: Part, on_bytes: OnBytes) -> bool:
        """Ask for the rest, or for all; whether all of it is there."""
        rest = {"Range": f"bytes={part.size}-", "If-Range": part.version}
        try:
            with self._open(url, rest if part.size and part.version else {}) as answer:
                return _take(answer, part, on_bytes)
        except _TooFarError:  # the part is as long as the file, or longer: begin again
            part.drop()
            return False
        except NotThereError:
            part.drop()
            raise

    def _open(self, url: str, headers: dict[str, str]) -> Any:
        wanted = {"User-Agent": f"cryovox/{__version__}", "Accept-Encoding": "identity"} | headers
        try:
            return urllib.request.urlopen(urllib.request.Request(url, headers=wanted), timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (404, 410):
                raise NotThereError from None
            if error.code == 416:
                raise _TooFarError from None
            told = f"the server answers {error.code} ({error.reason})"
            remedy = f"try again later, or name another server with {self.option}"
            raise RunError(url, told, remedy) from None
        except urllib.error.URLError as error:
            raise self.unreachable(url, error.reason) from None


class _TooFarError(Exception):
    """The file ends before what was asked for."""


def read_record(folder: Path) -> dict[str, Any]:
    """What is known of the files that were fetched into a folder, by name."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_recorded(path: Path, folder: Path, record: dict[str, Any]) -> bool:
    """Whether a file is as it was fetched."""
    entry = record.get(path.relative_to(folder).as_posix())
    return isinstance(entry, dict) and path.is_file() and entry.get("sha256") == sha256(path)


def is_done(path: Path, folder: Path, record: dict[str, Any]) -> bool:
    """Whether a file is there as it was fetched; what is there otherwise is not ours to replace."""
    if not path.exists() or is_recorded(path, folder, record):
        return path.exists()
    raise RequestError(path, f"is there, but not as {RECORD} knows it", "move it away, or pass --overwrite")


def keep(part: Part, path: Path, folder: Path, record: dict[str, Any], url: str) -> None:
    """Record where a checked part came from, and give it its name."""
    note(part.path, path, folder, record, url)  # first: a file without its record would be in the way
    with replacing(path) as beside:
        shutil.move(part.path, beside)
    part.drop()


def note(there: Path, path: Path, folder: Path, record: dict[str, Any], url: str) -> None:
    """Record a file, which may lie elsewhere still."""
    facts = {"url": url, "sha256": sha256(there), "bytes": there.stat().st_size}
    when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    with locked(folder / RECORD):
        record.update(read_record(folder))
        record[path.relative_to(folder).as_posix()] = {**facts, "fetched": when}
        with replacing(folder / RECORD) as beside:
            beside.write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")


def _take(answer: Any, part: Part, on_bytes: OnBytes) -> bool:
    start, total = _range(answer)
    if start != part.size or start == 0:
        if start:  # not the bytes that were asked for
            part.drop()
            return False
        version = answer.headers.get("ETag") or ""
        part.begin("" if version.startswith("W/") else version or answer.headers.get("Last-Modified") or "")
    there = part.size
    with part.path.open("ab") as out:
        while block := answer.read(_BLOCK):
            out.write(block)
            there += len(block)
            on_bytes(there)
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
