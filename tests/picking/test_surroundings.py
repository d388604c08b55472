"""Distances to masks, surfaces and other particles, and the same particle in several lists."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from cryovox.core.particles import Particles
from cryovox.picking.consensus import calibrated, duplicates, merge
from cryovox.picking.surroundings import (
    lamella_depths,
    mask_distances,
    nearest_neighbors,
    neighbor_counts,
)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([0.7, 10.0]))
def test_mask_distances_are_those_of_the_distance_transform(seed, size):
    rng = np.random.default_rng(seed)
    mask = rng.random((7, 9, 12)) < rng.uniform(0.02, 0.98)
    mask[3, 4, 5], mask[0, 0, 0] = True, False
    voxels = rng.integers(0, mask.shape, (40, 3))
    expected = distance_transform_edt(~mask) - distance_transform_edt(mask)
    got = mask_distances(voxels * size, mask, size)
    np.testing.assert_allclose(got, expected[tuple(voxels.T)] * size, rtol=1e-9)


def test_a_mask_of_everything_has_no_surface():
    mask = np.ones((3, 4, 5), dtype=bool)
    assert mask_distances(np.array([[10.0, 10, 10]]), mask, 10.0).tolist() == [-np.inf]
    outside = mask_distances(np.array([[-30.0, 10, 10]]), mask, 10.0)
    assert np.isinf(outside).all()


def test_positions_outside_the_volume_have_a_distance():
    mask = np.zeros((5, 6, 7), dtype=bool)
    mask[2, 3, 4] = True
    assert mask_distances(np.array([[20.0, 30, 140]]), mask, 10.0).tolist() == [100]


def test_depth_in_a_lamella_by_hand():
    mask = np.zeros((20, 4, 5), dtype=bool)
    mask[5:15] = True  # surfaces at z = 4.5 and 14.5 voxels
    mask[:, 0] = False
    positions = np.array([[50.0, 10, 10], [140, 10, 10], [95, 20, 20], [20, 10, 10], [50, 0, 10]])
    depths = lamella_depths(positions, mask, 10.0)
    np.testing.assert_allclose(depths[:4], [5, 5, 50, -25])
    assert np.isnan(depths[4])


def test_neighbors_are_of_the_same_tomogram_and_species():
    picks = Particles.of(
        [[0, 0, 0], [0, 0, 30], [0, 0, 70], [0, 0, 1], [0, 0, 2]],
        ["a", "a", "a", "b", "a"],
        tomograms=["t", "t", "t", "t", "u"],
    )
    assert nearest_neighbors(picks).tolist() == [30, 30, 40, np.inf, np.inf]
    assert neighbor_counts(picks, 40).tolist() == [1, 2, 1, 0, 0]
    assert nearest_neighbors(picks.take([])).tolist() == []


def test_the_better_of_two_duplicates_is_kept():
    picks = Particles.of(
        [[0, 0, 0], [0, 0, 5], [0, 0, 9], [0, 0, 1]], ["a", "a", "a", "b"], [0.5, 0.9, 0.7, 1]
    )
    assert duplicates(picks, 5.0).tolist() == [True, False, True, False]
    assert duplicates(picks, 4.5).tolist() == [False, False, True, False]
    assert duplicates(picks, 5.0, by_species=False).tolist() == [True, True, False, False]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), distance=st.floats(1, 60))
def test_no_two_kept_particles_are_close_and_each_dropped_one_has_a_better_neighbor(seed, distance):
    rng = np.random.default_rng(seed)
    picks = Particles.of(rng.uniform(0, 100, (40, 3)), "a", rng.random(40))
    kept = ~duplicates(picks, distance)
    apart = np.linalg.norm(picks.positions[:, None] - picks.positions[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert not (apart[np.ix_(kept, kept)] <= distance).any()
    for i in np.flatnonzero(~kept):
        assert ((apart[i] <= distance) & kept & (picks.scores >= picks.scores[i])).any()


def test_consensus_by_hand():
    turn = np.array([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], np.eye(3)])
    one = Particles.of([[0, 0, 0], [0, 0, 100]], ["a", "b"], [0.9, 0.5], turn)
    two = Particles.of([[0, 0, 8], [0, 0, 103], [0, 4, 0]], ["a", "a", "a"], [0.3, 0.8, 0.1])
    merged = merge([one, two], 10.0)
    assert merged.extra["agreement"].tolist() == [2, 1, 1, 1]
    assert merged.species.tolist() == ["a", "a", "b", "a"]
    np.testing.assert_allclose(
        merged.positions[0], [0, 0.4, 0], atol=1e-6
    )  # (0, 4, 0) is nearer than (0, 0, 8)
    assert merged.scores.tolist() == pytest.approx([0.5, 0.8, 0.5, 0.3])
    np.testing.assert_allclose(merged.rotations, [turn[0], np.eye(3), turn[1], np.eye(3)])
    assert merged.extra["has_pose"].tolist() == [1, 0, 1, 0]
    assert merge([two, two], 10.0).rotations is None
    assert len(merge([one, two], 10.0, min_agreement=2)) == 1
    both = merge([one, one], 1.0)
    np.testing.assert_allclose(both.rotations, turn)
    assert set(both.extra) == {"agreement"}
    better = replace(two, scores=np.ones(3, np.float32))
    np.testing.assert_allclose(merge([one, better], 10.0, min_agreement=2).rotations, turn[:1])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), copies=st.integers(1, 4))
def test_copies_of_a_list_agree_with_themselves(seed, copies):
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 3), axis=-1).reshape(-1, 3) * 50
    picks = Particles.of(
        grid, rng.choice(["a", "b"], 27), rng.random(27), tomograms=rng.choice(["t", "u"], 27)
    )
    jittered = [Particles.of(grid + rng.uniform(-3, 3, grid.shape), picks.species, picks.scores,
                             tomograms=picks.tomograms) for _ in range(copies)]  # fmt: skip
    merged = merge(jittered, 12.0)
    assert len(merged) == 27
    assert (merged.extra["agreement"] == copies).all()


def test_rates_of_agreement_by_hand():
    """Ten particles with high scores that both lists hold, ten with low scores that one holds."""
    places = np.arange(40.0)[:, None] * [0, 0, 50]
    one = Particles.of(places[:20], "a", np.linspace(0.9, 0.1, 20))
    two = Particles.of(np.concatenate([places[:10], places[30:]]), "a", np.linspace(70, 1, 20))
    for picks in calibrated([one, two], 10.0):
        assert picks.scores[:5].tolist() == [1] * 5
        assert picks.scores[-5:].tolist() == [0] * 5
        assert (np.diff(picks.scores) <= 0).all()
    without_scores = Particles.of(two.positions, "a", np.ones(20))
    assert calibrated([one, without_scores], 10.0)[1].scores.tolist() == pytest.approx([0.5] * 20)


def test_calibrated_lists_are_ranked_better_than_lists_with_different_scales():
    """A precise list with low scores beside one with high scores, half of which are false."""
    rng = np.random.default_rng(0)
    true, false = rng.uniform(0, 5000, (2, 200, 3))
    strict = Particles.of(true[:150], "a", rng.uniform(0.1, 0.2, 150))
    loose = Particles.of(
        np.concatenate([true[50:], false]),
        "a",
        np.concatenate([rng.uniform(0.5, 1, 150), rng.uniform(0.4, 0.9, 200)]),
    )

    def mean_rank_of_false(lists):
        merged = merge(lists, 5.0)
        order = np.argsort(-merged.scores, kind="stable")
        apart = np.linalg.norm(merged.positions[order][:, None] - true, axis=2).min(axis=1)
        return np.flatnonzero(apart > 5).mean()

    assert mean_rank_of_false(calibrated([strict, loose], 5.0)) > 1.5 * mean_rank_of_false([strict, loose])


def test_empty_lists_agree():
    empty = Particles.of(np.zeros((0, 3)), [])
    assert len(merge([empty, empty], 5.0)) == 0
    assert len(merge(calibrated([empty, empty], 5.0), 5.0)) == 0
    assert merge([empty, Particles.of([[1, 2, 3]], "a")], 5.0).extra["agreement"].tolist() == [1]
