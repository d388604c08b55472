"""`--cluster`: commands on workers, and what they will take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryovox.cli.interface.screen import Meter, clock
from cryovox.core.sizes import size_text

if TYPE_CHECKING:
    from cryovox.workflows.cluster.spread import Call
    from cryovox.workflows.cluster.tomograms import PartCalls


def on_cluster(
    cluster: str | None,
    files: Callable[[], Mapping[str, Path]],
    call: Callable[[Path], Call],
    out: Path,
    meter: Meter,
    shares: Callable[[], PartCalls] | None = None,
) -> tuple[list[Path] | None, dict[str, Exception]]:
    """Process tomograms on the workers that `--cluster` names.

    Parameters
    ----------
    files
        Gives the tomograms by name; called only where there is a cluster.
    call
        Gives the call for a tomogram.
    shares
        Gives the calls for parts of tomograms, where there are more workers than tomograms.

    Returns
    -------
    done, failures
        Tomograms whose outputs are written, and what went wrong; None and nothing without a cluster.
    """
    if cluster is None:
        return None, {}
    from cryovox.workflows.cluster.config import read_cluster
    from cryovox.workflows.cluster.tomograms import on_workers

    config = read_cluster(cluster)
    return on_workers(config, files(), call, out, None if shares is None else shares(), meter)


def whole_plan(cluster: str | None, seconds: Sequence[float], output: int, ram: int) -> str:
    """One line on the whole run: time with all workers, memory of each, and output."""
    if cluster is None:
        return f"in all {clock(sum(seconds))} on this machine as it is loaded now"
    from cryovox.workflows.cluster.config import read_cluster
    from cryovox.workflows.cluster.connect import connected

    config = read_cluster(cluster)
    workers = config.workers
    if config.kind == "address":
        with connected(config) as client:
            workers = config.workers_of(client)
    return (
        f"in all {clock(makespan(seconds, workers))} with {workers} workers as fast as this machine is now, "
        f"{size_text(ram)} of memory each, up to {size_text(output)} of output"
    )


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Time until all workers are done, each of which takes the next input when it is free.

    Examples
    --------
    >>> makespan([3, 3, 2, 2], 2)
    5.0
    """
    busy = [0.0] * max(1, workers)
    for own in seconds:
        first = busy.index(min(busy))
        busy[first] += own
    return float(max(busy))


def resolved(**paths: Any) -> dict[str, Any]:
    """Paths that workers find wherever they were started."""
    return {name: path.resolve() if isinstance(path, Path) else path for name, path in paths.items()}
