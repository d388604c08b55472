"""Which volumes train and which test, where the source does not say so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

Split = Literal["train", "test"]


def by_volume(names: Iterable[str], share: float) -> dict[str, Split]:
    """Share out whole volumes, the same way wherever and whenever it is asked.

    Parameters
    ----------
    names
        Of the volumes; their order plays no part.
    share
        Part of them that tests, rounded to whole volumes; at least one trains.

    Examples
    --------
    >>> sorted(by_volume("abcdefghij", 0.15).values()).count("test")
    2
    """
    ordered = sorted(names)
    count = min(round(share * len(ordered)), len(ordered) - 1)
    drawn = np.random.default_rng(0).permutation(len(ordered))[: max(0, count)]
    return {name: "test" if i in drawn else "train" for i, name in enumerate(ordered)}
