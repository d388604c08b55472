"""From a cryo-electron tomogram to a trustworthy segmentation and particle list."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Dataset": "cryovox.core.dataset:Dataset",
    "LabelMap": "cryovox.core.volume:LabelMap",
    "Particles": "cryovox.core.particles:Particles",
    "RequestError": "cryovox.core.errors:RequestError",
    "ScoreMap": "cryovox.core.volume:ScoreMap",
    "Species": "cryovox.core.particles:Species",
    "Volume": "cryovox.core.volume:Volume",
    "adapt": "cryovox.workflows.training.adapt:adapt",
    "evaluate_labels": "cryovox.metrics.segmentation:evaluate_labels",
    "evaluate_particles": "cryovox.metrics.evaluation:evaluate_particles",
    "find": "cryovox.workflows.find:find",
    "load_model": "cryovox.models.checkpoint:load_model",
    "pick": "cryovox.picking:pick",
    "pick_labels": "cryovox.picking:pick_labels",
    "read_dataset": "cryovox.formats.dataset:read",
    "read_labels": "cryovox.formats:read_labels",
    "read_particles": "cryovox.formats:read_particles",
    "read_scores": "cryovox.formats.scores:read",
    "read_volume": "cryovox.formats:read_volume",
    "segment": "cryovox.workflows.segment:segment",
    "train": "cryovox.workflows.training.run:train",
    "train_supervised": "cryovox.workflows.training.run:train",  # former name, goes in the next version
    "write_labels": "cryovox.formats:write_labels",
    "write_particles": "cryovox.formats:write_particles",
    "write_volume": "cryovox.formats:write_volume",
}
"""The public names; each is imported on first use, so that reading a file does not load torch."""

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pkgutil import resolve_name

    return resolve_name(_PUBLIC[name])


def __dir__() -> list[str]:
    return sorted(__all__)
