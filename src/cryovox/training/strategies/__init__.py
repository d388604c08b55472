"""The table of training strategies, and what can be said of each without loading torch."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any, Literal, NamedTuple

from cryovox.core.registry import Registry

STRATEGIES = Registry(
    "strategy",
    "cryovox.strategies",
    {
        "supervised": "cryovox.training.strategies.supervised:Supervised",
        "distill": "cryovox.training.strategies.distill:Distill",
        "vox-uda": "cryovox.training.strategies.uda.vox_uda:VoxUDA",
        "vox-zsda": "cryovox.training.strategies.zsda.vox_zsda:VoxZSDA",
        "vox-zsda-few": "cryovox.training.strategies.zsda.vox_zsda:FewTarget",
        "dann": "cryovox.training.strategies.baselines.alignment:Dann",
        "advent": "cryovox.training.strategies.baselines.alignment:Advent",
        "coral": "cryovox.training.strategies.baselines.alignment:Coral",
        "mmd": "cryovox.training.strategies.baselines.alignment:Mmd",
        "fda": "cryovox.training.strategies.baselines.style_transfer:FourierDomainAdaptation",
        "spectrum-matching": "cryovox.training.strategies.baselines.style_transfer:SpectrumMatching",
        "histogram-matching": "cryovox.training.strategies.baselines.style_transfer:HistogramMatching",
        "adaptive-bn": "cryovox.training.strategies.baselines.style_transfer:AdaptiveBatchNorm",
        "mean-teacher": "cryovox.training.strategies.baselines.mean_teacher:MeanTeacher",
        "fixmatch": "cryovox.training.strategies.baselines.mean_teacher:FixMatch",
        "mic": "cryovox.training.strategies.baselines.mean_teacher:MaskedConsistency",
        "semi-etpicker": "cryovox.training.strategies.semi.semi_etpicker:SemiETPicker",
        "heatmap-mean-teacher": "cryovox.training.strategies.baselines.mean_teacher:HeatmapMeanTeacher",
        "heatmap-fixmatch": "cryovox.training.strategies.semi.semi_etpicker:SemiETPicker",
        "pseudo-labels": "cryovox.training.strategies.semi.semi_etpicker:SemiETPicker",
        "heavy-augmentation": "cryovox.training.strategies.baselines.augmentation:HeavyAugmentation",
        "fourier-mixing": "cryovox.training.strategies.baselines.augmentation:FourierMixing",
        "mixstyle": "cryovox.training.strategies.baselines.generalization:MixStyle",
        "swad": "cryovox.training.strategies.baselines.generalization:Swad",
        "rsc": "cryovox.training.strategies.baselines.generalization:Rsc",
    },
)

Task = Literal[
    "supervised", "semi-supervised", "distillation", "domain adaptation", "domain generalization"
]  # fmt: skip


class Facts(NamedTuple):
    """What the command line needs to know of a strategy."""

    task: Task
    """Decides which data the command takes: `--data`, `--source` and `--target`, or `--source` alone."""
    summary: str
    """One line for lists."""
    config: str
    """Module and class of its settings, below `cryovox.training.strategies.config`."""
    baseline: bool = True


FACTS: dict[str, Facts] = {
    "supervised": Facts(
        "supervised", "Label maps, picks or masks", "supervised:SupervisedConfig", baseline=False
    ),
    "distill": Facts(
        "distillation", "A light network learns the scores of a trained one", "distill:DistillConfig",
        baseline=False,
    ),
    "semi-etpicker": Facts(
        "semi-supervised", "SemiETPicker: multi-view pseudo-labels, DropBlock",
        "semi_etpicker:SemiETPickerConfig", baseline=False,
    ),
    "heatmap-mean-teacher": Facts(
        "semi-supervised", "Mean teacher on heatmaps", "semi_etpicker:HeatmapTeacherConfig"
    ),
    "heatmap-fixmatch": Facts("semi-supervised", "FixMatch on heatmaps", "semi_etpicker:FixMatchConfig"),
    "pseudo-labels": Facts(
        "semi-supervised", "Pseudo-labels from a teacher that is fixed for a round",
        "semi_etpicker:RoundsConfig",
    ),
    "vox-uda": Facts(
        "domain adaptation", "Vox-UDA: target noise, denoised pseudo-labels, consistency, alignment",
        "vox_uda:VoxUDAConfig", baseline=False,
    ),
    "vox-zsda-few": Facts(
        "domain adaptation", "Vox-ZSDA combined with Vox-UDA, for few target tomograms",
        "vox_zsda:FewTargetConfig", baseline=False,
    ),
    "adaptive-bn": Facts(
        "domain adaptation", "Batch-norm statistics of the target (AdaBN)",
        "style_transfer:AdaptiveBatchNormConfig",
    ),
    "advent": Facts(
        "domain adaptation", "Adversarial alignment of entropy maps (AdvEnt)", "alignment:AdventConfig"
    ),
    "coral": Facts(
        "domain adaptation", "Alignment of feature covariances (Deep CORAL)", "alignment:CoralConfig"
    ),
    "dann": Facts(
        "domain adaptation", "Adversarial alignment of features (DANN)", "alignment:DannConfig"
    ),
    "fda": Facts(
        "domain adaptation", "Low-frequency amplitudes of the target (FDA)", "style_transfer:FourierConfig"
    ),
    "fixmatch": Facts(
        "domain adaptation", "Confident pseudo-labels (FixMatch)", "mean_teacher:ConfidentConfig"
    ),
    "histogram-matching": Facts(
        "domain adaptation", "Gray-value histogram of the target", "style_transfer:HistogramMatchingConfig"
    ),
    "mean-teacher": Facts(
        "domain adaptation", "Consistency with an EMA teacher (mean teacher)", "mean_teacher:TeacherConfig"
    ),
    "mic": Facts("domain adaptation", "Masked image consistency (MIC)", "mean_teacher:MicConfig"),
    "mmd": Facts(
        "domain adaptation", "Maximum mean discrepancy of features (DAN)", "alignment:MmdConfig"
    ),
    "spectrum-matching": Facts(
        "domain adaptation", "Radial amplitude spectrum of the target (DeePiCt)",
        "style_transfer:SpectrumMatchingConfig",
    ),
    "vox-zsda": Facts(
        "domain generalization", "Vox-ZSDA: noise prior, graph learning, graph contrast",
        "vox_zsda:VoxZSDAConfig", baseline=False,
    ),
    "fourier-mixing": Facts(
        "domain generalization", "Amplitudes mixed between patches (FACT)", "augmentation:FourierMixingConfig"
    ),
    "heavy-augmentation": Facts(
        "domain generalization", "Random noise, CTF and missing wedge", "augmentation:HeavyConfig"
    ),
    "mixstyle": Facts(
        "domain generalization", "Feature statistics mixed between patches (MixStyle)",
        "generalization:MixStyleConfig",
    ),
    "rsc": Facts("domain generalization", "Self-challenging of features (RSC)", "generalization:RscConfig"),
    "swad": Facts("domain generalization", "Dense weight averaging (SWAD)", "generalization:SwadConfig"),
}  # fmt: skip


def facts(name: str) -> Facts:
    """Facts of a strategy; those of other packages are read from the class."""
    if name in FACTS:
        return FACTS[name]
    kind = STRATEGIES[name]
    summary = (kind.__doc__ or "").strip().partition("\n")[0]
    return Facts(kind.task, summary, "", baseline=False)


def config_of(name: str) -> Any:
    """The class of a strategy's own settings."""
    if name not in FACTS:
        return STRATEGIES[name].Config
    return resolve_name(f"cryovox.training.strategies.config.{FACTS[name].config}")


def name_of(config: type) -> str:
    """The strategy whose own settings are of this type; each strategy has a type of its own."""
    return next(name for name in STRATEGIES if config_of(name) is config)
