"""What happened during a training, as a tidy table."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from cryovox.core.atomic import replacing
from cryovox.training.state import Progress

COLUMNS = ("step", "seconds", "name", "value")


class Logbook:
    """Appends rows (step, seconds, name, value) to `metrics.csv`.

    Parameters
    ----------
    path
        The file; None keeps the rows in memory only.
    every
        Steps over which training losses are averaged before they are written; fewer before a
        validation and before the state is saved, so that a resumed run misses none.
    since
        When a run goes on from this step, later rows of the interrupted run are dropped.
    """

    def __init__(self, path: Path | None = None, every: int = 20, since: int = 0) -> None:
        self.path, self.every = path, every
        self.rows: list[tuple[int, float, str, float]] = []
        self._sums: dict[str, float] = {}
        self._count, self._rate = 0, 0.0
        if path is not None:
            self._open(path, since)

    def step(self, now: Progress, terms: Mapping[str, float], rate: float) -> None:
        """Note the losses of one step."""
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count, self._rate = self._count + 1, rate
        if now.step % self.every == 0:
            self.flush(now)

    def validation(self, now: Progress, metrics: Mapping[str, float]) -> None:
        """Note the outcome of a validation, after the losses that led to it."""
        self.flush(now)
        self._write(now, {f"val/{name}": value for name, value in metrics.items()})

    def flush(self, now: Progress) -> None:
        """Write what has been noted since the last row."""
        if self._count:
            means = {f"loss/{name}": total / self._count for name, total in self._sums.items()}
            self._write(now, means | {"lr": self._rate})
            self._sums, self._count = {}, 0

    def _open(self, path: Path, since: int) -> None:
        kept: list[list[str]] = []
        if since and path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                kept = [row for row in csv.reader(file) if row and row[0].isdigit() and int(row[0]) <= since]
        with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *kept])

    def _write(self, now: Progress, values: Mapping[str, float]) -> None:
        rows = [(now.step, round(now.seconds, 2), name, value) for name, value in values.items()]
        self.rows += rows
        if self.path is not None:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(rows)
