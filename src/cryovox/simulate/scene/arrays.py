"""A scene as arrays, to continue from after a crash."""

from __future__ import annotations

import json

import numpy as np

from cryovox.core.particles import Particles, Species
from cryovox.core.unfinished import Arrays
from cryovox.simulate.scene.build import Scene


def scene_arrays(scene: Scene) -> Arrays:
    """Volumes, particles and drawn parameters of a scene."""
    particles = scene.particles
    assert particles.rotations is not None
    return {
        "potential": scene.potential, "labels": scene.labels, "instances": scene.instances,
        "positions": particles.positions, "names": particles.species, "rotations": particles.rotations,
        "parameters": np.array(json.dumps(scene.parameters)),
    }  # fmt: skip


def scene_of(arrays: Arrays, species: tuple[Species, ...], voxel_size: float) -> Scene:
    """The scene of :func:`scene_arrays`."""
    names, rotations = arrays["names"].tolist(), arrays["rotations"]
    return Scene(
        potential=arrays["potential"], labels=arrays["labels"], instances=arrays["instances"],
        particles=Particles.of(arrays["positions"], names, rotations=rotations),
        species=species, voxel_size=voxel_size, parameters=json.loads(str(arrays["parameters"])),
    )  # fmt: skip
