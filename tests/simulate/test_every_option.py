"""No option of the simulator is without effect.

Each numeric option is changed alone, in a small scene that has everything in it; where another option has to
be set for it to matter, `CONTEXT` says so.
"""

from functools import cache
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from cryovox.simulate.particles.library import build_template
from cryovox.simulate.tomogram import SimulationConfig, simulate

SPECIES = ("tric", "atp-synthase")
BASE: dict[str, Any] = {
    "species": SPECIES,
    "scene": {
        "shape": (24, 48, 48),
        "voxel_size": 20.0,
        "slab": 440.0,
        "counts": dict.fromkeys(SPECIES, 3),
        "membrane_proteins": 100.0,
        "vesicles": {"count": 1, "radius": (120.0, 130.0)},
        "sheets": {"count": 1},
        "filaments": {"count": 1},
        "fiducials": {"count": 1},
        "ice": {"count": 1, "radius": (100.0, 200.0)},
        "carbon": {"present": True, "hole": (600.0, 700.0)},
    },
    "tilts": {"range": (-40.0, 40.0), "step": 20.0, "defocus": (3.0, 3.0)},
}
DIRECT = {"tilts": {"scheme": "bidirectional"}}
SIRT = {"reconstruction": {"method": "sirt"}}
LISTED = {"tilts": {"scheme": "list", "angles": (-20.0, 0.0, 20.0)}}
NOTHING_ELSE = {"sheets": {"count": 0}, "vesicles": {"count": 0}, "carbon": {"present": False}}
ROOMY = {"scene": NOTHING_ELSE | {"counts": {"tric": 3}}}
FLIPPED = {"reconstruction": {"phase_flip": True}, "tilts": {"defocus": (12.0, 12.0)}}
ASTIGMATIC = {"tilts": {"astigmatism": (0.5, 0.5)}}

