"""Settings of `cryovox.training.strategies.supervised`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cryovox.core.config import Config


class SupervisedConfig(Config):
    """What is minimised, and which weights are kept."""

    loss: Literal[
        "auto", "ce", "dice", "ce+dice", "ce+boundary", "tversky", "focal-heatmap", "weighted-mse", "point-ce"
    ] = "auto"
    """Loss; `auto` is the one of the network's source."""
    contrastive: float = Field(0.0, ge=0)
    """Weight of a supervised contrastive loss on the last features, for masks of networks that offer
    these; 0 leaves it out."""
    weights: dict[str, float] = Field({})
    """Weights of terms of the loss by the names that metrics.csv gives them, 1 for the others; for
    mvgformer xy, yz, xz, fused and vsl."""
    ema: float = Field(0.995, ge=0, lt=1)
    """Decay of the moving average of the weights that is validated and kept; 0 keeps the weights
    themselves."""
    drop_block: float = Field(0.0, ge=0, lt=1)
    """Share of the labelled patches that is replaced by cuboids of noise, after SemiETPicker."""
    unknown: Literal["ignore", "pu"] = "ignore"
    """Voxels of which nothing is known (outside picks, where the dataset is not exhaustive): `ignore`
    leaves them out, or to a teacher where there is one; `pu` gives them the positive-unlabelled risk."""
    hidden: float = Field(0.5, ge=0)
    """Under `pu`: how many unlabelled particles a patch shows for each labelled one."""
