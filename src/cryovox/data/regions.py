"""Annotated regions of tomograms: gray values scaled, annotations in voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryovox.core.config import Contrast
from cryovox.core.dataset import Dataset, Entry, Range
from cryovox.core.errors import RequestError
from cryovox.core.intensity import (
    MIN_CERTAINTY,
    Normalization,
    detect_contrast,
    sign_of,
    statistics,
    wrapped_bytes,
)
from cryovox.core.particles import Particles, Species
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.volume import LabelMap, Volume, Voxels
from cryovox.filters.whitening import WhitenedVoxels, measured, resolution_of
from cryovox.formats import dataset as dataset_files
from cryovox.picking import PickConfig, pick_labels

Bounds = tuple[Range, Range, Range]
MAX_VOXELS = 4096
"""Voxels of an extended structure near which patches are drawn, per region."""
SLAB = 48
"""Planes that are computed at a time where a tomogram is held in memory."""
LARGEST = 1000.0
"""Standard deviations at which gray values in memory are clipped, far above those of gold."""
MIN_HELD_OUT = 10
"""Sparse annotations are held out only if at least this many picks are."""


@dataclass(frozen=True, eq=False)
class Region:
    """One region of one tomogram and its annotations.

    Attributes
    ----------
    data : (z, y, x)
        Raw gray values, often a memory map or a stored array.
    normalize
        From raw values to network input.
    bounds
        Region that patches and annotations come from, in voxels.
    species
        In the order of the channels.
    positions : (n, 3) float64
        Annotated centers in voxels, in the whole tomogram.
    channels : (n,) int
        Index into `species` of each.
    labels : (z, y, x) uint8 or None
        Channel + 1 of every voxel, 0 is background.
    annotated_mask : (z, y, x) bool or None
        Where somebody annotated.
    exhaustive : (k,) bool
        Whether every particle of the species in the region is annotated.
    tilt_axis : "y" or "x"
        Of the tomogram; patches of a tilt about x are rotated by 90° about z for the network.
    complete : (k,) bool or None
        In unlabeled regions: whether all particles of the species are picked.
    """

    name: str
    data: Voxels
    voxel_size: float
    normalize: Normalization
    bounds: Bounds
    species: tuple[Species, ...]
    positions: NDArray[np.float64]
    channels: NDArray[np.intp]
    labels: NDArray[np.uint8] | None
    annotated_mask: NDArray[np.bool_] | None
    exhaustive: NDArray[np.bool_]
    tilt_axis: Literal["y", "x"] = "y"
    complete: NDArray[np.bool_] | None = None

    def inside(self) -> NDArray[np.bool_]:
        """Whether each annotated center lies in the region."""
        low, high = np.array(self.bounds, dtype=float).T
        return ((self.positions >= low - 0.5) & (self.positions < high - 0.5)).all(axis=1)

    @cached_property
    def annotated(self) -> NDArray[np.intp]:
        """Indices of the annotated centers in the region; computed once."""
        return np.flatnonzero(self.inside())

    @cached_property
    def annotated_by_channel(self) -> dict[int, NDArray[np.intp]]:
        """The same, by channel."""
        channels = self.channels[self.annotated]
        return {int(c): self.annotated[channels == c] for c in np.unique(channels)}

    @cached_property
    def extended_by_channel(self) -> dict[int, NDArray[np.intp]]:
        """Voxels (n, 3) of membranes and other extended structures in the region, evenly thinned out."""
        if self.labels is None:
            return {}
        low = [a for a, _ in self.bounds]
        part = np.asarray(self.labels[tuple(slice(a, b) for a, b in self.bounds)])
        voxels = {
            channel: np.argwhere(part == channel + 1) + low
            for channel, kind in enumerate(self.species)
            if kind.extended
        }
        return {c: own[:: -(-len(own) // MAX_VOXELS)] for c, own in voxels.items() if len(own)}

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.positions)

    def near(
        self, corner: tuple[int, int, int], shape: tuple[int, int, int], reach: float
    ) -> NDArray[np.intp]:
        """Indices of the annotated centers within *reach* voxels of a box, in ascending order; a few more
        where the box is no cube.
        """
        if not len(self.positions):
            return np.empty(0, np.intp)
        middle = np.array(corner) + (np.array(shape) - 1) / 2
        index = self._tree.query_ball_point(middle, max(shape) / 2 + reach, p=np.inf)
        return np.sort(np.asarray(index, np.intp))

    def truth(self) -> Particles:
        """The annotated particles of the region, in Å."""
        keep = self.inside()
        names = [self.species[c].name for c in self.channels[keep]]
        return Particles.of(self.positions[keep] * self.voxel_size, names)


def unlabeled_region(
    name: str,
    volume: Volume,
    normalize: Normalization,
    bounds: Bounds,
    species: tuple[Species, ...],
    annotated_mask: NDArray[np.bool_] | None = None,
) -> Region:
    """A region of a tomogram in which nothing is annotated."""
    return Region(
        name=name,
        data=volume.data,
        voxel_size=volume.voxel_size,
        normalize=normalize,
        bounds=bounds,
        species=species,
        positions=np.empty((0, 3)),
        channels=np.empty(0, np.intp),
        labels=None,
        annotated_mask=annotated_mask,
        exhaustive=np.zeros(len(species), bool),
    )


def load_regions(
    dataset: Dataset, entries: Sequence[Entry], on_progress: ProgressCallback = no_progress
) -> list[Region]:
    """Open every entry for training; statistics of the whole tomogram take a while."""
    if not dataset.species:
        raise RequestError("dataset.yaml", "names no species", "add `species:` with name, label and radius")
    regions = []
    for number, entry in enumerate(entries):
        on_progress("training data", number / len(entries), entry.name)
        regions.append(_open(dataset, entry))
    return regions


def open_unlabeled(dataset: Dataset, entry: Entry) -> Region:
    """Open an entry without its annotations."""
    volume = dataset_files.load_tomogram(entry, dataset)
    bounds = entry.box.bounds(volume.shape)
    if any(low >= high for low, high in bounds):
        message = f"the box {bounds} (z, y, x) holds no voxel of a tomogram of shape {volume.shape}"
        raise RequestError(entry.name, message, "correct `box:` of the entry in dataset.yaml")
    volume = replace(volume, voxel_size=dataset.voxel_size)
    annotated_mask = dataset_files.load_mask(entry)
    region = unlabeled_region(
        entry.name, volume, normalization(volume, entry), bounds, dataset.species, annotated_mask
    )
    return replace(region, tilt_axis=entry.tilt_axis)


def _open(dataset: Dataset, entry: Entry) -> Region:
    region = open_unlabeled(dataset, entry)
    labels, particles = dataset_files.load_annotations(entry, dataset)
    if labels is None and particles is None:
        message = "has neither labels nor particles"
        raise RequestError(entry.name, message, "add `labels:` or `particles:` to the entry in dataset.yaml")
    if particles is None and labels is not None:
        particles = pick_labels(
            LabelMap(labels.data, dataset.voxel_size, dataset.species), PickConfig(border=0.0)
        )
    assert particles is not None
    index = {s.name: i for i, s in enumerate(dataset.species)}
    return replace(
        region,
        positions=particles.positions / dataset.voxel_size,
        channels=np.array([index[s] for s in particles.species], dtype=np.intp),
        labels=None if labels is None else _labels_to_channels(labels.data, dataset.species),
        exhaustive=np.array(
            # picks alone say nothing about membranes
            [entry.is_exhaustive(s.name) and (labels is not None or not s.extended) for s in dataset.species]
        ),
    )


def whitened_region(region: Region) -> Region:
    """A region of the whitened tomogram, which is held in memory."""
    size = region.voxel_size
    try:
        whitening = measured(region.data, size, resolution_of(size, size))
    except ValueError:
        message = "is constant nearly everywhere, so it has no spectrum to divide by"
        raise RequestError(region.name, message, "check it with `cryovox doctor`") from None
    voxels = WhitenedVoxels(region.data, size, whitening)
    return in_memory(replace(region, data=voxels, normalize=voxels.normalization(region.normalize.sign)))


def in_memory(region: Region) -> Region:
    """A region of a tomogram that is computed on access, held in memory in standard deviations."""
    scale = Normalization(region.normalize.mean, region.normalize.std)
    data = np.empty(region.data.shape, np.float16)
    for z in range(0, len(data), SLAB):
        data[z : z + SLAB] = np.clip(scale(region.data[z : z + SLAB]), -LARGEST, LARGEST)
    return replace(region, data=data, normalize=Normalization(0.0, 1.0, region.normalize.sign))


def normalization(volume: Volume, entry: Entry) -> Normalization:
    """Scale over the whole tomogram; the sign from the entry, else detected."""
    moments = statistics(volume.data)
    if moments.not_finite:
        message = f"holds {moments.not_finite} values that are NaN or infinite"
        raise RequestError(entry.tomogram, message, "correct it with `cryovox convert IN OUT --fill-nan`")
    if not moments.std > 0:
        raise RequestError(entry.tomogram, "is constant", "check the file with `cryovox doctor`")
    wrapped = wrapped_bytes(volume.data)
    if wrapped is not None:
        raise RequestError(
            entry.tomogram, str(wrapped), "correct it with `cryovox convert IN OUT --unsigned-bytes`"
        )
    return Normalization(moments.mean, moments.std, sign_of(_contrast(volume, entry)))


def _contrast(volume: Volume, entry: Entry) -> Contrast:
    """Contrast of the entry, else the detected one, which must be certain."""
    if entry.contrast != "auto":
        return entry.contrast
    contrast, certainty = detect_contrast(volume)
    if certainty < MIN_CERTAINTY:
        message = f"whether particles are dark or bright is unclear ({contrast}, certainty {certainty:.1f})"
        raise RequestError(
            entry.tomogram, message, "set `contrast: dark` or `contrast: bright` in its entry of dataset.yaml"
        )
    return contrast


def _labels_to_channels(labels: NDArray[Any], species: tuple[Species, ...]) -> NDArray[np.uint8]:
    table = np.zeros(256, np.uint8)
    for channel, kind in enumerate(species):
        table[kind.label] = channel + 1
    return table[np.asarray(labels).astype(np.uint8)]


def hold_out(regions: list[Region], fraction: float) -> tuple[list[Region], list[Region]]:
    """Split a part off every region for validation, with a margin between the two.

    The cut runs across the longer of y and x, where it leaves *fraction* of the annotated particles
    of the region (or of its length, if it holds fewer than two) beyond it. The margin is the radius
    of the largest species with particles, so that no annotated particle of one side reaches the other;
    membranes of simulations have a radius, but no particles.

    If annotation is not exhaustive and *fraction* of it is fewer than ten particles, nothing is held out:
    all of them are needed for training. Otherwise, regions with too few particles to be split are held out
    whole, as many as are needed.

    Returns
    -------
    training, validation
    """
    counts = [int(s.inside().sum()) for s in regions]
    if all(s.exhaustive.all() for s in regions):
        shares = [max(1, round(fraction * n)) for n in counts]
        missing = 0
    else:
        shares = [round(fraction * n) for n in counts]
        missing = round(fraction * sum(counts)) - sum(shares)
        if missing + sum(shares) < MIN_HELD_OUT:
            return regions, []
    training: list[Region] = []
    held_out: list[Region] = []
    for region, count, share in zip(regions, counts, shares, strict=True):
        if share:
            near, far = _split(region, fraction, min(share, count - 1))
            training.append(near)
            held_out.append(far)
        elif 0 < count <= missing:
            held_out.append(region)
            missing -= count
        else:
            training.append(region)
    return training, held_out


def _split(region: Region, fraction: float, beyond: int) -> tuple[Region, Region]:
    """Split a region, with *beyond* particles in the second part, or else *fraction* of its length."""
    axis = 1 if np.ptp(region.bounds[1]) >= np.ptp(region.bounds[2]) else 2
    low, high = region.bounds[axis]
    places = np.sort(region.positions[region.inside(), axis])
    cut = high - round(fraction * (high - low))
    if beyond > 0:
        cut = int(np.floor(places[-beyond - 1 : len(places) - beyond + 1].mean()))
    present = [region.species[channel] for channel in np.unique(region.channels)] or region.species
    margin = int(np.ceil(max(s.radius for s in present) / region.voxel_size))
    cut = min(max(cut, low + 1), high - 1)
    return _with_bounds(region, axis, (low, max(low + 1, cut - margin))), _with_bounds(
        region, axis, (cut, high)
    )


def _with_bounds(region: Region, axis: int, span: Range) -> Region:
    bounds = list(region.bounds)
    bounds[axis] = span
    return replace(region, bounds=(bounds[0], bounds[1], bounds[2]))
