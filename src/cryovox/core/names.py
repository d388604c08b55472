"""What to say where a name that a user typed is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: object, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one most likely means; None where no name is close.

    Case, spaces and underscores do not matter.

    Examples
    --------
    >>> nearest("voxresnett", ["deepfinder", "voxresnet"])
    'voxresnet'
    """
    plain = {_plain(word): word for word in known}
    match = get_close_matches(_plain(str(name)), plain, n=1)
    return plain[match[0]] if match else None


def suggestion(name: object, known: Iterable[str]) -> str:
    """Advice for a misspelt name: the nearest known one, else all of them.

    Examples
    --------
    >>> suggestion("toi", ["toy", "shrec2021"])
    "did you mean 'toy'?"
    >>> suggestion("x", ["toy", "shrec2021"])
    'there are: toy, shrec2021'
    """
    names = list(known)
    near = nearest(name, names)
    return f"did you mean {near!r}?" if near else f"there are: {', '.join(names) or 'none'}"


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(" ", "-")
