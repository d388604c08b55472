import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.models.blocks.p3da import (
    P3DA,
    depth_to_space,
    enlarged_convolution,
    pointwise,
    shifted_enlargement,
)


def plain(decoder: P3DA, features: Tensor, scale: int) -> Tensor:
    """The decoder as printed: enlarge, convolve at full resolution, concatenate, classify."""
    wide = F.interpolate(features, scale_factor=scale, mode="trilinear", align_corners=False)
    voxels = torch.cat([F.relu(branch.norm(branch.conv(wide))) for branch in decoder.branches], 1)
    return decoder.classify(F.relu(decoder.norm(decoder.mix(voxels))))


@pytest.mark.parametrize("rate", [1, 2, 6, 12, 18, 40])
@pytest.mark.parametrize("scale", [2, 4])
def test_a_dilated_convolution_of_the_enlarged_map_is_exact(rate, scale):
    torch.manual_seed(rate)
    n = 16 // scale
    conv = nn.Conv3d(3, 2, 3, padding=rate, dilation=rate, bias=False).double()
    taps = torch.cat([shifted_enlargement(n, scale, s) for s in (-rate, 0, rate)], 1).double()
    features = torch.randn(2, 3, n, n, n, dtype=torch.float64)
    wide = F.interpolate(features, scale_factor=scale, mode="trilinear", align_corners=False)
    assert torch.allclose(enlarged_convolution(features, conv.weight, taps), conv(wide), atol=1e-12)


def test_the_whole_decoder_equals_its_plain_form_with_all_gradients():
    torch.manual_seed(0)
    decoder = P3DA(6, 3, width=4, grid=8, scale=4).double()
    features = torch.randn(2, 6, 8, 8, 8, dtype=torch.float64, requires_grad=True)
    weights = [features, *decoder.parameters()]
    weight = torch.randn(2, 3, 32, 32, 32, dtype=torch.float64)
    fast, slow = decoder(features), plain(decoder, features, 4)
    assert torch.allclose(fast, slow, rtol=0, atol=1e-10)
    for a, b in zip(
        torch.autograd.grad((fast * weight).sum(), weights),
        torch.autograd.grad((slow * weight).sum(), weights),
        strict=True,
    ):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-8)


def test_the_state_is_that_of_ordinary_convolutions():
    decoder = P3DA(6, 3, width=4, grid=8, scale=4)
    shapes = {key: tuple(v.shape) for key, v in decoder.state_dict().items() if key.endswith("conv.weight")}
    assert shapes == {
        "branches.0.conv.weight": (4, 6, 1, 1, 1),
        **{f"branches.{i}.conv.weight": (4, 6, 3, 3, 3) for i in (1, 2, 3)},
    }
    assert not [key for key in decoder.state_dict() if "taps" in key]


def test_depth_to_space_gives_each_voxel_a_channel_of_its_token():
    tokens = torch.zeros(1, 2 * 4**3, 8, 8, 8)
    tokens[0, 64 + 16 * 1 + 4 * 2 + 3, 5, 6, 7] = 1  # second map, voxel (1, 2, 3) of token (5, 6, 7)
    voxels = depth_to_space(tokens, 4)
    assert voxels.shape == (1, 2, 32, 32, 32)
    assert voxels.nonzero().tolist() == [[0, 1, 21, 26, 31]]


def test_with_depth_to_space_the_decoder_convolves_the_voxels_of_the_tokens():
    torch.manual_seed(0)
    decoder = P3DA(6, 3, width=4, grid=8, scale=4, enlarge="depth-to-space")
    features = torch.randn(2, 6, 8, 8, 8)
    wide = depth_to_space(decoder.expand(features), 4)
    branches = [F.relu(branch.norm(branch.conv(wide))) for branch in decoder.branches]
    expected = decoder.classify(F.relu(decoder.norm(decoder.mix(torch.cat(branches, 1)))))
    assert torch.allclose(decoder(features), expected, atol=1e-5)


def test_only_depth_to_space_can_draw_what_varies_within_a_token():
    """A token that changes one voxel's score and no neighbor's exists in one reading, not in the other."""
    torch.manual_seed(0)
    ranks = {}
    for enlarge in ("trilinear", "depth-to-space"):
        decoder = P3DA(64, 8, width=8, grid=8, scale=4, enlarge=enlarge)
        wide = torch.eye(64)[:, :, None, None, None].expand(-1, -1, 8, 8, 8)
        if decoder.expand is None:
            wide = F.interpolate(wide, scale_factor=4.0, mode="trilinear", align_corners=False)
        else:
            wide = depth_to_space(decoder.expand(wide), 4)
        ranks[enlarge] = int(torch.linalg.matrix_rank(wide[:, 0, 12:16, 12:16, 12:16].flatten(1)))
    assert ranks == {"trilinear": 1, "depth-to-space": 64}


def test_a_shift_brings_in_zeros_and_no_edge_values():
    ones = shifted_enlargement(8, 4, 6).sum(1)
    assert ones.tolist() == 26 * [1.0] + 6 * [0.0]
    assert not shifted_enlargement(8, 4, -32).any()


def test_pointwise_is_a_convolution():
    conv = nn.Conv3d(3, 2, 1)
    x, base = torch.randn(2, 3, 2, 3, 4), torch.randn(2, 2, 2, 3, 4)
    assert torch.allclose(pointwise(x, conv.weight, conv.bias), conv(x), atol=1e-6)
    assert torch.allclose(pointwise(x, conv.weight, base), F.conv3d(x, conv.weight) + base, atol=1e-6)
