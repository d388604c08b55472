from dataclasses import replace

import numpy as np
import pytest

from cryovox.core.intensity import Normalization
from cryovox.core.particles import Particles, Species
from cryovox.data.regions import Region
from cryovox.data.targets import ball_labels
from cryovox.training.evaluation.held_out import (
    RegionPicks,
    blob_picker_metrics,
    cross_fit,
    detection_metrics,
    halves,
    recall_interval,
)

BALL = Species(name="ball", label=1, radius=40.0)
SHAPE = (32, 48, 64)


def region(positions, exhaustive=False, sign=1, noise=0.1, seed=0, bounds=None) -> Region:
    positions = np.asarray(positions, float).reshape(-1, 3)
    rng = np.random.default_rng(seed)
    body = ball_labels(positions, [1] * len(positions), [4.0] * len(positions), SHAPE) > 0
    return Region(
        name="t",
        data=(sign * (body + noise * rng.standard_normal(SHAPE))).astype(np.float32),
        voxel_size=10.0,
        normalize=Normalization(0.0, 1.0, sign),
        bounds=bounds or tuple((0, n) for n in SHAPE),
        species=(BALL,),
        positions=positions,
        channels=np.zeros(len(positions), np.intp),
        labels=None,
        annotated_mask=None,
        exhaustive=np.array([exhaustive]),
    )


GRID = np.array([(z, y, x) for z in (8, 24) for y in (10, 26, 40) for x in (8, 24, 40, 56)], float)


def picks(region: Region, hit, scores=None) -> RegionPicks:
    """Candidates on those particles that are to be hit, and as many far from all, in their order."""
    hit = np.asarray(hit, bool)
    places = np.where(hit[:, None], region.positions, region.positions + np.array([0.0, 8.0, 8.0]))
    scores = np.linspace(1, 0.5, len(hit)) if scores is None else scores
    return RegionPicks(region, Particles.of(places * region.voxel_size, "ball", scores))


def test_every_annotated_particle_lies_in_one_half():
    sources = [region(GRID), region(GRID[:1]), region([]), region(GRID[:5]), region(GRID[:1])]
    parts = halves(sources)
    count = np.zeros(len(sources), int)
    for half in parts:
        for index, part in half:
            count[index] += len(part.annotated)
    assert count.tolist() == [24, 1, 0, 5, 1]
    sizes = [sum(len(part.annotated) for _, part in half) for half in parts]
    assert abs(sizes[0] - sizes[1]) <= 2
    assert {index for half in halves(sources, whole=True) for index, _ in half} == set(range(5))


def test_recall_of_the_halves_and_of_the_whole():
    held = region(GRID)
    rows = detection_metrics([picks(held, np.arange(24) % 2 == 0)], (BALL,))
    assert rows["recall@1x/ball"] == 0.5
    assert rows["half1/n/ball"] + rows["half2/n/ball"] == 24
    assert rows["half1/recall@1x/ball"] == rows["half2/recall@1x/ball"] == 0.5
    figures = cross_fit([rows])
    assert figures["recall@1x/ball"] == 0.5
    assert figures["n/ball"] == 24


def test_a_threshold_is_chosen_on_one_half_and_scored_on_the_other():
    """One half has its hits above 0.9, the other above 0.5: neither threshold suits the other half."""
    held = region(GRID, exhaustive=True)
    (_, first), _ = (half[0] for half in halves([held]))
    here = np.isin(np.arange(24), first.annotated)
    scores = np.where(here, np.where(np.arange(24) % 2, 0.95, 0.85), np.where(np.arange(24) % 2, 0.55, 0.3))
    rows = detection_metrics([picks(held, np.arange(24) % 2 == 1, scores)], (BALL,))
    crossed = cross_fit([rows])["f1/ball"]
    assert crossed < rows["f1/ball"] - 0.05
    assert crossed == pytest.approx((12 * rows["half1/f1/ball"] + 12 * rows["half2/f1/ball"]) / 24)


def noise_of_validations(rng, count, n=10, p=0.5):
    """Validations of a network that finds each particle by chance."""
    history = []
    for _ in range(count):
        hits = rng.binomial(n, p, 2) / n
        rows = {
            f"half{h}/{name}": float(v)
            for h, v in zip((1, 2), hits, strict=True)
            for name in ("score", "f1/a")
        }
        history.append(rows | {"half1/n/a": n, "half2/n/a": n, "score": hits.mean(), "f1/a": hits.mean()})
    return history


def test_the_best_of_many_validations_flatters_and_cross_fitting_does_not():
    rng = np.random.default_rng(0)
    best, crossed = [], []
    for _ in range(300):
        history = noise_of_validations(rng, 30)
        best.append(max(rows["score"] for rows in history))
        crossed.append(cross_fit(history, choose=True)["score"])
    assert np.mean(best) > 0.7
    assert np.mean(crossed) == pytest.approx(0.5, abs=0.02)


def test_skill_is_not_lost_by_cross_fitting():
    rng = np.random.default_rng(0)
    crossed = []
    for _ in range(100):
        history = noise_of_validations(rng, 10, p=0.2) + noise_of_validations(rng, 1, p=0.95)
        crossed.append(cross_fit(history, choose=True)["score"])
    assert np.mean(crossed) == pytest.approx(0.95, abs=0.02)


def test_the_last_weights_are_scored_where_they_are_kept():
    history = noise_of_validations(np.random.default_rng(1), 5)
    assert cross_fit(history)["f1/a"] == pytest.approx(history[-1]["f1/a"])


def test_nothing_held_out_has_no_figures():
    assert cross_fit([]) == {}
    assert cross_fit([{"threshold/a": 0.3}]) == {}


def test_a_single_particle_is_scored_as_it_is():
    figures = cross_fit(
        [detection_metrics([picks(region(GRID[:1]), [True])], (BALL,)) | {"score": 1.0}], choose=True
    )
    assert (figures["recall@1x/ball"], figures["n/ball"]) == (1, 1)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_blob_picker_finds_balls_whatever_the_contrast(sign):
    figures = blob_picker_metrics([region(GRID, sign=sign)], (BALL,), "heatmap")
    assert figures["recall@1x/ball"] == figures["recall@4x/ball"] == 1
    assert figures["n/ball"] == 24


def test_a_blob_picker_is_held_to_the_region():
    bounds = ((0, 32), (0, 48), (32, 64))
    held = region(GRID, bounds=bounds)
    assert blob_picker_metrics([held], (BALL,), "heatmap")["n/ball"] == 12
    blind = replace(held, data=np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32))
    assert blob_picker_metrics([blind], (BALL,), "heatmap")["recall@1x/ball"] < 0.5


def test_balls_stand_for_the_mask_of_a_blob_picker():
    figures = blob_picker_metrics([region(GRID, exhaustive=True)], (BALL,), "mask")
    assert figures["dice/ball"] == figures["score"] > 0.8


def test_an_interval_of_a_recall():
    low, high = recall_interval(0.5, 10)  # Wilson, by hand: 0.2366 to 0.7634
    assert (low, high) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert recall_interval(1.0, 3)[1] == 1
