import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from cryovox.training.evaluation.model_selection import RULE, Quality, choose, quality, score

GOOD = Quality(0.9, None, 0.8, 0.95, 0.1, 0.05, 1.0)


class Answer(nn.Module):
    """Logits from a function of the image; two channels, background first."""

    def __init__(self, rule):
        super().__init__()
        self.rule = rule
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        found = self.rule(x) * self.scale
        return torch.cat([torch.zeros_like(found), found], dim=1)


def smooth(x, width=3):
    return functional.avg_pool3d(x, width, 1, width // 2)


def blobs(x):
    """Bright places, looked at in a way that has the symmetries of the cube."""
    return 40 * (smooth(x) - 1.5)


def lopsided(x):
    """The same, moved: another answer for each view."""
    return blobs(x).roll(3, dims=-1).roll(2, dims=-2)


def nothing(x):
    return torch.full_like(x, -20.0)


def everything(x):
    return torch.full_like(x, 20.0)


class Dice(nn.Module):
    """Throws dice, new ones at each call."""

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(1)

    def forward(self, x):
        return 3 * torch.randn(len(x), 2, *x.shape[2:], generator=self.generator)


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    x = 0.5 * torch.randn(5, 1, 16, 16, 16, generator=generator)
    x[:, :, 4:8, 5:9, 9:13] += 3
    return x


@pytest.fixture
def ask(images):
    def call(rule, **options):
        network = rule if isinstance(rule, nn.Module) else Answer(rule)
        return quality(network, images, **({"activation": "softmax", "device": "cpu"} | options))

    return call


def test_a_symmetric_network_agrees_with_itself(ask):
    found = ask(blobs)
    assert found.agreement == pytest.approx(1, abs=1e-4)
    assert 0.7 < found.noise < 1
    assert ask(lopsided).agreement < 0.5
    assert 0.9 < found.confidence <= 1
    assert found.foreground == pytest.approx(64 / 4096, rel=0.5)
    assert (found.halves, found.prior) == (None, None)


def test_the_agreement_is_the_mean_over_all_pairs(images, ask):
    """Against a loop over pairs of views."""
    views = ((), (-1,), (-3, -2))
    network = Answer(lambda x: smooth(x).roll(1, dims=-1))
    maps = [network(images.flip(v)).softmax(1)[:, 1].flip(v).detach() for v in views]
    over = under = 0.0
    for i in range(3):
        for j in range(i):
            a, b = maps[i], maps[j]
            over += float(2 * ((a - a.mean()) * (b - b.mean())).mean())
            under += float(a.var(correction=0) + b.var(correction=0) + (a.mean() - b.mean()) ** 2)
    assert ask(network, views=views).agreement == pytest.approx(over / under, rel=1e-4)


@pytest.mark.parametrize("level", [-3.0, 0.0, 3.0])
def test_an_answer_that_is_the_same_everywhere_agrees_with_nothing(ask, level):
    found = ask(lambda x: torch.full_like(x, level))
    assert (found.agreement, found.noise) == (0, 0)


def test_chance_agrees_with_nothing(ask):
    """Large foreground drawn anew for each view: soft Dice would be above a half."""
    assert ask(Dice()).agreement < 0.02


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_batches_change_nothing(ask, batch):
    found, whole = ask(blobs, batch=batch), ask(blobs, batch=5)
    assert found.noise == pytest.approx(whole.noise, rel=1e-4)
    assert found.foreground == whole.foreground
    assert found.entropy == pytest.approx(whole.entropy, rel=1e-4)


def test_halves(images, ask):
    same = ask(blobs, halves=(images, images))
    assert same.halves == pytest.approx(1)
    other = ask(blobs, halves=(images, images.roll(8, dims=-1)))
    assert other.halves < 0.1
    assert score(other) < score(same)


def test_closed_forms_of_a_constant_network(ask):
    found = ask(lambda x: torch.full_like(x, math.log(3.0)), prior=0.25)  # foreground 3 / 4
    assert found.foreground == 1
    assert found.confidence == pytest.approx(0.75)
    assert found.entropy == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))
    assert found.prior == pytest.approx(2)
    undecided = ask(torch.zeros_like)
    assert undecided.entropy == pytest.approx(1)
    assert (undecided.foreground, undecided.confidence) == (0, 0)


def test_a_sigmoid_network_has_no_background(ask):
    class Peaks(nn.Module):
        def forward(self, x):
            return torch.cat([blobs(x), torch.full_like(x, -50.0)], dim=1)

    two, one = ask(Peaks(), activation="sigmoid"), ask(blobs)
    assert two.foreground == one.foreground
    assert two.agreement == pytest.approx(one.agreement)
    assert two.entropy == pytest.approx(one.entropy / 2, abs=1e-3)


def test_the_network_is_left_as_it_was(images, ask):
    network = nn.Sequential(Answer(blobs), nn.Dropout(0.5), nn.BatchNorm3d(2))
    network.train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    assert ask(network) == ask(network)
    assert network.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_images_of_another_shape_are_refused(images):
    for bad in (images[:, 0], images[:0]):
        with pytest.raises(ValueError, match="n, 1, z, y, x"):
            quality(Answer(blobs), bad, activation="softmax", device="cpu")


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (nothing, "predicts almost no foreground"),
        (everything, "almost only foreground"),
        (Dice(), "times that of the source"),
        (lambda x: torch.full_like(x, math.nan), "not finite"),
        (lambda x: torch.where(x > 2, math.nan, x), "not finite"),
        (lopsided, "not higher"),
        (blobs, "not higher"),
    ],
    ids=["nothing", "everything", "noise", "nan", "some-nan", "unstable", "identical"],
)
@pytest.mark.parametrize("prior", [None, 0.02])
def test_what_is_refused(ask, candidate, reason, prior):
    choice = choose(ask(blobs, prior=prior), ask(candidate, prior=prior))
    assert not choice.adapted
    assert any(reason in told for told in choice.reasons), choice.reasons


