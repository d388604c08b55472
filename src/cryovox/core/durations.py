"""Durations with units; a number without a unit is refused, never read as seconds."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BeforeValidator

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Read a duration such as 90s, 20m or 1.5h.

    Examples
    --------
    >>> seconds("20m")
    1200.0
    """
    number = _number(text)
    if number is not None:
        raise ValueError(f"{text} has no unit: write {text}s (seconds), {text}m (minutes) or {text}h (hours)")
    number = _number(text[:-1])
    if number is None or text[-1] not in _UNITS or not (math.isfinite(number) and number > 0):
        raise ValueError(f"{text!r} is not a duration; write 90s, 20m or 1h")
    return number * _UNITS[text[-1]]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _validated(value: object) -> str:
    text = str(value)  # YAML reads a bare number as a number
    seconds(text)
    return text


Duration = Annotated[str, BeforeValidator(_validated)]
"""Field of a config that holds a duration, such as 20m."""
