"""The teacher of a distillation, and what must fit it; needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryovox.core.dataset import Dataset
from cryovox.core.errors import RequestError
from cryovox.core.particles import Species
from cryovox.formats import subtomograms
from cryovox.models.card import Card, read_card
from cryovox.training.strategies.config.distill import DistillConfig
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.inputs import check_voxel_size
from cryovox.workflows.manifest import sha256
from cryovox.workflows.training.checks import STREAM
from cryovox.workflows.training.target import dataset_of

if TYPE_CHECKING:
    from torch import nn

    from cryovox.workflows.training.data import TrainingData

MAX_WEIGHTS = 1_000_000
"""Weights up to which a student is called light."""


def teacher_of(config: TrainConfig) -> Path:
    """The model file of the teacher; one whose student could not be used as it is refused."""
    path = own_settings(config).teacher_file()
    if read_card(path).normalisation != "tomogram-zscore":
        message = "was trained on subtomograms, each normalized by itself"
        raise RequestError(path, message, "name a teacher that was trained on tomograms")
    return path


def own_settings(config: TrainConfig) -> DistillConfig:
    """Settings of the distillation itself."""
    own = config.strategy_config
    assert isinstance(own, DistillConfig)
    return own


def is_annotated(dataset: Dataset) -> bool:
    """Whether there are annotations to train on."""
    return any(e.labels is not None or e.particles is not None for e in dataset.split("train"))


def check_data(name: str, config: TrainConfig) -> None:
    """Refuse data that do not fit the teacher; simulated ones are checked when they are opened."""
    card, path = read_card(teacher_of(config)), Path(name)
    if name.startswith(STREAM):
        return
    if path.exists() and subtomograms.is_set(path):
        message = "is a subtomogram set, and a student learns from tomograms"
        raise RequestError(path, message, "give tomograms, a dataset.yaml or stream:PRESET")
    dataset = dataset_of(path)
    if dataset is not None:
        check_voxel_size(path, dataset.voxel_size, card)
        if is_annotated(dataset):
            check_species(name, dataset.species, card)


def check_species(name: str, species: tuple[Species, ...], card: Card) -> None:
    """Refuse annotations of other species than the teacher's; their order is that of the channels."""
    own, theirs = ([kind.name for kind in some] for some in (species, card.species))
    if own != theirs:
        message = f"annotates {', '.join(own)}, and the teacher predicts {', '.join(theirs)}"
        remedy = "list the species of the teacher, in its order, or give the tomograms without annotations"
        raise RequestError(name, message, remedy)


def teacher_facts(path: Path) -> dict[str, Any]:
    """Facts on the teacher for the card of the student."""
    card = read_card(path)
    return {"model": path.name, "sha256": sha256(path), "network": card.network, "options": card.options}


def student_card(card: Card, teacher: Card, data: TrainingData) -> Card:
    """The card of the student, with the warnings of its data and its teacher."""
    inherited = tuple(f"of the teacher: {text}" for text in teacher.warnings)
    return card.model_copy(update={"warnings": (*data.warnings, *inherited)})


def size_notes(network: nn.Module) -> list[str]:
    """A note on a student that is not light."""
    weights = sum(p.numel() for p in network.parameters())
    text = (
        f"the student has {weights / 1e6:.1f} million weights, and a light network has {MAX_WEIGHTS / 1e6:g} "
        "million at most; `cryovox models` lists smaller ones"
    )
    return [text] if weights > MAX_WEIGHTS else []