def test_noise_is_refused_by_its_score_too(ask):
    """Against a source model whose foreground is as large."""
    source = ask(lambda x: 40 * smooth(x, 5))
    assert 0.2 < source.foreground < 0.8
    choice = choose(source, ask(Dice()))
    assert not choice.adapted
    assert choice.scores[1] < 0.05 < 0.5 < choice.scores[0]


@pytest.mark.parametrize(
    "source", [lopsided, nothing, lambda x: x * math.nan], ids=["lopsided", "nothing", "nan"]
)
def test_a_better_network_is_taken(ask, source):
    choice = choose(ask(source, prior=0.02), ask(blobs, prior=0.02))
    assert choice.adapted
    assert choice.scores[1] > choice.scores[0]


def test_score():
    assert score(GOOD) == pytest.approx(0.72)
    assert score(replace(GOOD, halves=0.5)) == pytest.approx(0.6)
    assert score(replace(GOOD, prior=None)) == score(replace(GOOD, prior=2.0)) == score(GOOD)
    assert score(replace(GOOD, prior=3.0)) == pytest.approx(0.72 / math.e)
    assert score(replace(GOOD, entropy=math.nan)) == 0
    assert score(GOOD, replace(RULE, noise=0.0)) == pytest.approx(0.9)


def test_ties_and_margins():
    assert not choose(GOOD, GOOD).adapted
    better = replace(GOOD, agreement=0.95)
    assert choose(GOOD, better).adapted
    assert choose(GOOD, better, margin=0.039).adapted
    assert not choose(GOOD, better, margin=0.041).adapted


@pytest.mark.parametrize(("noise_p_value", "kept"), [(None, True), (1e-4, True), (0.2, False)])
def test_what_is_found_in_noise_too_is_not_trusted(noise_p_value, kept):
    choice = choose(GOOD, replace(GOOD, agreement=0.95), noise_p_value=noise_p_value)
    assert choice.adapted is kept
    assert kept or "in noise of the same power" in choice.reasons[0]
    assert choice.summary()["chance"] == noise_p_value


def test_growth():
    grown = replace(GOOD, agreement=1.0, foreground=0.45, prior=3.1)
    assert not choose(replace(GOOD, prior=0.1), grown).adapted
    assert "9.0 times" in choose(GOOD, grown).reasons[0]
    assert not choose(replace(GOOD, prior=None), replace(grown, prior=None)).adapted
    assert choose(replace(GOOD, prior=4.0), replace(grown, prior=0.9)).adapted  # into what is expected


@pytest.mark.parametrize(("octaves", "fold"), [(2.0, "4.0-fold"), (11.0, "over 1000-fold")])
def test_the_foreground_is_compared_as_a_fold(octaves, fold):
    choice = choose(replace(GOOD, prior=0.0), replace(GOOD, prior=octaves))
    wanted = f"foreground deviates {fold} from the expected fraction, against 1.0-fold of the source model."
    assert f"The {wanted}" in choice.reasons


def test_a_choice_can_be_written_down(ask):
    told = choose(ask(blobs), ask(nothing)).summary()
    assert json.loads(json.dumps(told)) == told
    assert told["chosen"] == "source"
    assert set(told["quality"]) == {"source", "adapted"}
    assert told["quality"]["adapted"]["foreground"] == 0


@pytest.mark.parametrize(
    ("source", "candidate"),
    [(nothing, nothing), (Dice(), nothing), (nothing, lambda x: x * math.nan), (Dice(), Dice())],
    ids=["nothing", "noise and nothing", "nothing and nan", "noise"],
)
def test_there_is_no_choice_between_two_that_find_nothing(ask, source, candidate):
    choice = choose(ask(source, prior=0.02), ask(candidate, prior=0.02), noise_p_value=1e-6)
    assert not choice.adapted
    assert choice.undecided
    assert choice.summary()["undecided"]
    assert choice.reasons[0] == "Neither model predicts foreground in the target, so neither is selected."
    assert len(choice.reasons) == 3


def test_a_network_that_finds_something_is_chosen_beside_one_that_finds_nothing(ask):
    assert not choose(ask(blobs, prior=0.02), ask(nothing, prior=0.02)).undecided
    assert not choose(ask(nothing, prior=0.02), ask(blobs, prior=0.02)).undecided


def test_peaks_below_a_half_are_not_nothing():
    """Heatmaps: nothing is expected of their foreground, and it may be none."""
    low = replace(GOOD, prior=None, foreground=0.0)
    assert choose(low, replace(low, agreement=0.95)).adapted


def test_what_was_not_compared_with_noise_is_not_taken():
    choice = choose(GOOD, replace(GOOD, agreement=0.95), unchecked=True)
    assert not choice.adapted
    assert "lack of time" in choice.reasons[0]
