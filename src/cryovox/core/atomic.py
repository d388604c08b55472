"""Atomic writing: an output appears complete or not at all."""

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

_TEMPORARY = re.compile(r"\.cryovox-(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-(?P<name>.*)")


@contextmanager
def temporary_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yield a folder for files that the block needs; one of a killed process is removed as by `replacing`."""
    folder = _temporary(parent / name)
    discard(folder)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        discard(folder)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside *path*, and rename it to *path* when the block succeeds.

    The temporary path has the same suffix and may become a file or a folder. A full disk raises
    :class:`RunError`. After an error nothing incomplete remains. Files left by a killed process are removed
    by the next process that writes into the folder on the same machine. Errors name *path*, never the
    temporary path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(path.parent.resolve())
    temporary = _temporary(path)
    discard(temporary)  # left by a dead process with the same id
    try:
        yield temporary
        temporary.lstat()  # an existing output stays if nothing was written
        replace(temporary, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                path, "the disk is full", "free some space and run the same command again"
            ) from error
        _name_output(error, temporary, path)
        raise
    finally:
        discard(temporary)


def replace(temporary: Path, path: Path) -> None:
    """Rename; an existing folder is moved away first, so that it is missing only for an instant."""
    if not (temporary.is_dir() and not temporary.is_symlink() and path.exists()):
        os.replace(temporary, path)  # an OSError if a file would replace a folder
        return
    previous = temporary.with_name(temporary.name + ".old")
    os.replace(path, previous)
    try:
        os.replace(temporary, path)
    except OSError:
        os.replace(previous, path)
        raise
    discard(previous)


def discard(path: Path) -> None:
    """Remove a file or folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def writable_folder(path: Path) -> Path:
    """Create a folder if necessary and check that it is writable.

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
    sweep_below(path)
    return path


def sweep_below(path: Path, stem: str | None = None) -> None:
    """Call :func:`sweep` for a folder and those one level below."""
    for folder in (path, *(p for p in path.iterdir() if p.is_dir() and not p.is_symlink())):
        sweep(folder, stem)


def sweep(folder: Path, stem: str | None = None) -> None:
    """Remove the temporary files of processes of this machine that no longer run.

    The files of running processes, and of other machines that share the file system, stay.

    Parameters
    ----------
    stem
        The caller holds the lock of the outputs `stem.*`: temporary files of these are removed even if they
        are of another machine, which must have been lost.
    """
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except OSError:
        return
    for name in names:
        match = _TEMPORARY.match(name)
        if match is None:
            continue
        is_here = match["machine"] == _machine()
        is_locked = stem is not None and match["name"].startswith(f"{stem}.")
        if not _is_running(int(match["process"])) if is_here else is_locked:
            discard(folder / name)


@cache
def _sweep_once(folder: Path) -> None:
    sweep(folder)


def _temporary(path: Path) -> Path:
    return path.with_name(f".cryovox-{_machine()}-{os.getpid()}-{path.name}")


@cache
def _machine() -> str:
    """Id of the machine, and of the container on it, within which process ids are unique."""
    facts = [platform.node()]
    with suppress(OSError, UnicodeDecodeError):
        facts.append(Path("/etc/machine-id").read_text(encoding="utf-8"))
    with suppress(OSError):
        facts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]


def _is_running(process: int) -> bool:
    if os.name != "posix":
        return True  # signal 0 would end the process on Windows
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _name_output(error: OSError, temporary: Path, path: Path) -> None:
    """Replace the temporary path in an error by the path of the output."""
    error.args = tuple(a.replace(str(temporary), str(path)) if isinstance(a, str) else a for a in error.args)
    if error.filename is not None and os.fsdecode(error.filename).startswith(str(temporary)):
        error.filename = str(path)
