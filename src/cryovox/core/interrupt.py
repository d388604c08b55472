"""Handling of Ctrl-C and of SIGTERM, which batch systems send before they end a job."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
MERGE_SECONDS = 1.0
"""Two signals within this time count as one: a terminal and a launcher may each send one."""


class Interrupted(KeyboardInterrupt):
    """The user or the batch system ends the program.

    Parameters
    ----------
    message
        What was saved.
    code
        Exit code.
    """

    def __init__(self, message: str = "", code: int = 130) -> None:
        super().__init__(message)
        self.message, self.code = message, code


class Interrupt:
    """Records a signal, so that work can stop in a state from which it can resume."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._when, self._at_once = 0.0, False

    def handle(self, number: int, frame: Any = None) -> None:
        """Remember the first signal; a second one ends the process at once."""
        if self.signal is None:
            self.signal, self._when = number, time.monotonic()
            if self._at_once:
                raise self.error()
        elif time.monotonic() - self._when > MERGE_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal interrupt a block immediately, because nothing in it needs to be saved."""
        self._at_once = True
        try:
            if self.signal is not None:
                raise self.error()
            yield
        finally:
            self._at_once = False

    def error(self, message: str = "") -> Interrupted:
        """The exception to raise once everything is saved."""
        return Interrupted(message, CODES.get(signal.Signals(self.signal or signal.SIGINT), 130))


@contextmanager
def postponed() -> Iterator[Interrupt]:
    """Yield an :class:`Interrupt` that receives the signals during the block, in the main thread."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.signal(number, interrupt.handle) for number in CODES}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_on_sigterm() -> None:
    """Let SIGTERM end the program as Ctrl-C does: outputs stay complete, temporary files are removed."""

    def handle(number: int, frame: Any) -> None:
        raise Interrupted(code=CODES[signal.SIGTERM])

    signal.signal(signal.SIGTERM, handle)
