"""Imitate a real tomogram: measure it, fit the settings to it, and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import replacing
from cryovox.core.errors import RequestError
from cryovox.formats import read_volume
from cryovox.report.simulation_match import simulation_match_page
from cryovox.report.wedge import MIN_WEDGE_CONTRAST, find_wedge
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.realism.statistics import TomogramStatistics, measure_statistics
from cryovox.workflows.inputs import refuse_wrapped_bytes


def measure_tomogram(path: Path) -> TomogramStatistics:
    """Measure what a simulation can imitate of a tomogram."""
    volume = read_volume(path)
    refuse_wrapped_bytes(path, volume)
    return measure_statistics(_with_tilt_axis_y(np.asarray(volume.data)), volume.voxel_size)


def match_config(config: SimulationConfig, statistics: TomogramStatistics) -> SimulationConfig:
    """The settings with the voxel size, shape, slab and tilts of a measured tomogram.

    Particle counts grow with the volume.
    """
    if config.halves != "none" or config.reconstruction.binning != 1 or config.reconstruction.thickness:
        message = "half-tomograms, binning and another thickness cannot be combined with --match"
        raise RequestError("--match", message, "leave them at their defaults")
    scene, voxel_size = config.scene, statistics.voxel_size
    first, last = statistics.slab
    thickness = (last - first) * voxel_size
    whole = statistics.slab == (0, statistics.shape[0])
    depth = scene.slab or scene.shape[0] * scene.voxel_size
    volume = depth * scene.shape[1] * scene.shape[2] * scene.voxel_size**2
    growth = thickness * statistics.shape[1] * statistics.shape[2] * voxel_size**2 / volume
    update = {
        "shape": statistics.shape,
        "voxel_size": voxel_size,
        "slab": None if whole else thickness,
        "slab_center": None if whole else voxel_size * (first + last - 1) / 2,
        "counts": scene.counts and {k: round(n * growth) for k, n in scene.counts.items()},
    }
    tilts = config.tilts
    if statistics.tilts is not None:
        tilts = tilts.model_copy(update={"range": statistics.tilts})
    return config.model_copy(update={"scene": scene.model_copy(update=update), "tilts": tilts})


def write_match_page(page: Path, real: Path, simulated: Path, sign: int) -> None:
    """Show the measured and a simulated tomogram side by side; *sign* is +1 for bright particles."""
    volume = read_volume(real)
    html = simulation_match_page(
        _with_tilt_axis_y(np.asarray(volume.data)),
        np.asarray(read_volume(simulated).data),
        volume.voxel_size,
        title=f"{real.name} and matched simulation",
        sign=sign,
    )
    with replacing(page) as beside:
        beside.write_text(html, encoding="utf-8")


def _with_tilt_axis_y(data: NDArray[Any]) -> NDArray[Any]:
    """The tomogram, rotated by 90 degrees about z if its missing wedge is that of a tilt axis along x.

    Simulated tomograms always have the tilt axis y.
    """
    wedge = find_wedge(data)
    about_x = wedge.contrast >= MIN_WEDGE_CONTRAST and (wedge.beam, wedge.tilt_axis) == (0, 2)
    return np.rot90(data, axes=(1, 2)) if about_x else data
