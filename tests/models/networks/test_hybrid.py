import pytest
import torch

from cryovox.core.errors import RequestError
from cryovox.models import build
from cryovox.models.networks.hybrid import Hybrid, resample

ENCODERS = {
    "voxresnet": {"widths": [4, 8]},
    "deepfinder": {"widths": [4, 6, 8]},
    "heatmap-unet": {"widths": [4, 8, 8, 8], "blocks": [0, 1, 1, 1]},
    "mednext": {"width": 4, "blocks": [1, 1, 1, 1, 1], "expansion": [1, 2, 2, 2, 2]},
    "swift3d": {"embed": 8, "depths": [1, 1, 1, 1], "heads": [1, 2, 2, 4], "drop_path": 0.0},
    "swin-unetr": {"width": 12, "depths": [1, 1, 1, 1]},
    "u-clstm": {"widths": [4, 6, 8]},
    "unet3d": {"widths": [4, 8, 16, 32]},
    "yopo": {"widths": [4, 5], "window": 12},
}
SMALL = {"dim": 8, "width": 4}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_learns_under_p3da_with_every_weight(encoder):
    network = Hybrid(1, 2, encoder=encoder, options=ENCODERS[encoder], **SMALL)
    logits = network(torch.randn(2, 1, 32, 32, 32))
    assert logits.shape == (2, 2, 32, 32, 32)
    logits.square().mean().backward()
    assert not [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("decoder", ["mf", "mlp"])
def test_the_other_decoders_take_any_multiple_of_the_stride(decoder):
    network = Hybrid(1, 2, encoder="voxresnet", options=ENCODERS["voxresnet"], decoder=decoder, **SMALL)
    assert (network.stride, network.fixed_patch) == (8, False)
    assert network(torch.randn(2, 1, 8, 24, 16)).shape == (2, 2, 8, 24, 16)
    assert len(network.decoder.blocks) == 4


def test_the_decoder_of_the_encoder_is_gone_and_the_encoder_untouched():
    torch.manual_seed(4)
    network = Hybrid(1, 2, encoder="voxresnet", options=ENCODERS["voxresnet"], **SMALL)
    torch.manual_seed(4)
    whole = build("voxresnet", ENCODERS["voxresnet"], 1, 2)
    left = network.encoder.state_dict()
    assert {key for key in whole.state_dict() if key not in left} == {
        key for key in whole.state_dict() if key.startswith("side.")
    }
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in left.items())
    assert all(module.training for module in network.modules())
    x = torch.randn(1, 1, 32, 32, 32)
    given, own = network.eval().encode(x), whole.eval().encode(x)
    assert all(torch.equal(given[name], own[name]) for name in own)


@pytest.mark.parametrize("side", [2, 8, 16])
def test_features_keep_their_place_on_the_grid(side):
    middles = (torch.arange(side) + 0.5) * 32 / side
    ramp = middles[:, None, None].expand(side, side, side)[None, None]
    found = resample(ramp, (8, 8, 8))[0, 0, :, 3, 4]
    expected = ((torch.arange(8) + 0.5) * 4).clamp(middles[0], middles[-1])
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("scale", [2, 8])
def test_the_grid_is_an_option(scale):
    network = Hybrid(1, 2, encoder="deepfinder", options=ENCODERS["deepfinder"], scale=scale, **SMALL)
    assert network(torch.randn(1, 1, 32, 32, 32)).shape == (1, 2, 32, 32, 32)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"encoder": "multi-view"}, "no encoder of its own"),
        ({"encoder": "voxresnet", "decoder": "mx"}, "none of p3da, mf, mlp"),
        ({"encoder": "voxresnet", "scale": 3}, "none of 1, 2, 4, 8, 16"),
        ({"encoder": "yopo", "options": {"step": 10, "widths": [4], "window": 16}}, "multiples of 10"),
    ],
)
def test_what_cannot_be_joined_is_refused(wrong, told):
    with pytest.raises(RequestError, match=told):
        build("hybrid", wrong, 1, 2)
