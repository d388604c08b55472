"""Annotated regions of a dataset, and the species annotated exhaustively in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cryovox.core.dataset import Dataset, Entry
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import dataset as dataset_files
from cryovox.formats import stem

AnnotatedBox = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_] | None]
"""Lowest and highest voxel (half open) of a box, and the mask."""


@dataclass(frozen=True, eq=False)
class AnnotatedRegions:
    """One tomogram and its annotated regions."""

    volume: Volume
    """For its shape and voxel size."""
    names: tuple[str, ...] = ()
    """Further names of the tomogram."""
    regions: tuple[AnnotatedBox, ...] = ()
    """Annotated boxes; the whole tomogram if there are none."""
    incomplete: frozenset[str] = field(default=frozenset())
    """Species that are not annotated exhaustively."""

    def contains(self, positions: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each of the positions, (n, 3) in Å, lies in an annotated region."""
        if not self.regions:
            return np.ones(len(positions), bool)
        voxels = positions / self.volume.voxel_size
        return np.asarray(np.any([_within(voxels, *region) for region in self.regions], axis=0))


def read_annotated_regions(dataset: Dataset) -> dict[str, AnnotatedRegions]:
    """By name of the entry; by name of the tomogram where several entries are regions of one."""
    by_file: dict[str, list[Entry]] = {}
    for entry in dataset.entries:
        by_file.setdefault(str(entry.tomogram.resolve()), []).append(entry)
    annotated = {}
    for entries in by_file.values():
        name = entries[0].name if len(entries) == 1 else stem(entries[0].tomogram)
        volume = dataset_files.load_tomogram(entries[0], dataset)
        annotated[name] = AnnotatedRegions(
            volume=volume,
            names=tuple({stem(entry.tomogram) for entry in entries} | {entry.name for entry in entries}),
            regions=tuple(region for entry in entries for region in _regions(entry, volume)),
            incomplete=frozenset(
                s.name for s in dataset.species if not all(e.is_exhaustive(s.name) for e in entries)
            ),
        )
    return annotated


def keep_annotated(particles: Particles, regions: Mapping[str, AnnotatedRegions]) -> Particles:
    """The particles that lie in annotated regions."""
    if particles.tomograms is None:
        one = next(iter(regions.values()), None) if len(regions) == 1 else None
        return particles if one is None else particles.take(one.contains(particles.positions))
    kept = np.ones(len(particles), bool)
    for name, one in regions.items():
        own = particles.tomograms == name
        kept[own] = one.contains(particles.positions[own])
    return particles.take(kept)


def _regions(entry: Entry, volume: Volume) -> list[AnnotatedBox]:
    low, high = np.array(entry.box.bounds(volume.shape), dtype=np.float64).T
    return [(low, high, dataset_files.load_mask(entry))]


def _within(
    voxels: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    mask: NDArray[np.bool_] | None,
) -> NDArray[np.bool_]:
    inside = np.asarray(((voxels >= low - 0.5) & (voxels < high - 0.5)).all(axis=1))
    if mask is None:
        return inside
    index = np.clip(np.rint(voxels).astype(np.intp), 0, np.array(mask.shape) - 1)
    return inside & mask[tuple(index.T)]
