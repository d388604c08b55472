"""Particle formats that are columns of values: one reader and one writer, driven by a :class:`Convention`.

A module of such a format has functions between a file and its columns, and `FORMAT`, which joins them with
the convention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.formats import write_bytes, write_text
from cryovox.formats.particles import names
from cryovox.formats.particles.convention import Columns, Convention, Frame, columns_of, particles_of


@dataclass(frozen=True)
class Parsed:
    """What a file holds.

    Attributes
    ----------
    columns
        Columns as text or numbers.
    convention
        Convention of this file, if it differs from that of the format.
    species
        Species, if the file names it outside its columns.
    metadata
        As in :class:`cryovox.core.particles.Particles`.
    """

    columns: Columns
    convention: Convention | None = None
    species: str | None = None
    metadata: Mapping[str, Mapping[str, list[str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """What a file gets: the columns of the convention and all extra ones, and where they come from."""

    columns: Columns
    particles: Particles
    tomogram: Frame | None

    def __len__(self) -> int:
        return len(self.particles)


@dataclass(frozen=True)
class ColumnFormat:
    """A format with the methods that `PARTICLES` asks for.

    Attributes
    ----------
    CONVENTION
        Meaning of the columns.
    parse
        File -> columns; an error if it holds none.
    render
        Columns -> contents of a file, whole or in parts; None for formats that are only read.
    recognizes
        Whether a file that starts with this text is of the format, where others share its extension.
    """

    CONVENTION: Convention
    parse: Callable[[Path], Parsed]
    render: Callable[[Rows], str | Iterable[str] | bytes] | None = None
    recognizes: Callable[[str], bool] = lambda text: True

    def read(
        self,
        path: Path,
        *,
        tomogram: Frame | None = None,
        voxel_size: float | None = None,
        species: str | None = None,
    ) -> Particles:
        """Read a file; arguments are those of :func:`cryovox.formats.read_particles`."""
        parsed = self.parse(path)
        picks = particles_of(
            path,
            parsed.columns,
            parsed.convention or self.CONVENTION,
            tomogram=tomogram,
            voxel_size=voxel_size,
            species=species or parsed.species,
        )
        return replace(picks, metadata=parsed.metadata)

    def write(
        self,
        path: Path,
        particles: Particles,
        *,
        tomogram: Frame | None = None,
        voxel_size: float | None = None,
        tomogram_name: str | None = None,
    ) -> None:
        """Write a file; arguments are those of :func:`cryovox.formats.write_particles`."""
        if self.render is None:
            message = f"{self.CONVENTION.program} is only read"
            raise RequestError(path, message, "name another format, such as .star or .csv")
        check_single(path, particles, self.CONVENTION)
        columns, numbered = columns_of(
            path,
            particles,
            self.CONVENTION,
            tomogram=tomogram,
            voxel_size=voxel_size,
            tomogram_name=tomogram_name,
        )
        contents = self.render(Rows(columns, particles, tomogram))
        if isinstance(contents, bytes):
            write_bytes(path, contents)
        else:
            write_text(path, contents)
        names.write(path, numbered)


def check_single(path: Path, particles: Particles, convention: Convention) -> None:
    """Raise an error if particles are of several tomograms or species, of which a file holds one."""
    for kind in convention.single:
        values = particles.tomograms if kind == "tomogram" else particles.species
        unique = [] if values is None else sorted(set(values.tolist()))
        if len(unique) > 1:
            message = (
                f"{convention.program} has one file per {kind}, and the list holds {', '.join(unique[:5])}"
            )
            raise RequestError(path, message, f"write one file per {kind}")


def cell(value: object) -> str:
    """Text of a value, floating-point numbers with ten digits."""
    return f"{value:.10g}" if isinstance(value, float) else str(value)
