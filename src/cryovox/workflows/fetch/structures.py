"""Structures from the Protein Data Bank.

Only a file whose length and gzip checksum are right gets its name.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from cryovox.core.atomic import writable_folder
from cryovox.core.errors import RequestError, RunError
from cryovox.workflows.fetch.http import Client, NotThereError, Part, is_done, keep, read_record

BASE = "https://files.rcsb.org/download"
CLIENT = Client(
    "--base",
    "connect to the network, or set https_proxy, and run the same command again; "
    "or copy the files by hand, or use the built-in species",
)

_ID = re.compile(r"[0-9][a-z0-9]{3}|pdb_[a-z0-9]{8}")


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
    CLIENT.check_address(base, BASE)
    folder = writable_folder(out)
    record = read_record(folder)
    paths = [folder / f"{name}.cif.gz" for name in names]
    todo = [path for path in paths if overwrite or not is_done(path, folder, record)]
    unknown = []
    for path in todo:
        url, part = _address(path, base), Part.of(path)
        try:
            CLIENT.fetch(url, part)
        except NotThereError:
            unknown.append(path.name.removesuffix(".cif.gz"))
            continue
        _check(url, part)
        keep(part, path, folder, record, url)
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


def _address(path: Path, base: str) -> str:
    name = path.name.removesuffix(".cif.gz")
    return f"{base.rstrip('/')}/{name.upper() if len(name) == 4 else name}.cif.gz"


def _check(url: str, part: Part) -> None:
    """Unpack it all: what is damaged, or no mmCIF, goes."""
    try:
        with gzip.open(part.path, "rb") as packed:
            first = packed.read(1 << 16)
            while packed.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        part.drop()
        raise RunError(url, f"what came is damaged ({error})", "run the same command again") from None
    if b"data_" not in first:
        part.drop()
        raise RunError(url, "what came is no mmCIF file", "check the address given with --base")
