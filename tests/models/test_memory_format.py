import pytest
import torch

from cryovox.models import MODELS, build, options
from cryovox.models.card import Card
from cryovox.models.checkpoint import load_model, save_model
from cryovox.models.memory_format import infer_channels_last, use_channels_last

LAST = [name for name in MODELS if getattr(MODELS[name], "channels_last", False)]


def networks(name):
    torch.manual_seed(0)
    made = build(name, options(name, "s"), 1, 3)
    return made, build(name, options(name, "s"), 1, 3)


@pytest.mark.parametrize("name", LAST)
def test_answers_and_gradients_stay_the_same_up_to_rounding(name):
    plain, other = networks(name)
    other.load_state_dict(plain.state_dict())
    use_channels_last(other, "cpu")
    x = torch.randn(2, 1, 32, 32, 32)
    answers = [network.eval()(x) for network in (plain, other)]
    torch.testing.assert_close(*answers, rtol=1e-3, atol=1e-4)
    for answer in answers:
        answer.square().mean().backward()
    # biases before a norm have gradients that are rounding and nothing else
    largest = max(float(p.grad.abs().max()) for p in plain.parameters())
    for (key, a), (_, b) in zip(plain.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-2, atol=1e-4 * largest, msg=key)


def test_only_what_asks_for_it_is_laid_out_and_only_on_a_cpu():
    asks, does_not = build("voxresnet", options("voxresnet", "xs"), 1, 2), torch.nn.Conv3d(4, 4, 3)
    both = torch.nn.ModuleList([asks, does_not])
    weight = asks.down[0][2].weight
    use_channels_last(both, "meta")
    assert weight.is_contiguous()
    use_channels_last(both, "cpu")
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert not weight.is_contiguous()
    assert does_not.weight.is_contiguous()


def test_a_model_file_does_not_tell_the_layout(tmp_path):
    card = Card(
        network="voxresnet", options=options("voxresnet", "xs"), out_channels=2, activation="softmax",
        kind="mask", patch=32, species=(), voxel_size=10.0, contrast="dark",
    )  # fmt: skip
    network = build(card.network, card.options, 1, 2)
    save_model(tmp_path / "plain.safetensors", network, card)
    use_channels_last(network, "cpu")
    save_model(tmp_path / "last.safetensors", network, card)
    assert (tmp_path / "plain.safetensors").read_bytes() == (tmp_path / "last.safetensors").read_bytes()
    read, _ = load_model(tmp_path / "last.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(read.parameters(), network.parameters(), strict=True))


def test_networks_with_weights_of_other_ranks_are_inferred_channels_last():
    network = build("u-clstm", options("u-clstm", "s"), 1, 3).eval()
    assert any(p.ndim == 4 for p in network.parameters())  # convolutions of planes
    x = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        before = network(x)
        infer_channels_last(network, "cpu")
        assert torch.allclose(network(x), before, atol=1e-4)
    assert sum(p.ndim == 5 and not p.is_contiguous() for p in network.parameters()) > 5
