"""`cryovox fetch structure` and `cryovox fetch dataset`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from cryovox.cli.interface.screen import Meter, table

if TYPE_CHECKING:
    from cryovox.workflows.fetch.dataverse import File


def structure(
    ids: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ID...")],
    /,
    *,
    out: Path = Path("structures"),
    base_url: str = "https://files.rcsb.org/download",
    overwrite: bool = False,
) -> int:
    """Download atomic models from the Protein Data Bank.

    Parameters
    ----------
    ids
        PDB identifiers, such as 6QZP.
    out
        Output folder, for `cryovox simulate --structures`.
    base_url
        Address of the server, which has each model as ID.cif.gz.
    overwrite
        Download existing files again.
    """
    from cryovox.workflows.fetch.structures import fetch_structure

    for path in fetch_structure(ids, out, base=base_url, overwrite=overwrite):
        print(path)
    print(f"next: cryovox match {out}/STRUCTURE TOMOGRAM --out RESULTS")
    return 0


def dataset(
    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = None,
    /,
    *,
    out: Path | None = None,
    source: Annotated[str | None, tyro.conf.arg(name="from")] = None,
    files: tuple[str, ...] = (),
    list: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Download a public dataset. Run the same command again to continue after an interruption.

    Published hashes are checked, and the hashes of all files are recorded in fetched.json. For datasets that
    cannot be downloaded automatically, the command prints instructions.

    Parameters
    ----------
    name
        Name of the dataset; without it, the datasets are listed.
    out
        Output folder; by default the name of the dataset.
    source
        Another server, or a folder that holds the files already: dataset.yaml is written for it, and the
        tomograms are not copied.
    files
        Patterns of the files to download; by default those that training needs.
    list
        List the datasets.
    dry_run
        List the files that would be downloaded, and stop.
    overwrite
        Download existing files again.
    quiet
        Suppress progress output.
    """
    from cryovox.workflows.fetch import datasets as work
    from cryovox.workflows.fetch.dataverse import list_files
    from cryovox.workflows.fetch.prepare import is_dataset, prepare_dataset

    if list or name is None:
        rows = [
            (n, "download" if s.server else "by hand", s.title, s.origin) for n, s in work.DATASETS.items()
        ]
        print(table(("dataset", "how", "what", "where"), rows))
        return 0
    origin, folder = work.source_of(name), out or Path(name)
    if source is not None and Path(source).is_dir():
        return _next(prepare_dataset(Path(source), folder, origin.layout, overwrite=overwrite))
    work.check_download(name)
    remote = list_files(source or origin.server, origin.doi, files or origin.files)
    if dry_run:
        return _list(remote)
    for path in work.fetch_files(remote, folder, overwrite=overwrite, on_progress=Meter(quiet)):
        print(path)
        if path.suffix == ".zip":
            work.unpack(path, folder)
    return _next(folder) if is_dataset(folder) else 0


def _list(files: list[File]) -> int:
    from cryovox.workflows.fetch.datasets import format_size

    rows = [
        (f.name, format_size(f.size), f"{f.algorithm} {f.hash}" if f.hash else "recorded on first download")
        for f in files
    ]
    print(table(("file", "size", "hash"), rows))
    return 0


def _next(folder: Path) -> int:
    print(f"next: cryovox train supervised --data {folder} --out RUN")
    return 0
