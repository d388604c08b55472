"""From score maps and label maps to particles; numpy and scipy only, seconds for a tomogram."""

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
    return pick_counted(scores, config, mask)[0]


def pick_counted(
    scores: ScoreMap, config: PickConfig | None = None, mask: NDArray[Any] | None = None
) -> tuple[Particles, int]:
    """As :func:`pick`, and how many were left out since they lie too close to a face of the volume."""
    from cryovox.picking.exclude import allowed, near_faces

    config = config or PickConfig()
    check_method(config, scores.kind)
    frame = (scores.data.shape[1:], scores.voxel_size, scores.offset)
    if scores.tomogram_shape is not None and scores.tomogram_voxel_size is not None:
        frame = (scores.tomogram_shape, scores.tomogram_voxel_size, 0.0)
    limits = allowed(*frame, mask, 0.0), near_faces(*frame, config.border)
    if scores.kind == "heatmap":
        from cryovox.picking.peaks import pick_peaks

        return pick_peaks(scores, config, *limits)
    from cryovox.picking.regions import pick_masks

    return pick_masks(scores, config, *limits)


def pick_labels(
    labels: LabelMap, config: PickConfig | None = None, mask: NDArray[Any] | None = None
) -> Particles:
    """Pick the particles of a label map: the centroids of its connected regions, or the centres of
    clusters of its voxels with `method="mean-shift"`; each has score 1.

    A label that no species claims is called by its number, and its regions are measured against
    their median instead of a ball.
    """
    return pick_labels_counted(labels, config, mask)[0]


def pick_labels_counted(
    labels: LabelMap, config: PickConfig | None = None, mask: NDArray[Any] | None = None
) -> tuple[Particles, int]:
    """As :func:`pick_labels`, and how many were left out since they lie too close to a face."""
    from cryovox.picking.exclude import allowed, near_faces
    from cryovox.picking.regions import pick_regions

    config = config or PickConfig()
    z, y, x = labels.data.shape
    frame = ((z, y, x), labels.voxel_size, 0.0)
    return pick_regions(labels, config, allowed(*frame, mask, 0.0), near_faces(*frame, config.border))
