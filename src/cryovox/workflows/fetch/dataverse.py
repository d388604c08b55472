"""Files of a dataset in a Dataverse, from its native API.

The API: https://guides.dataverse.org/en/latest/api/native-api.html and dataaccess.html
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from cryovox.core.errors import RequestError, RunError
from cryovox.workflows.fetch.http import Client, NotThereError

CLIENT = Client(
    "--from",
    "fetch the files on another machine and copy them here",
)
ALGORITHMS = {"MD5": "md5", "SHA-1": "sha1", "SHA-256": "sha256", "SHA-512": "sha512"}


@dataclass(frozen=True)
class File:
    """One file of a dataset.

    Attributes
    ----------
    name
        Path below the folder, with slashes.
    url
        Address.
    size
        In bytes; None if unknown.
    algorithm, hash
        As published, with the names of :mod:`hashlib`; empty if none is published.
    """

    name: str
    url: str
    size: int | None = None
    algorithm: str = ""
    hash: str = ""


def list_files(server: str, doi: str, patterns: Sequence[str] = ("*",)) -> list[File]:
    """The files of the latest version of a dataset.

    Parameters
    ----------
    server
        Address of the Dataverse.
    doi
        Starts with `doi:`.
    patterns
        Only files whose path or name matches one of them.
    """
    CLIENT.check_address(server, "https://dataverse.nl")
    base = server.rstrip("/")
    url = f"{base}/api/datasets/:persistentId/?persistentId={doi}"
    try:
        rows = json.loads(CLIENT.text(url))["data"]["latestVersion"]["files"]
        files = [_file(row, base) for row in rows]
    except NotThereError:
        raise RequestError(url, f"the server does not know {doi}", "name its Dataverse with --from") from None
    except (KeyError, TypeError, ValueError) as error:
        message = f"does not answer as a Dataverse does ({type(error).__name__}: {error})"
        raise RunError(url, message, "name a Dataverse with --from") from None
    matching = [file for file in files if any(_matches(file.name, pattern) for pattern in patterns)]
    if not matching:
        names = ", ".join(file.name for file in files[:8]) or "nothing"
        message = f"no file of {doi} is called like {', '.join(patterns)}; it holds {names}"
        raise RequestError("--files", message, "choose with --files")
    return matching


def _file(row: dict[str, Any], base: str) -> File:
    """A file from the response of a Dataverse."""
    facts = row["dataFile"]
    name = (
        PurePosixPath(row.get("directoryLabel") or "") / (facts.get("filename") or row["label"])
    ).as_posix()
    url = f"{base}/api/access/datafile/{int(facts['id'])}"
    if facts.get("originalFileFormat"):  # a table: the original file, whose hash is not published
        original = facts.get("originalFileName")
        original_name = PurePosixPath(name).with_name(original).as_posix() if original else name
        return File(safe_name(original_name), f"{url}?format=original", facts.get("originalFileSize"))
    checksum = facts.get("checksum") or {}
    algorithm = ALGORITHMS.get(str(checksum.get("type", "")).upper(), "")
    value = str(checksum.get("value", "")) if algorithm else str(facts.get("md5") or "")
    return File(
        safe_name(name), url, facts.get("filesize"), algorithm or ("md5" if value else ""), value.lower()
    )


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(PurePosixPath(name).name, pattern)


def safe_name(name: str) -> str:
    """Refuse names that lead out of the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.name:
        raise ValueError(f"the name {name!r} leads out of the folder")
    return path.as_posix()
