import pytest
import torch
from torch.nn import functional as F

from cryovox.models.networks.fcn8 import FCN8

SMALL = {"widths": (4, 6, 8), "hidden": 16}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize(("skips", "side"), [(True, 2), (False, 8)])
def test_the_mask_is_made_of_cubes_as_fine_as_the_finest_score(skips, side):
    network = FCN8(1, 3, **SMALL, skips=skips).eval()
    with torch.no_grad():
        logits = network(torch.randn(1, 1, 16, 8, 24))
    assert torch.equal(F.interpolate(logits[..., ::side, ::side, ::side], scale_factor=float(side)), logits)
    finer = logits[..., :: side // 2, :: side // 2, :: side // 2]
    assert finer.unique().numel() <= logits[..., ::side, ::side, ::side].numel()


def test_scores_add_up_from_coarse_to_fine():
    network = FCN8(1, 3, **SMALL).double().eval()
    x = torch.randn(1, 1, 16, 8, 8, dtype=torch.float64)
    s2, s4, s8 = network.encode(x).values()
    parts = (network.classify(network.wide(s8)), network.scores[0](s4), network.scores[1](s2))
    total = sum(F.interpolate(part, x.shape[2:]) for part in parts)
    assert torch.allclose(network(x), total)


def test_features_are_dropped_in_training_only():
    network = FCN8(1, 3, **SMALL)
    x = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        assert not torch.equal(network(x), network(x))
        network.eval()
        assert torch.equal(network(x), network(x))
        assert not any(module.p != 0.7 for module in network.modules() if hasattr(module, "p"))


@pytest.mark.parametrize("wrong", [{"widths": (4, 8)}, {"dropout": 1.0}])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="must be three"):
        FCN8(1, 2, **(SMALL | wrong))
