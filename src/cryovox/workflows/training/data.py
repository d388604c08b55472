"""Training data: annotated tomograms and subtomogram sets; simulated ones are in `simulated`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cryovox.core.errors import RequestError
from cryovox.core.particles import Species
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.data.patches import TargetSpec
from cryovox.data.regions import Region, hold_out, load_regions, open_unlabeled, whitened_region
from cryovox.data.sampling import SamplingConfig
from cryovox.formats import dataset as dataset_files
from cryovox.formats import subtomograms
from cryovox.inference.tiling import plan
from cryovox.models.card import model_file, read_card
from cryovox.training.strategies import facts
from cryovox.workflows.config import HeldOutConfig, TrainConfig
from cryovox.workflows.inputs import with_masks
from cryovox.workflows.subsets import entries_in
from cryovox.workflows.training.run_folder import fingerprint

if TYPE_CHECKING:
    from torch import nn

    from cryovox.data.cubes import Cubes
    from cryovox.inference.stream import TilePlan
    from cryovox.picking.calibration import Calibration


class TrainingData(ABC):
    """Data for the training, and held-out data for the validation.

    Attributes
    ----------
    name
        Origin, for the manifest.
    species, voxel_size, contrast, normalization, whitened
        For the card of the model.
    masked
        Whether every voxel has a label.
    """

    name: str
    species: tuple[Species, ...]
    voxel_size: float
    contrast: Literal["dark", "bright"]
    normalization: Literal["tomogram-zscore", "cube-zscore"] = "tomogram-zscore"
    whitened: bool = False
    masked: bool = True
    places: bool = False
    """Whether there are tomograms, from which unlabeled patches can be drawn."""
    annotated: bool = True
    """Whether anything is annotated, so that there are labeled patches."""
    notes: tuple[str, ...] = ()
    """Notes for the user before the training starts."""
    warnings: tuple[str, ...] = ()
    """Warnings about any model that is trained on these data."""
    truth: str = "annotations"
    """What held-out scores compare with."""

    @classmethod
    @abstractmethod
    def accepts(cls, name: str) -> bool:
        """Whether a name that the user gives stands for data of this kind."""

    @classmethod
    @abstractmethod
    def read(
        cls,
        name: str,
        config: TrainConfig,
        mask: Path | None = None,
        subset: Path | None = None,
        on_progress: ProgressCallback = no_progress,
    ) -> TrainingData:
        """Open data by name.

        Parameters
        ----------
        mask
            Mask, or folder of masks, in place of those of the tomograms.
        subset
            File with the names of the tomograms to use.
        on_progress
            Receives the progress where the data take long to open.
        """

    @abstractmethod
    def inputs(self) -> dict[str, Any]:
        """Contents in JSON, with hashes in place of paths."""

    @abstractmethod
    def stream(self, sampling: SamplingConfig) -> Any:
        """Endless batches, with methods ``batch(number)`` and ``close()``."""

    def unlabeled(self, sampling: SamplingConfig) -> Any:
        """Endless batches of patches for semi-supervised training, whose targets hold picks only."""
        raise self._without_places()

    def _without_places(self) -> RequestError:
        message = "has no tomograms, which semi-supervised training draws unlabeled patches from"
        return RequestError(self.name, message, "give a dataset.yaml with tomograms")

    @property
    def unsearched(self) -> Sequence[Any]:
        """Regions from which unlabeled patches are drawn."""
        return ()

    @abstractmethod
    def validate(self, network: nn.Module, spec: TargetSpec, tiles: TilePlan) -> Mapping[str, float]:
        """Metrics on held-out data; ``score`` selects the model."""

    def blob_picker_metrics(self, spec: TargetSpec, tiles: TilePlan) -> Mapping[str, float]:
        """Held-out scores of a DoG picker, as in `held_out.cross_fit`."""
        return {}

    def calibration(
        self, network: nn.Module, spec: TargetSpec, tiles: TilePlan, thresholds: Mapping[str, float]
    ) -> Mapping[str, Any]:
        """Calibration of the scores and its domain, as fields of the card; empty where there is none."""
        return {}

    @abstractmethod
    def limit_held_out(self, most: int | None, tiles: TilePlan) -> None:
        """Hold out less, so that a validation takes *most* tiles at most; None sets no limit."""

    def picks(self) -> int | None:
        """Number of annotated particles for the training; None for an endless stream."""
        return None

    def check(self, spec: TargetSpec, *, unlabeled: bool = False) -> None:
        """Refuse data without targets for *spec*, or without the unlabeled patches that are needed."""
        if unlabeled and not self.places:
            raise self._without_places()
        if spec.kind == "mask" and not self.masked:
            message = "has no masks, which this network learns from"
            raise RequestError(self.name, message, "cut it with `--labels`, or train heatmap-unet")
        extended = [species.name for species in self.species if species.extended]
        if spec.kind == "heatmap" and extended:
            message = f"{extended[0]} is extended, and this network marks the centers of particles"
            raise RequestError(self.name, message, "train one that predicts masks: `--model residual-unet`")

    def patch_size(self, network: Any) -> int:
        """Default edge of a patch for a network, in voxels."""
        return int(getattr(network, "patch", 32))


def needs_whitened(config: TrainConfig) -> bool:
    """Whether the initial model or the teacher of a training needs whitened tomograms."""
    models = (config.network.start, getattr(config.strategy_config, "teacher", None))
    return any(read_card(model_file(path)).whitened for path in models if path is not None)


class TomogramData(TrainingData):
    """The entries of a `dataset.yaml`.

    Parameters
    ----------
    unlabeled
        Whether entries without labels and particles are accepted, as unlabeled tomograms.
    mask
        Mask, or folder of masks, in place of those of the entries.
    subset
        File with the names of the entries to use.
    whitened
        Whether tomograms are whitened, and held in memory.
    """

    places = True

    def __init__(
        self,
        path: Path,
        held_out: HeldOutConfig,
        *,
        unlabeled: bool = False,
        mask: Path | None = None,
        subset: Path | None = None,
        whitened: bool = False,
        on_progress: ProgressCallback = no_progress,
    ) -> None:
        chosen = entries_in(dataset_files.read(path), subset)
        self.name, self.dataset = str(path), with_masks(chosen, mask)
        self.species, self.voxel_size = self.dataset.species, self.dataset.voxel_size
        entries = self.dataset.split("train")
        without = [e for e in entries if unlabeled and e.labels is None and e.particles is None]
        self.unlabeled_regions = [open_unlabeled(self.dataset, e) for e in without]
        self.training = load_regions(self.dataset, [e for e in entries if e not in without], on_progress)
        if not self.training:
            message = "no entry with split: train has picks" if without else "has no entry with split: train"
            raise RequestError("dataset.yaml", message, "add `entries:` to train on")
        self.held: list[Region] = load_regions(self.dataset, self.dataset.split("val"), on_progress)
        self.whitened = whitened
        if whitened:
            self.unlabeled_regions = [whitened_region(region) for region in self.unlabeled_regions]
            self.training = [whitened_region(region) for region in self.training]
            self.held = [whitened_region(region) for region in self.held]
        if not self.held:
            self.training, self.held = hold_out(self.training, held_out.held_out)
        if not any(len(s.truth()) or s.extended_by_channel for s in self.training):
            message = "no annotated particle lies in the training regions"
            raise RequestError("dataset.yaml", message, "check boxes and picks")
        self.contrast = "dark" if self.training[0].normalize.sign < 0 else "bright"

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
    ) -> TomogramData:
        """In some tasks, entries without labels and particles are unlabeled tomograms."""
        unlabeled = facts(config.strategy).task in ("semi-supervised", "distillation")
        own: dict[str, Any] = {"unlabeled": unlabeled, "mask": mask, "subset": subset}
        own["whitened"] = needs_whitened(config)
        return cls(Path(name), config.validation, **own, on_progress=on_progress)

    def inputs(self) -> dict[str, Any]:
        return fingerprint(self.dataset)

    def stream(self, sampling: SamplingConfig) -> Any:
        from cryovox.data.streams import PatchStream

        return PatchStream(self.training, sampling)

    @property
    def unsearched(self) -> Sequence[Region]:
        """Training regions that are not exhaustively labeled."""
        return [
            *(region for region in self.training if not region.exhaustive.all()),
            *self.unlabeled_regions,
        ]

    def unlabeled(self, sampling: SamplingConfig) -> Any:
        """Patches anywhere in the regions that were not searched for all species, with their picks."""
        from cryovox.data.unlabeled import PickStream, keep_picks

        regions = [keep_picks(region) for region in self.unsearched]
        return PickStream(regions, sampling.for_unlabeled())

    def validate(self, network: nn.Module, spec: TargetSpec, tiles: TilePlan) -> Mapping[str, float]:
        from cryovox.training.evaluation.validate import thresholds_at_picks, validate

        metrics = validate(network, self.held, spec, tiles) if self.held else {}
        return metrics if "score" in metrics else thresholds_at_picks(network, self.training, spec, tiles)

    def blob_picker_metrics(self, spec: TargetSpec, tiles: TilePlan) -> Mapping[str, float]:
        from cryovox.training.evaluation.held_out import blob_picker_metrics

        return blob_picker_metrics(self.held, self.species, spec.kind) if self.held else {}

    def calibration(
        self, network: nn.Module, spec: TargetSpec, tiles: TilePlan, thresholds: Mapping[str, float]
    ) -> Mapping[str, Any]:
        from cryovox.training.evaluation.calibrate import calibrate_at_picks, calibrate_held_out

        fitted = calibrate_held_out(network, self.held, spec, tiles, thresholds) if self.held else None
        fitted = fitted or calibrate_at_picks(network, self.training, spec, tiles)
        return calibration_fields(fitted, self.training)

    def limit_held_out(self, most: int | None, tiles: TilePlan) -> None:
        if most is not None:
            self.held = smaller_regions(self.held, most, tiles)

    def picks(self) -> int:
        return sum(len(region.annotated) for region in self.training)


class SetData(TrainingData):
    """Subtomograms, each normalized by itself.

    Parameters
    ----------
    name
        For the manifest.
    training, held
        For the training and for the validation.
    """

    normalization = "cube-zscore"

    def __init__(self, name: str, training: Cubes, held: Cubes) -> None:
        self.name, self.training, self.held = name, training, held
        self.species, self.voxel_size = training.species, training.voxel_size
        self.contrast, self.masked = training.contrast, training.labels is not None

    @classmethod
    def accepts(cls, name: str) -> bool:
        return subtomograms.is_set(Path(name))

    @classmethod
    def read(
        cls,
        name: str,
        config: TrainConfig,
        mask: Path | None = None,
        subset: Path | None = None,
        on_progress: ProgressCallback = no_progress,
    ) -> SetData:
        """From a file, of which a fraction is held out."""
        from cryovox.data.cubes import hold_out_cubes, load_cubes

        path, sets = Path(name), config.sets
        subtomogram_set = subtomograms.read(path)
        cubes = load_cubes(subtomogram_set, path, contrast=sets.set_contrast, merge=sets.merge_species)
        return cls(str(path), *hold_out_cubes(cubes, config.validation.held_out))

    @cached_property
    def _digests(self) -> dict[str, Any]:
        return {"training": self.training.digest(), "held_out": self.held.digest()}

    def inputs(self) -> dict[str, Any]:
        return self._digests

    def limit_held_out(self, most: int | None, tiles: TilePlan) -> None:
        self.inputs()  # the digests are of all data
        if most is not None:
            each = tile_count(self.held.images.shape[1:], tiles)
            stride = -(-len(self.held) * each // max(1, most))
            self.held = replace(self.held, indices=self.held.indices[::stride])

    def stream(self, sampling: SamplingConfig) -> Any:
        from cryovox.data.cubes import CubeStream

        return CubeStream(self.training, sampling)

    def validate(self, network: nn.Module, spec: TargetSpec, tiles: TilePlan) -> Mapping[str, float]:
        from cryovox.training.evaluation.validate_cubes import validate_cubes

        return validate_cubes(network, self.held, spec, tiles)

    def blob_picker_metrics(self, spec: TargetSpec, tiles: TilePlan) -> Mapping[str, float]:
        from cryovox.training.evaluation.validate_cubes import blob_picker_metrics_of_cubes

        return blob_picker_metrics_of_cubes(self.held, spec)

    def picks(self) -> int:
        return len(self.training)

    def patch_size(self, network: Any) -> int:
        """The edge of the subtomograms, or the next larger one that the network takes."""
        if getattr(network, "fixed_patch", False):
            return int(network.patch)
        stride = int(getattr(network, "stride", 1))
        return -(-max(self.training.images.shape[1:]) // stride) * stride


def calibration_fields(calibration: Calibration | None, regions: Sequence[Region]) -> dict[str, Any]:
    """Fields of the card for a calibration that was fitted on regions."""
    from cryovox.training.evaluation.calibrate import calibration_domain

    if calibration is None:
        return {}
    domain = calibration_domain(regions)
    return {"calibration": calibration.model_dump(mode="json"), "calibration_domain": domain}


def tile_count(shape: Sequence[int], tiles: TilePlan) -> int:
    """Tiles of a volume."""
    axes = (plan(size, tiles.tile, tiles.overlap, tiles.stride) for size in shape)
    return math.prod(len(axis.starts) for axis in axes)


def smaller_regions(regions: list[Region], most: int, tiles: TilePlan) -> list[Region]:
    """Held-out regions, reduced so that a validation takes *most* tiles at most."""
    from cryovox.training.evaluation.held_out import limit_regions

    around = tiles.tile // 2  # a validation reads this much around a region
    return limit_regions(regions, most, lambda r: tile_count([b - a + around for a, b in r.bounds], tiles))
