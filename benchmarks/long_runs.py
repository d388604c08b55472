"""Long runs, one after the other: what is in `benchmarks/queue.yaml`, in its order, on every free core.

    python benchmarks/queue.py run              # works through the list; run it again to continue
    python benchmarks/queue.py status           # what is done, running and left, with processor hours
    python benchmarks/queue.py pause            # halt the running entries, for instance to time something
    python benchmarks/queue.py resume
    python benchmarks/queue.py stop

Every entry is one process on one thread with the lowest priority. It may be killed at any time: suites and
trainings continue from their last saved state. An entry keeps the copy of the package with which it started, so edits
of the work tree do not affect it and no table mixes two versions. Finished entries are listed in
`benchmarks/results/queue.json`, which is committed together with their result files.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any

from pydantic import Field, ValidationInfo, field_validator

from common import RESULTS
from cryovox.core.atomic import replacing
from cryovox.core.config import Config, from_yaml
from cryovox.core.errors import RequestError
from cryovox.workflows.manifest import code_hash

ROOT = Path(__file__).parents[1]
LIST = ROOT / "benchmarks" / "queue.yaml"
RUNS = ROOT / "runs" / "queue"
GRACE = 120.0
"""Seconds that a stopped entry gets to save its state."""


class Entry(Config):
    """One long run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    """Name of the run and of its result file."""
    command: str
    """Command from the root of the repository; {runs} stands for its run folder, {result} for its result file."""
    shows: str
    """Purpose of the run."""
    prediction: str
    """Expected result, written before the run."""
    hours: float = Field(gt=0)
    """Processor hours."""
    result: str = Field("", pattern=r"^[a-z0-9_.-]*$")
    """Name of the result file, by default that of the entry; parts of a suite may share one."""


class Queue(Config):
    """All long runs in order of value."""

    entries: tuple[Entry, ...]

    @field_validator("entries")
    @classmethod
    def _unique(cls, entries: tuple[Entry, ...], info: ValidationInfo) -> tuple[Entry, ...]:
        names = [entry.name for entry in entries]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"several entries are called {', '.join(twice)}")
        return entries


@dataclass(frozen=True)
class Places:
    """Folders of runs and results."""

    runs: Path = RUNS
    results: Path = RESULTS

    def folder(self, entry: Entry) -> Path:
        return self.runs / entry.name

    def result(self, entry: Entry) -> Path:
        return self.results / f"{entry.result or entry.name}.json"

    def words(self, entry: Entry) -> list[str]:
        """The command of an entry as a list of arguments."""
        paths = {"runs": str(self.folder(entry) / "work"), "result": str(self.result(entry))}
        first, *rest = (word.format(**paths) for word in shlex.split(entry.command))
        programs = {"cryovox": [sys.executable, "-m", "cryovox"], "python": [sys.executable]}
        return [*programs.get(first, [first]), *rest]


class Ledger:
    """Finished entries by name: command, date and processor hours."""

    def __init__(self, places: Places) -> None:
        self.places, self.path = places, places.results / "queue.json"

    def rows(self) -> dict[str, Any]:
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}

    def is_done(self, entry: Entry) -> bool:
        """Whether the same command has finished and its result file exists."""
        row = self.rows().get(entry.name)
        return row is not None and row["command"] == entry.command and self.places.result(entry).exists()

    def add(self, entry: Entry, hours: float, code: str) -> None:
        row = {
            "command": entry.command,
            "finished": time.strftime("%Y-%m-%d"),
            "processor_hours": round(hours, 2),
            "code": code,
        }
        with replacing(self.path) as beside:
            beside.write_text(json.dumps({**self.rows(), entry.name: row}, indent=1) + "\n", encoding="utf-8")


@dataclass
class Process:
    """A running entry."""

    entry: Entry
    popen: subprocess.Popen[bytes]
    code: str


def read(path: Path = LIST) -> tuple[Entry, ...]:
    """All entries in order of value."""
    return from_yaml(Queue, path).entries


