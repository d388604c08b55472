"""Settings of `cryovox.training.strategies.uda.vox_uda`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cryovox.core.config import Config
from cryovox.filters.config import HighPassVariant

WeightedLoss = Literal["consistency", "adversarial", "pseudo"]
"""Losses that have a weight."""


class VoxUDAConfig(Config):
    """Vox-UDA; each part can be switched off."""

    basic: ClassVar[tuple[str, ...] | None] = ()
    renamed: ClassVar[dict[str, str]] = {
        "restandardise": "restandardize",
        "sampled": "noise_patches",
        "redraw": "noise_interval",
        "reading": "filter_variant",
        "taps": "feature_weights",
        "fair": "class_thresholds",
        "priors": "class_prior_correction",
        "parts": "loss_weights",
    }
    renamed_values: ClassVar[dict[str, dict[str, str]]] = {"noise_kind": {"coloured": "colored"}}

    ngm: bool = True
    """Noise generation module: add noise measured in the target; otherwise noise of `fixed_noise`."""
    noise_mode: Literal["mean", "averaged", "rms"] = "mean"
    """How white noise of several patches becomes one level; `rms` keeps the level, the others reduce it."""
    cube: float = Field(0.625, gt=0, lt=1)
    """Size of the low-frequency cube that is not noise, as a fraction of the spectrum (20 of 32)."""
    filter_variant: HighPassVariant = "remove-cube"
    """High-pass filter that measures the noise: frequencies inside the cube removed (`remove-cube`), or those
    outside it kept (`keep-outer`), or the highest ones kept (`keep-highest`); the paper is ambiguous."""
    noise_patches: int = Field(10, ge=1)
    """Number of target patches in which the noise is measured."""
    noise_interval: int = Field(100, ge=1)
    """Steps after which the noise is measured in new target patches (an epoch)."""
    noise_kind: Literal["colored", "white"] = "colored"
    """`colored`: noise that gives the source the power spectrum of the target (our addition); `white`:
    white noise of the level that a high-pass filter measures."""
    fixed_noise: float = Field(0.3, ge=0)
    """Standard deviation of the noise without `ngm`."""
    restandardize: bool = False
    """Standardize the noisy source to unit variance (our addition)."""
    learn_noisy: bool = True
    """Supervised loss on the noisy source as well (our addition)."""
    consistency: bool = True
    """Consistency loss between features of the source and of the noisy source."""
    feature_weights: tuple[float, ...] = (0.2, 0.2, 0.3, 0.3)
    """Weights of the features in the consistency loss, from fine to coarse; equal weights for a network with
    another number of features."""
    pseudo: bool = True
    """Pseudo-label loss on the target."""
    denoiser: Literal["ibf", "bf", "ngm", "none"] = "ibf"
    """Filter of the teacher's input: improved bilateral (ibf), bilateral (bf), low-pass (ngm) or none."""
    sigma_d: float = Field(120.0, gt=0)
    """Bilateral filters: standard deviation of the spatial Gaussian in voxels."""
    sigma_r: float | None = Field(None, gt=0)
    """Bilateral filters: standard deviation of the range Gaussian, in standard deviations of the input; by
    default 9.8 for ibf (1.2 for gray values in [0, 1], as published) and 1.2 for bf."""
    threshold: float = Field(0.85, gt=0, lt=1)
    """Minimum probability of a pseudo-label."""
    class_thresholds: bool = True
    """Adapt the threshold to each class: lower for classes with less confident predictions (our addition)."""
    class_prior_correction: float = Field(0.0, ge=0, le=1)
    """Strength (0 to 1) with which the class frequencies of pseudo-labels are corrected toward those of the
    source (our addition)."""
    pseudo_from: float = Field(0.1, ge=0, lt=1)
    """Progress (0 to 1) at which the pseudo-label loss begins."""
    teacher_decay: float = Field(0.999, ge=0, lt=1)
    """Decay of the EMA teacher, which is kept as the model; its reach is limited as that of `ema`."""
    target_statistics: bool = True
    """Batch-norm statistics of the teacher from the target alone (our addition)."""
    denoised_statistics: bool = True
    """While the teacher labels the filtered target, its batch-norm statistics are those of the filtered
    target, whose gray values vary less (our addition)."""
    adversarial: bool = True
    """Adversarial alignment of the coarsest features, with a gradient-reversal layer."""
    joint_pass: bool = True
    """Pass source, noisy source and target through the network together, so that batch norm cannot hide a
    difference in scale."""
    loss_weights: dict[WeightedLoss, Annotated[float, Field(ge=0)]] = Field({})
    """Weights of the losses `consistency`, `adversarial` and `pseudo`; 1 as in the paper."""

    @model_validator(mode="after")
    def _heeded(self) -> Self:
        """Refuse settings of white noise where it is colored and nothing else reads them."""
        if not self.ngm or self.noise_kind == "white":
            return self
        filtered = () if self.denoiser == "ngm" else ("cube", "filter_variant")
        for name in ("noise_mode", "noise_patches", "noise_interval", "restandardize", *filtered):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} applies to white noise only; set noise_kind: white as well")
        return self
