"""Every network can begin where another ended, and keep a part of it."""

import pytest
import torch

from cryovox.core.errors import RequestError
from cryovox.models import MODELS, build, options
from cryovox.models.card import Card
from cryovox.models.checkpoint import load_pretrained, save_model
from cryovox.models.freezing import encoder_parameters, freeze, freeze_batch_norm, head_parameters


@pytest.fixture(params=list(MODELS))
def name(request) -> str:
    return request.param


def saved(name, path, classes=3):
    torch.manual_seed(1)
    network = build(name, options(name, "s"), 1, classes)
    card = Card(
        network=name, options=options(name, "s"), out_channels=classes, activation=network.activation,
        kind=network.kind, patch=network.patch, species=(), voxel_size=10.0, contrast="dark",
    )  # fmt: skip
    save_model(path, network, card)
    return network


def test_all_but_the_head_is_taken_when_classes_differ(name, tmp_path):
    given = saved(name, tmp_path / "m").state_dict()
    torch.manual_seed(2)
    network = build(name, options(name, "s"), 1, 5)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    started = load_pretrained(network, tmp_path / "m")
    ends = head_parameters(name, options(name, "s"), 1, 5)
    assert set(started.missing_keys) == ends
    assert started.copied + sum(before[key].numel() for key in ends) == started.total
    assert 2 * started.copied > started.total
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key] if key in ends else given[key]), key


def test_everything_is_taken_where_classes_agree(tmp_path):
    given = saved("mvgformer", tmp_path / "m").state_dict()
    network = build("mvgformer", options("mvgformer", "s"), 1, 3)
    started = load_pretrained(network, tmp_path / "m")
    assert (started.copied, started.missing_keys) == (started.total, ())
    assert all(torch.equal(value, given[key]) for key, value in network.state_dict().items())


def test_the_head_ends_in_the_logits(name):
    network = build(name, options(name, "s"), 1, 3)
    own = network.state_dict()
    ends = head_parameters(name, options(name, "s"), 1, 3)
    assert ends
    assert sum(own[key].numel() for key in ends) < 0.25 * sum(v.numel() for v in own.values())
    with torch.no_grad():
        for key in ends:
            own[key].zero_()
        x = torch.randn(1, 1, *3 * (network.patch if network.fixed_patch else 2 * network.stride,))
        assert network.eval()(x).abs().max() < 1e-6


@pytest.mark.parametrize("part", ["encoder", "all-but-head"])
def test_a_part_is_frozen_or_the_request_refused(name, part):
    network = build(name, options(name, "s"), 1, 3)
    ends = head_parameters(name, options(name, "s"), 1, 3)
    own = dict(network.named_parameters())
    separate = bool(encoder_parameters(network, 1)) and not encoder_parameters(network, 1) & ends
    if part == "encoder" and not separate:
        with pytest.raises(RequestError, match="cannot be separated"):
            freeze(network, part, name, options(name, "s"), 1, 3)
        assert all(p.requires_grad for p in own.values())
        return
    count = freeze(network, part, name, options(name, "s"), 1, 3)
    frozen = {key for key, p in own.items() if not p.requires_grad}
    assert count == sum(own[key].numel() for key in frozen)
    assert not frozen & ends
    if part == "all-but-head":
        assert set(own) - frozen == ends & set(own)


def test_the_encoder_is_what_the_features_need():
    network = build("deepfinder", options("deepfinder", "s"), 1, 3)
    assert {key.split(".")[0] for key in encoder_parameters(network, 1)} == {"fine", "middle", "coarse"}
    network.encode = None
    assert encoder_parameters(network, 1) == set()


def test_a_network_whose_parts_cannot_be_told_apart_is_refused():
    network = build("deepfinder", options("deepfinder", "s"), 1, 3)
    with pytest.MonkeyPatch.context() as patch:
        encode = type(network).encode
        patch.setattr(
            type(network), "encode", lambda self, x: {"last": self.classify(encode(self, x)["fine"])}
        )
        with pytest.raises(RequestError, match="cannot be separated"):
            freeze(network, "encoder", "deepfinder", options("deepfinder", "s"), 1, 3)


def test_frozen_batch_norms_keep_their_statistics():
    network = build("voxresnet", options("voxresnet", "s"), 1, 3)
    freeze(network, "encoder", "voxresnet", options("voxresnet", "s"), 1, 3)
    before = {key: value.clone() for key, value in network.named_buffers()}
    assert before
    network.train()
    freeze_batch_norm(network)
    network(torch.randn(2, 1, 16, 16, 16))
    assert all(torch.equal(value, before[key]) for key, value in network.named_buffers())


def test_another_size_is_refused_with_the_first_misfit(tmp_path):
    saved("deepfinder", tmp_path / "m")
    network = build("deepfinder", options("deepfinder", "paper"), 1, 3)
    with pytest.raises(RequestError, match=r"fine.0.weight has shape \(16, .* there and \(32, .* here") as no:
        load_pretrained(network, tmp_path / "m")
    assert "--size" in no.value.remedy
