"""Tomograms on workers: one call each or, for few large ones, a call for each part of their planes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from cryovox.core.errors import RequestError
from cryovox.core.progress import ProgressCallback, no_progress, renamed
from cryovox.formats import read_header
from cryovox.formats.unfinished_scores import parts
from cryovox.workflows.batch import Failures
from cryovox.workflows.cluster.config import ClusterConfig
from cryovox.workflows.cluster.connect import connected
from cryovox.workflows.cluster.spread import Call, spread
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.devices import Device
from cryovox.workflows.segment import load_job


def without_result(function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Call a function whose outputs are files."""
    function(*arguments, **options)


class PartCalls(Protocol):
    """Makes calls that compute parts of tomograms, which the calls for whole tomograms then find."""

    def calls(self, files: Mapping[str, Path], workers: int) -> dict[str, Call]:
        """Calls by the name of the tomogram and, after a line break, of the part."""
        ...


class ShareCalls:
    """Calls of a function that computes a share of a tomogram.

    Parameters
    ----------
    compute
        Called with *arguments*, file, name, and number of the share and of shares.
    """

    def __init__(self, compute: Callable[..., None], *arguments: Any, **options: Any) -> None:
        self.compute, self.arguments, self.options = compute, arguments, options

    def calls(self, files: Mapping[str, Path], workers: int) -> dict[str, Call]:
        """As many shares of each tomogram as give all workers one."""
        count = -(-workers // len(files))
        return {
            f"{name}\n{number}": (
                self.compute, (*self.arguments, path.resolve(), name, (number, count)), self.options
            )
            for name, path in files.items()
            for number in range(count)
        }  # fmt: skip


class SlabCalls:
    """Calls that compute the scores of parts of tomograms.

    Parameters
    ----------
    model, out, config, device, noise
        As of :func:`cryovox.workflows.segment.load_job`.
    """

    def __init__(
        self, model: Path, out: Path, config: SegmentConfig, device: Device, noise: float | None = None
    ) -> None:
        self.model, self.out, self.config, self.device, self.noise = model, out, config, device, noise

    def calls(self, files: Mapping[str, Path], workers: int) -> dict[str, Call]:
        """A call for each part, so that each worker has one; tomograms of one part are left out."""
        from cryovox.models.card import read_card

        stride, shares = read_card(self.model).output_stride, -(-workers // len(files))
        calls: dict[str, Call] = {}
        for name, path in files.items():
            try:
                depth = read_header(path).shape[0]
            except (RequestError, OSError):  # the call for the whole tomogram tells
                continue
            own = parts(-(-depth // stride), shares)
            for part in own if len(own) > 1 else ():
                arguments = (
                    self.model,
                    self.out,
                    self.config,
                    self.device,
                    self.noise,
                    path.resolve(),
                    name,
                    part,
                )
                calls[f"{name}\n{part[0]}"] = (score_part, arguments, {})
        return calls


def score_part(
    model: Path,
    out: Path,
    config: SegmentConfig,
    device: Device,
    noise: float | None,
    path: Path,
    name: str,
    part: tuple[int, int],
) -> None:
    """Compute the scores of some planes of a tomogram, unless the tomogram is finished."""
    from cryovox.workflows.manifest import Manifest

    job = load_job(model, out, config, device, noise)
    if Manifest(out, {}).done(name, job.key(name), path):
        return
    slabs = job.slabs(name, job.load(name, path))
    slabs.begin()
    low, high = part[0], min(part[1], slabs.shape[1])
    if low < high:
        slabs.write((low, high))


def on_workers(
    config: ClusterConfig,
    files: Mapping[str, Path],
    call: Callable[[Path], Call],
    out: Path,
    shares: PartCalls | None = None,
    on_progress: ProgressCallback = no_progress,
) -> tuple[list[Path], Failures]:
    """Process tomograms on workers.

    Parameters
    ----------
    files
        Name -> tomogram.
    call
        Gives the call for a tomogram.
    shares
        Where there are more workers than tomograms, these calls are made first.

    Returns
    -------
    done, failures
        Tomograms whose outputs are written, and what went wrong with the others.
    """
    with connected(config) as client:
        lost: Failures = {}
        if shares is not None and config.workers_of(client) > len(files):
            calls = shares.calls(files, config.workers_of(client))
            failed = spread(client, config, calls, out, renamed(on_progress, "parts"))[1]
            lost = {key.partition("\n")[0]: error for key, error in failed.items()}
        calls = {name: call(path.resolve()) for name, path in files.items() if name not in lost}
        _, failures = spread(client, config, calls, out, renamed(on_progress, "tomograms"))
    failures = lost | failures
    return [path for name, path in files.items() if name not in failures], failures
