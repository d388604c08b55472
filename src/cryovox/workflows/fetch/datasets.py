"""The datasets of the papers: downloaded where that is allowed, else told how to get by hand."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryovox.core.atomic import replacing, writable_folder
from cryovox.core.errors import RequestError, RunError
from cryovox.core.names import suggestion
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.workflows.fetch.dataverse import CLIENT, File, safe_name
from cryovox.workflows.fetch.http import (
    RECORD,
    NotThereError,
    OnBytes,
    Part,
    is_recorded,
    keep,
    note,
    read_record,
)


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from.

    Attributes
    ----------
    title
        What it is.
    licence
        As far as it is known to us.
    origin
        Where it is handed out.
    server, doi
        Dataverse that gives it to everybody; empty where none does.
    files
        Patterns of the files that are needed.
    by_hand
        What to do where nobody may download it for you.
    layout
        How it lies on the disk: a row of :data:`cryovox.workflows.fetch.prepare.LAYOUTS`.
    """

    title: str
    licence: str
    origin: str
    server: str = ""
    doi: str = ""
    files: tuple[str, ...] = ("*",)
    by_hand: str = ""
    layout: str = "volumes"


DATASETS: dict[str, Source] = {
    "shrec2021": Source(
        "SHREC 2021, ten simulated tomograms of 13 proteins",
        "see the page of the DOI",
        "https://doi.org/10.34894/XRTJMA",
        server="https://dataverse.nl",
        doi="doi:10.34894/XRTJMA",
        files=("*full_dataset*",),
        layout="tomograms",
    ),
    "czii": Source(
        "CZII challenge, seven phantom tomograms of six species",
        "CC0",
        "Kaggle, czii-cryo-et-object-identification; CryoET Data Portal, dataset 10440",
        by_hand="log in at Kaggle and accept the rules; "
        "`kaggle competitions download -c czii-cryo-et-object-identification`; unpack it into one folder, "
        "so that train/static/ExperimentRuns and train/overlay/ExperimentRuns are in it",
        layout="tomograms",
    ),
    "empiar10499": Source(
        "EMPIAR-10499, 65 tilt series of Mycoplasma pneumoniae, ribosomes",
        "see the page of the entry",
        "https://www.ebi.ac.uk/empiar/EMPIAR-10499/",
        by_hand="the archive holds tilt movies: download them with one of the tools that its page names and "
        "reconstruct them; put tomograms into tomograms/NAME.mrc and picks of ribosomes into "
        "particles/NAME.star, or one STAR file of all",
        layout="tomograms",
    ),
    "poly-ga": Source(
        "Poly-GA, 1033 subtomograms with masks (26S, TRiC, ribosome)",
        "ask the authors",
        "Guo et al. 2018; masks of Zhu et al. 2021",
        by_hand="ask the authors for volumes and masks; put them into images/NAME.mrc and masks/NAME.mrc",
    ),
    "erwinia": Source(
        "Erwinia phage RAY, 10 volumes with masks",
        "ask the authors",
        "authors of Vox-UDA",
        by_hand="ask the authors for volumes and masks; put them into images/NAME.mrc and masks/NAME.mrc",
    ),
    "mycoplasma": Source(
        "Mycoplasma, volumes of 192^3 with masks",
        "ask the authors",
        "authors of Vox-UDA",
        by_hand="ask the authors for volumes and masks; put them into images/NAME.mrc and masks/NAME.mrc",
    ),
    "xulab": Source(
        "Simulated subtomograms of 50 proteins, 75 000 HDF5 files",
        "ask the authors",
        "Xu lab, Carnegie Mellon University",
        by_hand="ask the authors; put all files like snrSNR003_prot1c5u_386.h5 into one folder",
        layout="subtomograms",
    ),
}


def source_of(name: str) -> Source:
    """The row of `DATASETS`."""
    if name not in DATASETS:
        raise RequestError(name, "is no dataset that we know", suggestion(name, DATASETS))
    return DATASETS[name]


def check_download(name: str) -> None:
    """Refuse what cannot be downloaded, and tell the way to get it."""
    source = source_of(name)
    if not source.server:
        told = f"cannot be downloaded for you; it comes from {source.origin}"
        then = f"then `cryovox fetch dataset {name} --from FOLDER --out DIR` makes a dataset of it"
        raise RequestError(name, told, f"{source.by_hand}; {then}")


