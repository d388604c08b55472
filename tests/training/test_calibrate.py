"""Calibration of a network that shows what the image holds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from cryovox.core.intensity import Normalization
from cryovox.core.particles import Species
from cryovox.data.patches import TargetSpec
from cryovox.data.regions import Region
from cryovox.inference.stream import TilePlan
from cryovox.metrics.fingerprint import Domain
from cryovox.picking.calibration import probabilities
from cryovox.training.evaluation.calibrate import (
    calibrate_at_picks,
    calibrate_held_out,
    calibration_domain,
)

A, B = Species(name="a", label=1, radius=40.0), Species(name="b", label=2, radius=40.0)
SHAPE = (40, 96, 112)
GRID = np.array([(z, y, x) for z in (9, 24) for y in range(8, 90, 12) for x in range(8, 108, 12)], float)
TILES = TilePlan(16, 0.5, 1, "sigmoid")
HEAT = TargetSpec("heatmap")


class Shown(nn.Module):
    """The image is the heatmap of the first species; the second has none."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        score = x.clamp(1e-6, 1 - 1e-6).logit()
        return torch.cat([score, torch.full_like(score, -20)], 1)


def region(true_share=0.75, exhaustive=True, seed=0, annotated=1.0):
    """Peaks on a grid: high ones at particles, but one in four; low ones elsewhere."""
    rng = np.random.default_rng(seed)
    is_true = rng.random(len(GRID)) < true_share
    heights = np.where(is_true, rng.uniform(0.5, 0.9, len(GRID)), rng.uniform(0.05, 0.6, len(GRID)))
    data = np.zeros(SHAPE)
    data[tuple(GRID.astype(int).T)] = heights
    data = np.clip(ndimage.gaussian_filter(data, 1.0) / 0.0635, 0, 1).astype(np.float32)
    known = GRID[is_true & (rng.random(len(GRID)) < annotated)]
    return Region(
        name="t",
        data=data,
        voxel_size=10.0,
        normalize=Normalization(0.0, 1.0),
        bounds=tuple((0, n) for n in SHAPE),
        species=(A, B),
        positions=known,
        channels=np.zeros(len(known), np.intp),
        labels=None,
        annotated_mask=None,
        exhaustive=np.array([exhaustive, exhaustive]),
    )


def test_held_out_peaks_give_probabilities():
    fitted = calibrate_held_out(Shown(), [region(), region(seed=1)], HEAT, TILES, {})
    assert fitted.basis == "held-out"
    own = fitted.species["a"]
    assert own.peaks == pytest.approx(2 * len(GRID), rel=0.05)
    assert own.prior == pytest.approx(0.75, abs=0.08)
    low, high = probabilities(own, np.array([0.2, 0.85]))
    assert low < 0.2
    assert high > 0.9
    assert fitted.species["b"].peaks == 0


SMALL, LARGE = (
    Species(name="small", label=1, radius=30.0, diameters=(40.0, 90.0)),
    Species(name="large", label=2, radius=50.0, diameters=(90.0, 240.0)),
)


class BySize(nn.Module):
    """Dark spots score as small particles, bright ones as large; each scores weakly as the other size."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        score = x.abs().clamp(1e-6, 1 - 1e-6).logit()
        return torch.cat([score - x.sign(), score + x.sign()], 1)


def test_each_size_among_the_others_is_calibrated():
    one = region(true_share=1.0)
    one.data[..., :62] *= -1  # between two columns of the grid
    sized = replace(one, species=(SMALL, LARGE), channels=(one.positions[:, 2] > 62).astype(np.intp))
    fitted = calibrate_held_out(BySize(), [sized], HEAT, TILES, {})
    assert set(fitted.sizes) == {"small", "large"}
    for number, name in enumerate(("small", "large")):
        own = fitted.sizes[name]
        assert own.scores.particles == (sized.channels == number).sum()
        # the peaks of the other size are there, with lower odds
        assert own.scores.peaks > own.scores.particles
        low, high = probabilities(own.scores, np.array([0.05, 0.9]))
        assert low < 0.2 < 0.8 < high
        assert 0.05 < own.threshold < 0.95
    assert not calibrate_held_out(BySize(), [one], HEAT, TILES, {}).sizes  # species that have no range


def test_few_annotations_give_probabilities_by_a_mixture():
    regions = [region(exhaustive=False, annotated=0.2), region(exhaustive=False, annotated=0.2, seed=1)]
    for fitted in (
        calibrate_held_out(Shown(), regions, HEAT, TILES, {}),
        calibrate_at_picks(Shown(), regions, HEAT, replace(TILES, tile=48)),
    ):
        assert fitted.basis == "mixture"
        own = fitted.species["a"]
        # most particles are not annotated, and are not taken as false
        assert own.prior > 1.5 * own.particles / own.peaks
        low, high = probabilities(own, np.array([0.1, 0.85]))
        assert low < 0.5 < high


def test_where_nothing_is_annotated_there_is_no_calibration():
    bare = region(exhaustive=False, annotated=0.0)
    assert calibrate_held_out(Shown(), [bare], HEAT, TILES, {}) is None
    assert calibrate_at_picks(Shown(), [bare], TargetSpec("mask"), TILES) is None


def test_without_other_peaks_there_is_no_calibration():
    few = region(exhaustive=False, annotated=0.1)
    assert calibrate_at_picks(Shown(), [few], HEAT, TILES) is None  # each patch holds its own pick only


def test_the_domain_is_that_of_the_tomograms():
    rng = np.random.default_rng(0)
    noisy = region()
    noisy.data[:] += rng.standard_normal(SHAPE).astype(np.float32)
    domain = Domain.model_validate(calibration_domain([noisy, noisy]))
    assert domain.fingerprint.cubes >= 1
    flat = region()
    flat.data[:] = 1.0
    assert calibration_domain([flat]) is None
