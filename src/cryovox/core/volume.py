"""Arrays with a voxel size: tomograms, label maps and score maps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.particles import Species

ZYX = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A 3D map of real values, such as a tomogram.

    Attributes
    ----------
    data : (z, y, x) of any real dtype
        Often a memory map.
    voxel_size : float
        Edge of a voxel in Å.
    origin : (z, y, x)
        What the header calls its origin, in Å. It is carried on to outputs and never shifts a
        position: position 0 is the centre of voxel (0, 0, 0).
    """

    data: NDArray[Any]
    voxel_size: float
    origin: ZYX = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.data.ndim != 3:
            raise ValueError(f"a volume has axes (z, y, x), got shape {self.data.shape}")
        check_voxel_size(self.voxel_size)

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = self.data.shape
        return z, y, x


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """Which species every voxel belongs to.

    Attributes
    ----------
    data : (z, y, x) uint8
        0 is nothing; the other values are the labels of `species`.
    voxel_size : float
        Edge of a voxel in Å.
    species
        What the labels mean; may be empty where nobody said.
    origin : (z, y, x)
        Header origin in Å, carried on.
    """

    data: NDArray[np.integer[Any]]
    voxel_size: float
    species: tuple[Species, ...] = ()
    origin: ZYX = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.data.ndim != 3:
            raise ValueError(f"a label map has axes (z, y, x), got shape {self.data.shape}")
        check_voxel_size(self.voxel_size)


@dataclass(frozen=True, slots=True, eq=False)
class ScoreMap:
    """How much a network believes in each species at each voxel.

    Attributes
    ----------
    data : (k, z, y, x)
        In [0, 1], one channel per species; may be a lazily read array.
    voxel_size : float
        Edge of a voxel of this map in Å; larger than the tomogram's under a head with a stride.
    species : k species, in the order of the channels
    offset : float
        Position in Å, on every axis, of the centre of voxel (0, 0, 0) of this map. A head of
        stride s puts it (s - 1) / 2 tomogram voxels into the tomogram.
    kind : "heatmap" or "mask"
        Whether the channels peak at centres or cover whole particles.
    thresholds : name -> score
        Lowest score of a pick, as the model advises.
    origin : (z, y, x)
        Header origin of the tomogram in Å, carried on.
    tomogram_shape, tomogram_voxel_size
        Of the tomogram itself, which a head with a stride does not preserve; None where unknown.
    """

    data: Any
    voxel_size: float
    species: tuple[Species, ...]
    offset: float = 0.0
    kind: str = "mask"
    thresholds: dict[str, float] = field(default_factory=dict)
    origin: ZYX = (0.0, 0.0, 0.0)
    tomogram_shape: tuple[int, int, int] | None = None
    tomogram_voxel_size: float | None = None

    def __post_init__(self) -> None:
        if len(self.data.shape) != 4 or self.data.shape[0] != len(self.species):
            raise ValueError(
                f"a score map has axes (k, z, y, x) with k = {len(self.species)} species, "
                f"got shape {self.data.shape}"
            )
        if self.kind not in ("heatmap", "mask"):
            raise ValueError(f"a score map is a 'heatmap' or a 'mask', got {self.kind!r}")
        check_voxel_size(self.voxel_size)


def check_voxel_size(voxel_size: float) -> None:
    """Raise ValueError unless it is a positive, finite length in Å."""
    if not (np.isfinite(voxel_size) and voxel_size > 0):
        raise ValueError(f"a voxel size is positive and in Å, got {voxel_size}")
