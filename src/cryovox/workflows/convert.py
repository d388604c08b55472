"""Read one format and write another; mend what can be mended on the way."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import DataWarning, RequestError
from cryovox.core.intensity import slabs, statistics
from cryovox.core.particles import Particles, concatenate
from cryovox.core.placement import check_positions
from cryovox.core.volume import Volume
from cryovox.formats import (
    PARTICLES,
    VOLUMES,
    czii,
    ending,
    is_particles,
    is_volume,
    read_particles,
    read_volume,
    resample,
    star,
    stem,
    write_particles,
    write_volume,
)
from cryovox.formats.tomogram_names import plain_name, volume_of
from cryovox.workflows.config import ConvertConfig
from cryovox.workflows.inputs import expand, frame

Frames = Volume | Mapping[str, Volume]


def convert(
    source: Path, target: Path, config: ConvertConfig, tomogram: Path | None = None, verify: bool = False
) -> str:
    """Convert a volume or a particle list; gives a line that tells what was done.

    Parameters
    ----------
    source, target
        Files; the endings choose the formats. Particle lists of a folder are joined.
    tomogram
        The tomogram that particles belong to, for formats that count from its centre or in voxels; for a
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
    volume = read_volume(source, config.voxel_size)
    told = []
    if config.unsigned_bytes:
        volume = _unsigned(source, volume)
        told.append("bytes read as unsigned")
    if config.fill_nan:
        volume, count = _filled(volume)
        told.append(f"{count} values filled")
    if config.invert:
        volume = volume.with_data(-np.asarray(volume.data, dtype=np.float32))
        told.append("inverted")
    if config.resample is not None:
        if statistics(volume.data).not_finite:
            told_nan = "holds NaN, which resampling would spread"
            raise RequestError(source, told_nan, "add --fill-nan")
        volume = resample.resample(volume, config.resample)
        told.append(f"resampled to {config.resample:g} Å")
    write_volume(target, volume)
    if verify:
        back = read_volume(target)
        same = all(
            np.array_equal(a, b, equal_nan=True)
            for a, b in zip(slabs(volume.data), slabs(back.data), strict=True)
        )
        if not same and not np.allclose(back.data, volume.data, rtol=1e-6, equal_nan=True):
            raise RequestError(target, "does not read back as it was written", "report this, with both files")
        told.append("verified")
    z, y, x = volume.shape
    return f"{target}: {z} x {y} x {x} voxels (z, y, x) of {volume.voxel_size:g} Å" + "".join(
        f", {t}" for t in told
    )


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
        particles = czii.prepared(particles, name)
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
        back = read_particles(target, tomogram=frames, voxel_size=config.out_voxel_size)
        _compare(particles, back, target)
        message += ", verified"
    return message


def _joined(
    source: Path, target: Path, config: ConvertConfig, tomogram: Path | None
) -> tuple[Particles, Frames | None]:
    """All particles of a file or folder, and the tomograms that they belong to."""
    several, files = source.is_dir(), expand([source], is_particles)
    if (
        tomogram is None
        and _stays_centred(target, config)
        and all(ending(p) == ".star" for p in files.values())
    ):
        own = {name: star.stand_in(path) for name, path in files.items()}
        frames: Frames | None = None if None in own.values() else _merged(own, several)
    else:
        volumes = {} if tomogram is None else {n: frame(p) for n, p in expand([tomogram]).items()}
        frames = next(iter(volumes.values())) if len(volumes) == 1 and not several else volumes or None
    lists = []
    for name, path in files.items():
        picks = read_particles(path, tomogram=frames, voxel_size=config.voxel_size, species=config.species)
        if several and picks.tomograms is None:
            picks = replace(picks, tomograms=np.full(len(picks), name))
        elif isinstance(frames, Volume) and tomogram is not None:
            _warn_of_another(path, picks, stem(tomogram))
        if tomogram is not None:
            _check_places(path, picks, frames)
        lists.append(picks)
    return concatenate(lists), frames


def _stays_centred(target: Path, config: ConvertConfig) -> bool:
    """Whether coordinates that count from the centre are written as they are."""
    return ending(target) == ".star" and config.star_version in (None, "relion5")


def _merged(frames: Mapping[str, Frames | None], several: bool) -> Frames:
    """Stand-ins of several lists by the names of their tomograms."""
    if not several:
        return next(frame for frame in frames.values() if frame is not None)
    merged: dict[str, Volume] = {}
    for name, own in frames.items():
        merged |= {name: own} if isinstance(own, Volume) else dict(own or {})
    return merged


def _check_places(path: Path, picks: Particles, frames: Frames | None) -> None:
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


def _compare(wrote: Particles, back: Particles, target: Path) -> None:
    same = len(back) == len(wrote) and bool(
        np.allclose(back.positions, wrote.positions, atol=2e-3) and (back.species == wrote.species).all()
    )
    if not same:
        raise RequestError(target, "does not read back as it was written", "report this, with both files")
