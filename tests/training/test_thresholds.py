"""Thresholds from few labels: near the best one, pooled, and the default where nothing is known."""

import numpy as np
import pytest
from scipy.special import expit, logit

from cryovox.training.evaluation.thresholds import DEFAULT, GRID, choose_thresholds, midpoint_thresholds


def world(rng, at_picks, particles, others=-2.3, picks=5):
    """Heights at picks, and of all other peaks with whether they are particles (means in log-odds)."""
    rest = np.r_[rng.normal(particles, 0.8, 30), rng.normal(others, 0.6, 300)]
    return expit(rng.normal(at_picks, 0.5, picks)), expit(rest), np.arange(330) < 30


def f1(threshold, rest, is_particle):
    kept = rest >= threshold
    return 2 * (kept & is_particle).sum() / (kept.sum() + is_particle.sum())


@pytest.mark.parametrize(
    ("at_picks", "particles", "others"), [(2.2, -0.5, -2.3), (0.0, 0.0, -2.5), (-1.2, -1.0, -2.3)]
)
def test_midpoints_come_near_the_best_threshold(at_picks, particles, others):
    """Picks as high as other particles, or learned by heart; half of their median is a worse threshold."""
    losses, losses_of_half = [], []
    for seed in range(20):
        labeled, rest, is_particle = world(np.random.default_rng(seed), at_picks, particles, others)
        chosen = midpoint_thresholds({"a": labeled}, {"a": rest}, ["a"])["a"]
        best = max(f1(t, rest, is_particle) for t in GRID)
        losses.append(best - f1(chosen, rest, is_particle))
        losses_of_half.append(best - f1(np.clip(np.median(labeled) / 2, 0.05, 0.5), rest, is_particle))
    assert np.mean(losses) < 0.2
    assert np.mean(losses) < np.mean(losses_of_half)


def test_midpoints_are_shrunk_to_the_default_and_a_pick_to_those_of_all_species():
    few, many = np.array([0.05]), np.full(20, 0.6)
    rest = {name: np.full(50, 0.1) for name in "ab"}
    chosen = midpoint_thresholds({"a": few, "b": many}, rest, "abc")
    assert chosen["b"] == pytest.approx(expit(((logit(0.6) + logit(0.1)) / 2 + logit(DEFAULT)) / 2), abs=0.02)
    alone = midpoint_thresholds({"a": few}, rest, "a")["a"]
    assert alone < chosen["a"] < chosen["c"] < chosen["b"]
    assert midpoint_thresholds({}, {}, "a") == {}


def test_few_particles_follow_the_others_and_many_do_not():
    def peak_at(threshold):
        return np.exp(-np.square(GRID - threshold) / 0.02)

    others = {"b": (50.0, peak_at(0.6)), "c": (50.0, peak_at(0.6))}
    few, many = (choose_thresholds({"a": (n, peak_at(0.15)), **others}, "abc")["a"] for n in (1.0, 1000.0))
    assert many == pytest.approx(0.15, abs=0.03)
    assert few > many + 0.1


def test_without_particles_the_default_is_chosen_and_without_curves_none():
    nothing = choose_thresholds({"a": (0.0, np.zeros_like(GRID))}, ["a", "b"])
    assert nothing == pytest.approx({"a": DEFAULT, "b": DEFAULT}, abs=0.02)
    assert choose_thresholds({}, ["a"]) == {}
