"""The data streams that a strategy trains on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cryovox.data.config import PatchConfig
from cryovox.data.sampling import SamplingConfig
from cryovox.workflows.training.data import TrainingData
from cryovox.workflows.training.target import TargetData

if TYPE_CHECKING:
    from cryovox.training.strategies.base import Strategy

UNLABELED_SEED, TARGET_SEED, ANYWHERE_SEED = 104_729, 15_485_863, 1_299_709
"""Added to the seed, so that these patches are not drawn with the random numbers of the labeled ones."""


def open_streams(
    strategy: Strategy, data: TrainingData, target: TargetData | None, sampling: SamplingConfig
) -> dict[str, Any]:
    """Open the streams that a strategy requires, by name.

    Parameters
    ----------
    target
        Target of an adaptation, from which the streams `target` and `noise` are drawn.
    sampling
        Of the labeled patches. Those of the stream `anywhere` have labels too, and are not placed at
        particles.
    """
    openers: dict[str, Callable[[], Any]] = {
        "labeled": lambda: data.stream(sampling),
        "unlabeled": lambda: data.unlabeled(_reseeded(sampling, UNLABELED_SEED)),
        "anywhere": lambda: data.stream(
            replace(_reseeded(sampling, ANYWHERE_SEED), patches=PatchConfig(foreground=0.0))
        ),
    }
    if target is not None:
        openers |= {
            "target": lambda: target.stream(_reseeded(sampling, TARGET_SEED)),
            "noise": lambda: _noise_stream(strategy, target, sampling),
        }
    return {name: openers[name]() for name in strategy.required_streams}


def _noise_stream(strategy: Any, target: TargetData, sampling: SamplingConfig) -> Any:
    """Patches in which the noise of the target is measured, drawn once per epoch."""
    from cryovox.data.unlabeled import RepeatedBatches

    config = strategy.config
    of_noise = replace(_reseeded(sampling, 1), batch_size=config.noise_patches, device="cpu")
    return RepeatedBatches(target.stream(of_noise), config.noise_interval)


def _reseeded(sampling: SamplingConfig, offset: int) -> SamplingConfig:
    seed, *rest = sampling.seed
    return replace(sampling, seed=(seed + offset, *rest))
