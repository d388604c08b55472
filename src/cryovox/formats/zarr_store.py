"""A Zarr group to fill, of which nothing is written any more once filling it has failed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zarr
from zarr.core.sync import sync  # Zarr has no public way to its loop


@contextmanager
def created(path: Path) -> Iterator[zarr.Group]:
    """Give a new group of format 3.

    Where one chunk of several fails, Zarr tells it at once and goes on with the others in a thread of its
    own. Whoever then removes the folder would find it there again: so the others are waited for.
    """
    try:
        yield zarr.create_group(path, zarr_format=3, overwrite=True)
    except BaseException:
        sync(_others())
        raise


async def _others() -> None:
    """Wait for all that still runs in Zarr's loop."""
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)
