"""Checks of a request to train that need no torch, so that errors appear within a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryovox.core.errors import RequestError
from cryovox.training.strategies import facts
from cryovox.workflows.config import TrainConfig

STREAM = "stream:"
"""Prefix of data that are simulated during the training."""


def check_training(
    data: Path | str, out: Path, config: TrainConfig, targets: Sequence[Path] = (), *, overwrite: bool = False
) -> None:
    """Refuse invalid names, files and settings.

    The training checks all of them again when it opens them, and what needs a network.
    """
    from cryovox.models.card import read_card
    from cryovox.workflows.training.network import network_options
    from cryovox.workflows.training.run_folder import check_settings

    network_options(config.network)
    if config.network.start is not None:
        read_card(config.network.start)
    if facts(config.strategy).task == "distillation":
        from cryovox.workflows.training.teacher import check_data

        check_data(str(data), config)
    elif not str(data).startswith(STREAM):
        _check_data(Path(data))
    for target in targets:
        if not target.exists() and not any(c in str(target) for c in "*?["):
            raise RequestError(target, "there is no such file or folder", "check the path")
    if not overwrite:
        check_settings(out, config)


def _check_data(path: Path) -> None:
    from cryovox.formats import dataset, subtomograms

    if not path.exists():
        raise RequestError(path, "there is no such file or folder", "check the path")
    if subtomograms.is_set(path):
        return
    if path.is_dir() or path.suffix in (".yaml", ".yml"):
        dataset.read(path)
