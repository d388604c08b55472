"""What a Dataverse holds under a DOI, from its native API.

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
    "connect to the network, or set https_proxy, and run the same command again; "
    "or fetch the files on another machine and copy them here",
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
        In bytes; None where it is not told.
    algorithm, hash
        As published, in the words of :mod:`hashlib`; empty where none is: then the sha256 is recorded.
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
        With `doi:` before it.
    patterns
        Files whose path or name fits one of them are given.
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
        told = f"does not answer as a Dataverse does ({type(error).__name__}: {error})"
        raise RunError(url, told, "name a Dataverse with --from") from None
    found = [file for file in files if any(_fits(file.name, pattern) for pattern in patterns)]
    if not found:
        held = ", ".join(file.name for file in files[:8]) or "nothing"
        told = f"no file of {doi} is called like {', '.join(patterns)}; it holds {held}"
        raise RequestError("--files", told, "choose with --files")
    return found


def _file(row: dict[str, Any], base: str) -> File:
    """A file of the list of a Dataverse."""
    about = row["dataFile"]
    name = (
        PurePosixPath(row.get("directoryLabel") or "") / (about.get("filename") or row["label"])
    ).as_posix()
    url = f"{base}/api/access/datafile/{int(about['id'])}"
    if about.get("originalFileFormat"):  # a table: what it was before, of which no hash is told
        original = about.get("originalFileName")
        named = PurePosixPath(name).with_name(original).as_posix() if original else name
        return File(safe_name(named), f"{url}?format=original", about.get("originalFileSize"))
    checksum = about.get("checksum") or {}
    algorithm = ALGORITHMS.get(str(checksum.get("type", "")).upper(), "")
    value = str(checksum.get("value", "")) if algorithm else str(about.get("md5") or "")
    return File(
        safe_name(name), url, about.get("filesize"), algorithm or ("md5" if value else ""), value.lower()
    )


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(PurePosixPath(name).name, pattern)


def safe_name(name: str) -> str:
    """Refuse names that lead out of the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.name:
        raise ValueError(f"the name {name!r} leads out of the folder")
    return path.as_posix()
