import numpy as np
import pytest
import torch
from torch import nn

from cryovox.inference.cubes import argmax_labels, score_cubes
from cryovox.inference.stream import TilePlan


class Copy(nn.Module):
    """Answers with its input; counts how often it is asked."""

    stride = 8

    def __init__(self, fixed=False, pool=1):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.pool, self.fixed_patch, self.seen = nn.AvgPool3d(pool), fixed, []

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        return self.pool(x)


IMAGES = np.random.default_rng(0).normal(size=(7, 12, 16, 10)).astype(np.float32)


def scores(network, images, tile=32, batch=3, stride=1):
    tiles = TilePlan(tile, 0.5, stride, "sigmoid")
    parts = list(score_cubes(network.eval(), images, tiles, batch))
    assert [which.start for which, _ in parts] == list(range(0, len(images), batch))
    return np.concatenate([part for _, part in parts])


@pytest.mark.parametrize(("fixed", "side"), [(False, (16, 16, 16)), (True, (32, 32, 32))])
def test_small_cubes_are_seen_whole_and_many_at_a_time(fixed, side):
    network = Copy(fixed)
    found = scores(network, IMAGES)
    np.testing.assert_allclose(found[:, 0], 1 / (1 + np.exp(-IMAGES)), atol=1e-6)
    assert network.seen == [(3, 1, *side), (3, 1, *side), (1, 1, *side)]


def test_a_head_with_a_stride_gives_smaller_maps():
    assert scores(Copy(pool=2), IMAGES, stride=2).shape == (7, 1, 6, 8, 5)


def test_large_cubes_are_scored_like_tomograms():
    network = Copy(fixed=True)
    found = scores(network, IMAGES, tile=8)
    np.testing.assert_allclose(found[:, 0], 1 / (1 + np.exp(-IMAGES)), atol=1e-6)
    assert {shape[2:] for shape in network.seen} == {(8, 8, 8)}


def test_classes_are_the_likeliest():
    given = np.array([[0.2, 0.5, 0.4], [0.3, 0.4, 0.1]], np.float32).reshape(1, 2, 1, 1, 3)
    assert argmax_labels(given).tolist() == [[[[0, 1, 0]]]]
