import numpy as np
import pytest
from scipy import fft

from cryovox.core.errors import RequestError
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.microscope import OpticsConfig, ReconstructionConfig, TiltConfig
from cryovox.simulate.particles.library import build_template
from cryovox.simulate.particles.rotate import rotate
from cryovox.simulate.scene import SceneConfig
from cryovox.simulate.tomogram import simulate

VOXEL = 10.0
PLAIN = SimulationConfig(
    species=("ribosome-80s",),
    scene=SceneConfig(shape=(56, 56, 56), voxel_size=VOXEL, counts={"ribosome-80s": 1}),
    tilts=TiltConfig(step=4, defocus=(1.0, 1.0)),
    optics=OpticsConfig(model="weak", damage=False, amplitude_contrast=0.99, cc=0, aperture=0, cs=0),
)


@pytest.fixture(scope="module")
def ribosome():
    return build_template("ribosome-80s", VOXEL)


def shift_between(one, other):
    """Sub-voxel shift of *other* against *one*: the center of the peak of their correlation."""
    product = np.conj(fft.rfftn(one)) * fft.rfftn(other)
    peak = np.fft.fftshift(fft.irfftn(product, one.shape))
    top = np.array(np.unravel_index(peak.argmax(), peak.shape))
    window = peak[tuple(slice(t - 1, t + 2) for t in top)]
    lines = [np.moveaxis(window, axis, 0)[:, 1, 1] for axis in range(3)]
    offset = [0.5 * (a - c) / (a - 2 * b + c) for a, b, c in lines]
    return top + offset - np.array(peak.shape) // 2


def drawn_at(template, rotation, position, shape):
    """The template at a pose, drawn by another module than the scene's."""
    center = position / VOXEL
    voxel = np.rint(center).astype(int)
    density, _ = rotate(template, rotation, center - voxel, VOXEL)
    out = np.zeros(shape, np.float32)
    low = voxel - density.shape[0] // 2
    where = [slice(max(a, 0), min(a + density.shape[0], n)) for a, n in zip(low, shape, strict=True)]
    inner = [slice(w.start - a, w.stop - a) for w, a in zip(where, low, strict=True)]
    out[tuple(where)] = density[tuple(inner)]
    return out


@pytest.mark.parametrize("seed", [0, 1])
def test_a_pose_puts_the_template_where_the_tomogram_has_the_particle(ribosome, seed):
    simulated = simulate([ribosome], PLAIN, (seed,))
    result = -simulated.clean.data
    (position,), (rotation,) = simulated.particles.positions, simulated.particles.rotations
    put = drawn_at(ribosome, rotation, position, result.shape)
    assert np.abs(shift_between(put, result)).max() < 0.1  # test_pose.py tells the angle


def test_binning_keeps_truth_and_tomogram_together(ribosome):
    config = PLAIN.model_copy(update={"reconstruction": ReconstructionConfig(binning=2)})
    simulated = simulate([ribosome], config, (3,))
    assert simulated.tomogram.voxel_size == 20
    assert (
        simulated.tomogram.shape == simulated.labels.data.shape == simulated.instances.shape == (28, 28, 28)
    )
    whole = simulate([ribosome], PLAIN, (3,))
    assert (simulated.particles.positions == whole.particles.positions).all()
    assert (simulated.labels.data == whole.labels.data[::2, ::2, ::2]).all()
    assert np.abs(shift_between(whole.clean.data[::2, ::2, ::2], simulated.clean.data)).max() < 0.1
    inside = simulated.labels.data == 1
    assert -simulated.clean.data[inside].mean() > 3 * np.abs(simulated.clean.data[~inside].mean())


def test_another_thickness_moves_the_positions_with_the_first_voxel(ribosome):
    config = PLAIN.model_copy(update={"reconstruction": ReconstructionConfig(thickness=48)})
    result, whole = simulate([ribosome], config, (5,)), simulate([ribosome], PLAIN, (5,))
    assert result.tomogram.shape == (48, 56, 56)
    assert np.allclose(whole.particles.positions - result.particles.positions, [40, 0, 0])
    assert np.allclose(result.clean.data, whole.clean.data[4:52], atol=1e-4 * np.abs(whole.clean.data).max())
    assert (result.labels.data == whole.labels.data[4:52]).all()


def test_noise_is_told_and_scaled(ribosome):
    simulated = simulate([ribosome], PLAIN, (7,))
    noise = simulated.tomogram.data - simulated.clean.data
    assert simulated.clean.data.var() / noise.var() == pytest.approx(simulated.snr, rel=1e-3)
    louder = simulate([ribosome], PLAIN.model_copy(update={"snr": simulated.snr / 4}), (7,))
    assert np.allclose(louder.tomogram.data - louder.clean.data, 2 * noise, atol=1e-3 * np.abs(noise).max())
    assert (
        simulated.parameters()["microscope"]["tilts"]["accumulated"][15] == 0
    )  # the untilted view came first


CROWD = SceneConfig(shape=(64, 48, 48), voxel_size=15.0, counts={"ribosome-80s": 30}, cut=True)
PLAIN_CROWD = PLAIN.model_copy(update={"scene": CROWD})


def simulated_crowd(**reconstruction):
    config = PLAIN_CROWD.model_copy(update={"reconstruction": ReconstructionConfig(**reconstruction)})
    return simulate([build_template("ribosome-80s", 15.0)], config, (1,))


@pytest.mark.parametrize("thickness", [9, 24])
def test_particles_whose_center_is_cut_off_are_not_listed(thickness):
    """The reader refuses a particle outside the tomogram."""
    result, whole = simulated_crowd(thickness=thickness), simulated_crowd()
    centers = whole.particles.positions - [15.0 * (32 - thickness // 2), 0, 0]
    planes = np.rint(centers[:, 0] / 15.0)
    wanted = (planes >= 0) & (planes < thickness)
    assert 0 < wanted.sum() < len(wanted)
    assert result.particles.positions == pytest.approx(centers[wanted])
    scene = result.parameters()["scene"]
    assert scene["placed"] == {"ribosome-80s": wanted.sum()}
    nearest = np.rint(result.particles.positions / 15.0).astype(int)
    assert result.instances[tuple(nearest.T)].tolist() == scene["particles"]["instance"]
    assert ((result.labels.data > 0) == (result.instances > 0)).all()


def test_particles_beyond_the_last_binned_voxel_are_not_listed():
    """Its half ends before the last voxels of the scene do: at 62, 46 and 46 of 64, 48 and 48."""
    result, whole = simulated_crowd(binning=4), simulated_crowd()
    inside = (whole.particles.positions / 15.0 < (62, 46, 46)).all(axis=1)
    assert not inside.all()
    assert result.particles.positions == pytest.approx(whole.particles.positions[inside])


def test_a_reconstruction_thicker_than_the_scene_is_refused(ribosome):
    config = PLAIN.model_copy(update={"reconstruction": ReconstructionConfig(thickness=57)})
    with pytest.raises(RequestError, match="more than the 56 of the scene"):
        simulate([ribosome], config, (0,))
