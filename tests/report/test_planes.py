import io

import numpy as np
import pytest
from PIL import Image

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap, Volume
from cryovox.report import planes

RIBOSOME = Species(name="ribosome", label=1, radius=60.0)
VIRUS = Species(name="virus", label=2, radius=100.0)


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture
def volume():
    rng = np.random.default_rng(1)
    smooth = np.add.outer(np.arange(12.0), np.add.outer(np.arange(30.0), 2 * np.arange(41.0)))
    return Volume((smooth + rng.normal(size=smooth.shape)).astype(np.float32), 10.0)


def test_slices_hold_the_voxels_of_the_volume(volume):
    stack = planes.slices(volume, 1_000_000)
    assert (stack.sampling.pixel, stack.sampling.depth) == (1, 1)
    assert len(stack.images) == 12
    low, high, *_ = planes.gray_limits(volume)
    for z in (0, 7, 11):
        stored = low + decoded(stack.images[z]) / 255 * (high - low)
        expected = np.clip(volume.data[z], low, high)
        assert stored.shape == stack.shape == (30, 41)
        assert np.abs(stored - expected).mean() < 1.0  # of a range of more than 100
        assert np.corrcoef(stored.ravel(), expected.ravel())[0, 1] > 0.999


def test_a_small_budget_makes_larger_pixels_and_is_kept():
    rng = np.random.default_rng(2)
    volume = Volume(rng.normal(size=(40, 64, 80)).astype(np.float32), 10.0)
    sizes = {}
    for budget in (1_000_000, 25_000, 3_000):
        stack = planes.slices(volume, budget)
        sizes[budget] = stack.sampling.pixel
        assert sum(map(len, stack.images)) <= 1.1 * budget
        assert len(stack.images) == -(-40 // stack.sampling.depth)
        assert stack.shape == tuple(-(-n // stack.sampling.pixel) for n in (64, 80))
    assert 1 == sizes[1_000_000] < sizes[25_000] < sizes[3_000]


def test_large_pixels_are_means_of_their_voxels(monkeypatch, volume):
    monkeypatch.setattr(planes, "MAX_SIDE", 21)
    stack = planes.slices(volume, 1_000_000)
    assert (stack.sampling.pixel, stack.sampling.depth) == (2, 2)
    low, high, *_ = planes.gray_limits(volume)
    mean = volume.data[4:6, :, :40].reshape(2, 15, 2, 20, 2).mean(axis=(0, 2, 4))
    stored = low + decoded(stack.images[2]) / 255 * (high - low)
    assert stored.shape == (15, 21)
    assert np.abs(stored[:, :20] - np.clip(mean, low, high)).mean() < 1.0


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_flat_and_broken_volumes_are_encoded(fill):
    stack = planes.slices(Volume(np.full((5, 6, 7), fill, np.float32), 10.0), 10_000)
    assert len(stack.images) == 5
    assert 0 <= stack.window[0] < stack.window[1]


def test_only_a_slab_is_in_memory():
    class Watched:
        shape, ndim, dtype, size = (64, 32, 32), 3, np.dtype(np.float32), 64 * 32 * 32
        most = 0

        def __getitem__(self, key):
            part = np.zeros(self.shape, np.float32)[key]
            Watched.most = max(Watched.most, part.size)
            return part

    planes.slices(Volume(Watched(), 10.0), 100_000)
    assert 0 < Watched.most <= 8 * 32 * 32


def test_scores_are_coded_by_species_and_level():
    data = np.zeros((2, 6, 8, 10), np.float32)
    data[0, 3, 2, 7], data[1, 3, 5, 1] = 0.95, 0.55
    data[0, 3, 5, 1] = 0.3  # weaker than the other species
    data[1, 3, 0, 0] = 0.05  # too weak to be shown
    scores = ScoreMap(data, 20.0, (RIBOSOME, VIRUS), 5.0)
    coded = planes.score_slices(scores, [0.0, 66.0, 68.0], 0.4, 1.0, 100_000)
    assert list(coded.first) == [0, 3, 3]
    assert sorted(coded.images) == [0, 3]
    pixels = decoded(coded.images[3]).astype(int)
    assert (pixels > 0).sum() == 2
    for (y, x), species, score in (((2, 7), 0, 0.95), ((5, 1), 1, 0.55)):
        own, level = divmod(pixels[y, x] - 1, coded.levels)
        start = coded.low + level * (coded.high - coded.low) / coded.levels
        assert own == species
        assert start <= score < start + (coded.high - coded.low) / coded.levels
    assert not decoded(coded.images[0]).any()


def test_coarse_scores_keep_the_highest():
    data = np.random.default_rng(4).random((1, 10, 64, 64)).astype(np.float32)
    data[0, 5, 33, 12] = 3.0
    coded = planes.score_slices(ScoreMap(data, 20.0, (RIBOSOME,)), [100.0], 0.4, 3.0, 300)
    assert coded.pixel > 1
    pixels = decoded(coded.images[5])
    y, x = np.unravel_index(pixels.argmax(), pixels.shape)
    assert (y, x) == (33 // coded.pixel, 12 // coded.pixel)


def test_thumbnails_are_centered_on_the_picks():
    data = np.zeros((20, 60, 60), np.float32)
    data[10, 20, 38] = data[0, 0, 0] = 50.0
    data += np.random.default_rng(0).normal(scale=0.01, size=data.shape).astype(np.float32)
    picks = Particles.of([[100.0, 200.0, 380.0], [0.0, 0.0, 0.0]], "ribosome", [0.9, 0.8])
    sheet = decoded(planes.thumbnails(Volume(data, 10.0), picks, (VIRUS, RIBOSOME)))
    side = planes.THUMBNAIL
    first, second = sheet[:side, :side], sheet[:side, side : 2 * side]
    y, x = np.unravel_index(first.argmax(), first.shape)
    assert abs(y - (side - 1) / 2) <= 2
    assert abs(x - (side - 1) / 2) <= 2
    assert second[: side // 2 - 3].min() > 240  # outside the tomogram
    assert second[:, : side // 2 - 3].min() > 240
