"""Particle picking from score maps and label maps; needs no torch."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from cryovox.core.particles import Particles
from cryovox.core.volume import LabelMap, ScoreMap
from cryovox.picking.config import PickConfig, check_method

__all__ = ["PickConfig", "check_method", "pick", "pick_counted", "pick_labels", "pick_labels_counted"]


def pick(scores: ScoreMap, config: PickConfig | None = None, mask: NDArray[Any] | None = None) -> Particles:
    """Pick the particles of a score map, species by species, best first.

    Parameters
    ----------
    scores
        Peaks are picked from heatmaps (where all species are ranges of diameters, from their sum), and
        connected regions or, with `method="mean-shift"`, clusters of voxels from masks.
    config
        The defaults where None.
    mask : (z, y, x) of the tomogram or of the score map
        Not 0 where particles may lie.

    Returns
    -------
    Particles
        Centers in Å in the frame of the tomogram; the score is that of the peak, or the mean over
        the voxels of the region.
    """
    return pick_counted(scores, config, mask)[0]


def pick_counted(
    scores: ScoreMap, config: PickConfig | None = None, mask: NDArray[Any] | None = None
) -> tuple[Particles, int]:
    """As :func:`pick`, and the number of picks that were dropped near the edges of the volume."""
    from cryovox.picking.bounds import Bounds

    config = config or PickConfig()
    check_method(config, scores.kind)
    bounds = Bounds.of_scores(scores, mask, config.border)
    if scores.kind == "heatmap":
        if all(species.diameters for species in scores.species):
            from cryovox.picking.any_size import pick_sizes

            return pick_sizes(scores, config, bounds)
        from cryovox.picking.peaks import pick_peaks

        return pick_peaks(scores, config, bounds)
    from cryovox.picking.regions import pick_masks

    return pick_masks(scores, config, bounds)


def pick_labels(
    labels: LabelMap, config: PickConfig | None = None, mask: NDArray[Any] | None = None
) -> Particles:
    """Pick the particles of a label map, each with score 1.

    The picks are the centroids of connected regions or, with `method="mean-shift"`, the centers of clusters
    of voxels. A label without a species is named by its number, and the sizes of its regions are compared
    with their median instead of a sphere.
    """
    return pick_labels_counted(labels, config, mask)[0]


def pick_labels_counted(
    labels: LabelMap, config: PickConfig | None = None, mask: NDArray[Any] | None = None
) -> tuple[Particles, int]:
    """As :func:`pick_labels`, and the number of picks that were dropped near the edges of the volume."""
    from cryovox.picking.bounds import Bounds
    from cryovox.picking.regions import pick_regions

    config = config or PickConfig()
    z, y, x = labels.data.shape
    bounds = Bounds((z, y, x), labels.voxel_size, mask=mask, border=config.border)
    return pick_regions(labels, config, bounds)
