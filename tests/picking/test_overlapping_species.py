import numpy as np
import pytest

from cryovox.core.errors import RenamedWarning
from cryovox.core.particles import Species
from cryovox.core.volume import ScoreMap
from cryovox.picking import PickConfig, pick
from cryovox.picking.config import SuggestConfig

SPECIES = (Species(name="a", label=1, radius=50), Species(name="b", label=2, radius=30))


def heatmap(peaks: list[tuple[int, int, float]]) -> ScoreMap:
    """Channel, x and height of peaks along a line, in voxels of 10 Å."""
    data = np.zeros((2, 9, 9, 60), np.float32)
    x = np.arange(60)
    for channel, place, height in peaks:
        data[channel, 4, 4] = np.maximum(data[channel, 4, 4], height * np.exp(-((x - place) ** 2) / 2))
    return ScoreMap(data, 10.0, SPECIES, kind="heatmap", thresholds={"a": 0.2, "b": 0.4})


def test_one_place_goes_to_the_claim_that_is_clearly_farther_above_its_threshold():
    clear, close = heatmap([(0, 10, 0.8), (1, 11, 0.6)]), heatmap([(0, 10, 0.5), (1, 11, 0.6)])
    assert pick(clear).species.tolist() == ["a"]  # 4 thresholds against 1.5
    assert len(pick(clear, PickConfig(exclusive=False))) == 2
    assert len(pick(close)) == 2  # 2.5 against 1.5: nobody knows
    assert pick(close, PickConfig(overlap_ratio=1.5)).species.tolist() == ["a"]


@pytest.mark.parametrize(("apart", "count"), [(2, 1), (4, 2)])
def test_the_smaller_radius_is_the_limit(apart, count):
    assert len(pick(heatmap([(0, 20, 0.9), (1, 20 + apart, 0.6)]))) == count


def test_a_claim_that_lost_takes_nothing_with_it():
    # b at 22 loses to a at 20; the a at 24 is contested by that b alone and stays
    picks = pick(heatmap([(0, 20, 0.9), (1, 22, 0.85), (0, 24, 0.2)]), PickConfig(distance=20))
    assert sorted(picks.positions[:, 2].round(-1).tolist()) == [200.0, 240.0]


def test_species_far_apart_do_not_meet():
    assert len(pick(heatmap([(0, 10, 0.9), (1, 40, 0.9)]))) == 2


def test_former_names_of_options_still_work():
    with pytest.warns(RenamedWarning, match="outvoted is now called overlap_ratio"):
        assert PickConfig.model_validate({"outvoted": 1.5}).overlap_ratio == 1.5
    with pytest.warns(RenamedWarning, match="min_score"):
        assert SuggestConfig.model_validate({"lowest": 0.1}).min_score == 0.1
