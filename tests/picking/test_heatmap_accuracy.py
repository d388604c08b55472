"""Picks of clean heatmaps are exact, and those of particles that touch are separate."""

import numpy as np
import pytest
from scipy.spatial import KDTree

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap
from cryovox.data.targets import ball_labels, gaussian_heatmap, heatmap_sigma
from cryovox.metrics.detection import detection
from cryovox.picking import PickConfig, pick

VOXEL = 10.0


def kind(radius):
    return Species(name="a", label=1, radius=radius * VOXEL)


def heatmap(places, radius, sides, stride=2):
    """What a network of that stride should answer to particles at places in voxels of the tomogram."""
    offset, coarse = (stride - 1) / 2, stride * VOXEL
    shape = tuple(side // stride for side in sides)
    data = gaussian_heatmap((places - offset) / stride, heatmap_sigma(kind(radius), coarse), shape)
    return ScoreMap(data[None], coarse, (kind(radius),), offset * VOXEL, "heatmap")


def chains(seed, radius, sides, low, high):
    """Chains of two to four spheres, neighbors low to high diameters apart, none closer than that."""
    rng, placed = np.random.default_rng(seed), np.full((1, 3), -99.0)
    for start in rng.uniform(radius, np.array(sides) - 1 - radius, (30, 3)):
        chain = [start]
        for _ in range(60):
            step = rng.standard_normal(3)
            new = chain[-1] + step / np.linalg.norm(step) * rng.uniform(low, high) * 2 * radius
            inside = (new >= radius).all() and (new <= np.array(sides) - 1 - radius).all()
            free = KDTree([*placed, *chain]).query(new)[0] >= low * 2 * radius - 1e-9
            if inside and free and len(chain) < 4:
                chain.append(new)
        if len(chain) > 1 and KDTree(placed).query(start)[0] >= low * 2 * radius:
            placed = np.concatenate([placed, chain])
    return placed[1:]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("radius", [4.0, 6.0, 15.0])
def test_centers_between_the_voxels_are_found_to_a_tenth(radius, stride):
    rng, errors = np.random.default_rng(0), []
    for place in rng.uniform(19.5, 24.5, (60, 3)):
        picks = pick(heatmap(place[None], radius, (44, 44, 44), stride)).positions / VOXEL
        assert len(picks) == 1
        errors.append(np.linalg.norm(picks[0] - place))
    rounded = stride * np.sqrt(3 / 12)  # what the nearest voxel would be off
    assert np.sqrt(np.mean(np.square(errors))) <= 0.1
    assert max(errors) <= 0.1 < rounded


@pytest.mark.parametrize("radius", [4.0, 5.0, 6.0])
@pytest.mark.parametrize("stride", [1, 2])
def test_touching_spheres_are_found_one_by_one(radius, stride):
    sides = (60, 60, 60)
    places = chains(int(radius), radius, sides, 1.0, 1.2)
    nearest = KDTree(places).query(places, k=2)[0][:, 1]
    assert len(places) >= 15
    assert nearest.max() <= 1.2 * 2 * radius
    truth = Particles.of(places * VOXEL, "a")
    score = detection(pick(heatmap(places, radius, sides, stride)), truth, 0.5 * radius * VOXEL)
    assert score.f1 >= 0.95
    assert score.mean_distance <= 0.15 * stride * VOXEL


@pytest.mark.parametrize("radius", [5.0, 6.0])
def test_mean_shift_separates_them_too_where_connected_regions_alone_do_not(radius):
    sides = (48, 48, 48)
    places = chains(int(radius), radius, sides, 1.0, 1.2)
    count = len(places)
    data = ball_labels(places, [1] * count, [radius] * count, sides).astype(np.float32)
    maps = ScoreMap(data[None], VOXEL, (kind(radius),), kind="mask")
    truth = Particles.of(places * VOXEL, "a")

    def f1(**settings):
        return detection(pick(maps, PickConfig(**settings)), truth, 0.5 * radius * VOXEL).f1

    assert f1(method="mean-shift") >= 0.9
    assert f1(split_touching=False) < 0.9
    assert f1() >= 0.95
