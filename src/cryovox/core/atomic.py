"""Outputs appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryovox.core.errors import RequestError, RunError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside *path* to write to, and rename it when the block ends well.

    The temporary path has the same ending, and may become a file or a folder. A full disk is a
    :class:`RunError`; whatever fails, nothing half-written stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield beside
        beside.lstat()  # what is there stays unless there is something to take its place
        if beside.is_dir():  # a file never takes the place of a folder: that is an OSError
            discard(path)
        os.replace(beside, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                path, "the disk is full", "free some space and run the same command again"
            ) from error
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
    """Create the folder if need be and make sure that files can be made in it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{os.getpid()}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        told = f"cannot be written to ({error.strerror})"
        raise RequestError(path, told, "choose another folder with --out") from None
    return path
