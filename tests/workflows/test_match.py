"""Template matching of simulated tomograms: positions and poses are recovered."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryovox.core.volume import Volume
from cryovox.formats import read_particles, read_volume, write_volume
from cryovox.simulate.particles import library
from cryovox.simulate.particles.beads import point_group
from cryovox.simulate.particles.rotate import add_box, rotate
from cryovox.workflows.config import MatchConfig
from cryovox.workflows.match import match

VOXEL = 25.0
STEP = 30.0
PLACES = np.array([[12, 14, 15], [20, 34, 17], [13, 25, 42]])


def simulate(path, species, noise=0.0, sign=-1, voxel=VOXEL):
    """A tomogram of three particles with a missing wedge of 30 degrees on each side; returns their poses."""
    shape, template = (32, 48, 56), library.build_template(species, voxel)
    rotations = Rotation.random(len(PLACES), random_state=5).as_matrix()
    volume = np.zeros(shape, np.float32)
    for place, rotation in zip(PLACES, rotations, strict=True):
        density, _ = rotate(template, rotation)
        add_box(volume, density, place - density.shape[0] // 2)
    kz, kx = np.fft.fftfreq(shape[0])[:, None, None], np.fft.rfftfreq(shape[2])
    spectrum = np.fft.rfftn(volume) * (np.abs(kz) <= np.tan(np.pi / 3) * kx + 1e-9)
    volume = sign * np.fft.irfftn(spectrum, s=shape, axes=(0, 1, 2))
    volume += noise * volume.std() * np.random.default_rng(0).standard_normal(shape)
    write_volume(path, Volume(volume.astype(np.float32), voxel))
    return rotations


def pose_error(rotation, true, group):
    """Angle in degrees between two poses, modulo symmetry."""
    traces = [np.trace((rotation @ turn).T @ true) for turn in point_group(group)]
    return np.degrees(np.arccos(np.clip((max(traces) - 1) / 2, -1, 1)))


def search(tomogram, out, species, **settings):
    from pathlib import Path

    config = MatchConfig(**{"angle": STEP, "contrast": "dark", "threshold": 0.3} | settings)
    done, failed = match(Path(species), [tomogram], out, config, device="cpu")
    assert not failed
    (entry,) = done.values()
    volume = read_volume(tomogram)
    return entry, read_particles(out / entry["outputs"]["particles"], tomogram=volume)


@pytest.mark.parametrize("species", ["ribosome-80s", "fatty-acid-synthase", "vlp"])
def test_positions_and_poses_are_recovered(tmp_path, species):
    voxel = {"vlp": 30.0}.get(species, VOXEL)
    true = simulate(tmp_path / "tomo.mrc", species, voxel=voxel)
    group = library.SPECIES[species].group
    _, picks = search(
        tmp_path / "tomo.mrc", tmp_path / "out", species, symmetry=group, noise_control=0, max_count=3
    )
    for place, rotation in zip(PLACES * voxel, true, strict=True):
        distance = np.linalg.norm(picks.positions - place, axis=1)
        assert distance.min() < 0.5 * voxel
        assert pose_error(picks.rotations[distance.argmin()], rotation, group) <= STEP
