"""What a person sees while waiting and at the end."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError, run_error


class Meter:
    """Progress with the time that is left: a bar on a terminal, a plain line now and then elsewhere.

    Parameters
    ----------
    quiet
        Say nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._name, self._last = "", 0.0
        self._began = (0.0, 0.0)
        self._bar: Any = None
        self._task: Any = None

    def __call__(self, name: str, fraction: float, note: str = "") -> None:
        """Show that *fraction* (0 to 1) of *name* is done."""
        if self.quiet:
            return
        if name != self._name:
            self.close()
            self._name, self._last = name, 0.0
            self._began = (time.monotonic(), fraction)
        if fraction == 0:  # preparations say nothing about the pace
            self._began = (time.monotonic(), 0.0)
        if sys.stderr.isatty():
            self._draw(fraction, note)
        else:
            self._line(fraction, note)
        if fraction >= 1:
            self.close()

    def message(self, text: str) -> None:
        """Print a line above the bar."""
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the terminal in order."""
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._name = None, ""

    def _draw(self, fraction: float, note: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        if self._bar is None:
            fields = (TextColumn(f"{{task.fields[{name}]}}") for name in ("left", "note"))
            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), *fields)
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task(self._name, total=1.0, note=note, left="")
        self._bar.update(self._task, completed=fraction, note=note, left=self._left(fraction))

    def _line(self, fraction: float, note: str) -> None:
        now = time.monotonic()
        if now - self._last < 15 and fraction < 1:
            return
        self._last = now
        words = (f"{self._name}  {100 * fraction:3.0f} %", self._left(fraction), note)
        print("  ".join(word for word in words if word), file=sys.stderr, flush=True)

    def _left(self, fraction: float) -> str:
        """Time that is left at the pace so far; empty where that says nothing yet."""
        began, at = self._began
        spent, done = time.monotonic() - began, fraction - at
        if done < 0.01 or fraction >= 1 or spent < 1:
            return ""
        return f"{clock(remaining(spent, done, fraction))} left"


def remaining(spent: float, done: float, fraction: float) -> float:
    """Seconds that are left when *done* took so long; `benchmarks/eta.py` measures how well this holds.

    Parameters
    ----------
    spent
        Seconds since the pace is measured, which begins when the progress leaves 0 or a run continues.
    done, fraction
        Progress since then, and progress.
    """
    return spent / done * (1 - fraction)


def terminal_meter() -> Meter:
    """Progress of commands that are quick for one file: a bar on a terminal, nothing elsewhere."""
    return Meter(quiet=not sys.stderr.isatty())


def clock(seconds: float) -> str:
    """Write a duration for people: 42 s, 3 min 05 s, 2 h 10 min.

    Examples
    --------
    >>> clock(185)
    '3 min 05 s'
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Lay rows out in columns; numbers to the right, floats with three decimals."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(c), *(len(r[i]) for r in cells)) if cells else len(c) for i, c in enumerate(columns)]
    right = [all(isinstance(r[i], int | float) or r[i] == "" for r in rows) for i in range(len(columns))]
    lines = [
        [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
        for row in [list(columns), ["-" * w for w in widths], *cells]
    ]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def check_json(path: Path | None, option: str = "--json") -> None:
    """Refuse a file of `--json`, or of another option, that cannot be, before any work is done."""
    if path is None:
        return
    if path.is_dir():
        raise RequestError(path, "is a folder", f"name a file for {option}")
    above = next((p for p in path.parents if p.exists()), path.parent)
    if not above.is_dir():
        raise RequestError(
            path, f"cannot be written: {above} is no folder", f"choose another file for {option}"
        )


def write_json(path: Path | None, what: Any) -> None:
    """Write a result to the file of `--json`, whole or not at all; NaN becomes null."""
    if path is None:
        return
    try:
        with replacing(path) as beside:
            text = json.dumps(_finite(what), indent=1, default=str, allow_nan=False)
            beside.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise RequestError(
            path, f"cannot be written ({error.strerror})", "choose another file for --json"
        ) from None


def _finite(what: Any) -> Any:
    """The same with None for every NaN and infinity, which JSON does not know."""
    if isinstance(what, dict):
        return {key: _finite(value) for key, value in what.items()}
    if isinstance(what, list | tuple):
        return [_finite(value) for value in what]
    return None if isinstance(what, float) and not math.isfinite(what) else what


def model_warnings(model: Path) -> None:
    """Repeat what the card of a model says against it."""
    from cryovox.models.card import read_card

    for warning in read_card(model).warnings:
        print(f"warning: {model}: {warning}", file=sys.stderr)


def failures(failed: dict[str, Exception]) -> int:
    """Name every input that failed, last of all; gives the exit code."""
    for name, caught in failed.items():
        error = (run_error(caught) or caught) if isinstance(caught, OSError) else caught
        remedy = f"\n    what to do: {error.remedy}" if isinstance(error, RequestError) else ""
        problem = error.message if isinstance(error, RequestError) else f"{type(error).__name__}: {error}"
        print(f"failed: {name}: {problem}{remedy}", file=sys.stderr)
    return 1 if failed else 0
