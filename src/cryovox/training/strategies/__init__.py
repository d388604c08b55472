"""The table of training strategies."""

from __future__ import annotations

from cryovox.core.registry import Registry

STRATEGIES = Registry(
    "strategy",
    "cryovox.strategies",
    {
        "supervised": "cryovox.training.strategies.supervised:Supervised",
        "vox-uda": "cryovox.training.strategies.vox_uda:VoxUDA",
        "vox-zsda": "cryovox.training.strategies.vox_zsda:VoxZSDA",
        "vox-zsda-few": "cryovox.training.strategies.vox_zsda:FewTarget",
        "dann": "cryovox.training.strategies.alignment:Dann",
        "advent": "cryovox.training.strategies.alignment:Advent",
        "coral": "cryovox.training.strategies.alignment:Coral",
        "mmd": "cryovox.training.strategies.alignment:Mmd",
        "fda": "cryovox.training.strategies.appearance:FourierDomainAdaptation",
        "spectrum-matching": "cryovox.training.strategies.appearance:SpectrumMatching",
        "histogram-matching": "cryovox.training.strategies.appearance:HistogramMatching",
        "adaptive-bn": "cryovox.training.strategies.appearance:AdaptiveBatchNorm",
        "mean-teacher": "cryovox.training.strategies.teachers:MeanTeacher",
        "fixmatch": "cryovox.training.strategies.teachers:FixMatch",
        "mic": "cryovox.training.strategies.teachers:MaskedConsistency",
        "semi-etpicker": "cryovox.training.strategies.semi_etpicker:SemiETPicker",
        "heatmap-mean-teacher": "cryovox.training.strategies.semi_etpicker:HeatmapMeanTeacher",
        "heatmap-fixmatch": "cryovox.training.strategies.semi_etpicker:HeatmapFixMatch",
        "pseudo-labels": "cryovox.training.strategies.semi_etpicker:OfflinePseudoLabels",
        "heavy-augmentation": "cryovox.training.strategies.dressing:HeavyAugmentation",
        "fourier-mixing": "cryovox.training.strategies.dressing:FourierMixing",
        "mixstyle": "cryovox.training.strategies.generalising:MixStyle",
        "swad": "cryovox.training.strategies.generalising:Swad",
        "rsc": "cryovox.training.strategies.generalising:Rsc",
    },
)
