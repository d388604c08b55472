"""From score maps and label maps to particles; numpy and scipy only, seconds for a tomogram."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from cryovox.core.particles import Particles
from cryovox.core.volume import LabelMap, ScoreMap
from cryovox.picking.config import PickConfig, check_method

__all__ = ["PickConfig", "check_method", "pick", "pick_labels"]


def pick(scores: ScoreMap, config: PickConfig | None = None, mask: NDArray[Any] | None = None) -> Particles:
    """Pick the particles of a score map, species by species, best first.

    Parameters
    ----------
    scores
        Heatmaps are searched for peaks, masks for connected regions or, with `method="mean-shift"`,
        clusters of voxels.
    config
        The defaults where None.
    mask : (z, y, x) of the tomogram or of the score map
        Not 0 where particles may lie.

    Returns
    -------
    Particles
        Centres in Å in the frame of the tomogram; the score is that of the peak, or the mean over
        the voxels of the region.
    """
    from cryovox.picking.exclude import allowed

    config = config or PickConfig()
    check_method(config, scores.kind)
    frame = (scores.data.shape[1:], scores.voxel_size, scores.offset)
    if scores.tomogram_shape is not None and scores.tomogram_voxel_size is not None:
        frame = (scores.tomogram_shape, scores.tomogram_voxel_size, 0.0)
    may = allowed(*frame, mask, config.border)
    if scores.kind == "heatmap":
        from cryovox.picking.peaks import pick_peaks

        return pick_peaks(scores, config, may)
    from cryovox.picking.regions import pick_masks

    return pick_masks(scores, config, may)


def pick_labels(
    labels: LabelMap, config: PickConfig | None = None, mask: NDArray[Any] | None = None
) -> Particles:
    """Pick the particles of a label map: the centroids of its connected regions, or the centres of
    clusters of its voxels with `method="mean-shift"`; each has score 1.

    A label that no species claims is called by its number, and its regions are measured against
    their median instead of a ball.
    """
    from cryovox.picking.exclude import allowed
    from cryovox.picking.regions import pick_regions

    config = config or PickConfig()
    z, y, x = labels.data.shape
    may = allowed((z, y, x), labels.voxel_size, 0.0, mask, config.border)
    return pick_regions(labels, config, may)
