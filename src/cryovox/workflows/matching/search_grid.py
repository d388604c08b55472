"""The grid of a search: as coarse as the angular step allows.

Between two searched rotations a point of a particle moves by up to the radius times the angular step. Details
finer than that are not matched by the best of the searched rotations, so neither have they to be sampled
(Crowther, DeRosier and Klug, Proc. R. Soc. A 317 (1970) 319, for the tilts of a series).
"""

from __future__ import annotations

from dataclasses import replace
from math import radians

import numpy as np
from numpy.typing import NDArray

from cryovox.core.intensity import Normalization
from cryovox.core.volume import Volume
from cryovox.formats.resample import resample
from cryovox.inference.template_filters import radial_frequency
from cryovox.workflows.matching.config import MatchConfig
from cryovox.workflows.matching.target import OVERSAMPLING, Target
from cryovox.workflows.model_grid import nearest_index
from cryovox.workflows.simulation.templates import read_template

SHARE = 0.6
"""Voxel size of the search over the radius of a particle times the angular step."""
MIN_RADIUS = 3.0
"""Least radius of a particle in voxels of the search."""
MIN_GAIN = 1.15
"""A grid that is less than so many times as coarse as that of the tomogram is not worth resampling."""


def search_voxel_size(config: MatchConfig, radius: float, voxel_size: float) -> float:
    """Voxel size of a search in Å: that of the tomogram, or a larger one.

    Both hands of a template differ in its details, so a search that compares them is not coarse.

    Parameters
    ----------
    radius, voxel_size
        Of the particle and of the tomogram in Å.
    """
    if config.search_voxel_size == "auto":
        asked = 0.0 if config.hand == "both" else min(SHARE * radians(config.angle), 1 / MIN_RADIUS) * radius
    else:
        asked = 0.0 if config.search_voxel_size == "tomogram" else config.search_voxel_size
    return asked if asked >= MIN_GAIN * voxel_size else voxel_size


def on_search_grid(target: Target) -> Target:
    """A tomogram and a template on the grid of the search: the same object where that is the tomogram's."""
    volume, config = target.volume, target.config
    voxel_size = search_voxel_size(config, target.species.radius, volume.voxel_size)
    if voxel_size == volume.voxel_size:
        return target
    return on_grid_of(target, resample(volume, voxel_size))


def on_grid_of(target: Target, coarse: Volume) -> Target:
    """A tomogram and a template on the grid of a volume, which is the tomogram at another voxel size."""
    volume, config, voxel_size = target.volume, target.config, coarse.voxel_size
    fine = read_template(target.source, voxel_size / OVERSAMPLING, 2 * volume.voxel_size, config.name)
    template = replace(fine, density=band_limited(fine.density, 1 / (2 * OVERSAMPLING)))
    mean, std = (float(value) for value in (np.mean(coarse.data), np.std(coarse.data)))
    index = nearest_index(volume, coarse)
    inside = None if target.inside is None else target.inside[index]
    cone = None if target.cone is None else target.cone.at(index)
    normalize = Normalization(mean, std, target.normalize.sign)
    # the radius of the finer template: that of a coarse one is rounded up to its voxels
    config = config.model_copy(update={"radius": target.species.radius})
    return replace(
        target, volume=coarse, normalize=normalize, template=template, inside=inside, cone=cone, config=config
    )


def band_limited(density: NDArray[np.float32], limit: float) -> NDArray[np.float32]:
    """A density without what lies beyond a frequency in cycles per voxel, with an edge of a tenth each side.

    A resampled tomogram keeps its amplitudes up to that frequency, so the template must, too.
    """
    frequency = radial_frequency(density.shape[0])
    window = np.clip((1.1 * limit - frequency) / (0.2 * limit), 0, 1)
    spectrum = np.fft.rfftn(density) * window
    return np.fft.irfftn(spectrum, s=density.shape, axes=(0, 1, 2)).astype(np.float32)
