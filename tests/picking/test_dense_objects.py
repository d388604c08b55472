import numpy as np
import pytest
from scipy import ndimage

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import Volume
from cryovox.formats import read_particles, read_volume
from cryovox.metrics.detection import recall_at_budget
from cryovox.picking.blobs import dog
from cryovox.picking.dense import dense_picks

SPECIES = (Species(name="particle", label=1, radius=50.0),)


def scene(sign, beads=3, count=24):
    """Balls of radius 50 Å in noise, the first few with a bead of gold in them."""
    rng = np.random.default_rng(0)
    places = np.array([[10, 10 + 16 * i, 10 + 16 * j] for i in range(6) for j in range(6)])[:count]
    data = np.zeros((20, 110, 110), np.float32)
    data[tuple(places.T)] = 1
    data = ndimage.maximum_filter(data, footprint=ball(4)) + rng.normal(0, 0.7, data.shape)
    for place in places[:beads]:
        data[tuple(slice(a - 1, a + 2) for a in place)] += 20
    return Volume((sign * data).astype(np.float32), 10.0), Particles.of(places * 10.0, "particle")


def ball(radius):
    z, y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1, -radius : radius + 1]
    return z**2 + y**2 + x**2 <= radius**2


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("beads", [0, 1, 3])
def test_gold_is_told_from_particles(sign, beads):
    volume, picks = scene(sign, beads)
    specks = dense_picks(volume, picks, SPECIES, sign)
    assert np.flatnonzero(specks).tolist() == list(range(beads))
    assert not dense_picks(volume, picks, SPECIES, -sign).any()


def test_what_cannot_be_compared_stays():
    volume, picks = scene(1)
    assert not dense_picks(volume, picks.take(np.arange(9)), SPECIES, 1).any()
    assert not dense_picks(volume, picks, (Species(name="other", label=1, radius=50.0),), 1).any()
    flat = Volume(np.zeros(volume.shape, np.float32), 10.0)
    assert not dense_picks(flat, picks, SPECIES, 1).any()


def test_a_species_that_is_gold_stays():
    volume, picks = scene(1, beads=24)
    assert not dense_picks(volume, picks, SPECIES, 1).any()


@pytest.mark.parametrize("name", ["perfect", "degraded"])
def test_the_bead_of_a_real_crop(shared_data, name):
    volume = read_volume(shared_data / "misaligned" / f"real_crop_{name}.mrc.gz", 10.0)
    picks = dog(volume.data, 10.0, 4.0, max_count=60)
    specks = dense_picks(volume, picks, (Species(name="particle", label=1, radius=80.0),), -1)
    assert specks[0]
    assert specks.sum() <= 2


def test_no_particle_of_a_real_tomogram_is_lost(shared_data):
    folder = shared_data / "real_tomograms"
    volume = read_volume(folder / "tomo_171_xlow_31.36A.mrc.gz")
    truth = read_particles(folder / "tomo_171_xlow_80S_angstrom.csv", species="particle")
    kind = (Species(name="particle", label=1, radius=130.0),)
    true = Particles.of(truth.positions, "particle")
    assert not dense_picks(volume, true, kind, -1).any()
    picks = dog(volume.data, volume.voxel_size, max_count=512)
    specks = dense_picks(volume, picks, kind, -1)
    assert specks[:2].all()  # they led the list
    kept = picks.take(~specks)
    before, after = (recall_at_budget(some, true, 100.0) for some in (picks, kept))
    assert all(after[k] >= before[k] for k in before)
