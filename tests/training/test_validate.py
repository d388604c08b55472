from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cryovox.core.intensity import Normalization
from cryovox.core.particles import Species
from cryovox.data.patches import TargetSpec
from cryovox.data.regions import Region
from cryovox.data.targets import ball_labels, gaussian_heatmap
from cryovox.inference.stream import TilePlan
from cryovox.training.evaluation.validate import thresholds_at_picks, validate

torch.set_num_threads(1)
A, B = Species(name="a", label=1, radius=40.0), Species(name="b", label=2, radius=40.0)
SHAPE = (20, 36, 50)
BOUNDS = ((3, 19), (0, 36), (15, 47))
CENTERS = np.array([[6.0, 8, 8], [13.0, 27, 20], [8.0, 10, 40]])
MASK, HEAT, HEAT2 = TargetSpec("mask"), TargetSpec("heatmap"), TargetSpec("heatmap", 2)


def source(data, positions=CENTERS, channels=None, bounds=None, exhaustive=True, species=(A,)) -> Region:
    return Region(
        name="t",
        data=data,
        voxel_size=10.0,
        normalize=Normalization(0.0, 1.0),
        bounds=bounds or tuple((0, n) for n in data.shape),
        species=species,
        positions=np.asarray(positions, float).reshape(-1, 3),
        channels=np.zeros(len(positions), np.intp) if channels is None else np.array(channels),
        labels=None,
        annotated_mask=None,
        exhaustive=np.full(len(species), exhaustive),
    )


