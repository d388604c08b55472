"""Downloads that are complete or absent, recorded and resumed.

Data are stored in `.NAME.part` until the download is complete, so that a lost connection costs nothing if
the server can continue (`Range` with `If-Range`, RFC 9110 section 14). The caller checks the part before
it gets its name.
"""

from __future__ import annotations

import http.client
import ipaddress
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
"""Receives the number of bytes so far."""


class NotThereError(Exception):
    """The server has no such file."""


@dataclass(frozen=True)
class Part:
    """A partial download, and the version of the file that it is a part of."""

    path: Path

    @classmethod
    def of(cls, path: Path) -> Part:
        """The partial download of a file."""
        return cls(path.with_name(f".{path.name}.part"))

    @property
    def mark(self) -> Path:
        return self.path.with_suffix(".etag")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def version(self) -> str:
        """Version as the server names it; without it, a download cannot be continued."""
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
    """Downloads for a command, with its error messages.

    Attributes
    ----------
    option
        Option that names another server.
    offline
        What else to do without a network.
    """

    option: str
    offline: str

    def fetch(self, url: str, part: Part, on_bytes: OnBytes = lambda size: None) -> None:
        """Complete a partial download."""
        for attempt in range(_TRIES):
            try:
                if self._download(url, part, on_bytes):
                    return
            except _DROPPED as error:
                if attempt == _TRIES - 1:
                    raise self.unreachable(url, error) from None
            except OSError as error:
                message = f"cannot go on ({error.strerror or error})"
                raise RunError(url, message, "correct this and run the same command again") from None
            time.sleep(_WAIT * (attempt + 1))
        message = f"the connection was lost {_TRIES} times; {part.size} bytes are kept"
        raise RunError(url, message, "run the same command again: it continues where it stopped")

    def text(self, url: str) -> str:
        """A short response as text."""
        try:
            with self._open(url, {"Accept": "application/json"}) as response:
                return str(response.read().decode("utf-8"))
        except (*_DROPPED, UnicodeDecodeError, OSError) as error:
            raise self.unreachable(url, error) from None

    def unreachable(self, url: str, reason: object) -> RunError:
        """The error without a network."""
        host = urllib.parse.urlsplit(url).netloc
        remedy = (
            f"connect to the network, or set https_proxy, and run the same command again; or {self.offline}"
        )
        return RunError(host, f"cannot be reached ({reason or 'no answer'})", remedy)

    def check_address(self, base: str, example: str) -> None:
        """Refuse what is not a web address, and one without encryption unless it is of this machine."""
        address = urllib.parse.urlsplit(base)
        if address.scheme not in ("http", "https"):
            raise RequestError(self.option, f"{base!r} is no web address", f"give one like {example}")
        if address.scheme == "http" and not _is_loopback(address.hostname):
            message = f"{base!r} is not encrypted"
            raise RequestError(self.option, message, f"give an https address, like {example}")

    def _download(self, url: str, part: Part, on_bytes: OnBytes) -> bool:
        """Request the rest, or all; returns whether the download is complete."""
        rest = {"Range": f"bytes={part.size}-", "If-Range": part.version}
        try:
            with self._open(url, rest if part.size and part.version else {}) as response:
                return _append(response, part, on_bytes)
        except _TooFarError:  # the part is as long as the file, or longer: start again
            part.drop()
            return False
        except NotThereError:
            part.drop()
            raise

    def _open(self, url: str, headers: dict[str, str]) -> Any:
        all_headers = {"User-Agent": f"cryovox/{__version__}", "Accept-Encoding": "identity"} | headers
        try:
            return _OPENER.open(urllib.request.Request(url, headers=all_headers), timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (404, 410):
                raise NotThereError from None
            if error.code == 416:
                raise _TooFarError from None
            message = f"the server answers {error.code} ({error.reason})"
            remedy = f"try again later, or name another server with {self.option}"
            raise RunError(url, message, remedy) from None
        except urllib.error.URLError as error:
            raise self.unreachable(url, error.reason) from None


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


class _StaySecure(urllib.request.HTTPRedirectHandler):
    """Follows redirections, but not from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if req.type == "https" and urllib.parse.urlsplit(newurl).scheme != "https":
            raise urllib.error.URLError(f"it redirects to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_StaySecure)


class _TooFarError(Exception):
    """The requested range starts after the end of the file."""


def read_record(folder: Path) -> dict[str, Any]:
    """Records of the files that were downloaded into a folder, by name."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def is_recorded(path: Path, folder: Path, record: dict[str, Any]) -> bool:
    """Whether a file is as it was downloaded."""
    entry = record.get(path.relative_to(folder).as_posix())
    return isinstance(entry, dict) and path.is_file() and entry.get("sha256") == sha256(path)


def is_downloaded(path: Path, folder: Path, record: dict[str, Any]) -> bool:
    """Whether a file is there as it was downloaded; another file of its name is refused."""
    if not path.exists() or is_recorded(path, folder, record):
        return path.exists()
    raise RequestError(
        path, f"exists, but differs from its record in {RECORD}", "move it away, or pass --overwrite"
    )


def complete(part: Part, path: Path, folder: Path, record: dict[str, Any], url: str) -> None:
    """Record where a checked part came from, and give it its name."""
    record_file(part.path, path, folder, record, url)  # first: a file without a record would be refused
    with replacing(path) as beside:
        shutil.move(part.path, beside)
    part.drop()


def record_file(stored: Path, path: Path, folder: Path, record: dict[str, Any], url: str) -> None:
    """Record a file, which may still be stored under another name."""
    facts = {"url": url, "sha256": sha256(stored), "bytes": stored.stat().st_size}
    when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    with locked(folder / RECORD):
        record.update(read_record(folder))
        record[path.relative_to(folder).as_posix()] = {**facts, "fetched": when}
        with replacing(folder / RECORD) as beside:
            beside.write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")


def _append(response: Any, part: Part, on_bytes: OnBytes) -> bool:
    start, total = _range(response)
    if start != part.size or start == 0:
        if start:  # not the requested bytes
            part.drop()
            return False
        version = response.headers.get("ETag") or ""
        part.begin("" if version.startswith("W/") else version or response.headers.get("Last-Modified") or "")
    size = part.size
    with part.path.open("ab") as out:
        while block := response.read(_BLOCK):
            out.write(block)
            size += len(block)
            on_bytes(size)
    return total is None or part.size >= total


def _range(response: Any) -> tuple[int, int | None]:
    """First byte of a response, and the length of the whole file if it is known."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range") or "")
        if match is None:
            return -1, None
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length") or ""
    return 0, int(length) if length.isdigit() else None