CHANGES: dict[str, Any] = {
    "resolution": 60.0,
    "snr": 0.01,
    "scene.shape": (24, 48, 56),
    "scene.voxel_size": 22.0,
    "scene.slab": 300.0,
    "scene.slab_center": 200.0,
    "scene.slab_tilt": (5.0, 3.0),
    "scene.counts": dict.fromkeys(SPECIES, 1),
    "scene.occupancy": 0.05,
    "scene.species": {"tric": 1.0},
    "scene.gap": 3,
    "scene.membrane_proteins": 3000.0,
    "scene.vesicles.count": 3,
    "scene.vesicles.max_count": 4,
    "scene.vesicles.radius": (100.0, 105.0),
    "scene.vesicles.thickness": 60.0,
    "scene.vesicles.bulge": 0.18,
    "scene.vesicles.membrane_proteins": 3000.0,
    "scene.vesicles.protein_mass": 1.0,
    "scene.sheets.count": 0,
    "scene.sheets.curvature": (2e-3, 2e-3),
    "scene.sheets.inclination": 0.0,
    "scene.sheets.thickness": 60.0,
    "scene.sheets.protein_mass": 1.0,
    "scene.filaments.count": 0,
    "scene.filaments.length": (100.0, 200.0),
    "scene.filaments.persistence": 300.0,
    "scene.filaments.inclination": 0.0,
    "scene.filaments.potential": 1.0,
    "scene.fiducials.count": 2,
    "scene.fiducials.max_count": 4,
    "scene.fiducials.diameter": (60.0, 60.0),
    "scene.fiducials.potential": 10.0,
    "scene.ice.count": 2,
    "scene.ice.radius": (100.0, 110.0),
    "scene.ice.potential": 2.0,
    "scene.carbon.thickness": (60.0, 60.0),
    "scene.carbon.hole": (900.0, 900.0),
    "scene.carbon.cover": (0.4, 0.4),
    "scene.carbon.potential": 3.0,
    "scene.carbon.texture": 0.2,
    "tilts.range": (-60.0, 40.0),
    "tilts.step": 10.0,
    "tilts.start": 20.0,
    "tilts.angles": (-40.0, 0.0, 40.0),
    "tilts.measured_defocus": (1.0, 2.0, 3.0),
    "tilts.total_dose": 60.0,
    "tilts.defocus": (1.0, 1.0),
    "tilts.defocus_spread": 0.5,
    "tilts.defocus_error": 0.5,
    "tilts.astigmatism": (0.5, 0.5),
    "tilts.astigmatism_angle": (20.0, 20.0),
    "tilts.shift": 10.0,
    "tilts.angle_error": 2.0,
    "optics.voltage": 200.0,
    "optics.cs": 50.0,
    "optics.amplitude_contrast": 0.2,
    "optics.phase_shift": 60.0,
    "optics.cc": 100.0,
    "optics.energy_spread": 30.0,
    "optics.aperture": 0.5,
    "optics.b_factor": 1000.0,
    "optics.slice_thickness": 440.0,
    "detector.dqe": 0.5,
    "detector.dqe_nyquist": 0.1,
    "detector.mtf_nyquist": 0.1,
    "detector.pixel_size": 10.0,
    "detector.mean_free_path": 1000.0,
    "detector.thickness": 2000.0,
    "detector.snr": 0.01,
    "reconstruction.cutoff": 0.5,
    "reconstruction.iterations": 5,
    "reconstruction.binning": 2,
    "reconstruction.thickness": 16,
}
CONTEXT: dict[str, dict[str, Any]] = {
    "scene.species": {"scene": {"membrane_proteins": 3000.0}},
    "scene.filaments.length": ROOMY,
    "scene.filaments.persistence": ROOMY,
    "scene.filaments.inclination": ROOMY,
    "scene.filaments.potential": ROOMY,
    "tilts.start": DIRECT,
    "tilts.angles": LISTED,
    "tilts.measured_defocus": LISTED,
    "tilts.defocus_error": FLIPPED,
    "tilts.astigmatism_angle": ASTIGMATIC,
    "optics.slice_thickness": {"optics": {"model": "multislice"}},
    "reconstruction.iterations": SIRT,
}
NOISE_ONLY = {
    "snr",
    "detector.snr",
    "detector.dqe",
    "detector.dqe_nyquist",
    "detector.mean_free_path",
    "detector.thickness",
}
"""These scale the noise; the noise-free tomogram knows nothing of them."""


def numeric(config: BaseModel, prefix: str = "") -> list[str]:
    """Dotted names of all options that are numbers, ranges of numbers, or tables of them."""
    names = []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            names += numeric(value, f"{prefix}{name}.")
        elif any(kind in str(field.annotation) for kind in ("int", "float")):
            names.append(prefix + name)
    return names


def merged(base: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in update.items():
        nested = (
            isinstance(value, dict) and isinstance(base.get(key), dict) and key not in ("counts", "species")
        )
        out[key] = merged(base[key], value) if nested else value
    return out


def nested(name: str, value: Any) -> dict[str, Any]:
    head, _, rest = name.partition(".")
    return {head: nested(rest, value) if rest else value}


@cache
def template(name: str, voxel_size: float, resolution: float | None) -> Any:
    return build_template(name, voxel_size, resolution)


def outputs(update: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    config = SimulationConfig.model_validate(merged(BASE, update))
    templates = [template(name, config.scene.voxel_size, config.resolution) for name in SPECIES]
    simulated = simulate(templates, config, (1,))
    return simulated.clean.data, simulated.tomogram.data


@cache
def reference(name: str) -> tuple[np.ndarray, np.ndarray]:
    return outputs(CONTEXT.get(name, {}))


def test_every_numeric_option_is_in_the_table():
    assert sorted(numeric(SimulationConfig())) == sorted(CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_changing_an_option_changes_the_tomogram(name):
    changed = outputs(merged(CONTEXT.get(name, {}), nested(name, CHANGES[name])))
    clean, noisy = (
        before.shape != after.shape or np.abs(after - before).max() > 1e-3 * before.std()
        for before, after in zip(reference(name if name in CONTEXT else ""), changed, strict=True)
    )
    assert noisy
    assert clean != (name in NOISE_ONLY)
