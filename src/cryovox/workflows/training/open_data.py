"""Training data by the name that the user gives."""

from __future__ import annotations

from pathlib import Path

from cryovox.core.errors import RequestError
from cryovox.formats import subtomograms
from cryovox.training.strategies import facts
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.training.checks import STREAM
from cryovox.workflows.training.data import SetData, TomogramData, TrainingData
from cryovox.workflows.training.simulated import SimulatedData


def open_training_data(
    data: Path | str | TrainingData, config: TrainConfig, mask: Path | None = None
) -> TrainingData:
    """Open `stream:NAME`, a subtomogram set, or a dataset; data that are open are returned.

    Parameters
    ----------
    config
        In semi-supervised training, entries of a dataset without labels and particles are unlabeled
        tomograms.
    mask
        Mask, or folder of masks named after the tomograms, in place of those of the entries.
    """
    if isinstance(data, TrainingData):
        return data
    if mask is not None and (str(data).startswith(STREAM) or subtomograms.is_set(Path(data))):
        raise RequestError("--mask", f"goes with tomograms, which {data} does not hold", "leave --mask out")
    if str(data).startswith(STREAM):
        return SimulatedData(str(data).removeprefix(STREAM))
    path = Path(data)
    if subtomograms.is_set(path):
        return SetData.read(path, config.validation, config.sets)
    unlabeled = facts(config.strategy).task == "semi-supervised"
    return TomogramData(path, config.validation, unlabeled=unlabeled, mask=mask)