def lock(folder: Path, patience: float = 0.0) -> IO[str] | None:
    """Lock a folder; returns None if another process still holds the lock after *patience* seconds.

    The lock belongs to the open file and is inherited by the command, so it is held for as long as the command
    lives, also when the queue itself was killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    file = (folder / "lock").open("w", encoding="utf-8")
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() >= deadline:
                file.close()
                return None
            time.sleep(0.1)


def is_running(folder: Path) -> bool:
    """Whether the command of a run folder is running."""
    if not (folder / "lock").exists():
        return False
    file = lock(folder)
    if file is not None:
        file.close()
    return file is None


def package_copy(places: Places, entry: Entry) -> tuple[str, Path]:
    """Copy of the package that an entry runs: the one of its first start, or the current one.

    Returns
    -------
    code : str
        First digits of the hash of all modules.
    folder : Path
        Folder for the module path.
    """
    noted = places.folder(entry) / "code"
    code = noted.read_text(encoding="utf-8").strip() if noted.exists() else ""
    if not code or not (places.runs / "code" / code).exists():
        code = code_hash(ROOT / "src" / "cryovox")
    folder = places.runs / "code" / code
    if not folder.exists():
        with replacing(folder) as beside:
            shutil.copytree(ROOT / "src", beside, ignore=shutil.ignore_patterns("__pycache__"))
    with replacing(noted) as beside:
        beside.write_text(code + "\n", encoding="utf-8")
    return code, folder


@dataclass
class Runner:
    """Run entries, *workers* at a time."""

    entries: Sequence[Entry]
    places: Places
    workers: int
    poll: float = 2.0
    running: list[Process] = field(default_factory=list)
    failed: list[Entry] = field(default_factory=list)
    stopping: bool = False

    def run(self) -> list[Entry]:
        """Run all unfinished entries; returns the entries that failed."""
        ledger = Ledger(self.places)
        with self._stopped_by_signals():
            while not self.stopping:
                self._collect(ledger)
                alive = [e for e in self.entries if is_running(self.places.folder(e))]
                waiting = [e for e in self.entries if e not in self.failed and not ledger.is_done(e)]
                if not alive and not waiting:
                    break
                startable = [e for e in waiting if e not in alive]
                for entry in startable[: max(0, self.workers - len(alive))]:
                    self._start(entry)
                time.sleep(self.poll)
        self._stop()
        self._collect(ledger)
        return self.failed

    def _start(self, entry: Entry) -> None:
        folder = self.places.folder(entry)
        held = lock(folder)
        if held is None:  # another queue started it
            return
        code, package = package_copy(self.places, entry)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        with held, (folder / "log.txt").open("ab") as log:
            popen = subprocess.Popen(
                self.places.words(entry),
                cwd=ROOT,
                env={**os.environ, **threads, "PYTHONPATH": str(package)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(held.fileno(),),
                start_new_session=True,
                preexec_fn=_lowest_priority,
            )
        (folder / "pid").write_text(str(popen.pid), encoding="utf-8")
        self.running.append(Process(entry, popen, code))
        say(f"started {entry.name}")

    def _collect(self, ledger: Ledger) -> None:
        """Record finished processes."""
        for process in list(self.running):
            pid, status, usage = os.wait4(process.popen.pid, os.WNOHANG)
            if pid == 0:
                continue
            self.running.remove(process)
            code = process.popen.returncode = os.waitstatus_to_exitcode(status)
            hours = self._used(process.entry, (usage.ru_utime + usage.ru_stime) / 3600)
            if code == 0 and self.places.result(process.entry).exists():
                ledger.add(process.entry, hours, process.code)
                say(f"finished {process.entry.name} after {hours:.2f} processor hours")
            elif not self.stopping:
                self.failed.append(process.entry)
                log = self.places.folder(process.entry) / "log.txt"
                say(f"failed {process.entry.name} (exit code {code}), see {log}")

    def _used(self, entry: Entry, hours: float) -> float:
        """Processor hours of an entry over all its starts."""
        path = self.places.folder(entry) / "processor_hours"
        before = float(path.read_text(encoding="utf-8")) if path.exists() else 0.0
        path.write_text(f"{before + hours}", encoding="utf-8")
        return before + hours

    def _stop(self) -> None:
        """Stop the running entries after they have saved their states."""
        for process in self.running:
            signal_group(process.popen.pid, signal.SIGCONT, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        for process in self.running:
            while process.popen.returncode is None and time.monotonic() < deadline:
                if os.waitid(os.P_PID, process.popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    break
                time.sleep(0.1)
            else:
                signal_group(process.popen.pid, signal.SIGKILL)
                os.waitid(os.P_PID, process.popen.pid, os.WEXITED | os.WNOWAIT)

    @contextlib.contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        def stop(number: int, frame: FrameType | None) -> None:
            self.stopping = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _lowest_priority() -> None:
    os.nice(19)
    # Linux divides the processor between sessions first, and niceness counts within a session only
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("19", encoding="utf-8")


def signal_group(pid: int, *numbers: signal.Signals) -> None:
    """Send signals to a process and its children."""
    for number in numbers:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)


def signal_running(entries: Sequence[Entry], places: Places, *numbers: signal.Signals) -> list[str]:
    """Send signals to the running entries; returns their names."""
    alive = [entry for entry in entries if is_running(places.folder(entry))]
    for entry in alive:
        signal_group(int((places.folder(entry) / "pid").read_text(encoding="utf-8")), *numbers)
    return [entry.name for entry in alive]


def stop_queue(entries: Sequence[Entry], places: Places) -> list[str]:
    """Stop the queue, if it is running, and all running entries."""
    if is_running(places.runs):
        os.kill(int((places.runs / "pid").read_text(encoding="utf-8")), signal.SIGTERM)
    return signal_running(entries, places, signal.SIGCONT, signal.SIGTERM)


def status(entries: Sequence[Entry], places: Places) -> str:
    """One line per entry, and the remaining hours."""
    ledger, lines, left = Ledger(places), [], 0.0
    for entry in entries:
        folder = places.folder(entry)
        used = folder / "processor_hours"
        spent = float(used.read_text(encoding="utf-8")) if used.exists() else 0.0
        if ledger.is_done(entry):
            row = ledger.rows()[entry.name]
            state, spent = f"done {row['finished']}", row["processor_hours"]
        else:
            state = "running" if is_running(folder) else "begun" if (folder / "code").exists() else "waiting"
            left += max(0.0, entry.hours - spent)
        lines.append(f"{state:16} {entry.name:34} {spent:6.2f} of {entry.hours:5.1f} h   {entry.shows}")
    return "\n".join([*lines, f"{left:.1f} processor hours left"])


def say(text: str) -> None:
    """Print a line with the time."""
    print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)


def run(entries: Sequence[Entry], places: Places, workers: int) -> int:
    """Run the list; only one queue can run at a time."""
    held = lock(places.runs, patience=1.0)
    if held is None:
        raise RequestError(places.runs, "another queue runs here", "see `python benchmarks/queue.py status`")
    with held:
        (places.runs / "pid").write_text(str(os.getpid()), encoding="utf-8")
        failed = Runner(entries, places, workers).run()
    print(status(entries, places))
    return 1 if failed else 0


def main(args: Sequence[str] | None = None) -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("run", "status", "pause", "resume", "stop"))
    parser.add_argument("--list", type=Path, default=LIST, help="YAML file with the entries")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result files")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="entries at a time")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these entries only")
    options = parser.parse_args(args)
    places = Places(options.runs.resolve(), options.results.resolve())
    try:
        entries = chosen(read(options.list), options.only)
        if options.action == "run":
            return run(entries, places, options.workers)
    except RequestError as error:
        print(error, file=sys.stderr)
        return 2
    if options.action == "status":
        print(status(entries, places))
    elif options.action == "stop":
        print("stopped:", *stop_queue(entries, places))
    else:
        number = signal.SIGSTOP if options.action == "pause" else signal.SIGCONT
        print(f"{options.action}d:", *signal_running(entries, places, number))
    return 0


def chosen(entries: tuple[Entry, ...], names: Sequence[str] | None) -> tuple[Entry, ...]:
    """Entries by name; all entries without names."""
    if unknown := sorted(set(names or ()) - {entry.name for entry in entries}):
        known = ", ".join(entry.name for entry in entries)
        raise RequestError("--only", f"no entry is called {unknown[0]}", f"entries: {known}")
    return entries if names is None else tuple(entry for entry in entries if entry.name in names)
