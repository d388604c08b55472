"""`cryovox fetch structure` and `cryovox fetch dataset`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from cryovox.cli.screen import Meter, table

if TYPE_CHECKING:
    from cryovox.workflows.fetch.dataverse import File


def structure(
    ids: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ID...")],
    /,
    *,
    out: Path = Path("structures"),
    base: str = "https://files.rcsb.org/download",
    overwrite: bool = False,
) -> int:
    """Download atomic models from the Protein Data Bank.

    Parameters
    ----------
    ids
        Identifiers, such as 6QZP.
    out
        Folder for them; `cryovox simulate --structures` takes it.
    base
        Where they are served, each as ID.cif.gz.
    overwrite
        Download existing files again.
    """
    from cryovox.workflows.fetch.structures import fetch_structure

    for path in fetch_structure(ids, out, base=base, overwrite=overwrite):
        print(path)
    return 0


def dataset(
    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = None,
    /,
    *,
    out: Path | None = None,
    place: Annotated[str | None, tyro.conf.arg(name="from")] = None,
    files: tuple[str, ...] = (),
    list: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Get a dataset of the papers; run it again to go on after an interruption.

    Hashes that are published are checked; those of all files are recorded in fetched.json. What may not
    be downloaded automatically comes with instructions.

    Parameters
    ----------
    name
        Dataset; without it they are listed.
    out
        Folder for it; the name of the dataset by default.
    place
        Another server that has it, or a folder that holds it already: of that a dataset is made, without
        copying tomograms.
    files
        Patterns of the files to fetch; those that are needed by default.
    list
        List the datasets.
    dry_run
        List what would be fetched, and stop.
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
    source, folder = work.source_of(name), out or Path(name)
    if place is not None and Path(place).is_dir():
        return _next(prepare_dataset(Path(place), folder, source.layout, overwrite=overwrite))
    work.check_download(name)
    found = list_files(place or source.server, source.doi, files or source.files)
    if dry_run:
        return _tell(found)
    for path in work.fetch_files(found, folder, overwrite=overwrite, on_progress=Meter(quiet)):
        print(path)
        if path.suffix == ".zip":
            work.unpack(path, folder)
    return _next(folder) if is_dataset(folder) else 0


def _tell(files: list[File]) -> int:
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
