import pytest
import torch

from cryovox.core.errors import RequestError
from cryovox.core.particles import Species
from cryovox.models import MODELS, activation, build, options
from cryovox.models.blocks.views import to_view
from cryovox.models.card import Card
from cryovox.models.checkpoint import load_model, save_model
from cryovox.models.networks.multi_view import ATTRIBUTES, MultiView
from cryovox.workflows.config import NetworkConfig
from cryovox.workflows.training.network import build_network

VOX = {"of": "voxresnet", "options": {"widths": [4, 8]}}
MAPS = {"of": "heatmap-unet", "options": {"widths": [4, 8, 8, 8], "blocks": [0, 1, 1, 1]}}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("inside", [VOX, MAPS], ids=["mask", "heatmap"])
def test_the_answer_is_the_sum_of_the_turned_views(inside):
    network = MultiView(1, 2, **inside).eval()
    x = torch.randn(1, 1, 16, 8, 24)
    with torch.no_grad():
        alone = [to_view(network.network(to_view(x, view)), view) for view in ("xy", "yz", "xz")]
        offer = network.supervise(x)
        assert torch.allclose(network(x), sum(alone), atol=1e-6)
    assert torch.equal(offer.prediction, offer.logits["fused"])
    for view, logits in zip(("xy", "yz", "xz"), alone, strict=True):
        assert torch.equal(offer.logits[view], logits)


def test_one_view_is_the_network_itself():
    network = MultiView(1, 2, **VOX, views=["xy"]).eval()
    x = torch.randn(1, 1, 8, 16, 8)
    assert torch.equal(network(x), network.network(x))


def test_an_input_that_looks_alike_from_two_sides_gets_like_answers():
    network = MultiView(1, 2, **VOX).eval()
    x = torch.randn(1, 1, 16, 16, 16)
    x = (x + to_view(x, "yz")) / 2
    with torch.no_grad():
        logits = network.supervise(x).logits
    assert torch.allclose(logits["yz"], to_view(logits["xy"], "yz"), atol=1e-5)
    assert not torch.allclose(logits["xz"], to_view(logits["xy"], "xz"), atol=1e-3)


def test_all_views_share_the_weights():
    count = sum(p.numel() for p in MultiView(1, 2, **VOX).parameters())
    assert count == sum(p.numel() for p in build("voxresnet", VOX["options"], 1, 2).parameters())


def test_what_the_network_offers_besides_is_offered_on_each_view():
    logits = MultiView(1, 2, **VOX).supervise(torch.randn(2, 1, 8, 16, 8)).logits
    votes = {f"{view}-{tap}" for view in ("xy", "yz", "xz") for tap in ("fc", "v2", "v4", "v6")}
    assert set(logits) == {"xy", "yz", "xz", "fused"} | votes
    assert {tuple(v.shape) for v in logits.values()} == {(2, 2, 8, 16, 8)}


@pytest.mark.parametrize("name", ["voxresnet", "heatmap-unet", "mvgformer", "deepfinder"])
def test_sides_kind_and_activation_are_those_of_the_network_inside(name):
    network = MultiView(1, 2, of=name)
    assert all(getattr(network, key) == getattr(MODELS[name], key) for key in ATTRIBUTES)
    assert activation("multi-view", {"of": name}) == MODELS[name].activation
    assert activation(name, {}) == MODELS[name].activation


def test_a_size_is_that_of_the_network_inside():
    chosen = options("multi-view", "s", of="voxresnet", size="vox-uda")
    network = build("multi-view", chosen, 1, 2)
    assert network.network.stem[0].out_channels == 32


def test_a_model_file_brings_it_back(tmp_path):
    network = MultiView(1, 2, **MAPS).eval()
    species = tuple(Species(name=name, label=n, radius=80.0) for n, name in enumerate("ab", start=1))
    card = Card(
        network="multi-view", options=MAPS, out_channels=2, activation="sigmoid", kind="heatmap",
        output_stride=2, patch=48, species=species, voxel_size=10.0, contrast="dark",
    )  # fmt: skip
    save_model(tmp_path / "m.safetensors", network, card)
    again, _ = load_model(tmp_path / "m.safetensors")
    x = torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(again(x), network(x))


@pytest.mark.parametrize(("inside", "background"), [(VOX, 1), (MAPS, 0)], ids=["mask", "heatmap"])
def test_a_training_counts_the_channels_of_the_network_inside(inside, background):
    config = NetworkConfig(model="multi-view", options=inside)
    network, _ = build_network(config, species=3)
    assert network.eval()(torch.zeros(1, 1, 8, 8, 8)).shape[1] == 3 + background


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"views": ["xy", "xy"]}, "different ones"),
        ({"views": []}, "different ones"),
        ({"views": ["xx"]}, "none of xy"),
        ({"of": "multi-view"}, "another network"),
        ({"of": "voxresnett"}, "voxresnet"),
        ({"of": "voxresnet", "options": {"dim": 3}}, "there are: widths"),
    ],
)
def test_a_wrapper_that_cannot_be_is_refused(wrong, told):
    with pytest.raises(RequestError, match=told):
        build("multi-view", wrong, 1, 2)
