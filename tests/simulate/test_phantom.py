import numpy as np
import pytest

from cryovox.simulate.phantom import SPECIES, PhantomConfig, phantom, wedge_filter


def draw(seed: int = 0, **more):
    return phantom(PhantomConfig(**({"shape": (32, 64, 64), "count": 4} | more)), np.random.default_rng(seed))


def test_the_same_seed_gives_the_same_phantom():
    one, two, other = draw(3), draw(3), draw(4)
    assert np.array_equal(one.volume.data, two.volume.data)
    assert np.array_equal(one.particles.positions, two.particles.positions)
    assert not np.array_equal(one.volume.data, other.volume.data)


def test_labels_lie_around_the_centers_and_nowhere_else():
    scene = draw()
    voxel = scene.volume.voxel_size
    assert len(scene.particles) == 8
    where = np.stack(np.nonzero(scene.labels.data), 1) * voxel
    apart = np.linalg.norm(where[:, None] - scene.particles.positions[None], axis=-1)
    nearest = apart.argmin(1)
    assert (apart.min(1) <= 70 + voxel).all()
    label = {s.name: s.label for s in SPECIES}
    names = scene.particles.species[nearest]
    assert (scene.labels.data[scene.labels.data > 0] == [label[n] for n in names]).all()


def test_centers_are_those_of_the_labels():
    scene = draw(1)
    voxel = scene.volume.voxel_size
    where = np.stack(np.nonzero(scene.labels.data), 1) * voxel
    nearest = np.linalg.norm(where[:, None] - scene.particles.positions[None], axis=-1).argmin(1)
    for i, center in enumerate(scene.particles.positions):
        assert np.abs(where[nearest == i].mean(0) - center).max() < 0.25 * voxel


def test_particles_keep_apart_and_inside():
    scene = draw(2, count=30)
    p = scene.particles.positions
    apart = np.linalg.norm(p[:, None] - p[None], axis=-1)
    assert apart[np.triu_indices(len(p), 1)].min() > 2 * 70
    high = (np.array(scene.volume.shape) - 1) * scene.volume.voxel_size
    assert ((p >= 70) & (p <= high - 70)).all()
    assert len(p) < 60


def test_rotations_turn_the_reference_into_the_tomogram():
    scene = draw(5)
    voxel = scene.volume.voxel_size
    where = np.stack(np.nonzero(scene.labels.data == 2), 1) * voxel
    for center, turn in zip(
        scene.particles.named("dumbbell").positions, scene.particles.named("dumbbell").rotations, strict=True
    ):
        own = where[np.linalg.norm(where - center, axis=1) < 75] - center
        long_zyx = np.linalg.eigh(np.cov(own.T))[1][:, -1]
        assert abs(long_zyx[::-1] @ turn[:, 0]) > 0.99


@pytest.mark.parametrize("shape", [(8, 8, 8), (5, 40, 40)])
def test_where_there_is_no_room_nothing_is_placed(shape):
    scene = draw(shape=shape)
    assert len(scene.particles) == 0
    assert scene.volume.shape == shape
    assert np.isfinite(scene.volume.data).all()


def test_dark_and_bright_differ_by_the_sign():
    assert np.allclose(draw(dark=True).volume.data, -draw(dark=False).volume.data)


def test_less_noise_at_a_higher_snr():
    # a tilt of 90 degrees leaves no wedge, so the signal is the same in both
    far = [draw(snr=snr, tilt=90.0) for snr in (0.05, 5.0)]
    outside = far[0].labels.data == 0
    assert far[0].volume.data[outside].std() > 5 * far[1].volume.data[outside].std()


def test_the_wedge_is_empty_and_the_rest_untouched():
    noise = np.random.default_rng(0).standard_normal((24, 20, 32)).astype(np.float32)
    before, after = np.fft.fftn(noise), np.fft.fftn(wedge_filter(noise, 60.0))
    kz = np.abs(np.fft.fftfreq(24))[:, None, None]
    kx = np.abs(np.fft.fftfreq(32))[None, None, :]
    wedge = np.broadcast_to(kz > kx * np.tan(np.deg2rad(60)) + 1e-6, before.shape)
    assert np.abs(after[wedge]).max() < 1e-2
    assert np.allclose(after[~wedge], before[~wedge], atol=1e-2)
    assert 0.1 < wedge.mean() < 0.5


def test_without_particles_there_is_noise():
    scene = draw(count=0)
    assert len(scene.particles) == 0
    assert not scene.labels.data.any()
    assert scene.volume.data.std() > 0
