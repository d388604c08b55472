"""Every row of the ablation tables of MVGFormer as a value of an option."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cryovox.models import build, options
from cryovox.models.activations import activation_map, activations
from cryovox.models.blocks.views import to_view
from cryovox.models.networks.mvgformer import DECODERS, GRAPHS, POSITIONS, MVGFormer
from cryovox.models.supervision import Supervision

torch.set_num_threads(1)
TINY = {"dim": 16, "layers": 2, "heads": 2, "context": (4, 8), "width": 4, "clusters": 4, "drop_path": 0.0}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(1, 1, 32, 32, 32)


def tiny(**choice) -> MVGFormer:
    return MVGFormer(1, 3, **(TINY | choice))


def loss(offer: Supervision) -> Tensor:
    labels = torch.randint(3, (offer.prediction.shape[0], 32, 32, 32))
    return sum((F.cross_entropy(v, labels) for v in offer.logits.values()), sum(offer.extra.values()))


CHOICES = [
    *({"graph": graph} for graph in GRAPHS),
    *({"graph": "mincut", "layer1": layer1} for layer1 in ("cross", "prepend")),
    *({"positions": positions} for positions in POSITIONS),
    {"positions": "rotary", "layer1": "prepend"},
    *({"decoder": decoder} for decoder in DECODERS),
    *({"decoder": decoder, "enlarge": "depth-to-space"} for decoder in ("p3da", "mf", "mlp")),
    {"decoder": "unetr", "token": 8, "layers": 3},
    {"vsl": False},
    {"vsl_apart": True},
    {"views": ("xy", "xy", "xy")},
]  # fmt: skip


@pytest.mark.parametrize("choice", CHOICES, ids=[",".join(map(str, c.values())) for c in CHOICES])
def test_every_row_learns_with_every_weight(choice):
    network = tiny(**choice)
    loss(network.supervise(torch.randn(2, 1, 32, 32, 32))).backward()
    idle = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_the_defaults_have_the_weights_they_had():
    network = tiny(vsl=False)
    names = {key.split(".")[0] for key in network.state_dict()}
    assert names == {"context", "embed", "position", "layers", "decoder"}
    assert network.position.shape == (3, 512, 16)


def test_mincut_adds_two_losses_and_the_others_none(x):
    extra = tiny(graph="mincut", vsl=False).supervise(x).extra
    assert set(extra) == {"graph-cut", "graph-overlap"}
    assert -1 <= extra["graph-cut"] <= 0
    for graph in ("kmeans", "spectral", "none"):
        assert not tiny(graph=graph, vsl=False).supervise(x).extra


@pytest.mark.parametrize("graph", ["kmeans", "spectral", "mincut"])
def test_in_every_view_a_token_reads_the_node_of_its_place_in_the_cube(graph, x):
    network = tiny(graph=graph, layers=1).eval()
    with torch.no_grad():
        network.layers[0].attention.query.weight.mul_(1e4)  # far from uniform attention
        network.layers[0].mlp[2].weight.zero_()  # leaves what a token reads from the graph
        guided = network.encode(x)
        network.layers[0].attention.out.weight.zero_()
        alone = network.encode(x)
    assignment = network.assignment(x)
    assert assignment.shape == (1, 8, 8, 8)
    assert len(assignment.unique()) > 1
    for view in network.views:
        read = (guided[view] - alone[view])[0]
        for node in assignment.unique():
            own = read[:, assignment[0] == node]
            assert torch.allclose(own, own[:, :1].expand_as(own), atol=1e-6)


def test_without_a_graph_there_is_no_assignment(x):
    assert tiny(graph="none").assignment(x) is None


@pytest.mark.parametrize("positions", POSITIONS)
def test_places_in_the_cube_are_alike_in_all_views_but_for_tables_per_view(positions):
    network = tiny(positions=positions, graph="none").eval()
    x = F.interpolate(torch.randn(1, 1, 8, 8, 8), scale_factor=4)  # tokens look the same in all views
    with torch.no_grad():
        features = network.encode(x)
    alike = [torch.allclose(features["xy"], features[view], atol=1e-5) for view in ("yz", "xz")]
    assert alike == 2 * [positions != "per-view"]


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_network_sees_where_a_token_is(positions):
    """Moving the tokens would only move their features, were there no positions."""
    network = tiny(positions=positions, graph="none").eval()
    x = F.interpolate(torch.randn(1, 1, 8, 8, 8), scale_factor=4)
    with torch.no_grad():
        for layer in network.layers:
            layer.attention.query.weight.mul_(50)  # far from uniform attention
            layer.attention.memory.weight.mul_(10)
        still, moved = network.encode(x), network.encode(x.roll(4, -1))
    assert not torch.allclose(still["xy"].roll(1, -1), moved["xy"], atol=1e-4)


def test_positions_take_as_many_weights_as_they_should():
    count = {p: sum(w.numel() for w in tiny(positions=p).parameters()) for p in POSITIONS}
    assert count["per-view"] - count["learned"] == 2 * 512 * 16
    assert count["learned"] - count["rotary"] == 512 * 16
    assert count["sinusoidal"] == count["rotary"]


def test_one_view_is_a_third_of_the_work_and_three_alike_differ_by_their_tables(x):
    single, tripled = tiny(views=("yz",), vsl=False).eval(), tiny(views=("yz", "yz", "yz"), vsl=False).eval()
    logits = single.supervise(x).logits
    assert torch.equal(logits["yz"], logits["fused"])
    votes = tripled.supervise(x).logits
    assert list(votes) == ["yz", "yz2", "yz3", "fused"]
    assert not torch.allclose(votes["yz"], votes["yz2"], atol=1e-5)
    with torch.no_grad():
        tripled.position[1:] = tripled.position[:1]
    votes = tripled.supervise(x).logits
    assert torch.allclose(votes["yz"], votes["yz3"], atol=1e-5)
    assert torch.allclose(votes["fused"], 3 * votes["yz"], atol=1e-4)


def test_noise_on_a_view_is_seen_in_that_view_only_and_not_in_training(x):
    network = tiny(view_noise={"xz": 0.05}, graph="none", vsl=False)
    clean = tiny(graph="none", vsl=False)
    clean.load_state_dict(network.state_dict())
    assert torch.equal(network.train()(x), clean.train()(x))
    inputs = []
    for one in (network.eval(), clean.eval()):
        one.embed.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    torch.manual_seed(5)
    first, expected = network(x), clean(x)
    noise = inputs[0] - inputs[1]
    assert float(noise[2].std()) == pytest.approx(0.05, rel=0.02)
    assert not noise[:2].any()
    assert not torch.equal(first, expected)
    assert not torch.equal(first, network(x))
    torch.manual_seed(5)
    assert torch.equal(first, network(x))


def test_a_trained_network_can_be_tested_with_noise(x):
    network = tiny(vsl=False).eval()
    before = network(x)
    network.view_noise = {"xz": 0.05}
    assert not torch.equal(network(x), before)


@pytest.mark.parametrize(
    "wrong",
    [{"positions": "none"}, {"graph": "tree"}, {"decoder": "fpn"}, {"view_noise": {"zx": 0.1}}],
    ids=["positions", "graph", "decoder", "noise"],
)
def test_a_choice_that_does_not_exist_is_refused(wrong):
    with pytest.raises(ValueError, match="none of"):
        tiny(**wrong)


def test_the_decoder_of_swin_unetr_sees_the_cube_along_each_view(x):
    network = tiny(decoder="unetr", graph="none", vsl=False).eval()
    assert network.read == (1, 2)
    seen = []
    network.decoder.cube.register_forward_hook(lambda module, given, answer: seen.append(given[0]))
    network(x)
    assert torch.equal(seen[0], torch.cat([to_view(x, view) for view in network.views]))


@pytest.mark.parametrize(("token", "steps"), [(2, 1), (4, 2), (8, 3), (16, 4)])
def test_the_decoder_of_swin_unetr_doubles_up_to_the_voxels(token, steps):
    with torch.device("meta"):
        decoder = tiny(decoder="unetr", token=token, layers=4).decoder
        grid = [torch.empty(1, 16, *3 * (32 // token,)) for _ in range(steps)]
        assert len(decoder.up) == steps
        assert decoder([torch.empty(1, 1, 32, 32, 32), *grid]).shape == (1, 3, 32, 32, 32)


@pytest.mark.parametrize("choice", [{"graph": "mincut"}, {"positions": "rotary"}, {"decoder": "unetr"}])
def test_a_sample_does_not_see_its_batch(choice):
    network = tiny(**choice).eval()
    x = torch.randn(3, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.allclose(network(x)[1:2], network(x[1:2]), atol=1e-5)


def test_the_decoder_of_swin_unetr_needs_a_layer_for_each_doubling():
    with pytest.raises(ValueError, match="needs at least 3 layers for tokens of 8 voxels"):
        tiny(decoder="unetr", token=8)


def test_options_are_plain_data():
    given = options("mvgformer", "s", graph="spectral", positions="learned", view_noise={"xz": 0.05})
    with torch.device("meta"):
        assert build("mvgformer", given, 1, 2).view_noise == {"xz": 0.05}


def test_an_activation_is_the_length_of_the_features_from_0_to_1():
    features = torch.zeros(2, 2, 2, 2, 2)
    features[0, :, 0, 0, 0] = torch.tensor([3.0, 4.0])
    features[0, 0, 1, 1, 1] = 2.5
    found = activation_map(features, 8)
    assert found.shape == (2, 8, 8, 8)
    assert found[0, 0, 0, 0] == 1
    assert float(found[0, 7, 7, 7]) == pytest.approx(0.5)
    assert found[0, 7, 0, 0] == 0
    assert not found[1].any()  # flat: nowhere more than elsewhere


def test_activations_of_every_layer_and_view_lie_along_the_axes_of_the_cube(x):
    network = tiny(graph="none")
    for layer in network.layers:
        layer.attention.out.weight.data.zero_()
    network.position.data.zero_()
    x[..., 8:12, 20:24, 4:8] *= 30
    training = network.training
    maps = activations(network, x)
    assert network.training is training
    assert list(maps) == [f"{view}/{n}" for n in (1, 2) for view in ("xy", "yz", "xz")]
    for found in maps.values():
        place = torch.unravel_index(found[0].argmax(), found.shape[1:])
        assert all(low <= p < low + 4 for p, low in zip(place, (8, 20, 4), strict=True))
