"""Outputs appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from cryovox.core.errors import RequestError, RunError

_TEMPORARY = re.compile(r"\.cryovox-(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside *path* to write to, and rename it when the block ends well.

    The temporary path has the same ending, and may become a file or a folder. A full disk is a
    :class:`RunError`; whatever fails, nothing half-written stays. What a killed process left behind is
    removed by the next one that writes into the folder on the same machine. Errors name *path*, never
    the temporary path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(path.parent.resolve())
    beside = _temporary(path)
    discard(beside)  # of a dead process that had the same number
    try:
        yield beside
        beside.lstat()  # what is there stays unless there is something to take its place
        _take_place(beside, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                path, "the disk is full", "free some space and run the same command again"
            ) from error
        _rename_in(error, beside, path)
        raise
    finally:
        discard(beside)


def discard(path: Path) -> None:
    """Remove a file or folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def writable_folder(path: Path) -> Path:
    """Create the folder if need be and make sure that files can be made in it.

    Temporary files that killed processes left in it, or one level below, are removed.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = _temporary(path / "probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        message = f"cannot be written to ({error.strerror})"
        raise RequestError(path, message, "choose another folder with --out") from None
    for folder in (path, *(p for p in path.iterdir() if p.is_dir() and not p.is_symlink())):
        sweep(folder)
    return path


def sweep(folder: Path) -> None:
    """Remove the temporary files of processes of this machine that no longer run.

    Those of other machines, which may share the file system, and of running processes stay.
    """
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except OSError:
        return
    for name in names:
        found = _TEMPORARY.match(name)
        if found and found["machine"] == _machine() and not _runs(int(found["process"])):
            discard(folder / name)


@cache
def _sweep_once(folder: Path) -> None:
    sweep(folder)


def _temporary(path: Path) -> Path:
    return path.with_name(f".cryovox-{_machine()}-{os.getpid()}-{path.name}")


@cache
def _machine() -> str:
    """Where process numbers mean the same: the machine, and the container on it."""
    marks = [platform.node()]
    with suppress(OSError, UnicodeDecodeError):
        marks.append(Path("/etc/machine-id").read_text(encoding="utf-8"))
    with suppress(OSError):
        marks.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()[:8]


def _runs(process: int) -> bool:
    if os.name != "posix":
        return True  # there, signal 0 would end it
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _take_place(beside: Path, path: Path) -> None:
    """Rename; a folder that is there moves aside first, so that it is missing for an instant only."""
    if not (beside.is_dir() and not beside.is_symlink() and path.exists()):
        os.replace(beside, path)  # a file never takes the place of a folder: that is an OSError
        return
    aside = beside.with_name(beside.name + ".old")
    os.replace(path, aside)
    try:
        os.replace(beside, path)
    except OSError:
        os.replace(aside, path)
        raise
    discard(aside)


def _rename_in(error: OSError, beside: Path, path: Path) -> None:
    """Let an error speak of the output."""
    error.args = tuple(a.replace(str(beside), str(path)) if isinstance(a, str) else a for a in error.args)
    if error.filename is not None and os.fsdecode(error.filename).startswith(str(beside)):
        error.filename = str(path)
