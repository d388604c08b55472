from dataclasses import replace

import numpy as np
import pytest

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap, Volume
from cryovox.picking import PickConfig, pick
from cryovox.picking.config import SuggestConfig
from cryovox.picking.suggest import (
    crop_edge,
    find_candidates,
    local_features,
    near,
    principal_components,
    rescaled,
    select,
    suggest,
    uncertainty,
)

VOXEL = 10.0
KINDS = (Species(name="a", label=1, radius=30.0), Species(name="b", label=2, radius=40.0))


def grid(shape):
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).astype(float)


def heatmap(peaks, shape=(20, 40, 40)):
    """Channels of Gaussians: rows of (channel, height, z, y, x)."""
    data = np.zeros((2, *shape), np.float32)
    for channel, height, *center in peaks:
        blob = height * np.exp(-((grid(shape) - center) ** 2).sum(-1) / 4)
        data[int(channel)] = np.maximum(data[int(channel)], blob)
    data[data < 0.01] = 0
    return ScoreMap(data, VOXEL, KINDS, kind="heatmap", thresholds={"a": 0.3, "b": 0.6})


def listed(unsure, species="a"):
    """Candidates in a row, with nothing but their uncertainty."""
    n = len(unsure)
    candidates = Particles.of(np.arange(3 * n).reshape(n, 3) * 100.0, species, np.full(n, 0.3))
    return replace(candidates, extra={"uncertainty": np.asarray(unsure, float)})


def rounded(scores):
    return scores.astype(float).round(2).tolist()


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.9])
def test_a_score_at_the_threshold_is_the_most_uncertain(threshold):
    scores = np.linspace(0, 1, 201)
    p, unsure = rescaled(scores, threshold), uncertainty(scores, threshold)
    assert np.all(np.diff(p) > 0)
    assert uncertainty(np.array([threshold]), threshold) == pytest.approx(1)
    assert abs(scores[unsure.argmax()] - threshold) <= 0.0026
    assert unsure[0] == unsure[-1] == 0
    rising = scores <= threshold
    assert np.all(np.diff(unsure[rising]) > 0)
    assert np.all(np.diff(unsure[~rising]) < 0)


def test_at_a_half_it_is_the_entropy_of_the_score():
    p = np.array([0.11, 0.25, 0.5])
    assert np.allclose(rescaled(p, 0.5), p)
    assert np.allclose(uncertainty(p, 0.5), [0.49992, 0.81128, 1], atol=1e-5)


def test_a_threshold_of_nothing_or_all_is_no_division_by_zero():
    for threshold in (0.0, 1.0):
        assert np.isfinite(uncertainty(np.array([0.0, 0.5, 1.0]), threshold)).all()


def test_candidates_are_maxima_of_each_species_weak_ones_too():
    peaks = [(0, 0.9, 6, 8, 8), (0, 0.08, 6, 8, 30), (0, 0.03, 6, 30, 8), (1, 0.5, 12, 30, 30)]
    candidates = find_candidates(heatmap(peaks), SuggestConfig())[0]
    rows = sorted(
        (str(s), *np.round(p / VOXEL).tolist())
        for s, p in zip(candidates.species, candidates.positions, strict=True)
    )
    assert rows == [("a", 6, 8, 8), ("a", 6, 8, 30), ("b", 12, 30, 30)]
    at = dict(zip(rounded(candidates.scores), candidates.extra["uncertainty"].tolist(), strict=True))
    assert at[0.5] > at[0.08] > at[0.9]


def test_a_low_threshold_lowers_what_counts_as_a_candidate():
    scores = replace(heatmap([(0, 0.03, 6, 8, 8)]), thresholds={"a": 0.04, "b": 0.5})
    assert len(find_candidates(scores, SuggestConfig())[0]) == 1


def test_candidates_keep_the_radius():
    peaks = [(0, 0.5, 8, 10, 10), (0, 0.4, 8, 10, 12.5), (0, 0.3, 8, 10, 16), (1, 0.2, 8, 11, 11)]
    candidates = find_candidates(heatmap(peaks), SuggestConfig())[0]
    assert sorted(rounded(candidates.scores)) == [0.3, 0.5]


def test_what_is_labeled_is_not_suggested():
    peaks = [(0, 0.5, 8, 10, 10), (0, 0.4, 8, 10, 20), (1, 0.5, 8, 30, 10), (1, 0.5, 8, 30, 30)]
    scores, config = heatmap(peaks), SuggestConfig()
    # 29 Å from one of radius 30; 31 Å from another; 39 Å from one of radius 40
    labeled = np.array([[80.0, 100, 129], [80, 131, 200], [80, 339, 100]])
    candidates = find_candidates(scores, config, labeled)[0]
    assert sorted(np.round(p[1:] / VOXEL).tolist() for p in candidates.positions) == [[10, 20], [30, 30]]
    assert len(find_candidates(scores, config, np.zeros((0, 3)))[0]) == 4


