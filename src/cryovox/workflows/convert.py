"""Read one format and write another; mend what can be mended on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.intensity import slabs, statistics
from cryovox.core.particles import Particles, concatenate
from cryovox.core.volume import Volume
from cryovox.formats import (
    PARTICLES,
    VOLUMES,
    czii,
    is_particles,
    is_volume,
    read_particles,
    read_volume,
    resample,
    stem,
    write_particles,
    write_volume,
)
from cryovox.workflows.config import ConvertConfig
from cryovox.workflows.inputs import expand, frame


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


def _filled(volume: Volume) -> tuple[Volume, int]:
    moments = statistics(volume.data)
    if not moments.not_finite:
        return volume, 0
    data: NDArray[np.float32] = np.array(volume.data, dtype=np.float32)
    data[~np.isfinite(data)] = 0.0 if np.isnan(moments.mean) else moments.mean
    return volume.with_data(data), moments.not_finite


def _particles(source: Path, target: Path, config: ConvertConfig, tomogram: Path | None, verify: bool) -> str:
    particles, belongs = _joined(source, config, tomogram)
    name = stem(tomogram) if tomogram is not None else stem(source)
    if config.flavour == "czii":
        particles = czii.prepared(particles, name)
    write_particles(
        target,
        particles,
        tomogram=belongs,
        voxel_size=config.out_voxel_size,
        tomogram_name=name,
        flavour=config.flavour,
    )
    told = f"{target}: {len(particles)} particles"
    if verify:
        back = read_particles(target, tomogram=belongs, voxel_size=config.out_voxel_size)
        _compare(particles, back, target)
        told += ", verified"
    return told


def _joined(source: Path, config: ConvertConfig, tomogram: Path | None) -> tuple[Particles, Volume | None]:
    """All particles of a file or folder, and their tomogram, or one that stands for several alike."""
    several, files = source.is_dir(), expand([source], is_particles)
    frames = {} if tomogram is None else {name: frame(path) for name, path in expand([tomogram]).items()}
    lists = []
    for name, path in files.items():
        if several and frames and name not in frames:
            told = f"has no tomogram called {name}, to which {path.name} belongs"
            raise RequestError(str(tomogram), told, "name the folder with all of them")
        belongs = frames.get(name) if several else next(iter(frames.values()), None)
        found = read_particles(path, tomogram=belongs, voxel_size=config.voxel_size, species=config.species)
        if several and found.tomograms is None:
            found = replace(found, tomograms=np.full(len(found), name))
        lists.append(found)
    alike = len({(volume.shape, volume.voxel_size) for volume in frames.values()}) == 1
    return concatenate(lists), next(iter(frames.values())) if alike else None


def _compare(wrote: Particles, back: Particles, target: Path) -> None:
    same = len(back) == len(wrote) and bool(
        np.allclose(back.positions, wrote.positions, atol=2e-3) and (back.species == wrote.species).all()
    )
    if not same:
        raise RequestError(target, "does not read back as it was written", "report this, with both files")
