"""The sample: particles, membranes, filaments, gold beads, ice crystals and carbon."""

from cryovox.simulate.config.scene import (
    CarbonConfig,
    FiducialConfig,
    FilamentConfig,
    IceConfig,
    SceneConfig,
    SheetConfig,
    VesicleConfig,
)
from cryovox.simulate.scene.build import Scene, build_scene, scene_species

__all__ = [
    "CarbonConfig",
    "FiducialConfig",
    "FilamentConfig",
    "IceConfig",
    "Scene",
    "SceneConfig",
    "SheetConfig",
    "VesicleConfig",
    "build_scene",
    "scene_species",
]
