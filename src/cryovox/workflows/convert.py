"""Read one format and write another; repair gray values on the way."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryovox.core.errors import DataWarning, RequestError
from cryovox.core.intensity import slabs, statistics
from cryovox.core.particles import Particles, concatenate
from cryovox.core.placement import check_positions
from cryovox.core.volume import Volume
from cryovox.formats import (
    PARTICLES,
    VOLUMES,
    ending,
    is_particles,
    is_volume,
    read_particles,
    read_volume,
    resample,
    stem,
    write_particles,
    write_volume,
)
from cryovox.formats.particles import czii, relion_project, star
from cryovox.formats.tomogram_names import plain_name, volume_of
from cryovox.workflows.config import ConvertConfig
from cryovox.workflows.inputs import expand, frame

Frames = Volume | Mapping[str, Volume]

TOLERANCE = 2e-3
"""Largest distance in Å of a particle that is read back, for formats in single precision."""


def convert(
    source: Path, target: Path, config: ConvertConfig, tomogram: Path | None = None, verify: bool = False
) -> str:
    """Convert a volume or a particle list; returns a line that says what was done.

    Parameters
    ----------
    source, target
        Files; the endings choose the formats. Particle lists of a folder are joined.
    tomogram
        The tomogram that particles belong to, for formats that count from its center or in voxels; for a
        folder of lists, a folder of tomograms with their names.
    verify
        Read the output back and compare.
    """
    if source.resolve() == target.resolve():
        raise RequestError(target, "is the input itself", "name another output file")
    if is_particles(target) and (is_particles(source) or (source.is_dir() and not is_volume(source))):
        return _particles(source, target, config, tomogram, verify)
    if is_volume(source) and is_volume(target):
        return _volume(source, target, config, verify)
    kinds = f"volumes: {', '.join(VOLUMES)}; particles: {', '.join(PARTICLES)}"
    raise RequestError(target, f"cannot be made from {source.name}", f"known endings are {kinds}")


def _volume(source: Path, target: Path, config: ConvertConfig, verify: bool) -> str:
    volume, remarks = _repaired(source, config)
    if config.resample is not None:
        if statistics(volume.data).not_finite:
            raise RequestError(source, "holds NaN, which resampling would spread", "add --fill-nan")
        volume = resample.resample(volume, config.resample)
        remarks.append(f"resampled to {config.resample:g} Å")
    write_volume(target, volume)
    if verify:
        _verify_volume(volume, target)
        remarks.append("verified")
    z, y, x = volume.shape
    size = f"{z} x {y} x {x} voxels (z, y, x) of {volume.voxel_size:g} Å"
    return f"{target}: " + ", ".join([size, *remarks])


def _repaired(source: Path, config: ConvertConfig) -> tuple[Volume, list[str]]:
    """The volume with its gray values repaired, and what was done."""
    volume = read_volume(source, config.voxel_size)
    remarks = []
    if config.unsigned_bytes:
        volume = _unsigned(source, volume)
        remarks.append("bytes read as unsigned")
    if config.fill_nan:
        volume, count = _filled(volume)
        remarks.append(f"{count} values filled")
    if config.invert:
        volume = volume.with_data(-np.asarray(volume.data, dtype=np.float32))
        remarks.append("inverted")
    return volume, remarks


def _verify_volume(volume: Volume, target: Path) -> None:
    stored = read_volume(target)
    same = all(
        np.array_equal(a, b, equal_nan=True)
        for a, b in zip(slabs(volume.data), slabs(stored.data), strict=True)
    )
    if not same and not np.allclose(stored.data, volume.data, rtol=1e-6, equal_nan=True):
        raise RequestError(target, "does not read back as it was written", "report this, with both files")


def _unsigned(source: Path, volume: Volume) -> Volume:
    if volume.data.dtype != np.int8:
        raise RequestError("--unsigned-bytes", f"{source} holds no signed bytes", "leave it out")
    return volume.with_data(np.asarray(volume.data).view(np.uint8))


def _filled(volume: Volume) -> tuple[Volume, int]:
    moments = statistics(volume.data)
    if not moments.not_finite:
        return volume, 0
    data: NDArray[np.float32] = np.array(volume.data, dtype=np.float32)
    data[~np.isfinite(data)] = 0.0 if np.isnan(moments.mean) else moments.mean
    return volume.with_data(data), moments.not_finite


def _particles(source: Path, target: Path, config: ConvertConfig, tomogram: Path | None, verify: bool) -> str:
    particles, frames = _joined(source, target, config, tomogram)
    name = stem(tomogram) if tomogram is not None else stem(source)
    if config.star_version == "czii":
        particles = czii.to_submission(particles, name)
    write_particles(
        target,
        particles,
        tomogram=frames,
        voxel_size=config.out_voxel_size,
        tomogram_name=name,
        star_version=config.star_version,
    )
    message = f"{target}: {len(particles)} particles"
    if verify:
        kinds = set(particles.species.tolist())
        single = kinds.pop() if len(kinds) == 1 else None  # some formats do not store it
        stored = read_particles(target, tomogram=frames, voxel_size=config.out_voxel_size, species=single)
        message += f", verified: largest difference {_difference(particles, stored, target):.1e} Å"
    return message


def _joined(
    source: Path, target: Path, config: ConvertConfig, tomogram: Path | None
) -> tuple[Particles, Frames | None]:
    """All particles of a file or folder, and the frames of their tomograms."""
    several, files = source.is_dir(), expand([source], is_particles)
    frames = _frames(files, target, config, tomogram, several)
    lists = []
    for name, path in files.items():
        picks = read_particles(path, tomogram=frames, voxel_size=config.voxel_size, species=config.species)
        if several and picks.tomograms is None:
            picks = replace(picks, tomograms=np.full(len(picks), name))
        elif isinstance(frames, Volume) and tomogram is not None:
            _warn_of_another(path, picks, stem(tomogram))
        if tomogram is not None:
            _check_positions(path, picks, frames)
        lists.append(picks)
    return concatenate(lists), frames


def _frames(
    files: Mapping[str, Path], target: Path, config: ConvertConfig, tomogram: Path | None, several: bool
) -> Frames | None:
    """Frames of the tomograms, or stand-ins where centered coordinates stay centered."""
    is_star = all(ending(path) == ".star" for path in files.values())
    if tomogram is None and is_star and _stays_centered(target, config):
        stand_ins = {name: star.placeholder_tomograms(path) for name, path in files.items()}
        return None if None in stand_ins.values() else _merged(stand_ins, several)
    if tomogram is not None and ending(tomogram) == ".star":
        return relion_project.frames(tomogram)
    volumes = {} if tomogram is None else {name: frame(path) for name, path in expand([tomogram]).items()}
    return next(iter(volumes.values())) if len(volumes) == 1 and not several else volumes or None


def _stays_centered(target: Path, config: ConvertConfig) -> bool:
    """Whether the output counts from the center of the tomogram, as RELION 5 does."""
    return ending(target) == ".star" and config.star_version in (None, "relion5")


def _merged(frames: Mapping[str, Frames | None], several: bool) -> Frames:
    """Stand-ins of several lists by the names of their tomograms."""
    if not several:
        return next(frame for frame in frames.values() if frame is not None)
    merged: dict[str, Volume] = {}
    for name, own in frames.items():
        merged |= {name: own} if isinstance(own, Volume) else dict(own or {})
    return merged


def _check_positions(path: Path, picks: Particles, frames: Frames | None) -> None:
    if isinstance(frames, Volume):
        check_positions(path, picks.positions, frames)
    elif frames is not None and picks.tomograms is not None:
        for name in np.unique(picks.tomograms):
            if plain_name(str(name)) in {plain_name(key) for key in frames}:
                check_positions(path, picks.within(name).positions, volume_of(path, str(name), frames))


def _warn_of_another(path: Path, picks: Particles, name: str) -> None:
    names = set() if picks.tomograms is None else {plain_name(n) for n in picks.tomograms.tolist() if n}
    if len(names) == 1 and names != {plain_name(name)}:
        message = f"{path}: is a list of {next(iter(names))}, read as one of {name}"
        warnings.warn(f"{message}; is --tomogram the right one?", DataWarning, stacklevel=2)


def _difference(particles: Particles, stored: Particles, target: Path) -> float:
    """Largest distance in Å of a particle from the one that was written; an error if it is not the same list.

    Particles are compared with the nearest one, since some formats sort them by species.
    """
    distances = np.full(1, 0.0 if len(particles) == len(stored) else np.inf)
    if len(particles) and len(particles) == len(stored):
        distances, nearest = cKDTree(stored.positions).query(particles.positions)
        if not (distances < TOLERANCE).all():
            distances = np.full(1, np.inf)
        elif not (stored.species[nearest] == particles.species).all():
            message = "reads back with other species, which this format does not store"
            raise RequestError(target, message, "write one file per species")
    if not np.isfinite(distances).all():
        raise RequestError(target, "does not read back as it was written", "report this, with both files")
    return float(distances.max())
