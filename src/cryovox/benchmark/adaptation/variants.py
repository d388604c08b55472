"""Rows of the suites on subtomograms: Vox-UDA with one setting changed, and its baselines."""

from __future__ import annotations

from typing import Any

from cryovox.benchmark.adaptation.suite import (
    NETWORK,
    PUBLISHED,
    SOURCE_ONLY,
    SUPERVISED,
    VOX_UDA,
    AdaptationMethod,
    variant,
)

COMPONENTS: dict[str, dict[str, Any]] = {
    "no NGM": {"ngm": False},
    "no denoiser": {"denoiser": "none"},
    "no consistency": {"consistency": False},
    "no adversary": {"adversarial": False},
    "no pseudo-labels": {"pseudo": False},
    **{f"threshold {eta:g}": {"threshold": eta} for eta in (0.7, 0.8, 0.9, 0.95)},
    "denoiser ngm": {"denoiser": "ngm"},
    "denoiser bf": {"denoiser": "bf"},
    **{f"range of the filter {sigma:g}": {"sigma_r": sigma} for sigma in (1.2, 5.0, 12.0)},
    "one threshold for all": {"class_thresholds": False},
    "teacher 0.9": {"teacher_decay": 0.9},
    "white noise": {"noise_kind": "white"},
    "noisy source not judged": {"learn_noisy": False},
    "statistics of both domains": {"target_statistics": False},
    "separate passes": {"joint_pass": False},
    "statistics of the raw target": {"denoised_statistics": False},
}
"""Vox-UDA with one setting changed."""


PUBLISHED_NOISE: dict[str, dict[str, Any]] = {
    "": {},
    **{f", cube {k} of 32": {"cube": k / 32} for k in (14, 18, 24)},
    ", keep outer": {"filter_variant": "keep-outer"},
    ", keep highest": {"filter_variant": "keep-highest"},
    **{f", sampled {n}": {"noise_patches": n} for n in (5, 15, 20)},
    ", averaged": {"noise_mode": "averaged"},
    ", rms": {"noise_mode": "rms"},
}
"""The published Vox-UDA with one setting of its noise changed; default: cube 20 of 32, 10 samples, mean."""


VARIANTS: dict[str, dict[str, Any]] = {
    VOX_UDA: {},
    **COMPONENTS,
    **{f"as published{name}": PUBLISHED | changed for name, changed in PUBLISHED_NOISE.items()},
}


def variants(size: str) -> tuple[AdaptationMethod, ...]:
    """Source-only training, and Vox-UDA with one setting changed, in its default and its published form."""
    changed = (variant(name, size, VOX_UDA, own) for name, own in VARIANTS.items())
    return (*changed, AdaptationMethod(SOURCE_ONLY, NETWORK, size))


ELEMENTS = ("no NGM", "no denoiser", "no consistency", "no adversary", "no pseudo-labels", "separate passes",
            "statistics of both domains", "statistics of the raw target")  # fmt: skip
"""Elements of Vox-UDA that the suite `uda-shift` leaves out one by one."""


def shift_methods(size: str) -> tuple[AdaptationMethod, ...]:
    """Bounds, one baseline or more of each family, and Vox-UDA without each of its elements."""
    names = (SOURCE_ONLY, "adaptive-bn", "mean-teacher", "dann", VOX_UDA, "advent", "coral", "mmd", "fda",
             "mic", SUPERVISED)  # fmt: skip
    elements = (variant(f"{VOX_UDA}, {name}", size, VOX_UDA, COMPONENTS[name]) for name in ELEMENTS)
    published = variant(f"{VOX_UDA}, as published", size, VOX_UDA, PUBLISHED)
    weights = {"pseudo-labels x5": {"pseudo": 5.0}, "adversary x0.1": {"adversarial": 0.1}}
    weighted = (variant(f"{VOX_UDA}, {n}", size, VOX_UDA, {"loss_weights": w}) for n, w in weights.items())
    plain = (AdaptationMethod(name, NETWORK, size, strategy=name) for name in names)
    return (*plain, *elements, published, *weighted)
