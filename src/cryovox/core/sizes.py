"""Amounts of memory with units; a number without a unit is refused, never read as bytes."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BeforeValidator

_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def n_bytes(text: str) -> int:
    """Read an amount of memory such as 800M or 4G, decimal.

    Examples
    --------
    >>> n_bytes("4G")
    4000000000
    >>> n_bytes("1.5GB")
    1500000000
    """
    number, unit = text.upper().removesuffix("B")[:-1], text.upper().removesuffix("B")[-1:]
    try:
        amount = float(number) * _UNITS[unit]
    except (KeyError, ValueError):
        raise ValueError(f"{text!r} is not an amount of memory; write 800M or 4G") from None
    if not (math.isfinite(amount) and amount >= 1):
        raise ValueError(f"{text!r} is not a positive amount of memory; write 800M or 4G")
    return round(amount)


def size_text(count: float) -> str:
    """Write a number of bytes for people and for options: 850M, 4.2G; rounded up.

    Examples
    --------
    >>> size_text(4_110_000_000)
    '4.2G'
    """
    if count < 10**9:
        return f"{math.ceil(count / 10**7) * 10}M"
    return f"{math.ceil(count / 10**8) / 10:g}G"


def _validated(value: object) -> str:
    text = str(value)  # YAML reads a bare number as a number
    n_bytes(text)
    return text


Size = Annotated[str, BeforeValidator(_validated)]
"""Field of a config that holds an amount of memory, such as 4G."""
