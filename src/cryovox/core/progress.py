"""Progress callbacks."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class ProgressCallback(Protocol):
    """Receives progress; every function that takes long accepts one as `on_progress`."""

    def __call__(self, name: str, fraction: float, note: str = "") -> None:
        """Report progress.

        Parameters
        ----------
        name
            What is being done, such as a tomogram or "training".
        fraction
            How much of it is done, 0 to 1.
        note
            A detail, such as "12 of 40 tiles".
        """


def no_progress(name: str, fraction: float, note: str = "") -> None:
    """Report nothing."""


def renamed(on_progress: ProgressCallback, name: str) -> ProgressCallback:
    """Report under another name."""
    return lambda _, fraction, note="": on_progress(name, fraction, note)


def tracked(items: Collection[Item], on_progress: ProgressCallback, name: str) -> Iterator[Item]:
    """Yield items, and report how many of several are done."""
    for done, item in enumerate(items):
        yield item
        if len(items) > 1:
            on_progress(name, (done + 1) / len(items), f"{done + 1} of {len(items)}")


def portion(on_progress: ProgressCallback, start: float, stop: float) -> ProgressCallback:
    """Report as a part of a longer task, from *start* to *stop* of it."""
    return lambda name, fraction, note="": on_progress(name, start + fraction * (stop - start), note)