def test_near_counts_the_distance_itself():
    places = np.array([[0, 0, 30.0], [0, 0, 30.1]])
    assert near(places, np.zeros((1, 3)), 30.0).tolist() == [True, False]


def test_the_pool_keeps_the_most_uncertain_and_the_border_is_free():
    peaks = [(0, h, 8, 10, x) for h, x in ((0.3, 6), (0.9, 16), (0.25, 26), (0.1, 36))]
    candidates = find_candidates(heatmap(peaks), SuggestConfig(max_candidates=2))[0]
    assert sorted(rounded(candidates.scores)) == [0.25, 0.3]
    assert len(find_candidates(heatmap(peaks), SuggestConfig(border=60.0))[0]) == 3
    inner, left_out = find_candidates(heatmap(peaks), SuggestConfig(border=60.0))
    every, none = find_candidates(heatmap(peaks), SuggestConfig(border=0.0))
    assert (len(inner) + left_out, none) == (len(every), 0)


@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_a_mask_has_one_candidate_for_each_body(offset):
    shape, rng = (20, 40, 40), np.random.default_rng(0)
    data = np.zeros((1, *shape), np.float32)
    for height, *center in ((0.9, 9, 10, 10), (0.4, 9, 10, 30), (0.2, 9, 30, 20)):
        data[0][((grid(shape) - center) ** 2).sum(-1) <= 16] = height
    data *= rng.uniform(0.9, 1.1, data.shape).astype(np.float32)
    scores = ScoreMap(data, VOXEL, (KINDS[1],), offset=offset, kind="mask")
    candidates = find_candidates(scores, SuggestConfig())[0].sorted()
    middle = np.array([[9, 10, 10], [9, 10, 30], [9, 30, 20]]) * VOXEL + offset
    assert np.abs(candidates.positions - middle).max() < VOXEL
    assert np.allclose(candidates.scores, [0.9, 0.4, 0.2], atol=0.05)
    assert len(pick(scores, PickConfig())) == 1


def test_slabs_do_not_change_the_candidates_of_a_mask(monkeypatch):
    data = np.random.default_rng(1).random((1, 24, 16, 16)).astype(np.float32)
    scores = ScoreMap(data, VOXEL, (KINDS[0],), kind="mask")
    whole = find_candidates(scores, SuggestConfig())[0]
    monkeypatch.setattr("cryovox.picking.peaks.local_maxima.__defaults__", (5 * 256,))
    parts = find_candidates(scores, SuggestConfig())[0]
    assert len(whole) > 3
    assert np.array_equal(whole.positions, parts.positions)
    assert np.array_equal(whole.scores, parts.scores)


