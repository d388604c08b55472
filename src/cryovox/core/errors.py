"""Errors and warnings that commands show to the user."""

from __future__ import annotations

import errno

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be larger than this system allows (see `ulimit -f`)",
}
LOST = {
    getattr(errno, name)
    for name in ("EIO", "ESTALE", "ENODEV", "ENXIO", "ENOTCONN", "EHOSTDOWN", "EHOSTUNREACH", "ETIMEDOUT")
    if hasattr(errno, name)
}
"""Errors of the operating system that a disk or share causes which no longer answers."""


class RequestError(Exception):
    """The request is invalid and nothing was started; a command ends with exit code 2.

    Parameters
    ----------
    where
        The file or option with the problem.
    message
        The problem.
    remedy
        What the user can do, preferably as a command or option.
    """

    def __init__(self, where: object, message: str, remedy: str) -> None:
        self.where, self.message, self.remedy = str(where), message, remedy
        super().__init__(f"{self.where}: {message}\n  {remedy}")

    def __reduce__(self) -> tuple[type[RequestError], tuple[str, str, str]]:
        """Errors of workers are sent to the process that waits for them."""
        return type(self), (self.where, self.message, self.remedy)


class RunError(RequestError):
    """Something failed while running (some inputs, a full disk); exit code 1."""


class FolderLostError(RunError):
    """The output folder is gone, so that no further input can be processed."""


def run_error(error: OSError) -> RunError | None:
    """What happened to a disk while running, and what to do; None if the error is of another kind."""
    where = error.filename or "output"
    if error.errno in FULL:
        remedy = "free some space and run the same command again; it continues from where it stopped"
        return RunError(where, FULL[error.errno], remedy)
    if error.errno in LOST:
        message = f"the disk or share no longer answers ({error.strerror})"
        return RunError(where, message, "check that it is mounted, and run the same command again")
    return None


class RenamedWarning(FutureWarning):
    """A former name of an option or a setting is used; commands print the message as a note."""


class DataWarning(UserWarning):
    """Data can be used but look wrong; commands print the message as a line of its own."""
