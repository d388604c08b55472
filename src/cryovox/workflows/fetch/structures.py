"""Structures from the Protein Data Bank, stored only if length and gzip checksum are right."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from cryovox.core.atomic import writable_folder
from cryovox.core.errors import RequestError, RunError
from cryovox.workflows.fetch.http import Client, NotThereError, Part, complete, is_downloaded, read_record

BASE = "https://files.rcsb.org/download"
CLIENT = Client(
    "--base-url",
    "copy the files by hand, or use the built-in species",
)

_ID = re.compile(r"[0-9][a-z0-9]{3}|pdb_[a-z0-9]{8}")


def fetch_structure(
    ids: Sequence[str], out: Path, *, base: str = BASE, overwrite: bool = False
) -> list[Path]:
    """Download mmCIF files; those that were downloaded before are kept.

    Parameters
    ----------
    ids
        Identifiers of the Protein Data Bank: four characters ("1bxn") or "pdb_" and eight ("pdb_00001bxn").
    out
        Output folder; `fetched.json` records origin, date and sha256 of each file.
    base
        Address of the folder on the server.
    overwrite
        Download existing files again.

    Returns
    -------
    list of Path
        `ID.cif.gz` in lower case, in the order of *ids*, each once.

    Raises
    ------
    RequestError
        Before anything is written: an invalid identifier or address, or another file of that name. Also
        if the server does not know the only identifier.
    RunError
        If the server cannot be reached or stops answering, and if it does not know some of several
        identifiers; the others are downloaded.
    """
    names = dict.fromkeys(_identifier(text) for text in ids)
    CLIENT.check_address(base, BASE)
    folder = writable_folder(out)
    record = read_record(folder)
    paths = [folder / f"{name}.cif.gz" for name in names]
    todo = [path for path in paths if overwrite or not is_downloaded(path, folder, record)]
    unknown = []
    for path in todo:
        url, part = _address(path, base), Part.of(path)
        try:
            CLIENT.fetch(url, part)
        except NotThereError:
            unknown.append(path.name.removesuffix(".cif.gz"))
            continue
        _check(url, part)
        complete(part, path, folder, record, url)
    if unknown:
        kind = RequestError if len(names) == 1 else RunError
        message = f"the server has no such structure ({base}, HTTP 404)"
        raise kind(", ".join(unknown), message, "check the identifier at https://www.rcsb.org")
    return paths


def _identifier(text: str) -> str:
    name = text.strip().lower()
    if not _ID.fullmatch(name):
        remedy = "an identifier is a digit and three letters or digits (1bxn), or pdb_ and eight characters"
        raise RequestError(text or "ID", "is no identifier of the Protein Data Bank", remedy)
    return name


def _address(path: Path, base: str) -> str:
    name = path.name.removesuffix(".cif.gz")
    return f"{base.rstrip('/')}/{name.upper() if len(name) == 4 else name}.cif.gz"


def _check(url: str, part: Part) -> None:
    """Decompress all of it; a damaged file, or one that is no mmCIF, is removed."""
    try:
        with gzip.open(part.path, "rb") as packed:
            first = packed.read(1 << 16)
            while packed.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        part.drop()
        raise RunError(url, f"the download is damaged ({error})", "run the same command again") from None
    if b"data_" not in first:
        part.drop()
        raise RunError(url, "the download is no mmCIF file", "check the address given with --base-url")
