import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cryovox.models import build, options
from cryovox.models.blocks.view_masking import random_token_mask
from cryovox.models.blocks.views import VIEWS, to_view
from cryovox.models.networks.mvgformer import MVGFormer
from cryovox.models.supervision import Supervision

TINY = {"dim": 16, "layers": 4, "heads": 2, "context": (4, 8), "width": 4, "clusters": 4, "drop_path": 0.0}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def loss(offer: Supervision, labels: Tensor) -> Tensor:
    return sum((F.cross_entropy(v, labels) for v in offer.logits.values()), sum(offer.extra.values()))


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_turned_twice_is_where_it_was(view):
    x = torch.randn(2, 3, 4, 5, 6)
    assert torch.equal(to_view(to_view(x, view), view), x)


def test_the_views_are_the_transpositions_of_the_paper():
    x = torch.empty(3, 5, 7)  # depth D = z, height H = y, width W = x
    as_hwd = {view: tuple(to_view(x, view).shape[axis] for axis in (1, 2, 0)) for view in VIEWS}
    assert as_hwd == {"xy": (5, 7, 3), "yz": (5, 3, 7), "xz": (3, 7, 5)}


@pytest.mark.parametrize("view", ["yz", "xz"])
def test_a_view_is_the_network_on_the_transposed_cube(view):
    network, plain = (
        MVGFormer(1, 3, **TINY, graph="none", vsl=False, views=[v]).eval() for v in (view, "xy")
    )
    plain.load_state_dict(network.state_dict())
    x = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.allclose(to_view(network(x), view), plain(to_view(x, view)), atol=1e-6)


def test_views_share_one_encoder_and_differ_by_their_positions_only():
    network = MVGFormer(1, 3, **TINY).eval()
    with torch.no_grad():
        network.position[1:] = network.position[:1]
        x = torch.randn(1, 1, 32, 32, 32)
        x = (x + x.transpose(2, 4)) / 2  # looks the same along xy and yz, but for the context
    offer = MVGFormer(1, 3, **TINY, graph="none", vsl=False).eval()
    offer.load_state_dict(network.state_dict(), strict=False)
    logits = offer.supervise(x).logits
    assert torch.allclose(logits["yz"], to_view(logits["xy"], "yz"), atol=1e-5)
    assert not torch.allclose(logits["xz"], logits["xy"], atol=1e-5)


