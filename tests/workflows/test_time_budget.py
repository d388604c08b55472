import time

import numpy as np
import pytest
import torch
from torch import nn

from cryovox.core.intensity import Normalization
from cryovox.core.particles import Species
from cryovox.core.volume import Volume
from cryovox.data.regions import Region
from cryovox.inference.stream import TilePlan
from cryovox.training.config import LoopConfig
from cryovox.workflows.training.data import smaller_regions, tile_count
from cryovox.workflows.training.select import MIN_PATCHES, SampleCounts, forwards_per_patch
from cryovox.workflows.training.target import sample_bounds
from cryovox.workflows.training.time_budget import TimeBudget, call_after_forward, forward_seconds

FULL = SampleCounts(64, 256, 256)


def cost(counts: SampleCounts, halves: bool) -> int:
    return counts.compared * forwards_per_patch(halves) + counts.noise_test + counts.noise


def test_time_that_is_left():
    budget = TimeBudget(10.0, began=time.monotonic() - 4)
    assert budget.left() == pytest.approx(6, abs=0.5)
    assert budget.forwards_left(0.5) == pytest.approx(12, abs=1)
    assert budget.forwards(0.5, 0.1) == 2
    assert TimeBudget().left() is None
    assert TimeBudget().forwards_left(1.0) is None
    assert TimeBudget(1.0, began=time.monotonic() - 4).forwards_left(1.0) == 0


def test_time_is_counted_as_the_training_counts_it():
    budget = TimeBudget.of(LoopConfig(max_time="2m", clock="processor"))
    assert (budget.total, budget.processor) == (120, True)
    time.sleep(0.2)
    assert budget.left() > 119.9
    assert TimeBudget.of(LoopConfig()).total is None


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("forwards", [0, 30, 100, 400, 1000])
def test_fewer_patches_are_compared_where_time_is_short(forwards, halves):
    some = FULL.within(forwards, halves)
    assert cost(some, halves) <= max(forwards, MIN_PATCHES * forwards_per_patch(halves))
    assert some.compared >= MIN_PATCHES
    assert some.unchecked == (some.noise_test == 0)
    assert some.noise_test == 0 or some.noise >= some.noise_test >= 16
    if forwards >= 400:
        assert not some.unchecked


def test_enough_time_leaves_everything():
    assert FULL.within(10_000, True) == FULL
    assert SampleCounts.requested(64, 0) == SampleCounts(64, 0, 0)
    assert not SampleCounts.requested(64, 0).within(10, False).unchecked  # nobody asked for the comparison
    assert SampleCounts.requested(64, 40) == SampleCounts(64, 40, 256)


def test_a_network_is_timed_and_its_answers_counted():
    network, count = nn.Conv3d(1, 2, 3), []
    assert 0 < forward_seconds(network, 8, "cpu") < 5
    with call_after_forward(network, lambda: count.append(1)):
        network(torch.zeros(1, 1, 8, 8, 8))
    network(torch.zeros(1, 1, 8, 8, 8))
    assert len(count) == 1
    assert network.training


def region(shape, places):
    return Region(
        name="t",
        data=np.zeros(shape, np.float32),
        voxel_size=10.0,
        normalize=Normalization(0.0, 1.0),
        bounds=tuple((0, n) for n in shape),
        species=(Species(name="a", label=1, radius=40.0),),
        positions=np.array(places, float).reshape(-1, 3),
        channels=np.zeros(len(places), np.intp),
        labels=None,
        annotated_mask=None,
        exhaustive=np.ones(1, bool),
    )


@pytest.mark.parametrize("most", [1, 8, 40, 10**6])
def test_less_is_held_out_where_time_is_short(most):
    tiles = TilePlan(16, 0.5, 1, "softmax")
    rng = np.random.default_rng(0)
    regions = [region((32, 64, 96), rng.uniform(0, 32, (20, 3))), region((64, 64, 64), [(5, 6, 7)])]
    fewer = smaller_regions(regions, most, tiles)
    total = sum(tile_count([b - a + 8 for a, b in r.bounds], tiles) for r in fewer)
    smallest = tile_count([24, 24, 24], tiles)
    assert total <= max(most, smallest)
    assert len(fewer[0].annotated)
    if most == 10**6:
        assert fewer == regions


def slab(shape=(64, 48, 48), planes=(20, 44)):
    rng = np.random.default_rng(0)
    data = 0.2 * rng.standard_normal(shape).astype(np.float32)
    data[slice(*planes)] += 2 * rng.standard_normal((planes[1] - planes[0], *shape[1:])).astype(np.float32)
    return Volume(data, 10.0)


def test_target_patches_lie_in_the_sample():
    volume = slab()
    everything = tuple((0, n) for n in volume.shape)
    (low, high), y, x = sample_bounds(volume, everything)
    assert (y, x) == everything[1:]
    assert low <= 20 < 44 <= high
    assert high - low < 60
    assert sample_bounds(volume, ((25, 40), (0, 48), (0, 48))) == ((25, 40), (0, 48), (0, 48))
    assert sample_bounds(volume, ((0, 3), (0, 48), (0, 48))) == ((0, 3), (0, 48), (0, 48))


def test_a_mask_says_where_the_sample_lies():
    volume = slab()
    mask = np.zeros(volume.shape, bool)
    mask[30:40, 5:20, 8:10] = True
    assert sample_bounds(volume, tuple((0, n) for n in volume.shape), mask) == ((30, 40), (5, 20), (8, 10))
