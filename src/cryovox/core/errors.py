"""Errors and warnings that commands show to the user."""

from __future__ import annotations


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


class RunError(RequestError):
    """Something failed while running (some inputs, a full disk); exit code 1."""


class RenamedWarning(FutureWarning):
    """A former name of an option or a setting is used; commands print the message as a note."""


class DataWarning(UserWarning):
    """Data can be used but look wrong; commands print the message as a line of its own."""
