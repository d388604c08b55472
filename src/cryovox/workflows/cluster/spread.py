"""Spread inputs over workers: as many at a time as there are workers, so that a lost one tells its input."""

from __future__ import annotations

import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryovox.core.errors import RequestError, RunError, run_error
from cryovox.core.invocation import current
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.workflows.batch import Failures
from cryovox.workflows.cluster.config import OPTION, ClusterConfig
from cryovox.workflows.cluster.tasks import Task, execute, shared

POLL = 2.0
"""Seconds between looks at the number of workers."""
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def spread(
    client: Any,
    config: ClusterConfig,
    calls: Mapping[str, Call],
    out: Path,
    on_progress: ProgressCallback = no_progress,
) -> tuple[dict[str, Any], Failures]:
    """Make a call for each input on some worker.

    A call that raises an error fails alone. One whose worker is lost, or whose disk does not answer, is made
    again on another worker, `config.retries` times.

    Parameters
    ----------
    client
        From :func:`cryovox.workflows.cluster.connect.connected`.
    calls
        Name -> function, arguments and options.
    out
        Output folder, which all workers must share.

    Returns
    -------
    results, failures
        By name of the input.
    """
    with shared(out) as mark:
        tasks = {
            name: Task(*call, mark, config.torch_threads, Path.cwd(), current())
            for name, call in calls.items()
        }
        return _Run(client, config, tasks, on_progress).finish()


@dataclass
class _Run:
    """The state of a run on the side of the client."""

    client: Any
    config: ClusterConfig
    tasks: Mapping[str, Task]
    on_progress: ProgressCallback
    results: dict[str, Any] = field(default_factory=dict)
    failures: Failures = field(default_factory=dict)
    running: dict[Any, str] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)

    def finish(self) -> tuple[dict[str, Any], Failures]:
        pending, seen = deque(self.tasks), time.monotonic()
        try:
            while pending or self.running:
                slots = len(self._workers())
                seen = time.monotonic() if slots else seen
                if time.monotonic() - seen > self.config.wait:
                    raise _no_workers(self.config.wait)
                while pending and len(self.running) < slots:
                    self._submit(pending.popleft())
                for future in self._completed():
                    if (name := self._settle(future)) is not None:
                        pending.append(name)
        except BaseException:
            self.client.cancel([*self.running], force=True)
            raise
        return {n: self.results[n] for n in self.tasks if n in self.results}, self.failures

    def _workers(self) -> dict[str, int]:
        try:
            return dict(self.client.nthreads())
        except OSError as error:
            raise _no_scheduler(error) from None

    def _submit(self, name: str) -> None:
        key = f"{name}-{uuid.uuid4().hex[:8]}"
        self.running[self.client.submit(execute, self.tasks[name], key=key, pure=False)] = name

    def _completed(self) -> list[Any]:
        from distributed import wait

        if not self.running:
            time.sleep(POLL / 4)
            return []
        try:
            with self.client.as_current():
                return list(wait([*self.running], timeout=POLL, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            return []

    def _settle(self, future: Any) -> str | None:
        """Take the result of a call; gives its name if it is to be made again."""
        name = self.running.pop(future)
        if future.status == "finished":
            self.results[name] = future.result()
        else:
            error = _named(future, name)
            self.tries[name] += 1
            if _is_passing(error) and self.tries[name] <= self.config.retries:
                return name
            self.failures[name] = error
        done = len(self.results) + len(self.failures)
        failed = f", {len(self.failures)} failed" if self.failures else ""
        self.on_progress("inputs", done / len(self.tasks), f"{done} of {len(self.tasks)} on workers{failed}")
        return None


def _is_passing(error: Exception) -> bool:
    """Whether another try may help: a disk or share did not answer."""
    return isinstance(error, OSError) and run_error(error) is not None


def _named(future: Any, name: str) -> Exception:
    """What went wrong with a call."""
    from distributed import CancelledError
    from distributed.scheduler import KilledWorker

    try:
        error = future.exception()
    except CancelledError:
        raise _no_scheduler(OSError("its calls were canceled")) from None
    if isinstance(error, KilledWorker):
        worker = getattr(error.last_worker, "address", error.last_worker)
        times = getattr(error, "allowed_failures", 0) + 1
        message = f"its worker was lost {times} times, the last one {worker}, as when memory runs out"
        return RunError(name, message, "process it alone with --max-ram, and look at the log of the worker")
    assert isinstance(error, Exception)
    return error


def _no_workers(wait: float) -> RequestError:
    message = f"no worker answered for {wait:.0f} s"
    return RunError(OPTION, message, "check the jobs of the workers, and run the same command again")


def _no_scheduler(error: Exception) -> RunError:
    message = f"the scheduler no longer answers ({str(error).splitlines()[0]})"
    return RunError(OPTION, message, "run the same command again: finished slabs and tomograms are kept")
