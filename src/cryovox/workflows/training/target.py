"""Target of an adaptation: tomograms, datasets or a subtomogram set, whose labels are not used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.config import Contrast
from cryovox.core.dataset import Box, Dataset, Entry, Range
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import Volume
from cryovox.data.regions import Bounds, Region
from cryovox.formats import dataset as dataset_files
from cryovox.formats import is_volume, layouts, read_header, stem, subtomograms
from cryovox.models.card import Card
from cryovox.workflows.inputs import check_voxel_size, expand, mask_file, prepare, read_search_mask
from cryovox.workflows.manifest import sha256

if TYPE_CHECKING:
    from cryovox.data.cubes import Cubes
    from cryovox.data.sampling import SamplingConfig

SELECTION_SEED = (2**31 - 2, 0)
"""Seed of the patches for the selection of a model, which no training has."""


@dataclass
class TargetData:
    """Unlabeled regions, or an unlabeled set.

    Attributes
    ----------
    files
        By name.
    regions
        Of tomograms.
    even, odd
        The same regions of half tomograms, where all tomograms have them.
    cubes
        Of sets.
    notes
        Notes on what was detected while the target was opened.
    masks
        Of the files that have one, each called "NAME mask".
    """

    files: dict[str, Path]
    regions: list[Region] = field(default_factory=list)
    even: list[Region] = field(default_factory=list)
    odd: list[Region] = field(default_factory=list)
    cubes: list[Cubes] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    masks: dict[str, Path] = field(default_factory=dict)

    def inputs(self) -> dict[str, str]:
        """Hashes by name."""
        return {name: sha256(path) for name, path in (self.files | self.masks).items()}

    def stream(self, sampling: SamplingConfig) -> Any:
        """Endless batches of unlabeled patches."""
        from cryovox.data.unlabeled import UnlabeledBatches

        return UnlabeledBatches(self._patches(self.regions, sampling))

    def room(self, patch_size: int) -> int:
        """Number of patches that do not overlap."""
        if self.cubes:
            return len(self.cubes[0])
        return sum(int(np.prod([(b - a) / patch_size for a, b in r.bounds])) for r in self.regions)

    def sample(self, sampling: SamplingConfig) -> NDArray[np.float32]:
        """Patches (n, 1, z, y, x) for the comparison of models, always the same ones."""
        stream = self._patches(self.regions, sampling)
        try:
            return np.asarray(stream.make(0).image)
        finally:
            stream.close()

    def halves(self, sampling: SamplingConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Patches of both halves at the same places; None where there are no halves."""
        if not self.even:
            return None
        streams = [self._patches(half, sampling) for half in (self.even, self.odd)]
        even, odd = (np.asarray(stream.make(0).image) for stream in streams)
        for stream in streams:
            stream.close()
        return even, odd

    def _patches(self, regions: list[Region], sampling: SamplingConfig) -> Any:
        from cryovox.data.cubes import CubeStream
        from cryovox.data.streams import PatchStream

        if self.cubes:
            return CubeStream(self.cubes[0], sampling.for_unlabeled())
        return PatchStream(regions, sampling.for_unlabeled())


def open_target(
    targets: Sequence[Path | str], card: Card, contrast: Contrast = "auto", mask: Path | None = None
) -> TargetData:
    """Open tomograms, folders and patterns of them, datasets, or one subtomogram set.

    Of a dataset, all entries are taken but those of the split "test".

    Parameters
    ----------
    card
        Of the network that is to be adapted: voxels must be of its size.
    contrast
        Of the target, where it does not say so itself; detected by default, else that of the card.
    mask
        Mask of the tomograms, or folder of masks named after them, in place of those of a dataset.
    """
    paths = [Path(t) for t in targets]
    sets = [p for p in paths if p.exists() and subtomograms.is_set(p)]
    if sets:
        if mask is not None:
            raise RequestError("--mask", f"goes with tomograms, not with {sets[0]}", "leave --mask out")
        if len(paths) > 1:
            message = "is given beside other targets"
            raise RequestError(sets[0], message, "adapt to one set, or to tomograms")
        return _set(sets[0], card, contrast)
    target = TargetData({})
    for path in paths:
        for entry, dataset in _entries(path):
            if entry.name in target.files:
                raise RequestError(entry.tomogram, f"{entry.name!r} is given twice", "name each target once")
            if mask is not None:
                entry = entry.model_copy(update={"mask": mask_file(mask, stem(entry.tomogram))})
                read_search_mask(entry.mask, entry.name, read_header(entry.tomogram).shape)
            _add(target, entry, dataset, card, contrast)
    if len(target.even) != len(target.regions):
        target.even, target.odd = [], []
    return target


