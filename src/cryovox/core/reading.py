"""Checks that a file exists and can be read."""

from __future__ import annotations

import os
from pathlib import Path

from cryovox.core.errors import RequestError

PERMISSIONS = "change its permissions (`chmod u+r FILE`, for folders `chmod u+rx FOLDER`) or ask its owner"


def check_readable(path: Path, remedy: str = "check the path") -> None:
    """Raise an error unless a path exists and can be read.

    Parameters
    ----------
    path
        File or folder.
    remedy
        Advice if it does not exist.
    """
    try:
        if path.is_dir():
            os.scandir(path).close()
        else:
            path.open("rb").close()
    except PermissionError:
        raise denied(path) from None
    except (FileNotFoundError, NotADirectoryError):
        raise RequestError(path, "there is no such file", remedy) from None
    except OSError as error:
        raise RequestError(path, f"cannot be read ({error.strerror})", "check the disk it is on") from None


def denied(where: object) -> RequestError:
    """The error of a file that this user may not read."""
    return RequestError(where, "permission denied: this user may not read it", PERMISSIONS)
