"""Split of volumes into training and test sets if the source has none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

Split = Literal["train", "test"]


def split_by_volume(names: Iterable[str], test_fraction: float) -> dict[str, Split]:
    """Split volumes at random, with a fixed seed.

    Parameters
    ----------
    names
        Names of the volumes; their order does not matter.
    test_fraction
        Fraction of test volumes; at least one volume is for training.

    Examples
    --------
    >>> sorted(split_by_volume("abcdefghij", 0.15).values()).count("test")
    2
    """
    ordered = sorted(names)
    count = min(round(test_fraction * len(ordered)), len(ordered) - 1)
    test = np.random.default_rng(0).permutation(len(ordered))[: max(0, count)]
    return {name: "test" if i in test else "train" for i, name in enumerate(ordered)}