@pytest.mark.parametrize("decoder", ["p3da", "mf", "mlp"])
@pytest.mark.parametrize("layer1", ["readout", "cross", "prepend"])
def test_every_combination_learns_with_every_weight(decoder, layer1):
    network = MVGFormer(1, 2, **TINY, decoder=decoder, layer1=layer1)
    loss(network.supervise(torch.randn(2, 1, 32, 32, 32)), torch.randint(2, (2, 32, 32, 32))).backward()
    assert not [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("layer1", ["readout", "cross", "prepend"])
@pytest.mark.parametrize("dim", [32, 96])
def test_the_first_updates_differ_between_tokens_as_much_as_those_of_later_layers(dim, layer1):
    network = MVGFormer(1, 2, **(TINY | {"dim": dim, "layers": 3}), layer1=layer1).eval()
    spread = []
    for layer in network.layers:
        layer.attention.register_forward_hook(lambda _m, _i, out: spread.append(out.std(1).mean().item()))
    network(torch.randn(2, 1, 32, 32, 32))
    assert min(spread) > 0.05
    assert spread[0] > 0.5 * spread[1]


@pytest.mark.parametrize(
    "choice",
    [
        {"graph": "none"}, {"token": 2, "layers": 1}, {"token": 8}, {"token": 16, "clusters": 16},
        {"views": ["xz"]}, {"views": ["xy", "xy", "xy"]}, {"views": ["xy", "yz"]}, {"vsl": False},
    ],
)  # fmt: skip
def test_every_ablation_is_an_option(choice):
    network = MVGFormer(1, 2, **(TINY | choice))
    offer = network.supervise(torch.randn(1, 1, 32, 32, 32))
    assert offer.prediction.shape == (1, 2, 32, 32, 32)
    assert len(offer.logits) == len(network.views) + 1
    assert ("vsl" in offer.extra) == choice.get("vsl", True)


@pytest.mark.parametrize("fusion", ["sum", "norm-sum", "learned"])
def test_the_fusion_is_what_it_says(fusion):
    network = MVGFormer(1, 3, **TINY, fusion=fusion, vsl=False).eval()
    x = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        if fusion == "learned":
            network.weights.copy_(torch.tensor([1.0, 2.0, -1.0]))
        logits = network.supervise(x).logits
        fused = logits.pop("fused")
        xy, yz, xz = logits.values()
        if fusion == "norm-sum":
            expected = (xy.softmax(1) + yz.softmax(1) + xz.softmax(1)) / 3
            assert torch.allclose(fused.softmax(1), expected, atol=1e-6)
        else:
            expected = xy + yz + xz if fusion == "sum" else xy + 2 * yz - xz
            assert torch.allclose(fused, expected, atol=1e-6)
        assert torch.equal(network(x), fused)


def test_a_place_on_the_grid_stays_in_place_in_every_view():
    network = MVGFormer(1, 2, **TINY, graph="none", vsl=False, decoder="mlp").eval()
    for layer in network.layers:
        layer.attention = _Nothing()
    x = torch.randn(1, 1, 32, 32, 32)
    bumped = x.clone()
    bumped[..., 16:20, 8:12, 24:28] += 3
    with torch.no_grad():
        before, after = network.supervise(x).logits, network.supervise(bumped).logits
    for view, logits in before.items():
        changed = (logits - after[view]).abs().sum(1)[0]
        center = [
            float((changed.sum([a for a in range(3) if a != axis]) * torch.arange(32)).sum() / changed.sum())
            for axis in range(3)
        ]
        assert center == pytest.approx([17.5, 9.5, 25.5], abs=0.2), view


class _Nothing(torch.nn.Module):
    def forward(self, query: Tensor, memory: Tensor, turns: Tensor | None = None) -> Tensor:
        return torch.zeros_like(query)


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.75])
def test_the_share_of_hidden_tokens_is_exact_and_the_choice_is_random(rate):
    hidden = random_token_mask(6, 512, rate, torch.device("cpu"))
    assert hidden.sum(1).tolist() == 6 * [rate * 512]
    assert not torch.equal(hidden[0], hidden[1])
    often = random_token_mask(2000, 16, rate, torch.device("cpu")).float().mean(0)
    assert torch.allclose(often, torch.full_like(often, rate), atol=0.06)


@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_the_reconstruction_error_counts_hidden_tokens_only(rate):
    network = MVGFormer(1, 2, **(TINY | {"layers": 1}), graph="none", mask_rate=rate).eval()
    network.vsl.forward = lambda own, others, hidden, view: torch.zeros(1, 512, 64)
    x = torch.zeros(1, 1, 32, 32, 32)
    x[..., 16:20, 8:12, 24:28] = 3  # one token
    with torch.no_grad():
        errors = {round(float(network.supervise(x).extra["vsl"]), 6) for _ in range(16)}
    assert errors == {0.0, round(9 / (rate * 512), 6)}


def recorded(network: MVGFormer, x: Tensor) -> tuple[Supervision, list[Tensor], Tensor, int]:
    """One training pass: its output, the input of the reconstruction, the hidden tokens, their view."""
    calls, original = [], network.vsl.forward

    def forward(own: Tensor, others: list[Tensor], hidden: Tensor, view: int) -> Tensor:
        calls.append(([own, *others], hidden, view))
        return original(own, others, hidden, view)

    network.vsl.forward = forward
    torch.manual_seed(1)
    with torch.no_grad():
        output = network.supervise(x)
    network.vsl.forward = original
    return output, *calls[0]


