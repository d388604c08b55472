"""`--fdr` follows probabilities where more is found than in noise."""

import numpy as np
import pytest

from cryovox.core.particles import Species
from cryovox.core.volume import ScoreMap
from cryovox.picking import PickConfig
from cryovox.picking.calibration import Peaks, calibrate
from cryovox.picking.rated import Decoys, pick_rated

KINDS = (Species(name="a", label=1, radius=20.0), Species(name="b", label=2, radius=20.0))
STEP = 6


@pytest.fixture(scope="module")
def calibration():
    """Peaks of at least 0.6 are particles, others are not."""
    rng = np.random.default_rng(0)
    scores = np.r_[rng.uniform(0.6, 1, 400), rng.uniform(0.02, 0.55, 600)]
    truth = np.r_[np.ones(400), np.zeros(600)]
    own = Peaks(scores=scores.tolist(), truth=truth.tolist(), particles=400, hits=400, floor=0.02)
    return calibrate({kind.name: own for kind in KINDS}, "held-out")


def score_map(counts, calibration, height=0.9):
    """Single peaks of a height on a grid, so many of each species."""
    data = np.zeros((2, 6 * STEP, 6 * STEP, 6 * STEP), np.float32)
    places = np.stack(np.meshgrid(*[np.arange(3, 36, STEP)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    first = 0
    for channel, count in enumerate(counts):
        for place in places[first : first + count]:
            data[(channel, *place)] = height
        first += count
    return ScoreMap(data, 10.0, KINDS, kind="heatmap", calibration=calibration.model_dump(mode="json"))


def kept(counts, noise, calibration, **options):
    decoys = Decoys(
        {k.name: np.full(n, 0.92) for k, n in zip(KINDS, noise, strict=True)}, {"a": 1.0, "b": 1.0}
    )
    return pick_rated(
        score_map(counts, calibration),
        PickConfig(border=0.0),
        fdr=0.05,
        decoys=decoys,
        trusted=True,
        **options,
    )


def test_as_many_picks_as_in_noise_are_no_picks(calibration):
    rated = kept((8, 5), (7, 6), calibration)
    assert not len(rated.picks)
    assert not rated.by_probabilities


def test_a_few_particles_without_any_in_noise_are_kept(calibration):
    rated = kept((4, 3), (0, 0), calibration)  # picks in noise alone would need twenty
    assert len(rated.picks) == 7
    assert rated.by_probabilities == {"a", "b"}


def test_all_species_together_decide(calibration):
    rated = kept((20, 3), (1, 2), calibration)  # b alone would not exceed noise
    assert len(rated.picks) == 23
    assert rated.by_probabilities == {"a", "b"}


def test_one_pick_proves_nothing(calibration):
    assert not len(kept((1, 0), (0, 0), calibration).picks)


def test_noise_of_a_part_counts_for_the_whole(calibration):
    scales = {"a": 8.0, "b": 8.0}
    decoys = Decoys({"a": np.full(1, 0.92), "b": np.zeros(0)}, scales)
    few = pick_rated(
        score_map((12, 0), calibration), PickConfig(border=0.0), fdr=0.05, decoys=decoys, trusted=True
    )
    assert not few.by_probabilities  # eight are expected in noise, and few were looked at
