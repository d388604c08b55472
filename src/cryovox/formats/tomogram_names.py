"""Matching of tomogram names.

RELION prefixes file names with `rec_`, Warp writes `NAME.tomostar`, `NAME.mrc.tomostar` and
`NAME_10.00Apx.mrc`, others write full paths. Only these parts are removed: `pos_1.2` is not `pos_1`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.formats import COMPRESSED, VOLUMES

if TYPE_CHECKING:
    from cryovox.core.volume import Volume

SAMPLING = re.compile(r"_\d+(\.\d+)?Apx$")


class OtherTomogramError(RequestError):
    """A list names tomograms, but not the requested one."""


@lru_cache(maxsize=1 << 12)
def plain_name(name: str) -> str:
    """Name of a tomogram without folder, extensions, `rec_` and `_10.00Apx`.

    Examples
    --------
    >>> plain_name("stacks/rec_TS_01_10.00Apx.mrc.tomostar"), plain_name("pos_1.2")
    ('TS_01', 'pos_1.2')
    """
    plain = PurePath(name).name
    while (suffix := PurePath(plain).suffix.lower()) in {*VOLUMES, *COMPRESSED, ".tomostar"}:
        plain = plain[: -len(suffix)]
    return SAMPLING.sub("", plain).removeprefix("rec_")


def listed(names: Iterable[str], limit: int = 5) -> str:
    """Unique names of tomograms as text for a message."""
    unique = sorted({str(name) for name in names})
    return ", ".join(unique[:limit]) + (f" and {len(unique) - limit} more" if len(unique) > limit else "")


def rows_of(
    where: object, names: Collection[str] | None, tomogram_names: Iterable[str]
) -> NDArray[np.bool_] | None:
    """Rows of a list that belong to a tomogram; None if all rows do.

    Parameters
    ----------
    where
        The file, for the message.
    names
        Name of the tomogram of each row; None or empty names if the list names none.
    tomogram_names
        Names of the tomogram.
    """
    plain = {plain_name(name) for name in tomogram_names}
    if names is None or not plain or not any(names):
        return None
    selected = np.array([plain_name(str(name)) in plain for name in names], dtype=bool)
    if not selected.any():
        message = f"is a list of {listed(names)}, not of {listed(tomogram_names)}"
        remedy = "choose the list of that tomogram, or rename the tomogram (the entry) as in the list"
        raise OtherTomogramError(where, message, remedy)
    return None if selected.all() else selected


def volume_of(where: object, name: str, tomograms: Mapping[str, Volume]) -> Volume:
    """The tomogram with a name from a list."""
    if name in tomograms:
        return tomograms[name]
    matches = [key for key in tomograms if plain_name(key) == plain_name(name)]
    if len(matches) == 1:
        return tomograms[matches[0]]
    if matches:
        message = f"names tomogram {name}, which matches {listed(matches)}"
        raise RequestError(where, message, "pass only one of them")
    message = f"belongs to a tomogram {name}, and there are {listed(tomograms)}"
    raise RequestError(
        where, message, "pass the folder with all of them, named as in the list (or like the list)"
    )
