import json

import numpy as np
import pytest
from scipy import ndimage

from cryovox.core.volume import Volume
from cryovox.formats import read_particles, read_volume
from cryovox.picking.lamella import Lamella, Plane, estimate
from cryovox.simulate.phantom import PhantomConfig, phantom

SHAPE = (90, 140, 112)


def slab(lower, upper, shape=SHAPE, inside=2.0, sigma=0.0, seed=0):
    """Noise of a higher spread between two planes (offset, along_y, along_x) in voxels."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=shape)
    if sigma:
        noise = ndimage.gaussian_filter(noise, sigma)
        noise /= noise.std()
    z, y, x = np.ogrid[tuple(map(slice, shape))]
    sample = (z >= lower[0] + lower[1] * y + lower[2] * x) & (z <= upper[0] + upper[1] * y + upper[2] * x)
    return (np.where(sample, inside, 1.0) * noise).astype(np.float32)


def heights(plane, truth, shape=SHAPE):
    """Differences in z between a plane and the true one, at the corners."""
    corners = [(y, x) for y in (0, shape[1] - 1) for x in (0, shape[2] - 1)]
    return [plane.at(y, x) - (truth[0] + truth[1] * y + truth[2] * x) for y, x in corners]


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        ((25.0, 0.0, 0.0), (62.0, 0.0, 0.0)),
        ((15.0, 0.1, 0.0), (60.0, 0.0, -0.1)),
        ((30.0, -0.08, 0.12), (75.0, -0.2, 0.08)),
    ],
)
@pytest.mark.parametrize("sigma", [0.0, 1.5])
def test_the_planes_of_a_slab(lower, upper, sigma):
    lamella, description = estimate(Volume(slab(lower, upper, sigma=sigma), 10.0), 100.0)
    assert lamella is not None, description
    assert np.abs(heights(lamella.lower, lower)).max() < 2
    assert np.abs(heights(lamella.upper, upper)).max() < 2
    assert "the sample lies between z" in description


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
def test_the_slopes_follow_their_axes(order):
    data = slab((20.0, 0.1, -0.05), (65.0, 0.1, -0.05)).transpose(order)
    lamella, _ = estimate(Volume(data, 10.0))
    slopes = [lamella.lower.along_y, lamella.lower.along_x]
    assert slopes == pytest.approx([0.1, -0.05] if order == (0, 1, 2) else [-0.05, 0.1], abs=0.02)


def test_a_sample_that_reaches_one_face_of_the_volume():
    lamella, description = estimate(Volume(slab((0.0, 0.0, 0.0), (50.0, 0.05, 0.0)), 10.0))
    assert lamella.lower is None
    assert np.abs(heights(lamella.upper, (50.0, 0.05, 0.0))).max() < 2
    assert "the face of the volume" in description
    positions = np.array([[0.0, 600.0, 500.0], [880.0, 600.0, 500.0]])
    assert lamella.contain(positions, 100.0).tolist() == [True, False]


def test_padding_gold_nan_and_integers_change_little():
    lower, upper = (28.0, 0.03, 0.0), (64.0, 0.0, 0.03)
    data = slab(lower, upper)
    data[:6], data[-3:] = 0.0, 0.0
    rng = np.random.default_rng(1)
    for z, y, x in rng.integers(4, np.array(SHAPE) - 4, (30, 3)):
        data[z - 3 : z + 3, y - 3 : y + 3, x - 3 : x + 3] -= 40.0
    scaled = np.clip(np.rint(100 * data), -32768, 32767).astype(np.int16)
    data[50, 60, 70] = np.nan
    for values in (data, scaled):
        lamella, description = estimate(Volume(values, 10.0))
        assert lamella is not None, description
        assert np.abs(heights(lamella.lower, lower)).max() < 3
        assert np.abs(heights(lamella.upper, upper)).max() < 3


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_noise_has_no_boundary(seed, sigma):
    lamella, reason = estimate(Volume(slab((0, 0, 0), (SHAPE[0], 0, 0), sigma=sigma, seed=seed), 10.0))
    assert lamella is None
    assert "no clear boundary" in reason


@pytest.mark.parametrize("drift", [0.5, 1.5])
def test_a_gradual_change_along_z_is_no_boundary(drift):
    data = slab((0, 0, 0), (SHAPE[0], 0, 0)) * np.exp(drift * np.linspace(0, 1, SHAPE[0]))[:, None, None]
    assert estimate(Volume(data.astype(np.float32), 10.0))[0] is None


@pytest.mark.parametrize("count", [2, 20, 80])
@pytest.mark.parametrize("snr", [0.1, 2.0])
def test_no_particle_of_a_volume_without_vacuum_is_lost(count, snr):
    config = PhantomConfig(shape=(80, 112, 128), count=count, snr=snr)
    for seed in range(2):
        simulation = phantom(config, np.random.default_rng([seed, count]))
        lamella, _ = estimate(simulation.volume, 60.0)
        assert lamella is None or lamella.contain(simulation.particles.positions, 60.0).all()


def test_no_particle_in_ice_between_vacuum_is_lost():
    simulation = phantom(PhantomConfig(shape=(110, 112, 128), count=30, snr=0.2), np.random.default_rng(3))
    z = simulation.particles.positions[:, 0] / 10.0
    within = np.abs(z - 55) <= 20
    data = np.array(simulation.volume.data)
    noise = np.random.default_rng(4).normal(scale=0.4 * data.std(), size=data.shape)
    data[:25], data[86:] = noise[:25], noise[86:]
    lamella, description = estimate(Volume(data, 10.0), 60.0)
    assert lamella is not None, description
    assert lamella.contain(simulation.particles.positions[within], 60.0).all()
    assert lamella.faces[0] == pytest.approx((25, 25), abs=3)
    assert lamella.faces[1] == pytest.approx((85, 85), abs=3)


@pytest.mark.parametrize(
    ("shape", "radius"), [((12, 140, 112), 0.0), ((90, 40, 40), 0.0), ((90, 140, 112), 160.0)]
)
def test_volumes_that_are_small_for_the_particles_have_none(shape, radius):
    data = slab((shape[0] * 0.3, 0, 0), (shape[0] * 0.7, 0, 0), shape, inside=3.0)
    lamella, reason = estimate(Volume(data, 10.0), radius)
    assert lamella is None
    assert reason


def test_a_sample_thinner_than_the_particles_is_no_lamella():
    data = slab((40.0, 0, 0), (52.0, 0, 0), inside=3.0)
    assert estimate(Volume(data, 10.0), 50.0)[0] is not None
    assert estimate(Volume(data, 10.0), 100.0)[0] is None


def test_picks_within_the_margin_are_kept():
    lamella = Lamella(Plane(20.0, 0.0, 0.0), Plane(60.0, 0.5, 0.0), SHAPE, 10.0)
    positions = np.array([[200.0, 0, 0], [150.0, 0, 0], [149.0, 0, 0], [610.0, 0, 0], [660.0, 100.0, 0]])
    assert lamella.contain(positions).tolist() == [True, False, False, False, False]
    assert lamella.contain(positions, 50.0).tolist() == [True, True, False, True, True]
    assert lamella.contain(positions, [0, 0, 51.0, 0, 8.9]).tolist() == [True, False, True, False, False]
    # the distance is perpendicular to the plane: 10 Å along z are 8.94 Å
    assert lamella.contain(positions[4:], 9.0).all()


def test_the_mask_holds_the_voxels_that_are_contained():
    lamella = Lamella(Plane(3.0, 0.2, 0.0), None, (12, 9, 7), 5.0)
    mask = np.stack(list(lamella.masks(4.0)))
    assert mask.shape == (12, 9, 7)
    voxels = np.stack(np.indices(mask.shape), axis=-1).reshape(-1, 3) * 5.0
    assert np.array_equal(mask.ravel(), lamella.contain(voxels, 4.0))
    assert 0 < mask.mean() < 1


def test_facts_are_plain():
    facts = Lamella(Plane(3.0, 0.2, 0.0), None, (12, 9, 7), 5.0).to_dict()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["planes"] == {"lower": [3.0, 0.2, 0.0], "upper": None}
    assert facts["z"] == {"lower": [3.0, 4.6], "upper": [11.0, 11.0]}


def test_the_lamella_of_a_real_tomogram_is_that_of_its_picks(shared_data):
    folder = shared_data / "real_tomograms"
    volume = read_volume(folder / "tomo_171_xlow_31.36A.mrc.gz")
    picks = read_particles(folder / "tomo_171_xlow_80S_angstrom.csv").positions
    radius = 125.0  # of an 80S ribosome
    lamella, description = estimate(volume, radius)
    assert lamella is not None, description
    assert lamella.contain(picks).all()
    for plane, sign in ((lamella.lower, 1), (lamella.upper, -1)):
        nearest = (sign * plane.height(picks / volume.voxel_size)).min()
        assert abs(nearest - radius / volume.voxel_size) < 2
