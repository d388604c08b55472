"""Convert particle lists; flip and rescale coordinates on the way."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from cryovox.core.errors import DataWarning, RequestError
from cryovox.core.particles import Particles, concatenate
from cryovox.core.placement import check_positions
from cryovox.core.progress import ProgressCallback, no_progress, tracked
from cryovox.core.volume import Volume
from cryovox.formats import ending, read_particles, stem, write_particles
from cryovox.formats.particles import czii, manifest, relion_project, star, tomolist
from cryovox.formats.particles.flips import flipped
from cryovox.formats.particles.manifest import Origin
from cryovox.formats.tomogram_names import plain_name, volume_of
from cryovox.workflows.config import ConvertConfig
from cryovox.workflows.conversion.verify import density_lines, difference
from cryovox.workflows.inputs import expand, frame

Frames = Volume | Mapping[str, Volume]


def convert_particles(
    files: Mapping[str, Path],
    target: Path,
    config: ConvertConfig,
    tomogram: Path | None,
    *,
    verify: bool = False,
    joined: bool = False,
) -> str:
    """Convert one list, or several into one; returns lines that say what was done.

    Parameters
    ----------
    files
        Lists by name.
    target
        The output.
    config
        Settings.
    tomogram
        A tomogram, a folder of tomograms, or the tomograms.star of RELION.
    verify
        Read the output back and compare it, and compare particles with the density of their tomogram.
    joined
        Whether a list without names of tomograms belongs to the tomogram with the name of its file.
    """
    frames = frames_of(files, target, config, tomogram, joined)
    particles = read_lists(files, config, tomogram, frames, joined)
    if config.flips:
        particles = flipped(particles, frames, config.flips)
    name = stem(tomogram) if tomogram is not None and not joined else stem(next(iter(files.values())))
    if config.convention == "czii":
        particles = czii.to_submission(particles, name)
    size = _out_size(target, config, frames)
    write_particles(
        target,
        particles,
        tomogram=frames,
        voxel_size=size,
        tomogram_name=name,
        convention=config.convention,
        center=config.out_center,
    )
    manifest.write(target, particles, tomogram=frames, tomogram_name=name, origin=origin_of(files.values()))
    lines = [f"{target}: {len(particles)} particles"]
    if verify:
        kinds = set(particles.species.tolist())
        single = kinds.pop() if len(kinds) == 1 else None  # some formats do not store it
        stored = read_particles(target, tomogram=frames, voxel_size=size, species=single)
        lines[0] += f", verified: largest difference {difference(particles, stored, target)}"
        lines += density_lines(particles, tomogram)
    return "\n".join(lines)


def read_lists(
    files: Mapping[str, Path],
    config: ConvertConfig,
    tomogram: Path | None,
    frames: Frames | None,
    joined: bool,
    on_progress: ProgressCallback = no_progress,
) -> Particles:
    """All particles of the files, compared with the extent of their tomograms."""
    lists = []
    numbers = None if config.tomolist is None else tomolist.read(config.tomolist)
    known = tomolist.numbered(frames, numbers) if numbers and isinstance(frames, Mapping) else frames
    for name, path in tracked(files.items(), on_progress, "reading lists"):
        picks = read_particles(
            path,
            tomogram=known,
            voxel_size=config.voxel_size,
            species=config.species,
            center=config.center,
        )
        picks = picks if numbers is None else tomolist.named(path, picks, numbers)
        origin = manifest.read(path)
        if origin is not None and origin.orientations == "identity":
            picks = replace(picks, rotations=None)
        if joined and picks.tomograms is None:
            picks = replace(picks, tomograms=np.full(len(picks), name))
        elif isinstance(frames, Volume) and tomogram is not None:
            _warn_of_another(path, picks, stem(tomogram))
        if tomogram is not None:
            _check_positions(path, picks, frames)
        lists.append(picks)
    return concatenate(lists)


def origin_of(files: Iterable[Path]) -> Origin:
    """Where the picks of lists come from, by their manifests."""
    manifests = [manifest.read(path) for path in files]
    return manifest.common_origin([Origin() if m is None else m.origin for m in manifests])


def _out_size(target: Path, config: ConvertConfig, frames: Frames | None) -> float | None:
    """Size in Å of the voxels in which the output counts, if an option says it."""
    if config.bin is None:
        return config.out_voxel_size
    if config.out_voxel_size is not None:
        raise RequestError("--bin", "and --out-voxel-size both give a voxel size", "leave one of them out")
    if _stays_centered(target, config):
        raise RequestError("--bin", "RELION 5 counts in Å, which binning does not change", "leave it out")
    volumes = [frames] if isinstance(frames, Volume) else list((frames or {}).values())
    sizes = {volume.voxel_size for volume in volumes}
    if len(sizes) != 1:
        problem = "needs the voxel size of the tomogram" if not sizes else "needs tomograms of one voxel size"
        raise RequestError("--bin", problem, "pass --tomogram T, or --out-voxel-size A instead")
    return sizes.pop() * config.bin


def frames_of(
    files: Mapping[str, Path], target: Path, config: ConvertConfig, tomogram: Path | None, joined: bool
) -> Frames | None:
    """Frames of the tomograms, or placeholders where centered coordinates stay centered."""
    is_star = all(ending(path) == ".star" for path in files.values())
    same_center = config.out_center in (None, config.center) and not config.flips
    if tomogram is None and is_star and same_center and _stays_centered(target, config):
        placeholders = {name: star.placeholder_tomograms(path) for name, path in files.items()}
        one_center = len(files) == 1 or len({star.recorded_center(path) for path in files.values()}) == 1
        return _merged(placeholders, joined) if one_center and None not in placeholders.values() else None
    if tomogram is not None and ending(tomogram) == ".star":
        return relion_project.frames(tomogram)
    volumes = {} if tomogram is None else {name: frame(path) for name, path in expand([tomogram]).items()}
    return next(iter(volumes.values())) if len(volumes) == 1 and not joined else volumes or None


def _stays_centered(target: Path, config: ConvertConfig) -> bool:
    """Whether the output counts from the center of the tomogram, as RELION 5 does."""
    return ending(target) == ".star" and config.convention in (None, "relion5")


def _merged(frames: Mapping[str, Frames | None], joined: bool) -> Frames:
    """Placeholders of several lists by the names of their tomograms."""
    if not joined:
        return next(frame for frame in frames.values() if frame is not None)
    merged: dict[str, Volume] = {}
    for name, own in frames.items():
        merged |= {name: own} if isinstance(own, Volume) else dict(own or {})
    return merged


def _check_positions(path: Path, picks: Particles, frames: Frames | None) -> None:
    if isinstance(frames, Volume):
        check_positions(path, picks.positions, frames)
    elif frames is not None and picks.tomograms is not None and len(picks):
        known = {plain_name(key) for key in frames}
        names, group = np.unique(picks.tomograms, return_inverse=True)
        ends = np.cumsum(np.bincount(group, minlength=len(names)))[:-1]
        rows = np.split(np.argsort(group, kind="stable"), ends)
        for name, own in zip(names.tolist(), rows, strict=True):
            if plain_name(name) in known:
                check_positions(path, picks.positions[own], volume_of(path, name, frames))


def _warn_of_another(path: Path, picks: Particles, name: str) -> None:
    names = set() if picks.tomograms is None else {plain_name(n) for n in set(picks.tomograms.tolist()) if n}
    if len(names) == 1 and names != {plain_name(name)}:
        message = f"{path}: is a list of {next(iter(names))}, read as one of {name}"
        warnings.warn(f"{message}; is --tomogram the right one?", DataWarning, stacklevel=2)
