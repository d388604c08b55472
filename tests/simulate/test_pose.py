"""The written pose of a particle against what the images and the tomogram show.

The particle is built a second time, from the beads of its blueprint turned by the written rotation, and put
at the written position in Fourier space, so that neither the splines nor the drawing of the scene take part.
What its small turns and shifts would change in the data is fitted to the data: the rest that is left to turn
and to shift is the error of the pose.
"""

from copy import copy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import fft
from scipy.spatial.transform import Rotation

from cryovox.formats import read_particles, write_particles
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.microscope import DetectorConfig, OpticsConfig, ReconstructionConfig, TiltConfig
from cryovox.simulate.microscope.optics import ctf, envelope
from cryovox.simulate.microscope.projection import project
from cryovox.simulate.particles.beads import rasterize
from cryovox.simulate.particles.library import SPECIES, build_template
from cryovox.simulate.particles.rotate import add_box, rotate
from cryovox.simulate.scene import SceneConfig
from cryovox.simulate.tomogram import simulate

SHAPE = (48, 40, 64)
VOXELS = {"clpb": 10.0, "cand1-cul1": 7.0, "arp2-3": 7.0}
FLAT = OpticsConfig(model="weak", damage=False, amplitude_contrast=0.99, cc=0, aperture=0, cs=0)
REAL = OpticsConfig(damage=False)
STEPS = [Rotation.from_rotvec(np.deg2rad(s) * axis).as_matrix() for axis in np.eye(3) for s in (1, -1)]


class Sample:
    """A simulated tomogram of two particles, and models of them at the poses of its particle list."""

    def __init__(self, folder, name, seed, optics=FLAT, defocus=0.0):
        self.name, self.edge, self.optics, self.defocus = name, VOXELS[name], optics, 1e4 * defocus
        self.template = build_template(name, self.edge)
        config = SimulationConfig(
            species=(name,),
            scene=SceneConfig(shape=SHAPE, voxel_size=self.edge, slab=30 * self.edge, counts={name: 2}),
            tilts=TiltConfig(step=3, defocus=(defocus, defocus)),
            optics=optics,
            detector=DetectorConfig.ideal(),
            reconstruction=ReconstructionConfig(phase_flip=defocus > 0),
            beyond="nothing",
        )
        self.simulated = simulate([self.template], config, (seed,))
        write_particles(
            folder / "p.star", self.simulated.particles, tomogram=self.simulated.tomogram, tomogram_name="t"
        )
        result = read_particles(folder / "p.star", tomogram=self.simulated.tomogram)
        self.positions, self.rotations = result.positions, result.rotations
        self.models = cache(self._models)

    def _models(self, number):
        """The particle as it was written, and 1 degree to either side of it about x, y and z."""
        rotation, blueprint = self.rotations[number], SPECIES[self.name]
        beads = tuple((*(rotation @ bead[:3]), bead[3]) for bead in blueprint.beads)
        again = rasterize(self.name, replace(blueprint, beads=beads), self.edge).density
        turned = [rotate(self.template, step @ rotation, (0, 0, 0), self.edge)[0] for step in STEPS]
        return [_in_the_middle(density) for density in (again, *turned)]

    def series_errors(self):
        """Error of every pose in degrees and in voxels, from the noise-free tilt series."""
        ky, along = fft.fftfreq(SHAPE[1])[:, None], fft.rfftfreq(SHAPE[2])
        tilts = self.simulated.series.tilts.angles
        turns = np.deg2rad(tilts)[:, None, None]
        axes = np.broadcast_arrays(along * np.sin(turns), ky[None], along * np.cos(turns))
        radius = np.broadcast_to(np.hypot(ky, along), axes[0].shape)
        passed = self._passed(radius)

        def result(volumes):
            tall = project(np.concatenate(volumes, 1), tilts)
            views = tall.reshape(len(tilts), len(volumes), *SHAPE[1:]).swapaxes(0, 1)
            return fft.rfft2(views) * passed

        return self._errors(fft.rfft2(self.simulated.series.signal), result, axes, radius < 0.45)

    def tomogram_errors(self):
        """The same from the noise-free tomogram, inside the wedge and off the plane where all tilts meet."""
        axes = np.meshgrid(*map(fft.fftfreq, SHAPE[:2]), fft.rfftfreq(SHAPE[2]), indexing="ij")
        radius = np.sqrt(sum(axis**2 for axis in axes))
        keep = (np.abs(axes[0]) <= axes[2] * np.tan(np.deg2rad(60))) & (axes[2] > 0.02) & (radius < 0.4)
        passed = np.abs(self._passed(radius))

        def result(volumes):
            return fft.rfftn(volumes, axes=(1, 2, 3)) * passed

        return self._errors(fft.rfftn(-self.simulated.clean.data), result, axes, keep)

    def _passed(self, radius):
        k = radius / self.edge
        return ctf(k, self.defocus, self.optics) * envelope(k, self.defocus, self.optics)

    def _errors(self, data, result, axes, keep):
        columns = []
        waves = [-2j * np.pi * axis[keep] for axis in axes]
        for number, position in enumerate(self.positions):
            away = position / self.edge - np.array(SHAPE) // 2
            moved = np.exp(sum(wave * shift for wave, shift in zip(waves, away, strict=True)))
            model, *turned = [spectrum[keep] * moved for spectrum in result(self.models(number))]
            turns = [(up - down) / 2 for up, down in zip(turned[::2], turned[1::2], strict=True)]
            columns += [model, *turns, *(wave * model for wave in waves)]
        matrix = np.stack(columns)
        output = np.linalg.solve((matrix.conj() @ matrix.T).real, (matrix.conj() @ data[keep]).real)
        output = output.reshape(-1, 7)
        output = output[:, 1:] / output[:, :1]
        return np.linalg.norm(output[:, :3], axis=1), np.linalg.norm(output[:, 3:], axis=1)


