"""Readers and writers that the manifest of the plugin names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.core.volume import Volume
from cryovox.formats import read_particles, read_volume, scores, stem, write_particles, write_volume
from cryovox.formats.particles import manifest
from cryovox.napari.layers import (
    LayerData,
    frame_of,
    is_label_map,
    particle_layer,
    particles_of,
    score_layers,
    volume_layer,
)

Reader = Callable[[Any], list[LayerData]]


def volume_reader(path: str | Sequence[str]) -> Reader | None:
    """Reader of tomograms and label maps."""
    return lambda paths: [_volume(one) for one in _each(paths)]


def score_reader(path: str | Sequence[str]) -> Reader | None:
    """Reader of score maps; None for other folders."""
    if not all(scores.is_scores(one) for one in _each(path)):
        return None
    return lambda paths: [
        layer for one in _each(paths) for layer in score_layers(stem(one), scores.read(one))
    ]


def particle_reader(path: str | Sequence[str]) -> Reader | None:
    """Reader of particle lists."""
    return lambda paths: [_particles(one) for one in _each(paths)]


def _each(paths: str | Sequence[str]) -> list[Path]:
    return [Path(paths)] if isinstance(paths, str | Path) else [Path(one) for one in paths]


def _volume(path: Path) -> LayerData:
    return volume_layer(stem(path), read_volume(path), is_label_map(path))


def _particles(path: Path) -> LayerData:
    """A list; formats relative to the center need the manifest beside it, which our commands write."""
    known = manifest.read(path)
    extents = [] if known is None else list(known.tomograms.values())
    frame = None
    if len(extents) == 1:
        frame = Volume(np.broadcast_to(np.int8(0), extents[0].shape), extents[0].voxel_size)
    picks = read_particles(path, tomogram=frame)
    store = path.parent.parent / "scores" / f"{stem(path)}.zarr"
    radii = {one.name: one.radius for one in scores.read(store).species} if store.exists() else {}
    return particle_layer(stem(path), picks, radii, frame)


def write_points(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a layer of points as a particle list."""
    scale, shift = (
        np.asarray(attributes.get(key, default)) for key, default in (("scale", 1.0), ("translate", 0.0))
    )
    features = {key: list(values) for key, values in dict(attributes.get("features", {})).items()}
    picks = particles_of(np.asarray(data) * scale + shift, features)
    frame = frame_of(attributes.get("metadata", {}))
    name = str(attributes.get("name", Path(path).stem))
    write_particles(path, picks, tomogram=frame, tomogram_name=name)
    manifest.write(Path(path), picks, tomogram=frame, tomogram_name=name)
    return [path]


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a layer of labels as a label map, with the voxel size of its scale."""
    size = float(np.asarray(attributes.get("scale", 10.0)).ravel()[-1])
    write_volume(path, Volume(np.asarray(data).astype(np.int8), size))
    return [path]