def fetch_files(
    files: Sequence[File],
    out: Path,
    *,
    overwrite: bool = False,
    on_progress: ProgressCallback = no_progress,
) -> list[Path]:
    """Download files; what is there already, as fetched or with the published hash, is left alone.

    Parameters
    ----------
    files
        What to fetch.
    out
        Folder; its `fetched.json` says where each file came from, when, and its sha256.
    overwrite
        Download again what is there.
    on_progress
        Receives the progress; see :class:`cryovox.core.progress.ProgressCallback`.

    Raises
    ------
    RequestError
        Before anything is fetched: a file in the way, too little room on the disk.
    RunError
        Where the server cannot be reached or stops answering, and where a hash is wrong.
    """
    folder = writable_folder(out)
    record = read_record(folder)
    todo = [file for file in files if overwrite or not _is_done(file, folder, record)]
    _check_room(folder, sum(max(0, (f.size or 0) - Part.of(folder / f.name).size) for f in todo))
    total = 0 if any(file.size is None for file in todo) else sum(file.size or 0 for file in todo)
    before = 0
    for file in todo:
        path = folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Part.of(path)
        _fetch(file, part, _counted(on_progress, file.name, before, total))
        before += part.size
        keep(part, path, folder, record, file.url)
    return [folder / file.name for file in files]


def unpack(archive: Path, out: Path) -> list[Path]:
    """Unpack a ZIP file; what is there already with the right size is left alone.

    Returns
    -------
    list of Path
        Of all its files.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            rows = [row for row in packed.infolist() if not row.is_dir()]
            paths = [out / safe_name(row.filename) for row in rows]
            todo = [
                (row, path)
                for row, path in zip(rows, paths, strict=True)
                if not path.is_file() or path.stat().st_size != row.file_size
            ]
            _check_room(out, sum(row.file_size for row, _ in todo))
            for row, path in todo:
                with replacing(path) as beside, packed.open(row) as source, beside.open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 22)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:  # zipfile's, of a way of packing
        raise RunError(archive, f"cannot be unpacked ({error})", "fetch it again with --overwrite") from None
    return paths


def _is_done(file: File, folder: Path, record: dict[str, Any]) -> bool:
    path = folder / file.name
    if not path.exists() or is_recorded(path, folder, record):
        return path.exists()
    if file.hash and path.is_file() and _hash(path, file.algorithm) == file.hash:  # fetched by hand
        note(path, path, folder, record, file.url)
        return True
    told = f"is there, but neither {RECORD} nor its published hash knows it so"
    raise RequestError(path, told, "move it away, or pass --overwrite")


def _check_room(folder: Path, wanted: int) -> None:
    there = next(place for place in (folder, *folder.resolve().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if wanted > free:
        told = f"needs {gigabytes(wanted)}, the disk has {gigabytes(free)}"
        raise RequestError(folder, told, "make room, or choose another folder with --out")


def gigabytes(size: int | None) -> str:
    """Write a size for people.

    Examples
    --------
    >>> gigabytes(3_400_000_000)
    '3.40 GB'
    """
    return "unknown" if size is None else f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.3f} MB"


def _counted(on_progress: ProgressCallback, name: str, before: int, total: int) -> OnBytes:
    return lambda size: on_progress("fetching", (before + size) / total if total else 0.0, name)


def _fetch(file: File, part: Part, on_bytes: OnBytes) -> None:
    whole = bool(file.hash) and part.size == file.size  # stopped just before it got its name
    try:
        if not whole:
            CLIENT.fetch(file.url, part, on_bytes)
    except NotThereError:
        raise RunError(
            file.url, f"the server has no file {file.name} (HTTP 404)", "try again later"
        ) from None
    if file.size is not None and part.size != file.size:
        told_why = f"{part.size} bytes came, {file.size} were told"
        part.drop()
        raise RunError(file.url, told_why, "run the same command again")
    if file.hash and (found := _hash(part.path, file.algorithm)) != file.hash:
        part.drop()
        told_why = f"what came is damaged: its {file.algorithm} is {found}, published is {file.hash}"
        raise RunError(file.url, told_why, "run the same command again")


def _hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
