"""Volumes, score maps and particles as layers of napari, and back; positions of all layers are in Å."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.particles import Particles
from cryovox.core.volume import ScoreMap, Volume
from cryovox.report.figures import COLORS

LayerData = tuple[Any, dict[str, Any], str]
"""Data, attributes and kind of a layer."""
KEY = "cryovox"
"""Key of the metadata of a layer: shape (z, y, x) and voxel size in Å of the tomogram."""
SIZE = 150.0
"""Diameter in Å of points of unknown size."""
UNDECIDED, REJECTED, KEPT = "", "0", "1"
"""Values of the feature `keep`."""
BORDERS = {UNDECIDED: "white", KEPT: "lime", REJECTED: "red"}


def volume_layer(name: str, volume: Volume, labels: bool = False) -> LayerData:
    """An image layer, or a layer of labels."""
    attributes: dict[str, Any] = {
        "name": name,
        "scale": (volume.voxel_size,) * 3,
        "metadata": {KEY: {"shape": tuple(volume.shape), "voxel_size": volume.voxel_size}},
    }
    if labels:
        return np.asarray(volume.data).astype(np.uint8), attributes, "labels"
    middle = np.asarray(volume.data[volume.shape[0] // 2], dtype=np.float32)
    low, high = np.nanpercentile(middle, (1, 99))
    limits = (float(low), float(high) if high > low else float(low) + 1.0)
    return volume.data, attributes | {"contrast_limits": limits, "colormap": "gray"}, "image"


def score_layers(name: str, scores: ScoreMap) -> list[LayerData]:
    """An image layer for each species, transparent where scores are 0."""
    return [
        (
            np.asarray(scores.data[i]),
            {
                "name": f"{name} {species.name}",
                "scale": (scores.voxel_size,) * 3,
                "translate": (scores.offset,) * 3,
                "contrast_limits": (0.0, 1.0),
                "colormap": "inferno",
                "blending": "additive",
                "opacity": 0.6,
            },
            "image",
        )
        for i, species in enumerate(scores.species)
    ]


def particle_layer(
    name: str, picks: Particles, radii: Mapping[str, float], frame: Volume | None
) -> LayerData:
    """A layer of points with the features species, score and keep.

    Parameters
    ----------
    radii
        Radius in Å by species.
    frame
        Shape and voxel size of the tomogram, which formats relative to its center need.
    """
    species = picks.species.astype(str)
    names = sorted(set(species.tolist()))
    keep = np.asarray(picks.extra.get("keep", np.full(len(picks), UNDECIDED)), dtype=str)
    known = {} if frame is None else {KEY: {"shape": tuple(frame.shape), "voxel_size": frame.voxel_size}}
    attributes = {
        "name": name,
        "size": np.array([2 * radii.get(one, SIZE / 2) for one in species]) if len(picks) else SIZE,
        "face_color": [COLORS[names.index(one) % len(COLORS)] for one in species] or "white",
        "border_color": [BORDERS.get(one, "white") for one in keep] or "white",
        "opacity": 0.5,
        "out_of_slice_display": True,
        "features": {"species": species, "score": picks.scores.astype(float), "keep": keep},
        "metadata": known,
    }
    return picks.positions.astype(float), attributes, "points"


def particles_of(positions: NDArray[np.float64], features: Mapping[str, Sequence[Any]]) -> Particles:
    """Particles of a layer of points: positions in Å, and features where the layer has them."""
    count = len(positions)
    species = [str(one) for one in features.get("species", ())] or ["particle"] * count
    scores = np.asarray(list(features.get("score", ())) or np.ones(count), dtype=np.float32)
    keep = np.asarray([str(one) for one in features.get("keep", ())])
    decided = np.isin(keep, (KEPT, REJECTED)).any() if len(keep) else False
    species = [
        one if one and one != "nan" else "particle" for one in species
    ]  # points that were added by hand
    picks = Particles.of(np.asarray(positions, dtype=float), species, np.nan_to_num(scores, nan=1.0))
    if not decided:
        return picks
    return replace(picks, extra={"keep": np.where(np.isin(keep, (KEPT, REJECTED)), keep, "-")})


def frame_of(metadata: Mapping[str, Any]) -> Volume | None:
    """Shape and voxel size of the tomogram of a layer, as a volume without its voxels."""
    known = metadata.get(KEY)
    if not known:
        return None
    return Volume(np.broadcast_to(np.int8(0), tuple(known["shape"])), float(known["voxel_size"]))


def is_label_map(path: Path) -> bool:
    """Whether a volume is shown as labels: it lies in a folder of labels or masks."""
    return path.parent.name in ("labels", "masks", "membranes")
