"""The resumable loop over the inputs of a command: locks, manifest, failures and progress."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from filelock import Timeout

from cryovox.core.atomic import sweep_below, writable_folder
from cryovox.core.errors import FolderLostError
from cryovox.core.progress import ProgressCallback, no_progress, renamed
from cryovox.core.unfinished import NO_PARTS, UnfinishedParts
from cryovox.workflows.manifest import Manifest, stamp, versions

Value = TypeVar("Value")
Failures = dict[str, Exception]


@dataclass(frozen=True)
class Result:
    """Outputs of one input.

    Attributes
    ----------
    outputs
        Kind -> file, below the folder of the manifest.
    facts
        Further facts for the manifest.
    """

    outputs: dict[str, Path]
    facts: dict[str, Any] = field(default_factory=dict)


class Job(ABC):
    """What a command does with each of its inputs."""

    @abstractmethod
    def key(self, name: str) -> dict[str, Any]:
        """What the outputs depend on, besides the contents of the input."""

    def load(self, name: str, path: Path) -> Any:
        """Open an input, or refuse it; writes nothing."""
        return path

    @abstractmethod
    def process(self, name: str, loaded: Any, on_progress: ProgressCallback) -> Result:
        """Write the outputs of an input, which is None where it has no file."""

    def parts(self, name: str) -> UnfinishedParts:
        """Where results of parts of an input are kept until its outputs are recorded."""
        return NO_PARTS

    def identity(self, name: str, path: Path | None) -> dict[str, Any]:
        """What such results depend on: a run with another identity does not continue from them."""
        source = {} if path is None else {"input": str(path.resolve()), "stamp": stamp(path)}
        return {"key": self.key(name), **source, "versions": versions()}

    def forget(self, name: str) -> None:
        """Remove what is no longer needed once the outputs of an input are recorded."""
        self.parts(name).discard()


class OutputFolder:
    """An output folder, created if necessary; notices when another one takes its place.

    When a share is unmounted, its mount point remains: outputs would be written to a disk of the machine.
    """

    def __init__(self, path: Path) -> None:
        self.path = writable_folder(path)
        self._identity = self._found()

    def check(self) -> None:
        """Raise an error if the folder is gone or is another one."""
        try:
            is_same = self._found() == self._identity
        except OSError:
            is_same = False
        if not is_same:
            message = "is gone or another folder since the run began, as when a share is lost"
            raise FolderLostError(self.path, message, "mount it again, and run the same command again")

    def _found(self) -> tuple[int, int]:
        facts = self.path.stat()
        return facts.st_dev, facts.st_ino


def run_batch(
    job: Job,
    inputs: Mapping[str, Path | None],
    manifest: Manifest,
    *,
    overwrite: bool = False,
    collect: bool | None = None,
    on_progress: ProgressCallback = no_progress,
) -> tuple[dict[str, Any], Failures]:
    """Process every input that no earlier run has finished with the same settings.

    Several processes may work on one folder: each input is processed by one of them.

    Parameters
    ----------
    job
        What to do.
    inputs
        Name -> file; None where an output depends on its key alone.
    manifest
        Of the output folder. A single input is loaded before the folder is created, so that a refused
        request leaves nothing behind.
    overwrite
        Process finished inputs again, and replace outputs of other inputs of the same names.
    collect
        As in :func:`for_each`.

    Returns
    -------
    entries, failures
        Entries of the manifest, and what went wrong, by name.
    """
    if not overwrite:
        manifest.check_free({name: path for name, path in inputs.items() if path is not None})
    collect = len(inputs) > 1 if collect is None else collect

    def is_finished(name: str) -> bool:
        return not overwrite and manifest.done(name, job.key(name), inputs[name])

    def load(name: str) -> Any:
        path = inputs[name]
        return None if path is None else job.load(name, path)

    preloaded = {} if collect or len(inputs) > 1 else {n: load(n) for n in inputs if not is_finished(n)}
    folder = OutputFolder(manifest.path.parent)

    def process(name: str) -> Any:
        folder.check()
        if not is_finished(name):
            start = time.monotonic()
            loaded = preloaded.pop(name) if name in preloaded else load(name)
            if (parts := job.parts(name)) is not NO_PARTS:
                parts.begin(job.identity(name, inputs[name]))
            result = job.process(name, loaded, renamed(on_progress, name))
            folder.check()
            seconds = time.monotonic() - start
            manifest.note(name, job.key(name), result.outputs, seconds, inputs[name], **result.facts)
        job.forget(name)
        return manifest.entries[name]

    return for_each(inputs, process, manifest, collect=collect)


def for_each(
    names: Iterable[str],
    work: Callable[[str], Value],
    manifest: Manifest | None = None,
    *,
    collect: bool | None = None,
    on_progress: ProgressCallback = no_progress,
) -> tuple[dict[str, Value], Failures]:
    """Call *work* for each name.

    Parameters
    ----------
    manifest
        Where given, *work* runs while no other process works on the same name in this folder.
    collect
        Collect failures and go on; otherwise the first one is raised. By default, failures are collected
        where there are several names.
    on_progress
        Receives how many names are done, where there are several.

    Returns
    -------
    results, failures
        By name, results in the order of *names*.
    """
    names = list(names)
    collect = len(names) > 1 if collect is None else collect
    results: dict[str, Value] = {}
    failures: Failures = {}

    def attempt(name: str) -> None:
        try:
            results[name] = work(name)
        except Exception as error:
            if not collect or isinstance(error, FolderLostError):
                raise
            failures[name] = error
        done = len(results) + len(failures)
        if len(names) > 1:
            on_progress("files", done / len(names), f"{done} of {len(names)}")

    if manifest is None:
        for name in names:
            attempt(name)
    else:
        _share(names, attempt, manifest)
    return {name: results[name] for name in names if name in results}, failures


def _share(names: list[str], work: Callable[[str], None], manifest: Manifest) -> None:
    """Call *work* under the lock of each name; names that another process works on come last."""
    for wait in (False, True):
        busy = []
        for name in names:
            lock = manifest.lock(name)
            try:
                lock.acquire(blocking=wait)
            except Timeout:
                busy.append(name)
                continue
            try:
                manifest.refresh()
                sweep_below(manifest.path.parent, name)
                work(name)
            finally:
                lock.release()
        names = busy
