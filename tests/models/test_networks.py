"""Every network in the table keeps the same promises."""

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from cryovox.core.errors import RequestError
from cryovox.models import MODELS, NETWORKS, build, options, sizes
from cryovox.models.supervision import Supervision, supervise

TINY = {
    "deepfinder": {"widths": [4, 6, 8]},
    "edss3d": {"width": 4},
    "fcn8": {"widths": [4, 6, 8], "hidden": 16},
    "heatmap-unet": {"widths": [4, 8, 8, 8], "blocks": [1, 1, 1, 1]},
    "hybrid": {
        "encoder": "voxresnet", "size": "s", "options": {"widths": [4, 8]},
        "decoder": "mf", "dim": 8, "width": 4,
    },
    "mednext": {"width": 4, "blocks": [1, 1, 1, 1, 1], "expansion": [1, 2, 2, 2, 2]},
    "multi-view": {"of": "voxresnet", "size": "s", "options": {"widths": [4, 8]}},
    "mvgformer": {
        "dim": 16, "layers": 2, "heads": 2, "context": [4, 8], "width": 4, "clusters": 4, "drop_path": 0.0
    },
    "residual-unet": {"widths": [4, 8, 8, 8], "blocks": [1, 1, 1, 1]},
    "ssn3d-ed": {"widths": [4, 6, 8]},
    "swift3d": {
        "embed": 8, "depths": [2, 1, 1, 1], "heads": [1, 2, 2, 4], "width": 8, "window": 2, "drop_path": 0.0
    },
    "swin-unetr": {"width": 12, "depths": [2, 1, 1, 1]},
    "u-clstm": {"widths": [4, 6, 8]},
    "unet3d": {"widths": [4, 8, 16, 32]},
    "voxresnet": {"widths": [4, 8]},
    "yopo": {"widths": [4, 5, 6], "hidden": 8, "window": 12},
}  # fmt: skip
PUBLISHED = {"mednext": 17.6e6, "mvgformer": 13.7e6, "voxresnet": 6.83e6, "deepfinder": 0.903e6}


def tiny(name: str) -> dict[str, Any]:
    """Options of a network that is quick to test: those above, else the smallest size."""
    return TINY.get(name) or options(name, sizes(name)[0])


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(params=list(MODELS))
def name(request) -> str:
    return request.param


@pytest.fixture
def network(name) -> nn.Module:
    return build(name, tiny(name), 1, 3)


def sides(network: nn.Module) -> tuple[int, int, int]:
    if network.fixed_patch:
        return 3 * (network.patch,)
    s = network.stride
    return (2 * s, s, 3 * s) if s < 32 else (2 * s, s, s)  # six cubes of 32 voxels take long


def test_the_logits_cover_the_input(network):
    x = torch.randn(2, 1, *sides(network))
    half = network.output_stride
    expected = (2, 3, *(side // half for side in sides(network)))
    assert network(x).shape == expected
    assert supervise(network, x).prediction.shape == expected


def test_every_channel_of_the_input_is_used(name):
    network = build(name, tiny(name), 2, 3).eval()
    x = torch.randn(1, 2, *sides(network))
    changed = x.clone()
    changed[:, 1] += torch.randn(sides(network))
    with torch.no_grad():
        assert not torch.allclose(network(x), network(changed))


def test_a_side_that_does_not_fit_is_refused_with_the_size_that_does(network):
    if network.stride == 1:
        pytest.skip("every size fits")
    wrong = [side - 2 for side in sides(network)]
    fits = ", ".join(str(side) for side in sides(network))
    with pytest.raises(ValueError, match=rf"pad to .*\({fits}\)"):
        network(torch.randn(1, 1, *wrong))


def test_every_weight_learns(network):
    offer = supervise(network, torch.randn(2, 1, *sides(network)))
    sum(term.square().mean() for term in [*offer.logits.values(), *offer.extra.values()]).backward()
    idle = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_the_state_carries_the_network(network, name):
    x = torch.randn(2, 1, *sides(network))
    supervise(network, x)  # moves the running statistics
    other = build(name, tiny(name), 1, 3)
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(network.eval()(x), other.eval()(x))


def test_the_seed_decides_the_weights_and_the_draws(name):
    def offer() -> Supervision:
        torch.manual_seed(3)
        network = build(name, tiny(name) | ({"drop_path": 0.5} if name == "mvgformer" else {}), 1, 3)
        return supervise(network, torch.randn(2, 1, *sides(network)))

    first, second = offer(), offer()
    for key, value in (first.logits | first.extra).items():
        assert torch.equal(value, (second.logits | second.extra)[key]), key


def test_a_sample_does_not_see_its_batch(network):
    network.eval()
    x = torch.randn(3, 1, *sides(network))
    with torch.no_grad():
        assert torch.allclose(network(x)[1:2], network(x[1:2]), atol=1e-5)


def test_features_have_names(network):
    if not hasattr(network, "encode"):
        pytest.skip("the method is optional")
    features = network.eval().encode(torch.randn(1, 1, *sides(network)))
    assert all(f.ndim == 5 and f.shape[0] == 1 for f in features.values())


def test_it_runs_under_bfloat16(network):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        offer = supervise(network, torch.randn(2, 1, *sides(network)))
    assert all(term.isfinite().all() for term in [*offer.logits.values(), *offer.extra.values()])


def test_the_class_describes_input_and_output(name):
    network = MODELS[name]
    assert (network.kind, network.activation) in {("mask", "softmax"), ("heatmap", "sigmoid")}
    assert network.patch % network.stride == 0


def test_each_network_comes_in_a_size_for_a_small_computer(name):
    assert "s" in sizes(name)
    for size in sizes(name):
        assert json.loads(json.dumps(options(name, size))) == options(name, size)
        with torch.device("meta"):
            build(name, options(name, size), 1, 3)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_size_has_the_published_number_of_weights(name):
    network = build(name, options(name, "paper"), 1, 16)
    count = sum(p.numel() for key, p in network.named_parameters() if not key.startswith("vsl."))
    assert count == pytest.approx(PUBLISHED[name], rel=0.01)


def test_options_can_be_overridden_without_touching_the_table():
    changed = options("mvgformer", "s", decoder="mf")
    changed["context"].append(7)
    assert changed["decoder"] == "mf"
    assert 7 not in NETWORKS["mvgformer"].sizes["s"]["context"]


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda: options("voxresnet", "xl"), "s, vox-uda, paper"),
        (lambda: options("voxresnett", "s"), "did you mean 'voxresnet'"),
        (lambda: build("voxresnet", {"width": 3}, 1, 2), "did you mean 'widths'"),
        (lambda: build("mvgformer", {"decoder": "mx"}, 1, 2), "p3da, mf, mlp"),
        (lambda: build("heatmap-unet", {"norm": "layer"}, 1, 2), "'group' nor 'batch'"),
        (lambda: build("heatmap-unet", {"widths": [4]}, 1, 2), "must be alike"),
    ],
)
def test_a_wrong_request_is_told_what_there_is(call, hint):
    with pytest.raises(RequestError, match=hint):
        call()


def test_the_tables_need_no_torch():
    code = "import sys, cryovox.models as m; m.options('mvgformer', 's'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_network_without_a_method_of_its_own_is_supervised_by_its_logits():
    x = torch.randn(1, 1, 4, 4, 4)
    network = nn.Conv3d(1, 2, 1)
    offer = supervise(network, x)
    assert list(offer.logits) == ["main"]
    assert not offer.extra
    assert torch.equal(offer.prediction, network(x))
