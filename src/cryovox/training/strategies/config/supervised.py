"""Settings of `cryovox.training.strategies.supervised`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from cryovox.core.config import Config


class SupervisedConfig(Config):
    """Supervised loss."""

    basic: ClassVar[tuple[str, ...] | None] = ()
    renamed: ClassVar[dict[str, str]] = {
        "hidden": "unlabeled_ratio",
        "unlabelled_ratio": "unlabeled_ratio",
        "unlabelled_weight": "unlabeled_weight",
    }

    loss: Literal[
        "auto", "ce", "dice", "ce+dice", "ce+boundary", "tversky", "focal-heatmap", "weighted-mse", "point-ce"
    ] = "auto"
    """Loss; `auto` is cross-entropy plus Dice for masks (Tversky for deepfinder), and focal for heatmaps."""
    contrastive: float = Field(0.0, ge=0)
    """Weight of a supervised contrastive loss on the last features, for networks that provide them; 0 turns
    it off."""
    weights: dict[str, float] = Field({})
    """Weights of the loss terms, by their names in metrics.csv (mvgformer: xy, yz, xz, fused, vsl); 1 for
    the others."""
    ema: float = Field(0.999, ge=0, lt=1)
    """Decay of the exponential moving average of the weights, which is validated and kept; 0 keeps the
    weights themselves. The mean age of the averaged weights is 1 / (1 - decay) steps, but at most a tenth of
    the steps so far."""
    drop_block: float = Field(0.0, ge=0, lt=1)
    """Fraction of labeled patches replaced by cuboids of noise (DropBlock of SemiETPicker)."""
    unknown: Literal["ignore", "background", "pu"] = "ignore"
    """Unlabeled voxels outside picks, where the dataset is not exhaustive: `ignore` them in the loss,
    presume `background` away from picks, or use the positive-unlabeled risk (`pu`)."""
    unlabeled_weight: float = Field(10.0, ge=0)
    """`background`: weight of the loss of unlabeled voxels; 1 is that of labeled background."""
    unlabeled_ratio: float = Field(0.5, ge=0)
    """`pu`: expected number of unlabeled particles for each labeled one."""
