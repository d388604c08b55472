"""Suggestions for misspelled names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: object, known: Iterable[str]) -> str | None:
    """The known name closest to a misspelled one; None if no name is close.

    Case, spaces and underscores do not matter.

    Examples
    --------
    >>> nearest("voxresnett", ["deepfinder", "voxresnet"])
    'voxresnet'
    """
    normalized = {_normalized(word): word for word in known}
    match = get_close_matches(_normalized(str(name)), normalized, n=1)
    return normalized[match[0]] if match else None


def suggestion(name: object, known: Iterable[str]) -> str:
    """Suggestion for a misspelled name: the closest known name, else all known names.

    Examples
    --------
    >>> suggestion("toi", ["toy", "shrec2021"])
    "did you mean 'toy'?"
    >>> suggestion("x", ["toy", "shrec2021"])
    'there are: toy, shrec2021'
    """
    names = list(known)
    match = nearest(name, names)
    return f"did you mean {match!r}?" if match else f"there are: {', '.join(names) or 'none'}"


def _normalized(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(" ", "-")
