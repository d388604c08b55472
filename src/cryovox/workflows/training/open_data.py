"""Training data by the name that the user gives."""

from __future__ import annotations

from pathlib import Path

from cryovox.core.errors import RequestError
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.training.strategies import facts
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.training.data import SetData, TomogramData, TrainingData
from cryovox.workflows.training.simulated import SimulatedData
from cryovox.workflows.training.teacher_data import check_opened, kind_of_data

KINDS: tuple[type[TrainingData], ...] = (SimulatedData, SetData, TomogramData)
"""Kinds of data; the first that accepts a name opens it."""


def open_training_data(
    data: Path | str | TrainingData,
    config: TrainConfig,
    mask: Path | None = None,
    subset: Path | None = None,
    on_progress: ProgressCallback = no_progress,
) -> TrainingData:
    """Open `stream:NAME`, a subtomogram set, or a dataset; data that are open are returned.

    Parameters
    ----------
    mask
        Mask, or folder of masks named after the tomograms, in place of those of the entries.
    subset
        File with the names of the entries to use.
    on_progress
        Receives the progress where the data take long to open.
    """
    if isinstance(data, TrainingData):
        return data
    name = str(data)
    distilled = facts(config.strategy).task == "distillation"
    kind = kind_of_data(name, config) if distilled else next(kind for kind in KINDS if kind.accepts(name))
    for option, value in (("--mask", mask), ("--subset", subset)):
        if value is not None and not kind.places:
            raise RequestError(
                option, f"goes with tomograms, which {data} does not hold", f"leave {option} out"
            )
    opened = kind.read(name, config, mask, subset, on_progress)
    if distilled:
        check_opened(opened, config)
    return opened
