"""Which names mean the same tomogram.

RELION puts `rec_` before the name of a file, Warp writes `NAME.tomostar`, `NAME.mrc.tomostar` and
`NAME_10.00Apx.mrc`, others write whole paths. Only these are taken off: `pos_1.2` is not `pos_1`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
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
    """A list names tomograms, and not the one that is wanted."""


def plain_name(name: str) -> str:
    """Name of a tomogram without folder, file endings, `rec_` and `_10.00Apx`.

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
    """Names of tomograms for a message, each once."""
    unique = sorted({str(name) for name in names})
    return ", ".join(unique[:limit]) + (f" and {len(unique) - limit} more" if len(unique) > limit else "")


def rows_of(where: object, names: Collection[str] | None, wanted: Iterable[str]) -> NDArray[np.bool_] | None:
    """Rows of a list that belong to a tomogram; None where they all do.

    Parameters
    ----------
    where
        The file, for the message.
    names
        Name of the tomogram of each row; None, or empty names, where the list names none.
    wanted
        Names of the tomogram.
    """
    plain = {plain_name(name) for name in wanted}
    if names is None or not plain or not any(names):
        return None
    mine = np.array([plain_name(str(name)) in plain for name in names], dtype=bool)
    if not mine.any():
        message = f"is a list of {listed(names)}, not of {listed(wanted)}"
        remedy = "choose the list of that tomogram, or call the tomogram (the entry) as it is called there"
        raise OtherTomogramError(where, message, remedy)
    return None if mine.all() else mine


def volume_of(where: object, name: str, tomograms: Mapping[str, Volume]) -> Volume:
    """The tomogram that a name in a list means."""
    if name in tomograms:
        return tomograms[name]
    matches = [key for key in tomograms if plain_name(key) == plain_name(name)]
    if len(matches) == 1:
        return tomograms[matches[0]]
    if matches:
        message = f"names tomogram {name}, which may be any of {listed(matches)}"
        raise RequestError(where, message, "give one of them only")
    message = f"belongs to a tomogram {name}, and there are {listed(tomograms)}"
    raise RequestError(
        where, message, "give the folder with all of them, called as they are in the list (or as the list is)"
    )
