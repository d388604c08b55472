"""New Zarr groups that are no longer written to once an error has occurred."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition
from typing import Any

import zarr
from zarr.storage import LocalStore


class _ClosableStore(LocalStore):  # type: ignore[misc]  # zarr is not followed by mypy
    """A folder to which nothing is written after :meth:`stop`."""

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._idle = Condition()
        self._writes = 0
        self._stopped = False

    async def set(self, key: str, value: Any) -> None:
        with self._idle:
            if self._stopped:
                return
            self._writes += 1
        try:
            await super().set(key, value)
        finally:
            with self._idle:
                self._writes -= 1
                self._idle.notify_all()

    def stop(self) -> None:
        """Wait for the writes that have started and ignore all others."""
        with self._idle:
            self._stopped = True
            self._idle.wait_for(lambda: self._writes == 0)


@contextmanager
def created(path: Path) -> Iterator[zarr.Group]:
    """Give a new group of format 3.

    When one of several chunks cannot be written, Zarr raises the error at once and writes the others in a
    thread of its own. They would re-create a folder that the caller removes, so they are stopped first.
    """
    store = _ClosableStore(path)
    with _stopped_on_error(store):
        yield zarr.create_group(store, zarr_format=3, overwrite=True)


@contextmanager
def opened(path: Path) -> Iterator[zarr.Group]:
    """Give an existing group of format 3 to write into, with the same care as :func:`created`."""
    store = _ClosableStore(path)
    with _stopped_on_error(store):
        yield zarr.open_group(store, mode="r+", zarr_format=3)


@contextmanager
def _stopped_on_error(store: _ClosableStore) -> Iterator[None]:
    try:
        yield
    except BaseException:
        store.stop()
        raise
