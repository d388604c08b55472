"""Flips of particle lists along the axes of their tomograms."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cryovox.core.errors import DataWarning, RequestError
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats.particles.relion import ANGLE_PRIORS, CARRIED, GROUP, SHIFT_PRIORS
from cryovox.formats.tomogram_names import volume_of

STALE = {*CARRIED, *ANGLE_PRIORS, *SHIFT_PRIORS} - {GROUP}
"""Columns that refer to the coordinate system before the flip."""


def flipped(particles: Particles, tomogram: Volume | Mapping[str, Volume] | None, axes: str) -> Particles:
    """Flip particles along axes of their tomogram.

    Parameters
    ----------
    particles
        Particles; those of several tomograms are flipped each in its own.
    tomogram
        Tomogram, or tomograms by name; shape and voxel size are used.
    axes
        Any of x, y and z. Two flips are a rotation, which rotates poses as well; an odd number is a mirror,
        which leaves no pose, so that orientations are left out with a warning.

    Returns
    -------
    Particles
        Voxel i of n along a flipped axis is n - 1 - i.
    """
    if tomogram is None:
        message = f"a flip of {', '.join(axes)} needs the size of the tomogram"
        raise RequestError("particles", message, "pass --tomogram T")
    mirrored = np.array([axis in axes for axis in "zyx"])
    last = _last(particles, tomogram)
    rotations = particles.rotations
    if rotations is not None and mirrored.sum() == 2:
        rotations = np.diag(np.where(mirrored[::-1], -1.0, 1.0)) @ rotations
    elif rotations is not None:
        message = "an odd number of flips mirrors the particles: their orientations are left out"
        warnings.warn(message, DataWarning, stacklevel=2)
        rotations = None
    return replace(
        particles,
        positions=np.where(mirrored, last - particles.positions, particles.positions),
        rotations=rotations,
        extra={name: values for name, values in particles.extra.items() if name not in STALE},
    )


def _last(particles: Particles, tomogram: Volume | Mapping[str, Volume]) -> np.ndarray:
    """Position (z, y, x) in Å of the last voxel of the tomogram, or of that of each particle."""
    if isinstance(tomogram, Volume):
        return (np.array(tomogram.shape) - 1) * tomogram.voxel_size
    if particles.tomograms is None:
        raise RequestError("--tomogram", "names several tomograms, the list none", "name the one of the list")
    names = particles.tomograms.tolist()
    volumes = {name: volume_of("particles", name, tomogram) for name in set(names)}
    last = {name: (np.array(v.shape) - 1) * v.voxel_size for name, v in volumes.items()}
    return np.array([last[name] for name in names]).reshape(-1, 3)
