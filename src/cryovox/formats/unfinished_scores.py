"""Score maps in the making, which are continued after a crash.

`scores/.NAME.unfinished` holds the store, what it is computed from, and how many planes of each part are
complete. One process, or one per part, writes into it. The store becomes `scores/NAME.zarr` when all planes
are complete; the rest of the folder stays until the outputs are recorded in the manifest.
"""

from __future__ import annotations

import errno
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import discard, replace, replacing
from cryovox.core.errors import RunError
from cryovox.formats import scores

Part = tuple[int, int]
"""First plane, and the one after the last."""


@dataclass(frozen=True)
class UnfinishedScores:
    """The scores of a tomogram, as far as they are computed.

    Attributes
    ----------
    path
        The score map that it becomes, `NAME.zarr`.
    """

    path: Path

    @property
    def folder(self) -> Path:
        return self.path.with_name(f".{self.path.stem}.unfinished")

    def begin(self, identity: Mapping[str, Any], shape: tuple[int, int, int, int], **frame: Any) -> None:
        """Prepare the store; one that was computed from something else is discarded.

        Parameters
        ----------
        identity
            What the scores are computed from and with, as JSON.
        shape, frame
            As of :func:`cryovox.formats.scores.create`.
        """
        if self.matches(identity, shape):
            return
        known = {"shape": list(shape), **identity}
        with _full_disk_named(self.path):
            discard(self.folder)
            scores.lay_out(self.folder / "store.zarr", self.path, shape, **frame)
            _write_json(self.folder / "identity.json", known)

    def matches(self, identity: Mapping[str, Any], shape: tuple[int, int, int, int]) -> bool:
        """Whether there is a store, or a finished map, that was computed from the same."""
        known = json.loads(json.dumps({"shape": list(shape), **identity}))
        is_same = _read_json(self.folder / "identity.json") == known
        return is_same and (self._has_store or self.path.exists())

    @property
    def is_finished(self) -> bool:
        """Whether the score map is there, computed from what :meth:`begin` was told."""
        return not self._has_store and self.path.exists()

    def missing(self, part: Part) -> list[Part]:
        """Planes of a part that are not complete, as few parts as possible, from the first to the last."""
        gaps, start = [], part[0]
        for low, high in sorted(self._complete()):
            if low > start and start < part[1]:
                gaps.append((start, min(low, part[1])))
            start = max(start, high)
        return gaps + ([(start, part[1])] if start < part[1] else [])

    @contextmanager
    def writer(
        self, start: int, overlaps: SlabOverlaps | None = None
    ) -> Iterator[Callable[[int, NDArray[np.floating[Any]]], None]]:
        """Yield a function that stores blocks of planes, from *start* on, and records them as complete.

        What is written at the same time must not share chunks; see :func:`parts`. Of *overlaps* the last
        one that belongs to recorded planes is kept.
        """
        with _full_disk_named(self.path), scores.opened(self.folder / "store.zarr", self.path) as out:
            previous = start

            def write(z0: int, block: NDArray[np.floating[Any]]) -> None:
                nonlocal previous
                out.write(z0, block)
                self.note((start, z0 + block.shape[1]))
                if overlaps is not None:
                    overlaps.discard(previous)
                previous = z0 + block.shape[1]

            yield write

    def overlaps(self, rows: int) -> SlabOverlaps:
        """Sums of the planes that slabs of so many rows of tiles share."""
        return SlabOverlaps(self.folder, rows)

    def note(self, part: Part) -> None:
        """Record that all planes of a part are complete."""
        _write_json(self.folder / f"planes-{part[0]:06d}.json", {"planes": list(part)})

    def finish(self) -> None:
        """Turn the store into the score map."""
        for partial in (self.folder / "store.zarr").rglob("*.partial"):  # of a killed process, by Zarr
            partial.unlink()
        replace(self.folder / "store.zarr", self.path)

    def discard(self) -> None:
        """Remove what is no longer needed once the outputs are recorded."""
        discard(self.folder)

    def discard_empty(self) -> None:
        """Remove a store without a complete plane, after an error."""
        if self._has_store and not self._complete():
            self.discard()

    def _complete(self) -> list[Part]:
        noted = [_read_json(path) for path in self.folder.glob("planes-*.json")]
        return [(int(one["planes"][0]), int(one["planes"][1])) for one in noted if one]

    @property
    def _has_store(self) -> bool:
        return (self.folder / "store.zarr").is_dir()


@dataclass(frozen=True)
class SlabOverlaps:
    """Sums of scores of the planes that a slab shares with the next one, one file for each slab.

    Attributes
    ----------
    folder
        That of the unfinished scores.
    rows
        Rows of tiles of a slab: sums of other slabs are not used.
    """

    folder: Path
    rows: int

    def load(self, plane: int) -> NDArray[np.float32] | None:
        """Sums (k, n, y, x) from this plane on; None where there are none."""
        try:
            with np.load(self._file(plane), allow_pickle=False) as stored:
                sums: NDArray[np.float32] = stored["sums"]
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None
        return sums

    def store(self, plane: int, sums: NDArray[np.float32]) -> None:
        """Keep the sums from this plane on."""
        with replacing(self._file(plane)) as beside:
            np.savez(beside, sums=sums)  # unlike np.save, it says when a disk is full

    def discard(self, plane: int) -> None:
        """Remove sums that a later slab has made superfluous."""
        self._file(plane).unlink(missing_ok=True)

    def _file(self, plane: int) -> Path:
        return self.folder / f"overlap-{self.rows}-{plane:06d}.npz"


def parts(planes: int, count: int) -> list[Part]:
    """Split planes into at most *count* parts of whole chunks.

    Examples
    --------
    >>> parts(300, 2)
    [(0, 128), (128, 300)]
    >>> parts(60, 4)
    [(0, 60)]
    """
    height = scores.CHUNK[1]
    layers = -(-planes // height)
    edges = sorted({round(layers * i / count) for i in range(count + 1)})
    return [(a * height, min(planes, b * height)) for a, b in pairwise(edges)]


@contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free some space and run the same command again; finished slabs are kept"
            raise RunError(path, "the disk is full", remedy) from error
        raise


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    with replacing(path) as beside:
        beside.write_text(json.dumps(values), encoding="utf-8")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