def test_near_duplicates_are_not_both_chosen():
    # two tight groups and one far away, all equally uncertain
    features = np.array([[0, 0], [0, 0.01], [5, 0], [5, 0.01], [0, 9.0]])
    order, diversity = select(features, np.ones(5), np.array(["a"] * 5), 3)
    assert {i // 2 for i in order.tolist()} == {0, 1, 2}
    assert diversity[0] == 1
    assert diversity[1:].min() >= 5


def test_certain_ones_lose_against_uncertain_ones():
    features = np.array([[0, 0], [4, 0], [0, 4.1], [4, 4]])
    order, _ = select(features, np.array([1.0, 0.9, 0.1, 0.8]), np.array(["a"] * 4), 3)
    assert order.tolist() == [0, 3, 1]


def test_what_looks_like_a_label_comes_last():
    features = np.array([[0, 0], [3, 0], [0, 3.0]])
    order, diversity = select(features, np.ones(3), np.array(["a"] * 3), 3, np.array([[0.1, 0], [0, 2.0]]))
    assert order.tolist() == [1, 2, 0]
    assert np.allclose(diversity, [2.9, 1, 0.1])


def test_more_are_asked_for_than_there_are():
    order, diversity = select(np.zeros((3, 2)), np.array([0.2, 0.9, 0.5]), np.array(["a", "b", "a"]), 10)
    assert sorted(order.tolist()) == [0, 1, 2]
    assert order[0] == 1
    assert np.isfinite(diversity).all()
    nothing, none = select(np.zeros((0, 2)), np.zeros(0), np.zeros(0, "<U1"), 5)
    assert len(nothing) == len(none) == 0


def test_copies_follow_in_the_order_of_uncertainty():
    order, _ = select(np.zeros((4, 1)), np.array([0.1, 0.4, 0.3, 0.2]), np.array(["a"] * 4), 4)
    assert order.tolist() == [1, 2, 3, 0]


@pytest.mark.parametrize(("balance", "rare"), [(True, 3), (False, 0)])
def test_every_species_has_a_share(balance, rare):
    rng = np.random.default_rng(2)
    features = np.concatenate([rng.normal(size=(40, 3)) * 10, rng.normal(size=(6, 3)) * 0.01])
    unsure = np.concatenate([np.ones(40), np.full(6, 0.05)])
    species = np.array(["common"] * 40 + ["rare"] * 6)
    order, _ = select(features, unsure, species, 12, balance=balance)
    assert (species[order] == "rare").sum() == rare
    assert len(set(order.tolist())) == 12


def test_a_share_is_no_more_than_there_are_and_few_places_are_shared():
    species = np.array(["a"] * 9 + ["b"])
    order, _ = select(np.arange(10.0)[:, None], np.ones(10), species, 8)
    assert (species[order] == "b").sum() == 1
    order, _ = select(np.arange(10.0)[:, None], np.r_[np.ones(9), 0.01], species, 2)
    assert sorted(species[order].tolist()) == ["a", "b"]


def test_the_choice_is_ranked_and_repeats_itself():
    rng = np.random.default_rng(3)
    features, unsure = rng.normal(size=(30, 520)), rng.random(30).round(4)
    first, again = (suggest(listed(unsure), features, SuggestConfig(count=7)) for _ in range(2))
    assert len(first) == 7
    assert first.extra["rank"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert first.extra["uncertainty"][0] == unsure.max()
    assert np.array_equal(first.positions, again.positions)
    assert np.array_equal(first.extra["diversity"], again.extra["diversity"])


def test_seeds_count_as_chosen():
    features = np.eye(6)[:3] * 4
    candidates = listed([1.0, 0.99, 0.98])
    config = SuggestConfig(count=1)
    assert suggest(candidates, features, config).positions[0].tolist() == candidates.positions[0].tolist()
    beside = suggest(candidates, features, config, features[:1] + 0.01)
    assert beside.positions[0].tolist() == candidates.positions[1].tolist()


def test_nothing_to_choose_from():
    config = SuggestConfig()
    none = find_candidates(heatmap([]), config)[0]
    assert len(none) == 0
    assert len(suggest(none, np.zeros((0, 520), np.float32), config)) == 0
    assert len(suggest(none, np.zeros((0, 520), np.float32), config, np.ones((2, 520)))) == 0


def test_compression_keeps_distances_within_16_dimensions():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(50, 16)) @ np.linalg.qr(rng.normal(size=(60, 16)))[0].T
    reduced = principal_components(features)
    assert reduced.shape == (50, 16)
    ratio = np.linalg.norm(features[:25] - features[25:], axis=1)
    ratio /= np.linalg.norm(reduced[:25] - reduced[25:], axis=1)
    assert np.allclose(ratio, ratio[0])
    assert np.square(reduced).sum(1).mean() == pytest.approx(1)
    assert np.isfinite(principal_components(np.ones((4, 20)))).all()


def test_appearance_tells_balls_from_noise_whatever_the_gray_values():
    rng, shape = np.random.default_rng(5), (32, 48, 48)
    data = 0.3 * rng.normal(size=shape)
    centers = np.array([[16, 12, 12], [16, 12, 36], [16, 36, 12], [16, 36, 36]])
    for center in centers[:2]:
        data[((grid(shape) - center) ** 2).sum(-1) <= 16] += 2
    one, two, *none = local_features(Volume(data, VOXEL), centers * VOXEL, 120.0)
    assert np.linalg.norm(one - two) < 0.5 * np.linalg.norm(one - none[0])
    dark = local_features(Volume(70 - 3 * data, VOXEL), centers * VOXEL, 120.0, sign=-1)
    assert np.allclose(dark[0], one, atol=1e-4)
    profile = one[512:]
    assert profile[0] > 1 > 0 > profile[-1]


@pytest.mark.parametrize("position", [(0, 0, 0), (90, 150, 70), (200, 500, 900)], ids=str)
def test_appearance_at_the_faces_and_beyond(position):
    data = np.random.default_rng(6).normal(size=(10, 16, 8)).astype(np.float32)
    candidates = local_features(Volume(data, VOXEL), np.array([position], float), 150.0)
    assert candidates.shape == (1, 520)
    assert np.isfinite(candidates).all()
    assert np.isfinite(local_features(Volume(np.zeros((9, 9, 9)), VOXEL), np.zeros((1, 3)), 60.0)).all()


def test_the_edge_of_the_cube():
    assert crop_edge(KINDS) == 105.0
