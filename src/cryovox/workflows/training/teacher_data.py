"""Data of a distillation: annotated ones, or tomograms in which only the teacher picks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryovox.core.errors import RequestError
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.data.patches import TargetSpec
from cryovox.data.regions import Region, hold_out
from cryovox.data.sampling import SamplingConfig
from cryovox.models.card import read_card
from cryovox.workflows.config import HeldOutConfig, TrainConfig
from cryovox.workflows.inputs import check_voxel_size
from cryovox.workflows.manifest import sha256
from cryovox.workflows.subsets import keep_names
from cryovox.workflows.training.data import TomogramData, TrainingData
from cryovox.workflows.training.simulated import SimulatedData
from cryovox.workflows.training.target import dataset_of, open_target
from cryovox.workflows.training.teacher import (
    check_data,
    check_species,
    is_annotated,
    own_settings,
    teacher_of,
)

if TYPE_CHECKING:
    from torch import nn

    from cryovox.inference.stream import TilePlan

NOT_ANNOTATED = (
    "thresholds and held-out scores compare with the picks of the teacher, not with annotations: where the "
    "teacher errs, they count its errors as right"
)


def kind_of_data(name: str, config: TrainConfig) -> type[TrainingData]:
    """The kind of data that a name stands for; data that do not fit the teacher are refused."""
    check_data(name, config)
    if SimulatedData.accepts(name):
        return SimulatedData
    dataset = dataset_of(Path(name))
    return TomogramData if dataset is not None and is_annotated(dataset) else TeacherData


def check_opened(data: TrainingData, config: TrainConfig) -> None:
    """Refuse data with other species, voxels or whitening than the teacher's."""
    card = read_card(teacher_of(config))
    if data.whitened != card.whitened:
        one, other = ("whitened", "not") if data.whitened else ("not whitened", "whitened")
        message = f"the tomograms are {one}, and those of the teacher were {other}"
        raise RequestError(data.name, message, "choose a stream and a --start that go with the teacher")
    check_species(data.name, data.species, card)
    check_voxel_size(Path(data.name), data.voxel_size, card)


class TeacherData(TrainingData):
    """Tomograms without annotations, in which the teacher picks before the training.

    Parameters
    ----------
    name
        For the manifest.
    teacher
        Model file.
    regions
        To train on and to hold out from; annotations are not used.
    files
        Hashes of the tomograms by name.
    held_out
        Part of the picks to hold out, where no region is called as one of *held*.
    held
        Names of the regions to validate on.
    most
        Voxels to search.
    """

    places = True
    annotated = False
    truth = "picks of the teacher"
    warnings = (NOT_ANNOTATED,)

    def __init__(
        self,
        name: str,
        teacher: Path,
        regions: list[Region],
        files: Mapping[str, str],
        held_out: HeldOutConfig = HeldOutConfig(),
        *,
        held: frozenset[str] = frozenset(),
        most: float = 64e6,
        on_progress: ProgressCallback = no_progress,
    ) -> None:
        card = read_card(teacher)
        self.name, self.teacher, self.files = name, teacher, dict(files)
        self.species, self.voxel_size, self.whitened = card.species, card.voxel_size, card.whitened
        self.contrast = "dark" if regions[0].normalize.sign < 0 else "bright"
        self.held_out, self.most, self.on_progress = held_out.held_out, most, on_progress
        self.training = [region for region in regions if region.name not in held]
        self.held = [region for region in regions if region.name in held]
        if not self.training:
            raise RequestError(name, "has no entry with split: train", "add tomograms to train on")
        self._searched = False

    @classmethod
    def accepts(cls, name: str) -> bool:
        return True

    @classmethod
    def read(
        cls,
        name: str,
        config: TrainConfig,
        mask: Path | None = None,
        subset: Path | None = None,
        on_progress: ProgressCallback = no_progress,
    ) -> TeacherData:
        """A tomogram, a folder or pattern of them, or a dataset without its split "test"."""
        teacher, dataset = teacher_of(config), dataset_of(Path(name))
        target = open_target([name], read_card(teacher), mask=mask)
        kept = keep_names({region.name: region.name for region in target.regions}, subset)
        val = () if dataset is None else dataset.split("val")
        data = cls(
            name,
            teacher,
            [region for region in target.regions if region.name in kept],
            target.inputs(),
            config.validation,
            held=frozenset(entry.name for entry in val),
            most=own_settings(config).pick_voxels * 1e6,
            on_progress=on_progress,
        )
        data.notes = tuple(target.notes)
        return data

    def inputs(self) -> dict[str, Any]:
        return {"teacher": sha256(self.teacher), "tomograms": self.files}

    @property
    def unsearched(self) -> list[Region]:
        return self.training

    def search(self, device: str) -> None:
        """Let the teacher pick, once."""
        if self._searched:
            return
        from cryovox.models.checkpoint import load_model
        from cryovox.training.evaluation.teacher_picks import limit_voxels, teacher_annotations

        network, card = load_model(self.teacher)
        network = network.to(device)
        training = limit_voxels(self.training, self.most)
        held = limit_voxels(self.held, self.most / 4) if self.held else []
        regions, searched = [*training, *held], list[Region]()
        for region in regions:
            self.on_progress("picks of the teacher", len(searched) / len(regions), region.name)
            searched.append(teacher_annotations(region, network, card))
        self.training, self.held = searched[: len(training)], searched[len(training) :]
        if not any(len(region.annotated) or region.extended_by_channel for region in self.training):
            message = "the teacher finds nothing here, so there is nothing to learn"
            raise RequestError(self.name, message, "try `cryovox find` with the teacher first")
        if not self.held:
            self.training, self.held = hold_out(self.training, self.held_out)
        self._searched = True

    def stream(self, sampling: SamplingConfig) -> Any:
        return self.unlabeled(sampling)

    def unlabeled(self, sampling: SamplingConfig) -> Any:
        """Patches around the picks of the teacher and anywhere."""
        from cryovox.data.streams import PatchStream

        self.search(sampling.device)
        return PatchStream(self.training, sampling)

    def validate(self, network: nn.Module, spec: TargetSpec, tiles: TilePlan) -> Mapping[str, float]:
        from cryovox.training.evaluation.validate import thresholds_at_picks, validate

        metrics = validate(network, self.held, spec, tiles)
        return metrics if "score" in metrics else thresholds_at_picks(network, self.training, spec, tiles)

    def limit_held_out(self, most: int | None, tiles: TilePlan) -> None:
        """Not limited: `pick_voxels` limits all regions."""
