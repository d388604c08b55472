"""Particles and their species."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field


class Species(BaseModel):
    """One kind of particle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    """Name, as in particle files."""
    label: int = Field(ge=1, le=255)
    """Value in label maps; 0 is background."""
    radius: float = Field(gt=0)
    """Radius in Å; half the thickness of an extended structure."""
    extended: bool = False
    """A membrane, a filament or another structure that is segmented and never picked."""
    diameters: tuple[float, float] | None = None
    """Limits of the diameters in Å, for particles of any shape that are named by their size."""
    structure: str | None = None
    """File or id of an atomic model or map, if there is one."""


def pickable(species: Iterable[Species]) -> tuple[Species, ...]:
    """Species that are particles, not extended structures."""
    return tuple(kind for kind in species if not kind.extended)


@dataclass(frozen=True, slots=True, eq=False)
class Particles:
    """A list of particles, usually built with :meth:`of`.

    Attributes
    ----------
    positions : (n, 3) float64
        Centers as (z, y, x) in Å; 0 is the center of voxel (0, 0, 0) of the tomogram.
    species : (n,) str
        Species of each particle.
    scores : (n,) float32
        Confidence, higher is better; 1 where unknown.
    rotations : (n, 3, 3) float64 or None
        Active rotations, reference to tomogram, acting on (x, y, z) column vectors.
    tomograms : (n,) str or None
        Tomogram of each particle, in lists over several tomograms.
    extra : name -> (n,) array
        Columns of a file that are not used but written back.
    metadata : block -> column -> values
        Metadata of all particles of a file, such as the optics groups of RELION; written back.
    """

    positions: NDArray[np.float64]
    species: NDArray[np.str_]
    scores: NDArray[np.float32]
    rotations: NDArray[np.float64] | None = None
    tomograms: NDArray[np.str_] | None = None
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    metadata: Mapping[str, Mapping[str, list[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.positions)
        if self.positions.shape != (n, 3):
            raise ValueError(f"positions are (n, 3) as z, y, x in Å, got shape {self.positions.shape}")
        columns = {"species": self.species, "scores": self.scores, "rotations": self.rotations}
        columns |= {"tomograms": self.tomograms} | dict(self.extra)
        for name, column in columns.items():
            if column is not None and len(column) != n:
                raise ValueError(f"{n} positions but {len(column)} {name}")
        if not np.isfinite(self.positions).all():
            raise ValueError("positions are finite, got NaN or infinity")

    @classmethod
    def of(
        cls,
        positions: ArrayLike,
        species: str | Iterable[str],
        scores: ArrayLike | None = None,
        rotations: ArrayLike | None = None,
        tomograms: str | Iterable[str] | None = None,
    ) -> Self:
        """Build from array-likes; a single species or tomogram name applies to all particles."""
        zyx = np.asarray(positions, dtype=np.float64)
        zyx = zyx.reshape(0, 3) if zyx.size == 0 else np.atleast_2d(zyx)
        n = len(zyx)
        return cls(
            positions=zyx,
            species=_names(species, n),
            scores=np.ones(n, np.float32) if scores is None else np.asarray(scores, np.float32),
            rotations=None if rotations is None else np.asarray(rotations, np.float64).reshape(n, 3, 3),
            tomograms=None if tomograms is None else _names(tomograms, n),
        )

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, which: ArrayLike) -> Self:
        """Particles at the indices, in their order, or where the mask is true."""
        index = np.asarray(which)
        if index.dtype != bool:
            index = index.astype(np.intp)
        return replace(
            self,
            positions=self.positions[index],
            species=self.species[index],
            scores=self.scores[index],
            rotations=None if self.rotations is None else self.rotations[index],
            tomograms=None if self.tomograms is None else self.tomograms[index],
            extra={name: column[index] for name, column in self.extra.items()},
        )

    def named(self, species: str) -> Self:
        """Particles of one species."""
        return self.take(self.species == species)

    def within(self, tomogram: str) -> Self:
        """Particles of one tomogram; all particles if the list names no tomograms."""
        return self if self.tomograms is None else self.take(self.tomograms == tomogram)

    def sorted(self) -> Self:
        """Particles sorted by score, best first; ties keep their order."""
        return self.take(np.argsort(-self.scores, kind="stable"))


def concatenate(lists: Iterable[Particles]) -> Particles:
    """Concatenate lists.

    Rotations, tomograms and extra columns are kept if all lists have them, metadata if all lists agree;
    empty lists are ignored.
    """
    every = list(lists)
    parts = [particles for particles in every if len(particles)] or every[:1]
    if not parts:
        return Particles.of(np.zeros((0, 3)), [])
    if len(parts) == 1:  # without a copy, which matters for long lists
        return parts[0]
    shared = set.intersection(*(set(p.extra) for p in parts))
    rotations = [p.rotations for p in parts if p.rotations is not None]
    tomograms = [p.tomograms for p in parts if p.tomograms is not None]
    return Particles(
        positions=np.concatenate([p.positions for p in parts]),
        species=np.concatenate([p.species for p in parts]),
        scores=np.concatenate([p.scores for p in parts]),
        rotations=np.concatenate(rotations) if len(rotations) == len(parts) else None,
        tomograms=np.concatenate(tomograms) if len(tomograms) == len(parts) else None,
        extra={name: np.concatenate([p.extra[name] for p in parts]) for name in sorted(shared)},
        metadata={
            name: block
            for name, block in parts[0].metadata.items()
            if all(part.metadata.get(name) == block for part in parts)
        },
    )


def _names(names: str | Iterable[str], n: int) -> NDArray[np.str_]:
    values = [names] * n if isinstance(names, str) else list(names)
    return np.asarray(values, dtype=np.str_) if n else np.zeros(0, dtype="<U1")
