"""What a network learns from: annotated tomograms, subtomogram sets or a simulated stream."""

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
from cryovox.data.patches import TargetSpec
from cryovox.data.regions import Region, hold_out, load_regions, open_unlabelled
from cryovox.data.sampling import SamplingConfig
from cryovox.formats import dataset as dataset_files
from cryovox.formats import subtomograms
from cryovox.inference.tiling import plan
from cryovox.workflows.config import HeldOutConfig, SetConfig
from cryovox.workflows.inputs import with_masks
from cryovox.workflows.training.run_folder import fingerprint

if TYPE_CHECKING:
    from torch import nn

    from cryovox.data.cubes import Cubes
    from cryovox.inference.stream import TilePlan

STREAM = "stream:"


class TrainingData(ABC):
    """Data to learn from, and data to be judged by that is never learned from.

    Attributes
    ----------
    name
        Where it comes from, for the manifest.
    species, voxel_size, contrast, normalisation
        For the card of the model.
    masked
        Whether it can say of every voxel what it is.
    """

    name: str
    species: tuple[Species, ...]
    voxel_size: float
    contrast: Literal["dark", "bright"]
    normalisation: Literal["tomogram-zscore", "cube-zscore"] = "tomogram-zscore"
    masked: bool = True
    places: bool = False
    """Whether there are tomograms, of which unlabelled patches can be drawn."""

    @abstractmethod
    def inputs(self) -> dict[str, Any]:
        """What it is made of, in JSON, with hashes in place of paths."""

    @abstractmethod
    def stream(self, draw: SamplingConfig) -> Any:
        """Endless batches, with methods ``batch(number)`` and ``close()``."""

    def unlabelled(self, draw: SamplingConfig) -> Any:
        """Endless batches of places of which nothing is said, for semi-supervised training."""
        raise self._without_places()

    def _without_places(self) -> RequestError:
        told = "has no tomograms, which semi-supervised training draws unlabelled patches from"
        return RequestError(self.name, told, "give a dataset.yaml with tomograms")

    @property
    def unsearched(self) -> Sequence[Any]:
        """What unlabelled patches are drawn from."""
        return ()

    @abstractmethod
    def validate(self, network: nn.Module, spec: TargetSpec, tiles: TilePlan) -> Mapping[str, float]:
        """Metrics on what is held out, of which ``score`` decides."""

    def blob_figures(self, spec: TargetSpec, tiles: TilePlan) -> Mapping[str, float]:
        """Held-out scores of a blob picker, as in `held_out.cross_fit`."""
        return {}

    @abstractmethod
    def limit_held_out(self, most: int | None, tiles: TilePlan) -> None:
        """Hold out less, so that a validation takes so many tiles at most; None sets no limit."""

    def picks(self) -> int | None:
        """How many annotated particles there are to learn from; None where they have no end."""
        return None

    def check(self, spec: TargetSpec, *, semi: bool = False) -> None:
        """Refuse data that cannot teach such answers, or have no unlabelled patches (*semi*)."""
        if semi and not self.places:
            raise self._without_places()
        if spec.kind == "mask" and not self.masked:
            told = "has no masks, which this network learns from"
            raise RequestError(self.name, told, "cut it with `--labels`, or train heatmap-unet")

    def patch_size(self, network: Any) -> int:
        """Edge of a patch that suits a network."""
        return int(getattr(network, "patch", 32))


class TomogramData(TrainingData):
    """The entries of a `dataset.yaml`.

    Parameters
    ----------
    semi
        Whether entries without labels and particles are welcome: they are unlabelled tomograms.
    mask
        Mask, or folder of masks, in place of those of the entries.
    """

    places = True

    def __init__(
        self, path: Path, held: HeldOutConfig, *, semi: bool = False, mask: Path | None = None
    ) -> None:
        self.name, self.dataset = str(path), with_masks(dataset_files.read(path), mask)
        self.species, self.voxel_size = self.dataset.species, self.dataset.voxel_size
        entries = self.dataset.split("train")
        bare = [e for e in entries if semi and e.labels is None and e.particles is None]
        self.bare = [open_unlabelled(self.dataset, e) for e in bare]
        self.training = load_regions(self.dataset, [e for e in entries if e not in bare])
        if not self.training:
            told = "no entry with split: train has picks" if bare else "has no entry with split: train"
            raise RequestError("dataset.yaml", told, "add `entries:` to train on")
        self.held: list[Region] = load_regions(self.dataset, self.dataset.split("val"))
        if not self.held:
            self.training, self.held = hold_out(self.training, held.held_out)
        if not any(len(s.truth()) for s in self.training):
            told = "no annotated particle lies in the training regions"
            raise RequestError("dataset.yaml", told, "check boxes and picks")
        self.contrast = "dark" if self.training[0].normalise.sign < 0 else "bright"

    def inputs(self) -> dict[str, Any]:
        return fingerprint(self.dataset)

    def stream(self, draw: SamplingConfig) -> Any:
        from cryovox.data.streams import PatchStream

        return PatchStream(self.training, draw)

    @property
    def unsearched(self) -> Sequence[Region]:
        """Training regions of which the labels do not tell all."""
        return [*(region for region in self.training if not region.exhaustive.all()), *self.bare]

    def unlabelled(self, draw: SamplingConfig) -> Any:
        """Places anywhere in the regions that were not searched for all species."""
        from cryovox.data.streams import PatchStream
        from cryovox.data.unlabelled import UnlabelledBatches, drop_annotations

        places = [drop_annotations(region) for region in self.unsearched]
        return UnlabelledBatches(PatchStream(places, draw.for_unlabelled()))

    def validate(self, network: nn.Module, spec: TargetSpec, tiles: TilePlan) -> Mapping[str, float]:
        from cryovox.training.evaluation.validate import at_picks, validate

        found = validate(network, self.held, spec, tiles) if self.held else {}
        return found if "score" in found else at_picks(network, self.training, spec, tiles)

    def blob_figures(self, spec: TargetSpec, tiles: TilePlan) -> Mapping[str, float]:
        from cryovox.training.evaluation.held_out import blob_figures

        return blob_figures(self.held, self.species, spec.kind) if self.held else {}

    def limit_held_out(self, most: int | None, tiles: TilePlan) -> None:
        if most is not None:
            self.held = smaller_regions(self.held, most, tiles)

    def picks(self) -> int:
        return sum(len(region.annotated) for region in self.training)


