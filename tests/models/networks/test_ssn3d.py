import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cryovox.models import build, options
from cryovox.models.networks.ssn3d import SSN3DED


@pytest.mark.parametrize(("size", "published"), [("paper", 2.86e6), ("paper-add", 0.90e6)])
def test_both_forms_have_the_published_number_of_weights_with_two_classes(size, published):
    with torch.device("meta"):
        network = build("ssn3d-ed", options("ssn3d-ed", size), 1, 2)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(published, rel=0.01)


def is_made_of_cubes(logits: Tensor, side: int) -> bool:
    coarse = logits[..., ::side, ::side, ::side]
    return torch.equal(F.interpolate(coarse, scale_factor=float(side)), logits)


@pytest.mark.parametrize(("skips", "cubes"), [("add", True), ("concat", False)])
def test_the_form_that_adds_answers_in_cubes_of_two_voxels(skips, cubes):
    torch.manual_seed(0)
    network = SSN3DED(1, 2, widths=(4, 6, 8), skips=skips).eval()
    with torch.no_grad():
        assert is_made_of_cubes(network(torch.randn(1, 1, 16, 8, 24)), 2) is cubes


@pytest.mark.parametrize("skips", ["add", "concat"])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_the_answer_hangs_on_the_features_of_every_stage(skips, scale):
    torch.manual_seed(0)
    network = SSN3DED(1, 2, widths=(4, 6, 8), skips=skips).eval()
    x = torch.randn(1, 1, 16, 16, 16)
    features = network.encode(x)
    network.encode = lambda _: features
    with torch.no_grad():
        before = network(x)
        features[f"s{scale}"] = features[f"s{scale}"] + 1
        assert not torch.allclose(network(x), before)


def test_the_form_that_adds_is_what_the_public_code_computes():
    torch.manual_seed(0)
    network = SSN3DED(1, 2, widths=(4, 6, 8), skips="add").double().eval()
    x = torch.randn(1, 1, 8, 16, 8, dtype=torch.float64)
    s2, s4, s8 = network.encode(x).values()
    assert (s2.shape[1:], s4.shape[1:], s8.shape[1:]) == ((4, 4, 8, 4), (6, 2, 4, 2), (8, 1, 2, 1))
    first, second, third = network.up

    def doubled(block, features: Tensor) -> Tensor:
        return F.interpolate(block[0](features).relu(), scale_factor=2.0)

    joined = doubled(first, s8) + network.skips[0](s4)
    joined = doubled(second, joined) + network.skips[1](s2)
    assert torch.allclose(third[-1](doubled(third, joined)), network(x))


@pytest.mark.parametrize("wrong", [{"skips": "sum"}, {"widths": [4, 8]}])
def test_a_form_that_does_not_exist_is_refused(wrong):
    with pytest.raises(ValueError, match=r"none of concat, add|must be three"):
        SSN3DED(1, 2, **wrong)
