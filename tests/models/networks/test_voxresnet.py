import pytest
import torch
from torch.nn import functional as F

from cryovox.models.networks.voxresnet import VoxResNet, enlarge


def test_the_prediction_is_the_sum_of_the_side_outputs():
    torch.manual_seed(0)
    network = VoxResNet(1, 2, widths=(4, 8)).eval()
    x = torch.randn(1, 1, 8, 16, 8)
    offer = network.supervise(x)
    assert list(offer.logits) == ["main", "fc", "v2", "v4", "v6"]
    total = sum(offer.logits[key] for key in ("fc", "v2", "v4", "v6"))
    assert torch.allclose(offer.logits["main"], total, atol=1e-6)
    assert torch.allclose(network(x), total, atol=1e-6)


def test_the_features_lie_at_their_depths():
    network = VoxResNet(1, 2, widths=(4, 8))
    features = network.encode(torch.randn(1, 1, 16, 8, 8))
    assert {key: tuple(f.shape[1:]) for key, f in features.items()} == {
        "fc": (4, 16, 8, 8),
        "v2": (8, 8, 4, 4),
        "v4": (8, 4, 2, 2),
        "v6": (8, 2, 1, 1),
    }


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_side_outputs_are_enlarged_as_by_a_transposed_convolution(factor):
    torch.manual_seed(factor)
    given = torch.randn(2, 3, 2, 4, 3, requires_grad=True)
    part = enlarge(3, factor)
    wanted = F.conv_transpose3d(given, part.weight, part.bias, stride=factor, padding=int(factor == 1))
    found = part(given)
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=1e-5)
    toward = torch.randn_like(wanted)
    both = [torch.autograd.grad((y * toward).sum(), (given, *part.parameters())) for y in (found, wanted)]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(*both, strict=True))
