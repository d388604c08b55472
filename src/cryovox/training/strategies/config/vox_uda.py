"""Settings of `cryovox.training.strategies.vox_uda`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from cryovox.core.config import Config
from cryovox.filters.config import Reading


class VoxUDAConfig(Config):
    """The parts of Vox-UDA, each of which can be switched off."""

    ngm: bool = True
    """Measure the noise in the target; otherwise `fixed_noise` is added."""
    noise_mode: Literal["mean", "averaged", "rms"] = "mean"
    """How the white noise of several patches becomes one level; `rms` keeps it, the others shrink it."""
    cube: float = Field(0.625, gt=0, lt=1)
    """Side of the low frequencies that are no noise, over that of the spectrum: 20 of 32."""
    reading: Reading = "remove-cube"
    """What the filter rate of the paper, the third power of `cube`, is the share of."""
    sampled: int = Field(10, ge=1)
    """Target patches whose white noise is measured."""
    redraw: int = Field(100, ge=1)
    """Steps after which others are drawn: an epoch."""
    noise_kind: Literal["coloured", "white"] = "coloured"
    """Noise that gives the source the power of the target at every frequency, wedge and envelope included
    (ours), or white noise of the level that a high-pass filter measures."""
    fixed_noise: float = Field(0.3, ge=0)
    """Standard deviation of the noise without `ngm`."""
    restandardise: bool = False
    """Bring the noisy source back to unit variance, as network input has it (ours)."""
    learn_noisy: bool = True
    """Judge the masks of the noisy source too (ours)."""
    consistency: bool = True
    """Features of the source and of the noisy source are to agree."""
    taps: tuple[float, ...] = (0.2, 0.2, 0.3, 0.3)
    """Weights of the features, from fine to coarse; all alike in a network with another number of them."""
    pseudo: bool = True
    """Learn the target from what the teacher sees in it."""
    denoiser: Literal["ibf", "bf", "ngm", "none"] = "ibf"
    """What the teacher's view is cleaned by: the improved or the classic bilateral filter, or the low
    frequencies alone."""
    sigma_d: float = Field(120.0, gt=0)
    """Of the bilateral filters, in voxels; beyond 3 it makes no difference in a window of 3."""
    sigma_r: float = Field(1.2, gt=0)
    """Of the bilateral filters, in grey values."""
    threshold: float = Field(0.85, gt=0, lt=1)
    """Lowest probability of a pseudo-label."""
    fair: bool = True
    """Lower the threshold of classes that the teacher is less sure of, so that rare ones stay (ours)."""
    priors: float = Field(0.0, ge=0, le=1)
    """How far the teacher's classes are brought to the shares that they have in the source (ours)."""
    pseudo_from: float = Field(0.1, ge=0, lt=1)
    """Progress at which pseudo-labels begin."""
    teacher_decay: float = Field(0.999, ge=0, lt=1)
    """Decay of the moving average that teaches, and that is kept."""
    target_statistics: bool = True
    """Batch norms of the teacher count the target alone (ours)."""
    adversarial: bool = True
    """Align the coarsest features by a discriminator behind a gradient reversal."""
    parts: dict[str, float] = Field({})
    """Weights of `consistency`, `adversarial` and `pseudo`, 1 as in the paper."""

    @model_validator(mode="after")
    def _heeded(self) -> Self:
        """Refuse settings of white noise where it is coloured and nothing else reads them."""
        if not self.ngm or self.noise_kind == "white":
            return self
        filtered = () if self.denoiser == "ngm" else ("cube", "reading")
        for name in ("noise_mode", "sampled", "redraw", "restandardise", *filtered):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is one of white noise; say noise_kind: white as well")
        return self
