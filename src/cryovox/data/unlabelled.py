"""Patches of which nothing is known, and batches that stay the same for a while."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from cryovox.core.intensity import Normalisation
from cryovox.core.particles import Species
from cryovox.core.volume import Volume
from cryovox.data.augment import AugmentConfig
from cryovox.data.cubes import Cubes
from cryovox.data.patches import PatchConfig
from cryovox.data.sources import Bounds, Source
from cryovox.data.streams import Batch
from cryovox.data.targets import UNKNOWN

ANYWHERE = PatchConfig(foreground=0.0)
FLIPPED = AugmentConfig(contrast=0.0, brightness=0.0, noise=0.0, blur=0.0)


class Drawing(Protocol):
    """Gives batch number n, the same whenever it is asked."""

    def make(self, number: int) -> Batch: ...
    def batch(self, number: int) -> Batch: ...
    def close(self) -> None: ...


def unlabelled_region(
    name: str,
    volume: Volume,
    normalise: Normalisation,
    bounds: Bounds,
    species: tuple[Species, ...],
    inside: np.ndarray | None = None,
) -> Source:
    """A region of a tomogram in which nothing is annotated."""
    return Source(
        name=name,
        data=volume.data,
        voxel_size=volume.voxel_size,
        normalise=normalise,
        bounds=bounds,
        species=species,
        positions=np.empty((0, 3)),
        channels=np.empty(0, np.intp),
        labels=None,
        searched=inside,
        exhaustive=np.zeros(len(species), bool),
    )


def without_annotations(region: Source) -> Source:
    """The same places, of which nothing is said."""
    nothing = np.empty(0, np.intp)
    unsure = np.zeros_like(region.exhaustive)
    return replace(region, positions=np.empty((0, 3)), channels=nothing, labels=None, exhaustive=unsure)


def without_labels(cubes: Cubes) -> Cubes:
    """The images of a set alone."""
    nothing = np.empty(0, np.intp)
    return replace(cubes, labels=None, owners=nothing, centres=np.empty((0, 3)), channels=nothing)


class Unlabelled:
    """Batches of another stream without what it may know; nothing of a target's labels is learned."""

    def __init__(self, drawn: Drawing) -> None:
        self.drawn = drawn

    def batch(self, number: int) -> Batch:
        """Give batch *number*."""
        found = self.drawn.batch(number)
        return Batch(
            found.image,
            torch.full_like(found.target, UNKNOWN),
            torch.zeros_like(found.known, dtype=torch.bool),
        )

    def close(self) -> None:
        """Stop whatever prepares batches."""
        self.drawn.close()


class Held:
    """Gives each batch of another stream so many times: what is drawn anew once an epoch."""

    def __init__(self, drawn: Unlabelled, times: int) -> None:
        self.drawn, self.times = drawn, times
        self._kept: tuple[int, Batch] | None = None

    def batch(self, number: int) -> Batch:
        """Give batch *number*, which is that of its epoch."""
        epoch = number // self.times
        if self._kept is None or self._kept[0] != epoch:
            self._kept = epoch, self.drawn.batch(epoch)
        return self._kept[1]

    def close(self) -> None:
        """Stop whatever prepares batches."""
        self.drawn.close()
