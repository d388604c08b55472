import gzip

import numpy as np
import pytest

from cryovox.core.particles import Particles
from cryovox.metrics.detection import detection, recall_at_budget
from cryovox.picking.blobs import dog


def scene(sign, seed=0):
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(48.0)] * 3, indexing="ij"), -1)
    centers = np.array([[z, y, x] for z in (12, 35) for y in (11, 34) for x in (9, 24, 38)]) + rng.uniform(
        0, 1, (12, 3)
    )
    data = sum((((grid - c) ** 2).sum(-1) <= 16).astype(float) for c in centers)
    return 100 + sign * 5 * data + rng.normal(0, 3, data.shape), centers


@pytest.mark.parametrize("sign", [-1, 1])
def test_blobs_come_first_whatever_the_sign_and_the_offset(sign):
    data, centers = scene(sign)
    picks = dog(data.astype(np.float32), 10.0, sign=sign, max_count=12)
    outcome = detection(picks, Particles.of(centers * 10, "particle"), 15)
    assert outcome.hits == 12
    assert (np.diff(picks.scores) <= 0).all()
    assert picks.scores[0] > 5


def test_distance_and_count():
    data, _ = scene(-1)
    picks = dog(data, 10.0, distance=100.0)
    gaps = np.linalg.norm(picks.positions[:, None] - picks.positions, axis=-1) + 1e9 * np.eye(len(picks))
    assert gaps.min() >= 100
    assert len(dog(data, 10.0, max_count=3)) == 3
    assert len(dog(np.ones((9, 9, 9)), 10.0)) == 0


def test_a_real_tomogram(shared_data):
    """Ribosomes of a yeast cell; the published picks are incomplete, so recall at a budget."""
    folder = shared_data / "real_tomograms"
    raw = gzip.decompress((folder / "tomo_171_xlow_31.36A.mrc.gz").read_bytes())
    header = np.frombuffer(raw[:1024], "<i4")
    kind = {0: "i1", 1: "<i2", 2: "<f4", 12: "<f2"}[int(header[3])]
    data = np.frombuffer(raw[1024 + header[23] :], kind).reshape(header[2::-1])
    table = np.loadtxt(
        folder / "tomo_171_xlow_80S_angstrom.csv", delimiter=",", skiprows=1, usecols=(0, 1, 2)
    )
    truth = Particles.of(table[:, ::-1], "ribosome")
    recall = recall_at_budget(dog(data, 31.36), truth, 100.0)
    assert recall[1] >= 0.2
    assert recall[2] >= 0.45
    assert recall[4] >= 0.75