class SetData(TrainingData):
    """Subtomograms, each normalised by itself.

    Parameters
    ----------
    name
        For the manifest.
    training, held
        To learn from and to be judged by.
    """

    normalisation = "cube-zscore"

    def __init__(self, name: str, training: Cubes, held: Cubes) -> None:
        self.name, self.training, self.held = name, training, held
        self.species, self.voxel_size = training.species, training.voxel_size
        self.contrast, self.masked = training.contrast, training.labels is not None

    @classmethod
    def read(cls, path: Path, held: HeldOutConfig, config: SetConfig) -> SetData:
        """From a file, a share of which is held out."""
        from cryovox.data.cubes import hold_out_cubes, load_cubes

        found = subtomograms.read(path)
        cubes = load_cubes(found, path, contrast=config.set_contrast, merge=config.merge_species)
        return cls(str(path), *hold_out_cubes(cubes, held.held_out))

    @cached_property
    def _digests(self) -> dict[str, Any]:
        return {"training": self.training.digest(), "held_out": self.held.digest()}

    def inputs(self) -> dict[str, Any]:
        return self._digests

    def limit_held_out(self, most: int | None, tiles: TilePlan) -> None:
        self.inputs()  # of everything that may be held out
        if most is not None:
            each = tile_count(self.held.images.shape[1:], tiles)
            stride = -(-len(self.held) * each // max(1, most))
            self.held = replace(self.held, indices=self.held.indices[::stride])

    def stream(self, draw: SamplingConfig) -> Any:
        from cryovox.data.cubes import CubeStream

        return CubeStream(self.training, draw)

    def validate(self, network: nn.Module, spec: TargetSpec, tiles: TilePlan) -> Mapping[str, float]:
        from cryovox.training.evaluation.validate_cubes import validate_cubes

        return validate_cubes(network, self.held, spec, tiles)

    def blob_figures(self, spec: TargetSpec, tiles: TilePlan) -> Mapping[str, float]:
        from cryovox.training.evaluation.validate_cubes import blob_figures_of_cubes

        return blob_figures_of_cubes(self.held, spec)

    def picks(self) -> int:
        return len(self.training)

    def patch_size(self, network: Any) -> int:
        """The edge of the subtomograms, or the next larger one that the network takes."""
        if getattr(network, "fixed_patch", False):
            return int(network.patch)
        stride = int(getattr(network, "stride", 1))
        return -(-max(self.training.images.shape[1:]) // stride) * stride


def tile_count(shape: Sequence[int], tiles: TilePlan) -> int:
    """Tiles of a volume."""
    axes = (plan(size, tiles.tile, tiles.overlap, tiles.stride) for size in shape)
    return math.prod(len(axis.starts) for axis in axes)


def smaller_regions(regions: list[Region], most: int, tiles: TilePlan) -> list[Region]:
    """Held-out regions whose validation takes so many tiles at most."""
    from cryovox.training.evaluation.held_out import limited

    around = tiles.tile // 2  # what a validation looks at beside a region
    return limited(regions, most, lambda r: tile_count([b - a + around for a, b in r.bounds], tiles))


def resolve(
    data: Path | str, held: HeldOutConfig, sets: SetConfig, *, semi: bool = False, mask: Path | None = None
) -> TrainingData:
    """Open what `--data` names: `stream:NAME`, a subtomogram set, or a dataset.

    With *semi*, entries of a dataset without labels and particles are unlabelled tomograms. A *mask*, or a
    folder of masks named after the tomograms, takes the place of the masks of the entries.
    """
    if mask is not None and (str(data).startswith(STREAM) or subtomograms.is_set(Path(data))):
        raise RequestError("--mask", f"goes with tomograms, which {data} does not hold", "leave --mask out")
    if str(data).startswith(STREAM):
        from cryovox.workflows.training.stream import SimulatedData

        return SimulatedData(str(data).removeprefix(STREAM))
    path = Path(data)
    if subtomograms.is_set(path):
        return SetData.read(path, held, sets)
    return TomogramData(path, held, semi=semi, mask=mask)