def _set(path: Path, card: Card, contrast: Contrast) -> TargetData:
    from cryovox.data.cubes import load_cubes
    from cryovox.data.unlabeled import drop_labels
    from cryovox.workflows.label_sets import resolve_contrast

    subtomogram_set = subtomograms.read(path)
    check_voxel_size(path, subtomogram_set.voxel_size, card)
    bare = without_species(subtomogram_set)
    settled = resolve_contrast(bare, card, contrast)
    notes = (
        [] if contrast != "auto" or subtomogram_set.contrast != "auto" else [f"particles taken as {settled}"]
    )
    cubes = drop_labels(load_cubes(bare, path, contrast=settled))
    return TargetData({stem(path): path}, cubes=[cubes], notes=notes)


def without_species(subtomogram_set: subtomograms.Subtomograms) -> subtomograms.Subtomograms:
    """A set with one generic species in place of its own."""
    p = subtomogram_set.particles
    edge = min(subtomogram_set.shape) * subtomogram_set.voxel_size
    nameless = Particles.of(p.positions, ["target"] * len(p), rotations=p.rotations, tomograms=p.tomograms)
    kind = Species(name="target", label=1, radius=edge / 4)
    return replace(subtomogram_set, particles=nameless, species=(kind,), masks=None)


def dataset_of(path: Path) -> Dataset | None:
    """The dataset that a path names, by its YAML file or its folder; None for tomograms."""
    folder = path.is_dir() and ((path / dataset_files.FILE).exists() or layouts.find(path) is not None)
    return dataset_files.read(path) if folder or path.suffix in (".yaml", ".yml") else None


def _entries(path: Path) -> list[tuple[Entry, Dataset | None]]:
    dataset = dataset_of(path)
    if dataset is not None:
        kept = [e for e in dataset.entries if e.split != "test"] or list(dataset.entries)
        return [(e, dataset) for e in kept]
    return [(Entry(name=n, tomogram=p), None) for n, p in expand([path], is_volume).items()]


def _add(target: TargetData, entry: Entry, dataset: Dataset | None, card: Card, contrast: Contrast) -> None:
    """Add the region of an entry, and that of its halves."""
    wanted = entry.contrast if entry.contrast != "auto" else contrast
    size = None if dataset is None else dataset.voxel_size
    region, settled, notes = _region(entry.tomogram, entry, size, card, wanted)
    target.files[entry.name] = entry.tomogram
    target.masks |= {} if entry.mask is None else {f"{entry.name} mask": entry.mask}
    target.regions.append(region)
    target.notes += [f"{entry.name}: {note}" for note in notes]
    if entry.even is not None and entry.odd is not None:
        for half, kept in ((entry.even, target.even), (entry.odd, target.odd)):
            kept.append(_region(half, entry, size, card, settled)[0])


def _region(
    path: Path, entry: Entry, voxel_size: float | None, card: Card, contrast: Contrast
) -> tuple[Region, Contrast, tuple[str, ...]]:
    from cryovox.data.regions import in_memory, unlabeled_region

    ready = prepare(path, card, voxel_size, contrast)
    bounds: Bounds = (entry.box or Box()).bounds(ready.volume.shape)
    if any(low >= high for low, high in bounds):
        message = f"the box {bounds} (z, y, x) holds no voxel of a tomogram of shape {ready.volume.shape}"
        raise RequestError(entry.name, message, "correct `box:` of the entry in dataset.yaml")
    mask = dataset_files.load_mask(entry)
    bounds = sample_bounds(ready.original, bounds, mask)
    region = unlabeled_region(entry.name, ready.volume, ready.normalize, bounds, card.species, mask)
    region = replace(in_memory(region) if card.whitened else region, tilt_axis=entry.tilt_axis)
    return region, ready.contrast, ready.notes


def sample_bounds(volume: Volume, bounds: Bounds, mask: NDArray[np.bool_] | None = None) -> Bounds:
    """The part of a region that holds the sample: where a mask says so, else the planes that are not empty.

    Patches of the vacuum above and below a lamella teach an adaptation nothing of the particles, and a
    comparison of two models on them compares noise.
    """
    from cryovox.report.doctor import sample_planes

    if mask is not None and mask.any():
        held: list[Range] = []
        for axis in range(3):
            index = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
            held.append((int(index[0]), int(index[-1]) + 1))
    else:
        held = [sample_planes(volume), (0, volume.shape[1]), (0, volume.shape[2])]
    spans = [(max(a, low), min(b, high)) for (a, b), (low, high) in zip(bounds, held, strict=True)]
    if any(low >= high for low, high in spans):  # they do not meet: the box is what was asked for
        return bounds
    return spans[0], spans[1], spans[2]
