"""What is wrong with a request to train, as far as that can be said before torch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryovox.core.errors import RequestError
from cryovox.workflows.config import TrainConfig

STREAM = "stream:"


def check_training(
    data: Path | str, out: Path, config: TrainConfig, targets: Sequence[Path] = (), *, overwrite: bool = False
) -> None:
    """Refuse names, files and settings that cannot be, in a second instead of after ten.

    The training looks at all of them again when it opens them; what needs a network is refused there.
    """
    from cryovox.models.card import read_card
    from cryovox.workflows.training.network import settle
    from cryovox.workflows.training.run_folder import check_settings

    settle(config.network)
    if config.network.start is not None:
        read_card(config.network.start)
    if not str(data).startswith(STREAM):
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