def _in_the_middle(density):
    out = np.zeros(SHAPE, np.float32)
    add_box(out, density, np.array(SHAPE) // 2 - density.shape[0] // 2)
    return out


def _assert_right(errors, degrees, voxels):
    assert errors[0].max() < degrees
    assert errors[1].max() < voxels


@pytest.fixture(
    scope="module", params=[("clpb", 0), ("cand1-cul1", 1)], ids=lambda case: f"{case[0]}-{case[1]}"
)
def sample(request, tmp_path_factory):
    return Sample(tmp_path_factory.mktemp("pose"), *request.param)


def test_the_tilt_series_shows_particles_at_their_written_poses(sample):
    _assert_right(sample.series_errors(), 0.1, 0.01)


def test_the_tomogram_shows_particles_at_their_written_poses(sample):
    _assert_right(sample.tomogram_errors(), 1, 0.1)


def test_poses_stay_right_under_a_contrast_transfer_with_flipped_phases(tmp_path):
    real = Sample(tmp_path, "cand1-cul1", 0, REAL, defocus=2.0)
    _assert_right(real.series_errors(), 1, 0.1)
    _assert_right(real.tomogram_errors(), 1, 0.1)


@pytest.mark.parametrize("sample", [("clpb", 0)], indirect=True, ids=["clpb-0"])
def test_wrong_poses_are_told(sample):
    wrong = Rotation.from_rotvec(np.deg2rad([0, 1.2, 1.6])).as_matrix()
    other = copy(sample)
    other.positions = sample.positions + np.array([0.2, 0.0, 0.1]) * sample.edge
    other.rotations = wrong @ sample.rotations
    other.models = other._models
    for errors in (other.series_errors(), other.tomogram_errors()):
        assert errors[0] == pytest.approx(2.0, abs=0.3)
        assert errors[1] == pytest.approx(np.hypot(0.2, 0.1), abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("optics", [FLAT, REAL], ids=["flat", "real"])
@pytest.mark.parametrize("name", sorted(VOXELS))
def test_more_particles_are_where_they_are_said_to_be(tmp_path, name, optics):
    for seed in range(2, 7):
        more = Sample(tmp_path, name, seed, optics, defocus=0.0 if optics is FLAT else 2.0)
        _assert_right(more.series_errors(), 1, 0.1)
        _assert_right(more.tomogram_errors(), 1, 0.1)