class Shown(nn.Module):
    """Answers what the image shows: scores for heatmaps, channel numbers for masks."""

    def __init__(self, species: int = 1, stride: int = 1, mask: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.pool = nn.AvgPool3d(stride)
        self.species, self.mask = species, mask

    def forward(self, x):
        if self.mask:
            return torch.cat([(x.round() == c) * 20.0 for c in range(self.species + 1)], 1)
        score = self.pool(x).clamp(1e-6, 1 - 1e-6).logit()
        return torch.cat([score] + [torch.full_like(score, -20)] * (self.species - 1), 1)


def tiles(spec: TargetSpec) -> TilePlan:
    return TilePlan(16, 0.5, spec.output_stride, "softmax" if spec.kind == "mask" else "sigmoid")


def heat(heights, centers=CENTERS) -> np.ndarray:
    maps = [h * gaussian_heatmap(c[None], 1.5, SHAPE) for h, c in zip(heights, centers, strict=True)]
    return np.max(maps, axis=0)


@pytest.mark.parametrize("spec", [HEAT, HEAT2])
def test_a_network_that_knows_scores_one(spec):
    # a false peak of 0.3 beside true ones of 0.8 and more: the threshold lies between
    centers = np.r_[CENTERS, [[13.0, 8, 30]]]
    found = validate(
        Shown(stride=spec.output_stride),
        [source(heat([0.95, 0.8, 0.9, 0.3], centers))],
        spec,
        tiles(spec),
    )
    assert found["score"] == found["f1/a"] == 1
    assert 0.3 * 0.7 < found["threshold/a"] <= 0.8
    assert not any(name.startswith("judge") for name in found)


def test_maps_of_a_head_with_a_stride_are_put_in_their_place():
    # half a voxel off on every axis would be 8.7 Å and a miss
    sharp = Species(name="a", label=1, radius=5.0)
    given = source(heat([0.9] * 3), species=(sharp,), bounds=BOUNDS)
    assert validate(Shown(stride=2), [given], HEAT2, tiles(HEAT2))["score"] == 1


def test_f1_by_hand():
    # two decoys above three true peaks: at best 3 hits, 2 false, F1 = 6 / 8
    centers = np.r_[CENTERS, [[13.0, 8, 30], [6.0, 28, 40]]]
    found = validate(Shown(), [source(heat([0.5] * 3 + [0.9] * 2, centers))], HEAT, tiles(HEAT))
    assert found["score"] == pytest.approx(0.75)
    assert found["threshold/a"] <= 0.5


def test_recall_decides_where_annotation_is_not_exhaustive():
    centers = np.r_[CENTERS, [[13.0, 8, 30], [6.0, 28, 40]]]
    given = source(heat([0.5, 0.6, 0.95, 0.8, 0.9], centers), exhaustive=False)
    found = validate(Shown(), [given], HEAT, tiles(HEAT))
    # three candidates hold one annotated particle, six hold all
    assert found["recall@1x/a"] == pytest.approx(1 / 3)
    assert found["recall@2x/a"] == found["recall@4x/a"] == 1
    assert found["score"] == pytest.approx((1 / 3 + 2) / 3)
    assert "f1/a" not in found
    assert found["threshold/a"] <= 0.5  # all peaks are as high as the annotated ones


def test_species_without_particles_do_not_count():
    given = source(heat([0.9] * 3), species=(A, B))
    found = validate(Shown(2), [given], HEAT, tiles(HEAT))
    assert found["score"] == 1
    assert "f1/b" not in found


def test_a_missed_species_halves_the_score():
    given = source(heat([0.9] * 3), channels=[0, 0, 1], species=(A, B))
    found = validate(Shown(2), [given], HEAT, tiles(HEAT))
    assert found["f1/a"] == pytest.approx(0.8)
    assert found["f1/b"] == 0
    assert found["score"] == pytest.approx(0.4)


def test_only_the_region_is_judged():
    # the particle at x = 8 lies outside the region: finding it there is neither good nor bad
    given = source(heat([0.9] * 3), bounds=BOUNDS)
    found = validate(Shown(), [given], HEAT, tiles(HEAT))
    assert found["score"] == 1
    assert validate(Shown(), [source(heat([0.9, 0, 0]), bounds=BOUNDS)], HEAT, tiles(HEAT))["score"] == 0


def test_regions_are_not_matched_with_each_other():
    right, wrong = source(heat([0.9] * 3)), source(heat([0.0, 0.0, 0.0]))
    found = validate(Shown(), [right, wrong], HEAT, tiles(HEAT))
    assert found["score"] == pytest.approx(2 * 3 / (3 + 6))


def balls(labels) -> np.ndarray:
    return ball_labels(CENTERS, labels, [4.0] * 3, SHAPE).astype(np.float32)


@pytest.mark.parametrize("bounds", [None, BOUNDS, ((0, 20), (2, 9), (1, 50))])
def test_masks_are_judged_by_dice(bounds):
    given = source(balls([1, 2, 1]), channels=[0, 1, 0], species=(A, B), bounds=bounds)
    found = validate(Shown(2, mask=True), [given], MASK, tiles(MASK))
    assert found["score"] == 1
    if bounds != ((0, 20), (2, 9), (1, 50)):
        assert found["f1/a"] == found["f1/b"] == 1
        assert found["threshold/a"] in (0.3, 0.5, 0.7)


def test_dice_by_hand_in_a_region_that_is_no_cube():
    shown = balls([1, 1, 1])
    given = source(shown, positions=CENTERS[1:], bounds=BOUNDS)
    true = ball_labels(CENTERS[1:], [1, 1], [4.0] * 2, SHAPE)
    shown[13, 20:30, 15:47] = 1
    window = tuple(slice(a, b) for a, b in BOUNDS)
    here, there = shown[window] == 1, true[window] == 1
    expected = 2 * (here & there).sum() / (here.sum() + there.sum())
    found = validate(Shown(mask=True), [given], MASK, tiles(MASK))
    assert found["score"] == pytest.approx(expected)
    assert expected < 0.99


def test_what_is_unknown_is_not_judged():
    shown = balls([1, 1, 1])
    some = source(shown, positions=CENTERS[:2], exhaustive=False)
    assert validate(Shown(mask=True), [some], MASK, tiles(MASK))["score"] == 1
    assert validate(Shown(mask=True), [replace(some, exhaustive=np.array([True]))], MASK, tiles(MASK))[
        "score"
    ] == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("exhaustive", [True, False])
@pytest.mark.parametrize("spec", [MASK, HEAT, HEAT2])
@pytest.mark.parametrize("picks", [np.zeros((0, 3)), CENTERS[:1]])
def test_a_region_without_particles_has_no_score(spec, exhaustive, picks):
    shown = balls([1, 1, 1]) if spec.kind == "mask" else heat([0.9] * 3)
    given = source(shown, positions=picks, bounds=BOUNDS, exhaustive=exhaustive)
    network = Shown(mask=spec.kind == "mask", stride=spec.output_stride)
    assert validate(network, [given], spec, tiles(spec)) == {}


@pytest.mark.parametrize("spec", [MASK, HEAT])
def test_a_network_that_finds_nothing(spec):
    given = source(np.zeros(SHAPE, np.float32))
    found = validate(Shown(mask=spec.kind == "mask"), [given], spec, tiles(spec))
    assert found["score"] == 0
    assert 0 < found["threshold/a"] < 1


def test_a_long_region_needs_no_cube_of_its_length():
    # a cube of the longest side would be 8e9 voxels
    long = np.zeros((8, 8, 2000), np.float32)
    positions = np.array([[4.0, 4, 1990]])
    long[:] = ball_labels(positions, [1], [4.0], long.shape)
    found = validate(Shown(mask=True), [source(long, positions)], MASK, tiles(MASK))
    assert found["score"] == 1


def crowd(heights_of_particles, heights_of_others, labeled):
    """A region with peaks on a lattice, of which the first particles are annotated."""
    heights = [*heights_of_particles, *heights_of_others]
    side = int(np.ceil(len(heights) ** (1 / 3)))
    lattice = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    centers = 8.0 + 12 * np.random.default_rng(0).permutation(lattice)[: len(heights)]
    shape = (12 * side + 4,) * 3
    maps = [h * gaussian_heatmap(c[None], 1.5, shape) for h, c in zip(heights, centers, strict=True)]
    image = np.max(maps, axis=0)
    return source(image, centers[:labeled], exhaustive=False, species=(A, B))


def test_without_a_hold_out_thresholds_part_peaks_like_the_picks_from_the_others():
    rng = np.random.default_rng(1)
    particles, others = rng.uniform(0.4, 0.7, 25), rng.uniform(0.03, 0.1, 39)
    region, plan = crowd(particles, others, labeled=8), TilePlan(48, 0.5, 1, "sigmoid")
    found = thresholds_at_picks(Shown(2), [region], HEAT, plan)
    assert 0.1 <= found["threshold/a"] <= 0.42
    faint = crowd(particles / 3, others / 3, labeled=8)
    lower = thresholds_at_picks(Shown(2), [faint], HEAT, plan)
    assert lower["threshold/a"] < found["threshold/a"]
    assert set(found) == {"threshold/a", "threshold/b"}  # b has no pick: what the others say of it


class Unsure(Shown):
    """A mask of which it is not sure."""

    def forward(self, x):
        return torch.cat([(1 - x).log(), x.log(), torch.full_like(x, -20.0)], 1)


def test_thresholds_of_masks_are_half_of_what_half_of_the_picks_get():
    image = np.full(SHAPE, 0.1, np.float32)
    for center, height in zip(CENTERS.astype(int), (0.6, 0.4, 0.95), strict=True):
        image[tuple(center)] = height
    given = source(image, channels=[0, 0, 1], species=(A, B))
    found = thresholds_at_picks(Unsure(2, mask=True), [given], MASK, tiles(MASK))
    assert found == {"threshold/a": pytest.approx(0.25, abs=0.01), "threshold/b": 0.05}
