"""What is said when a request cannot be carried out."""

from __future__ import annotations


class RequestError(Exception):
    """The request is wrong and nothing was started; a command ends with exit code 2.

    Parameters
    ----------
    where
        The file or option that is at fault.
    found
        What was found there.
    remedy
        What the user can do, best as a command or option.
    """

    def __init__(self, where: object, found: str, remedy: str) -> None:
        self.where, self.found, self.remedy = str(where), found, remedy
        super().__init__(f"{self.where}: {found}\n  {remedy}")


class RunError(RequestError):
    """Something failed while running (some inputs, a full disk); exit code 1."""


class RenamedWarning(FutureWarning):
    """A former name of an option or a setting is used; commands print the message as a note."""


class DataWarning(UserWarning):
    """Data can be used but look wrong; commands print the message as a line of its own."""
