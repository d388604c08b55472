"""Conventions of particle files as data, and the conversion between them and ours.

A format names its columns and describes their meaning in a :class:`Convention`. :func:`particles_of` and
:func:`columns_of` convert columns of numbers with it, and the table in `docs/particle-conventions.md` is
generated from it (:mod:`cryovox.formats.particles.conventions_page`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.volume import LARGEST_VOXEL, SMALLEST_VOXEL, Volume
from cryovox.formats import stem
from cryovox.formats.angles import Axes, angles_of, matrices_of
from cryovox.formats.particles import names
from cryovox.formats.tomogram_names import volume_of

FARTHEST = 1e8
"""Limit of plausible coordinates in Å."""
LARGEST = 1e30
"""Limit of numbers in files: larger ones would overflow in single precision."""

Frame = Volume | Mapping[str, Volume]
"""A tomogram, or tomograms by name; only shape and voxel size are used."""

CenterVoxel = Literal["n / 2", "n / 2 - 1", "n // 2"]
"""Voxel at the center of an axis of n voxels."""

Columns = dict[str, Any]
"""Column name -> values, one per particle."""


@dataclass(frozen=True)
class Convention:
    """Columns of a format and their meaning.

    Attributes
    ----------
    program
        Name of the program, as in messages and in the docs.
    extensions
        File name extensions.
    coordinates
        Columns with x, y and z.
    unit
        Unit of coordinates and shifts.
    scaled
        Whether a voxel size that is passed turns coordinates in Å into voxels.
    origin
        "voxel": coordinates start in the first voxel; "center": at the center of the tomogram.
    first
        Coordinates (x, y, z) of the center of voxel (0, 0, 0), for the origin "voxel".
    center
        Voxel at the center of an axis of n voxels, for the origin "center".
    shifts
        Columns with shifts.
    whole
        Whether coordinates are written as whole voxels and the remainder as shifts, as programs do that crop
        subtomograms; it also keeps all digits in single precision.
    shift_sign
        1 if the position is coordinates plus shifts, -1 if it is coordinates minus shifts.
    eulers
        Axes of the intrinsic Euler angles, as in SciPy; "matrix" for rotation matrices; "" for none.
    angles
        Columns with these angles in degrees, in the order of `eulers`.
    passive
        Whether the angles rotate the tomogram into the reference; otherwise the reference into the tomogram.
    score, tomogram, species
        Columns with these; "" for none.
    numbers
        Whether numbers stand for the names of tomograms and species, see
        :mod:`cryovox.formats.particles.names`: they do in files that are read, in those that are written as
        well, or never.
    single
        What a file holds one of: "tomogram", "species".
    pixel_size
        Column with the voxel size in Å.
    written
        Whether the format is written as well.
    remark
        What a user should know, as a sentence.
    """

    program: str
    extensions: tuple[str, ...]
    coordinates: tuple[str, ...] = ("x", "y", "z")
    unit: Literal["voxel", "Å"] = "voxel"
    scaled: bool = False
    origin: Literal["voxel", "center"] = "voxel"
    first: tuple[float, float, float] = (0.0, 0.0, 0.0)
    center: CenterVoxel = "n / 2"
    shifts: tuple[str, ...] = ()
    whole: bool = False
    shift_sign: Literal[1, -1] = 1
    eulers: Literal["ZYZ", "ZXZ", "matrix", ""] = ""
    angles: tuple[str, ...] = ()
    passive: bool = False
    score: str = ""
    tomogram: str = ""
    species: str = ""
    numbers: Literal["read", "written", "never"] = "read"
    single: tuple[Literal["tomogram", "species"], ...] = ()
    pixel_size: str = ""
    written: bool = True
    remark: str = ""

    @property
    def used(self) -> set[str]:
        """Columns whose meaning is known."""
        single = {self.score, self.tomogram, self.species, self.pixel_size}
        return ({*self.coordinates, *self.shifts, *self.angles} | single) - {""}

    def positions(self, xyz: ArrayLike, shifts: ArrayLike | None, size: Any) -> NDArray[np.float64]:
        """Positions (z, y, x) in Å from coordinates and shifts (n, 3); *size* is the voxel size in Å."""
        moved = np.asarray(xyz, dtype=np.float64).reshape(-1, 3) - np.array(self.first)
        if shifts is not None:
            moved = moved + self.shift_sign * np.asarray(shifts, dtype=np.float64).reshape(-1, 3)
        return np.asarray(moved * size)[:, ::-1]

    def written_coordinates(self, positions: NDArray[np.float64], size: Any) -> NDArray[np.float64]:
        """Inverse of :meth:`positions` without shifts: coordinates (n, 3) as (x, y, z)."""
        return np.asarray(positions[:, ::-1] / size + np.array(self.first))

    def rotations(self, angles: ArrayLike) -> NDArray[np.float64]:
        """Active rotations (n, 3, 3) from the reference to the tomogram.

        Parameters
        ----------
        angles : (n, 3), or (n, 3, 3) for matrices
            In degrees.
        """
        if self.eulers == "matrix":
            return np.asarray(angles, dtype=np.float64).reshape(-1, 3, 3)
        axes: Axes = "ZYZ" if self.eulers == "ZYZ" else "ZXZ"
        return matrices_of(axes, angles, inverse=self.passive)

    def written_angles(self, rotations: NDArray[np.float64]) -> NDArray[np.float64]:
        """Inverse of :meth:`rotations` for Euler angles; the third angle is 0 at gimbal lock."""
        axes: Axes = "ZYZ" if self.eulers == "ZYZ" else "ZXZ"
        return angles_of(axes, rotations, inverse=self.passive)


def particles_of(
    path: Path,
    columns: Mapping[str, Any],
    convention: Convention,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    species: str | None = None,
) -> Particles:
    """Particles from the columns of a file.

    Parameters
    ----------
    path
        The file, for messages and for the names beside it.
    columns
        Columns as text or numbers; all others than those of the convention are kept.
    convention
        Meaning of the columns.
    tomogram
        Tomogram, or tomograms by name, for the voxel size and the center.
    voxel_size
        Voxel size in Å; by default that of the file, else that of the tomogram.
    species
        Species if the file names none.
    """
    missing = [name for name in convention.coordinates if name not in columns]
    if missing:
        message = f"holds no particles of {convention.program}: there is no column {missing[0]}"
        raise RequestError(path, message, "check that this is the file you meant")
    xyz = _numbers(path, columns, convention.coordinates)
    numbered = names.read(path)
    sources = names.tomograms_of(columns.get(convention.tomogram), numbered, convention.numbers)
    if sources is None and isinstance(tomogram, Mapping):
        sources = names.numbers_in(columns.get(convention.tomogram), tomogram)
    own_size = _own_size(path, columns, convention)
    size = voxel_sizes(path, convention, tomogram, voxel_size or own_size, sources)
    has_shifts = bool(convention.shifts) and set(convention.shifts) <= set(columns)
    shifts = _numbers(path, columns, convention.shifts) if has_shifts else None
    positions = convention.positions(xyz, shifts, size)
    if convention.origin == "center":
        positions = positions + centers(path, convention, tomogram, sources)
    check_positions(path, positions)
    turned = bool(convention.angles) and set(convention.angles) <= set(columns)
    score = columns.get(convention.score)
    picks = Particles.of(
        positions,
        names.species_of(columns.get(convention.species), numbered, species, len(xyz), convention.numbers),
        scores=None if score is None else _numbers(path, columns, (convention.score,))[:, 0],
        rotations=convention.rotations(_angles(path, columns, convention)) if turned else None,
        tomograms=sources,
    )
    kept = set(columns) - convention.used
    if sources is None:
        kept |= {convention.tomogram} & set(columns)
    return replace(picks, extra={name: np.asarray(columns[name]) for name in columns if name in kept})


def usable(numbers: NDArray[np.float64] | np.float64) -> bool:
    """Whether all numbers are finite and none is absurdly large."""
    return bool((np.abs(numbers) < LARGEST).all())


def check_positions(path: Path, positions: NDArray[np.float64]) -> None:
    """Raise an error unless all positions in Å can be those of particles."""
    wrong = np.flatnonzero(~(np.abs(positions) < FARTHEST).all(axis=1))
    if len(wrong):
        z, y, x = positions[wrong[0]]
        message = f"particle {wrong[0] + 1} is at x {x:g}, y {y:g}, z {z:g} Å, which cannot be"
        raise RequestError(path, message, "correct the file, or its voxel size with --voxel-size A")


def columns_of(
    path: Path,
    particles: Particles,
    convention: Convention,
    *,
    tomogram: Frame | None = None,
    voxel_size: float | None = None,
    tomogram_name: str | None = None,
) -> tuple[Columns, names.Names]:
    """Columns of a file, and the names behind the numbers in it.

    Parameters
    ----------
    path
        The file, for messages.
    particles
        Particles to write; their extra columns are added.
    convention
        Meaning of the columns.
    tomogram, voxel_size
        As in :func:`particles_of`.
    tomogram_name
        Tomogram of particles that name none.
    """
    sources = names.listed(particles, tomogram_name)
    size = voxel_sizes(path, convention, tomogram, voxel_size, sources)
    positions = particles.positions
    if convention.origin == "center":
        positions = positions - centers(path, convention, tomogram, sources)
    xyz = convention.written_coordinates(positions, size)
    nearest = np.round(xyz) if convention.whole else xyz
    columns: Columns = dict(zip(convention.coordinates, nearest.T, strict=True))
    if convention.shifts:
        shifts = convention.shift_sign * (xyz - nearest)
        columns |= dict(zip(convention.shifts, shifts.T, strict=True))
    if convention.eulers == "matrix" and particles.rotations is not None:
        columns[convention.angles[0]] = particles.rotations
    elif convention.angles and particles.rotations is not None:
        columns |= dict(zip(convention.angles, convention.written_angles(particles.rotations).T, strict=True))
    if convention.score:
        columns[convention.score] = particles.scores.astype(np.float64)
    if convention.pixel_size:
        columns[convention.pixel_size] = np.broadcast_to(np.ravel(size), len(particles))
    named, numbered = names.columns(particles, sources, convention)
    extra = {name: values for name, values in particles.extra.items() if name not in {*columns, *named}}
    return columns | named | extra, numbered


def words(text: str) -> tuple[str, ...]:
    """Names of columns from a text with spaces."""
    return tuple(text.split())


def voxel_sizes(
    path: Path,
    convention: Convention,
    tomogram: Frame | None,
    voxel_size: float | NDArray[np.float64] | None,
    sources: list[str] | None,
) -> Any:
    """Voxel size in Å, one for all or (n, 1); 1 for formats in Å."""
    if convention.unit == "Å":
        if voxel_size is not None and not convention.scaled:
            option, message = "--voxel-size or --out-voxel-size", f"{path}: {convention.program} counts in Å"
            raise RequestError(option, message, "leave it out")
        return 1.0 if voxel_size is None else voxel_size
    if voxel_size is not None:
        return voxel_size
    if isinstance(tomogram, Volume):
        return tomogram.voxel_size
    if tomogram:
        sizes = {volume.voxel_size for volume in tomogram.values()}
        if len(sizes) == 1:
            return sizes.pop()
        listed = sources or [stem(path)] * 1
        return np.array([volume_of(path, name, tomogram).voxel_size for name in listed]).reshape(-1, 1)
    message = f"{convention.program} counts in voxels, whose size is not known"
    raise RequestError(
        path,
        message,
        "pass --tomogram T, or the voxel size in Å (--voxel-size to read, --out-voxel-size to write)",
    )


def centers(
    path: Path, convention: Convention, tomogram: Frame | None, sources: list[str] | None
) -> NDArray[np.float64]:
    """Center (z, y, x) in Å of the tomogram, or of the tomogram of each particle."""
    if tomogram is None:
        message = f"{convention.program} counts from the center of the tomogram, whose size is not known"
        raise RequestError(path, message, "pass --tomogram T, the tomogram or its header")
    if isinstance(tomogram, Volume):
        return _center(convention, tomogram)
    if sources is None:
        return _center(convention, volume_of(path, stem(path), tomogram))
    known = {name: _center(convention, volume_of(path, name, tomogram)) for name in set(sources)}
    return np.array([known[name] for name in sources], dtype=np.float64).reshape(-1, 3)


def _center(convention: Convention, volume: Volume) -> NDArray[np.float64]:
    shape = np.array(volume.shape, dtype=np.float64)
    voxels = {"n / 2": shape / 2, "n / 2 - 1": shape / 2 - 1, "n // 2": shape // 2}[convention.center]
    return np.asarray(voxels * volume.voxel_size)


def _own_size(path: Path, columns: Mapping[str, Any], convention: Convention) -> Any:
    """Voxel size (n, 1) of the file, if it is above 0 for all particles."""
    if not convention.pixel_size or convention.pixel_size not in columns:
        return None
    sizes = _numbers(path, columns, (convention.pixel_size,))
    if not len(sizes) or not sizes.any():  # 0 is unknown
        return None
    if not ((sizes >= SMALLEST_VOXEL) & (sizes <= LARGEST_VOXEL)).all():
        message = (
            f"says voxels of {sizes.min():g} to {sizes.max():g} Å ({convention.pixel_size}), which cannot be"
        )
        raise RequestError(path, message, "pass --voxel-size A, the voxel size of the coordinates in Å")
    return sizes


def _angles(path: Path, columns: Mapping[str, Any], convention: Convention) -> Any:
    if convention.eulers == "matrix":
        return columns[convention.angles[0]]
    return _numbers(path, columns, convention.angles)


def _numbers(path: Path, columns: Mapping[str, Any], tags: tuple[str, ...]) -> NDArray[np.float64]:
    """Columns as finite numbers, (n, len(tags))."""
    for tag in tags:
        try:
            are_numbers = usable(np.asarray(columns[tag], dtype=np.float64))
        except (ValueError, TypeError):
            are_numbers = False
        if not are_numbers:
            row = next(i for i, value in enumerate(columns[tag], 1) if not _is_finite(value))
            message = f"particle {row}: {tag} is {str(columns[tag][row - 1])!r}, not a finite number"
            raise RequestError(path, message, "correct the file")
    return np.stack([np.asarray(columns[tag], dtype=np.float64) for tag in tags], axis=1)


def _is_finite(value: Any) -> bool:
    try:
        return usable(np.float64(value))
    except (ValueError, TypeError):
        return False
