"""The card of a model file: everything but its weights, readable without torch.

One ``.safetensors`` file holds the weights; its header holds this card as JSON. Nothing is
unpickled.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from cryovox.core.config import Config, validated
from cryovox.core.errors import RequestError
from cryovox.core.particles import Species
from cryovox.core.reading import check_readable

FORMAT = "cryovox-model-1"
MODEL = "model.safetensors"
EMBEDDED = Path("embedded")
"""Name of the model that comes with the package."""
SAME_VOXEL_SIZE = 0.1
"""Relative difference from the voxel size of the training up to which tomograms are used as they are."""
FINEST, COARSEST = 1 / 8, 3.0
"""Voxel sizes, relative to that of the training, that are resampled."""


class SurroundingsCard(Config):
    """The head of a network that marks membranes and other surroundings of particles with masks."""

    species: tuple[Species, ...]
    """The kinds, extended, in the order of the channels of the head."""
    thresholds: dict[str, float]
    """Score from which a voxel belongs to a kind, chosen on simulated tomograms."""


class Card(Config):
    """Everything needed to run a model, apart from its weights."""

    network: str
    """Name of the network."""
    options: dict[str, Any]
    """Options of the network."""
    in_channels: int = 1
    """Channels of the input."""
    out_channels: int
    """Channels of the logits: the species; with softmax, the background comes first."""
    activation: Literal["softmax", "sigmoid"]
    """From logits to scores."""
    kind: Literal["mask", "heatmap"]
    """Output: a mask covers particles, a heatmap peaks at their centers."""
    output_stride: int = 1
    """Input voxels per output voxel."""
    patch: int
    """Edge of a tile in voxels; a memory cap never changes it."""
    overlap: float = Field(0.5, ge=0, lt=1)
    """Overlap of neighboring tiles, as a fraction of the tile."""
    species: tuple[Species, ...]
    """The species, in the order of their channels."""
    voxel_size: float
    """Voxel size in Å that the network was trained at."""
    contrast: Literal["dark", "bright"]
    """Contrast of the training tomograms; inside networks particles are bright."""
    normalisation: Literal["tomogram-zscore", "cube-zscore"] = "tomogram-zscore"
    """How gray values were scaled in training: over the tomogram, or over each subtomogram. At inference,
    tomograms are always scaled as a whole and subtomograms one by one."""
    whitened: bool = False
    """Whether tomograms are whitened first; see `cryovox.filters.whitening`."""
    surroundings: SurroundingsCard | None = None
    """Further head of the network, which `--surroundings` computes."""
    thresholds: dict[str, float] = Field(default_factory=dict)
    """Score threshold of each species, chosen on held-out regions."""
    calibration: dict[str, Any] | None = None
    """From scores to probabilities; see `cryovox.picking.calibration.Calibration`."""
    calibration_domain: dict[str, Any] | None = None
    """Fingerprint of the training tomograms, and the distance within which probabilities should hold;
    see `cryovox.metrics.fingerprint.Domain`."""
    domain: dict[str, Any] | None = None
    """Fingerprint of the tomograms that it was adapted to, their names and hashes, and the distance within
    which other tomograms belong to the same domain; see `cryovox.metrics.fingerprint.Domain`."""
    warnings: tuple[str, ...] = ()
    """Warnings about the model, such as a short training or a held-out score no better than a DoG picker's.
    `cryovox find` and its report repeat them."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Training manifest: config, data, hashes, steps, versions, held-out metrics."""


def is_embedded(path: Path) -> bool:
    """Whether a path is the name of the embedded model, not a file or folder of the user."""
    return path == EMBEDDED and not path.exists()


def model_file(path: Path) -> Path:
    """The path itself, the model file inside it if it is a run folder, or the file of the embedded model."""
    if is_embedded(path):
        return Path(str(files("cryovox.models").joinpath("weights", "embedded.safetensors")))
    if not path.is_dir():
        return path
    inside = path / MODEL
    if not inside.exists():
        message = f"is a folder that holds no {MODEL}"
        raise RequestError(path, message, "name a model file, or the run folder of `cryovox train`")
    return inside


def read_card(path: Path) -> Card:
    """Read the card of a model file, or of the model in a run folder; the weights stay on disk."""
    path = model_file(path)
    check_readable(path, "`cryovox train supervised` makes a model")
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if not 2 <= size <= 100_000_000:
                raise ValueError("no safetensors header")
            header = json.loads(file.read(size))
        meta = header["__metadata__"]
        card = {**json.loads(meta["cryovox"])}
        version = card.pop("format", meta.get("format"))  # older files have it beside the card
        if version != FORMAT:
            raise ValueError(f"format {version!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"is not a cryovox model ({error})"
        raise RequestError(path, message, "give a model.safetensors written by `cryovox train`") from None
    return validated(Card, card, path)
