"""Agreement of picks with two half tomograms."""

import numpy as np
import pytest

from cryovox.core.particles import Particles, Species
from cryovox.picking.agreement import CHANCE, agreement, columns

KIND = (Species(name="a", label=1, radius=50.0), Species(name="b", label=2, radius=50.0))
VOLUME = 1e9


def of(positions, scores, species="a"):
    return Particles.of(np.array(positions, float), species, scores)


def test_picks_in_both_in_one_and_in_no_half():
    picks = of([[0, 0, 0], [300, 0, 0], [600, 0, 0], [900, 0, 0]], [0.9] * 4)
    even = of([[10, 0, 0], [300, 0, 20], [900, 0, 30]], [0.8, 0.5, 0.9])
    odd = of([[0, 24, 0], [0, 20, 0]], [0.3, 0.6])
    found = agreement(picks, [even, odd], KIND, VOLUME, 10.0)
    assert found.halves.tolist() == [2, 1, 0, 0]
    np.testing.assert_allclose(found.score, [0.6, 0, 0, 0], rtol=1e-6)
    assert [found.count(n) for n in (0, 1, 2)] == [2, 1, 1]
    assert columns(found)["cryovoxHalves"].tolist() == ["2", "1", "0", "0"]
    # candidates of another species do not count, and coarse voxels widen the reach
    other = of([[0, 0, 0]], [0.9], "b")
    assert agreement(picks, [other, odd], KIND, VOLUME, 10.0).halves[0] == 1
    assert agreement(picks, [even, odd], KIND, VOLUME, 21.0).halves[3] == 1
    assert len(agreement(picks.take([]), [even, odd], KIND, VOLUME, 10.0).halves) == 0


@pytest.mark.parametrize("seed", range(3))
def test_random_places_seldom_agree(seed):
    rng = np.random.default_rng(seed)
    places, candidates = rng.uniform(0, 1000, (2, 20000, 3))
    many = of(candidates, rng.uniform(0, 1, len(candidates)))
    found = agreement(of(places, np.ones(len(places))), [many, many.take([])], KIND, VOLUME, 10.0)
    assert found.count(1) / len(places) <= CHANCE * 1.1
    assert found.count(1) / len(places) >= CHANCE * 0.8
    assert found.count(2) == 0