def test_hidden_voxels_do_not_reach_their_own_view():
    network = MVGFormer(1, 2, **TINY, graph="none").eval()
    x = torch.randn(1, 1, 32, 32, 32)
    before, _, hidden, view = recorded(network, x)
    voxels = F.interpolate(hidden.view(1, 1, 8, 8, 8).float(), scale_factor=4)
    after, *_ = recorded(network, x + 5 * to_view(voxels, network.views[view]))
    for index, name in enumerate(network.names):
        assert torch.equal(before.features[name], after.features[name]) == (index == view)


def test_the_other_views_are_laid_along_the_axes_of_the_hidden_one():
    network = MVGFormer(1, 2, **TINY, graph="none", positions="learned").eval()
    for layer in network.layers:
        layer.attention = _Nothing()
    x = F.interpolate(torch.randn(1, 1, 8, 8, 8), scale_factor=4)  # tokens look the same in all views
    _, (own, *others), hidden, _ = recorded(network, x)
    assert torch.allclose(others[0], others[1], atol=1e-5)
    assert torch.allclose(own[~hidden], others[0][~hidden], atol=1e-5)
    assert not torch.allclose(own[hidden], others[0][hidden], atol=1e-2)


def test_each_view_is_hidden_in_turn():
    network = MVGFormer(1, 2, **(TINY | {"layers": 1}))
    views = set()
    original = network.vsl.forward
    network.vsl.forward = lambda own, others, hidden, view: (
        views.add(view) or original(own, others, hidden, view)
    )
    for _ in range(12):
        network.supervise(torch.zeros(1, 1, 32, 32, 32))
    assert views == {0, 1, 2}


def test_the_reconstruction_is_learned():
    network = MVGFormer(1, 2, **(TINY | {"layers": 1}))
    ramp = torch.linspace(-1.7, 1.7, 32)
    x = (ramp[:, None, None] + ramp[:, None] * ramp)[None, None]
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    errors = []
    for _ in range(25):
        error = network.supervise(x).extra["vsl"]
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert sum(errors[-3:]) < 0.5 * sum(errors[:3])


def test_layers_are_dropped_in_training_only():
    network = MVGFormer(1, 2, **(TINY | {"drop_path": 0.9}), vsl=False)
    x = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        drawn = [network(x) for _ in range(4)]
        assert any(not torch.equal(drawn[0], other) for other in drawn[1:])
        network.eval()
        assert torch.equal(network(x), network(x))


@pytest.mark.parametrize(
    "wrong",
    [
        {"views": ["xx"]},
        {"token": 5},
        {"layer1": "none"},
        {"heads": 3},
        {"graph": "tree"},
        {"mask_rate": 1.0},
    ],
)
def test_a_choice_that_does_not_exist_is_refused(wrong):
    with pytest.raises(ValueError, match=r"none of|must be"):
        MVGFormer(1, 2, **(TINY | wrong))


def two_species() -> tuple[Tensor, Tensor]:
    """A crop with two balls of each of two species in noise, and its labels."""
    grid = torch.stack(torch.meshgrid(*3 * [torch.arange(32.0)], indexing="ij"))
    labels = torch.zeros(32, 32, 32, dtype=torch.long)
    for center, radius, species in (
        ((8, 9, 8), 5, 1), ((22, 22, 10), 4, 2), ((9, 23, 23), 4, 2), ((23, 8, 24), 5, 1)
    ):  # fmt: skip
        away = (grid - torch.tensor(center)[:, None, None, None]).square().sum(0)
        labels[away <= radius**2] = species
    x = labels + 0.5 * torch.randn(32, 32, 32)
    return ((x - x.mean()) / x.std())[None, None], labels[None]


@pytest.mark.slow
def test_one_crop_can_be_learned_by_heart():
    x, labels = two_species()
    network = build("mvgformer", options("mvgformer", "s"), 1, 3)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss(network.supervise(x), labels).backward()
        optimizer.step()
    with torch.no_grad():
        found = network.eval()(x).argmax(1)
    for species in (1, 2):
        both = ((found == species) & (labels == species)).sum()
        dice = 2 * both / ((found == species).sum() + (labels == species).sum())
        assert dice >= 0.95, species
