"""Datasets of the papers: download them, or say how to obtain them by hand."""

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
    complete,
    is_recorded,
    read_record,
    record_file,
)


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from.

    Attributes
    ----------
    title
        Description.
    license
        As far as it is known to us.
    origin
        Where it is published.
    server, doi
        Public Dataverse; empty if there is none.
    files
        Patterns of the required files.
    by_hand
        Instructions if it cannot be downloaded.
    layout
        Layout on disk: a row of :data:`cryovox.workflows.fetch.prepare.LAYOUTS`.
    """

    title: str
    license: str
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
    """Row of `DATASETS`."""
    if name not in DATASETS:
        raise RequestError(name, "is not a known dataset", suggestion(name, DATASETS))
    return DATASETS[name]


def check_download(name: str) -> None:
    """Refuse a dataset that cannot be downloaded, and say how to obtain it."""
    source = source_of(name)
    if not source.server:
        message = f"cannot be downloaded for you; it comes from {source.origin}"
        command = f"`cryovox fetch dataset {name} --from FOLDER --out DIR`"
        remedy = f"{source.by_hand}; then {command} makes a dataset of it"
        raise RequestError(name, message, remedy)


def fetch_files(
    files: Sequence[File],
    out: Path,
    *,
    overwrite: bool = False,
    on_progress: ProgressCallback = no_progress,
) -> list[Path]:
    """Download files; existing ones with the recorded or published hash are kept.

    Parameters
    ----------
    files
        Files to download.
    out
        Output folder; `fetched.json` records origin, date and sha256 of each file.
    overwrite
        Download existing files again.
    on_progress
        Receives the progress; see :class:`cryovox.core.progress.ProgressCallback`.

    Raises
    ------
    RequestError
        Before anything is downloaded: another file of that name, or too little disk space.
    RunError
        If the server cannot be reached or stops answering, and if a hash is wrong.
    """
    folder = writable_folder(out)
    record = read_record(folder)
    todo = [file for file in files if overwrite or not _is_downloaded(file, folder, record)]
    _check_disk_space(folder, sum(max(0, (f.size or 0) - Part.of(folder / f.name).size) for f in todo))
    total = 0 if any(file.size is None for file in todo) else sum(file.size or 0 for file in todo)
    before = 0
    for file in todo:
        path = folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Part.of(path)
        _fetch(file, part, _counted(on_progress, file.name, before, total))
        before += part.size
        complete(part, path, folder, record, file.url)
    return [folder / file.name for file in files]


MOST_RATIO = 1100
"""Most bytes per byte of an archive: deflate reaches 1032."""


def unpack(archive: Path, out: Path) -> list[Path]:
    """Unpack a ZIP file; existing files of the right size are kept.

    Returns
    -------
    list of Path
        Paths of all its files.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            rows = [row for row in packed.infolist() if not row.is_dir()]
            size = sum(row.file_size for row in rows)
            if size > MOST_RATIO * archive.stat().st_size:
                raise ValueError(f"its {archive.stat().st_size} bytes would become {format_size(size)}")
            paths = [out / safe_name(row.filename) for row in rows]
            todo = [
                (row, path)
                for row, path in zip(rows, paths, strict=True)
                if not path.is_file() or path.stat().st_size != row.file_size
            ]
            _check_disk_space(out, sum(row.file_size for row, _ in todo))
            for row, path in todo:
                with replacing(path) as beside, packed.open(row) as source, beside.open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 22)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:  # of an unknown compression
        raise RunError(archive, f"cannot be unpacked ({error})", "fetch it again with --overwrite") from None
    return paths


def _is_downloaded(file: File, folder: Path, record: dict[str, Any]) -> bool:
    path = folder / file.name
    if not path.exists() or is_recorded(path, folder, record):
        return path.exists()
    if file.hash and path.is_file() and _hash(path, file.algorithm) == file.hash:  # downloaded by hand
        record_file(path, path, folder, record, file.url)
        return True
    message = f"exists, but matches neither {RECORD} nor the published hash"
    raise RequestError(path, message, "move it away, or pass --overwrite")


def _check_disk_space(folder: Path, size: int) -> None:
    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        message = f"needs {format_size(size)}, the disk has {format_size(free)}"
        raise RequestError(folder, message, "free some space, or choose another folder with --out")


def format_size(size: int | None) -> str:
    """A number of bytes in MB or GB.

    Examples
    --------
    >>> format_size(3_400_000_000)
    '3.40 GB'
    """
    return "unknown" if size is None else f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.3f} MB"


def _counted(on_progress: ProgressCallback, name: str, before: int, total: int) -> OnBytes:
    return lambda size: on_progress("fetching", (before + size) / total if total else 0.0, name)


def _fetch(file: File, part: Part, on_bytes: OnBytes) -> None:
    whole = bool(file.hash) and part.size == file.size  # interrupted before it got its name
    try:
        if not whole:
            CLIENT.fetch(file.url, part, on_bytes)
    except NotThereError:
        raise RunError(
            file.url, f"the server has no file {file.name} (HTTP 404)", "try again later"
        ) from None
    if file.size is not None and part.size != file.size:
        message = f"{part.size} bytes came instead of {file.size}"
        part.drop()
        raise RunError(file.url, message, "run the same command again")
    if file.hash and (digest := _hash(part.path, file.algorithm)) != file.hash:
        part.drop()
        message = f"the download is damaged: its {file.algorithm} is {digest}, published is {file.hash}"
        raise RunError(file.url, message, "run the same command again")


def _hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
