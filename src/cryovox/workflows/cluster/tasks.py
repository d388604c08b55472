"""What runs on a worker."""

from __future__ import annotations

import platform
import uuid
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryovox.core.atomic import temporary_folder, writable_folder
from cryovox.core.errors import RunError
from cryovox.core.invocation import Invocation, use


@dataclass(frozen=True)
class Task:
    """A call of a function, made on a worker.

    Attributes
    ----------
    function, arguments, options
        The call; all must be picklable.
    mark
        Folder that a worker must see, so that all share the output folder.
    threads
        Threads to compute with.
    folder
        Folder from which relative paths are taken, if the worker sees it.
    invocation
        Command that the manifest records.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    mark: Path
    threads: int
    folder: Path
    invocation: Invocation | None = None


def execute(task: Task) -> Any:
    """Run a task in this worker process."""
    import torch

    from cryovox.workflows.devices import keep_freed_memory

    if not task.mark.exists():
        message = f"is not the folder of the other machines on the worker {platform.node()}"
        remedy = "use a folder that all machines share, and mount it everywhere under the same path"
        raise RunError(task.mark.parent, message, remedy)
    torch.set_num_threads(task.threads)
    keep_freed_memory()
    use(task.invocation)
    place = chdir(task.folder) if task.folder.is_dir() else nullcontext()
    try:
        with place:
            return task.function(*task.arguments, **task.options)
    finally:
        use(None)


@contextmanager
def shared(out: Path) -> Iterator[Path]:
    """Yield a folder in the output folder by which workers recognize it.

    The next run removes that of a killed process.
    """
    with temporary_folder(writable_folder(out).resolve(), f"cluster-{uuid.uuid4().hex[:8]}") as mark:
        yield mark
