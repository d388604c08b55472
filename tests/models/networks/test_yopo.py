import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cryovox.data.targets import gaussian_heatmap
from cryovox.models import build, options
from cryovox.models.networks.yopo import YOPO, largest
from cryovox.training.losses import heatmap_focal

TINY = {"widths": (4, 5, 6), "hidden": 8}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def classifier(network: YOPO, box: Tensor) -> Tensor:
    """Plain form: convolutions without padding, one maximum per channel, the head."""
    found = []
    for conv, _, norm in network.steps:
        box = norm(F.elu(F.conv3d(box, conv.weight, conv.bias)))
        found.append(box.amax((2, 3, 4), keepdim=True))
    return network.classify(network.describe(network.norm(torch.cat(found, 1)))).flatten(1)


@pytest.mark.parametrize(("window", "step"), [(12, 4), (11, 3), (14, 2)])
def test_inside_a_tile_it_is_the_classifier_on_every_box(window, step):
    network = YOPO(2, 3, **TINY, window=window, step=step)
    network(torch.randn(2, 2, 12 * step, 12 * step, 12 * step))  # moves the running statistics
    network.eval()
    x = torch.randn(1, 2, 24, 24, 24)
    with torch.no_grad():
        logits = network(x)
        inside = 0
        for at in [(a, b, c) for a in range(24 // step) for b in (3, 4) for c in (4, 3)]:
            low = [step * i - (window - step) // 2 for i in at]
            if min(low) < 0 or max(low) + window > 24:
                continue
            inside += 1
            z, y, x0 = (slice(n, n + window) for n in low)
            assert torch.allclose(logits[(..., *at)], classifier(network, x[:, :, z, y, x0]), atol=1e-5)
    assert inside >= 8


def test_the_largest_of_a_cube_axis_by_axis_is_the_largest_of_the_cube():
    x = torch.randn(1, 2, 12, 12, 12)
    assert torch.equal(largest(x, 6, 4), F.max_pool3d(x, 6, 4, 1))


def test_the_factor_on_the_input_is_drawn_in_training_only():
    network = YOPO(1, 2, **TINY, window=12)
    x = torch.randn(1, 1, 12, 12, 12)
    with torch.no_grad():
        assert not torch.equal(network(x), network(x))
        assert torch.equal(network.eval()(x), network(x))
        calm = YOPO(1, 2, **TINY, window=12, noise=0.0)
        assert torch.equal(calm(x), calm(x))


def test_the_published_size_keeps_1360_maxima_of_ten_convolutions():
    network = build("yopo", options("yopo", "paper"), 1, 15)
    assert network.describe.weight.shape[:2] == (1024, 1360)
    assert len(network.steps) == 10
    weight = network.steps[4][0].weight.detach().flatten(1)
    assert torch.allclose(weight @ weight.T, torch.eye(128), atol=1e-4)


def test_another_step_is_another_output_stride():
    network = YOPO(1, 2, **TINY, window=16, step=10)
    assert (network.stride, network.output_stride, network.patch) == (10, 10, 50)
    assert network(torch.randn(1, 1, 20, 10, 30)).shape == (1, 2, 2, 1, 3)


@pytest.mark.parametrize("wrong", [{"window": 13}, {"window": 8}, {"step": 0}, {"step": 7}])
def test_boxes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match="or more by an even number"):
        YOPO(1, 2, **(TINY | {"window": 12} | wrong))


def test_it_learns_where_particles_are():
    network = YOPO(1, 2, **TINY, window=12, noise=0.3)
    grid = torch.stack(torch.meshgrid(*3 * [torch.arange(24.0)], indexing="ij"))
    places = {0: (5.5, 9.5, 17.5), 1: (17.5, 5.5, 5.5)}  # middles of boxes 1, 2, 4 and 4, 1, 1
    radii = {0: 5, 1: 2.5}
    x, target = 0.3 * torch.randn(24, 24, 24), torch.zeros(1, 2, 6, 6, 6)
    for channel, place in places.items():
        away = (grid - torch.tensor(place)[:, None, None, None]).square().sum(0)
        x += (away <= radii[channel] ** 2) * (1.0 + channel)
        center = (torch.tensor([place], dtype=torch.float64).numpy() - 1.5) / 4
        target[0, channel] = torch.from_numpy(gaussian_heatmap(center, 1.0, (6, 6, 6)))
    x = x[None, None]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        heatmap_focal(network(x), target, torch.ones_like(target, dtype=torch.bool)).backward()
        optimizer.step()
    with torch.no_grad():
        found = network.eval()(x)[0]
    for channel, place in places.items():
        peak = torch.unravel_index(found[channel].argmax(), (6, 6, 6))
        assert [4 * int(i) + 1.5 for i in peak] == pytest.approx(place, abs=4.1)
