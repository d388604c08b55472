"""Places of tokens, and the encodings made of them."""

import pytest
import torch

from cryovox.models.blocks.positions import rotary, rotate, sinusoidal, token_positions
from cryovox.models.blocks.transformer import Attention
from cryovox.models.blocks.views import VIEWS, to_view


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_places_are_those_in_the_cube_whatever_the_view():
    where = token_positions(3, list(VIEWS))
    for name, own in zip(VIEWS, where, strict=True):
        back = to_view(own.T.unflatten(1, (3, 3, 3)), name)
        assert torch.equal(back, torch.stack(torch.meshgrid(*3 * [torch.arange(3.0)], indexing="ij")))


def test_waves_tell_all_places_apart_and_fill_what_they_can():
    waves = sinusoidal(token_positions(8, ["xy"]), 20)[0]
    assert waves.shape == (512, 20)
    assert torch.cdist(waves, waves).add(torch.eye(512)).min() > 1e-3
    assert (waves[:, 18:] == 0).all()
    assert torch.allclose(waves.square().sum(1), torch.full((512,), 9.0))


def test_scores_after_turning_depend_on_differences_of_places_only():
    q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

    def score(a, b) -> torch.Tensor:
        turned = [rotate(x, rotary(torch.tensor([[p]]), 16)) for x, p in ((q, a), (k, b))]
        return (turned[0] * turned[1]).sum()

    first = score([1.0, 2.0, 3.0], [2.0, 0.0, 3.0])
    assert torch.allclose(first, score([4.0, 5.0, 1.0], [5.0, 3.0, 1.0]), atol=1e-5)
    assert not torch.allclose(first, score([4.0, 5.0, 1.0], [3.0, 3.0, 1.0]), atol=1e-3)


def test_turning_keeps_lengths_and_leaves_what_has_no_place():
    x, angles = torch.randn(2, 3, 5, 13), rotary(torch.randn(2, 4, 3), 13)
    assert angles.shape == (2, 4, 6)
    turned = rotate(x, angles)
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    assert torch.equal(turned[:, :, 0], x[:, :, 0])  # one more token than angles: a node of the graph
    assert torch.equal(turned[..., 12:], x[..., 12:])
    assert not torch.allclose(turned[:, :, 1:, :12], x[:, :, 1:, :12])


def test_attention_without_turns_does_not_see_the_order_and_with_turns_does():
    attention, x = Attention(12, 2), torch.randn(1, 6, 12)
    turns, order = rotary(torch.randn(1, 6, 3), 6), torch.randperm(6)
    assert torch.allclose(attention(x, x)[:, order], attention(x[:, order], x[:, order]), atol=1e-6)
    along = attention(x, x, turns)[:, order]
    assert torch.allclose(along, attention(x[:, order], x[:, order], turns[:, order]), atol=1e-6)
    assert not torch.allclose(along, attention(x[:, order], x[:, order], turns), atol=1e-4)


@pytest.mark.parametrize("make", [sinusoidal, rotary])
def test_too_few_channels_are_refused(make):
    with pytest.raises(ValueError, match="at least 6 channels, not 4"):
        make(token_positions(2, ["xy"]), 4)
