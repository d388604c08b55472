"""Networks whose layers are MONAI's: that our rows are the ones meant."""

import pytest
import torch
from monai.networks import nets

from cryovox.models import build, options
from cryovox.models.networks.mednext import MedNeXt
from cryovox.models.networks.swin_unetr import SwinUNETR
from cryovox.models.networks.unet3d import UNet3D


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def shapes(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def test_the_published_size_of_mednext_is_m_with_kernels_of_three():
    with torch.device("meta"):
        ours = build("mednext", options("mednext", "paper"), 1, 2)
        theirs = nets.MedNeXtM(in_channels=1, out_channels=2, kernel_size=3)
    assert shapes(ours.body) == shapes(theirs)


def test_the_features_of_mednext_are_those_that_it_decodes():
    network = MedNeXt(1, 3, width=4, blocks=(1, 1, 2), expansion=(2, 2, 3)).eval()
    assert network.stride == 4
    x = torch.randn(1, 1, 8, 4, 12)
    with torch.no_grad():
        features = network.encode(x)
        assert [tuple(f.shape[1:]) for f in features.values()] == [(4, 8, 4, 12), (8, 4, 2, 6), (16, 2, 1, 3)]
        s1, s2, found = features.values()
        for up, stage, skip in zip(network.body.up_blocks, network.body.dec_stages, (s2, s1), strict=True):
            found = stage(up(found) + skip)
        assert torch.equal(network.body.out_0(found), network(x))


def test_the_features_of_swin_unetr_halve_and_double():
    network = SwinUNETR(1, 2, width=12, depths=(1, 1, 1, 1)).eval()
    with torch.no_grad():
        features = network.encode(torch.randn(1, 1, 32, 32, 64))
    assert list(features) == ["s2", "s4", "s8", "s16", "s32"]
    for depth, found in enumerate(features.values()):
        assert found.shape == (1, 12 * 2**depth, 16 >> depth, 16 >> depth, 32 >> depth)


def test_swin_unetr_trains_on_a_single_cube_of_32_voxels():
    network = SwinUNETR(1, 2, width=12, depths=(1, 1, 1, 1)).train()
    network(torch.randn(1, 1, 32, 32, 32)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_unet3d_has_two_convolutions_at_each_resolution_and_poolings_between():
    widths, classes = (4, 8, 16), 3
    network = UNet3D(1, classes, widths=widths)

    def double(before: int, after: int) -> int:
        return 27 * (before * after + after * after) + 4 * after  # weights, and scale and shift of the norms

    down = double(1, 4) + double(4, 8) + double(8, 16)
    up = double(16, 8) + double(8, 4) + 8 * 16 * 8 + 8 + 8 * 8 * 4 + 4
    assert sum(p.numel() for p in network.parameters()) == down + up + 4 * classes + classes
    features = network.eval().encode(torch.randn(1, 1, 8, 4, 4))
    pooled = torch.nn.functional.max_pool3d(features["s1"], 2)
    assert torch.equal(network.down[0].convs(pooled), features["s2"])


@pytest.mark.parametrize(
    ("network", "wrong"),
    [
        (MedNeXt, {"blocks": [1, 1], "expansion": [2]}),
        (MedNeXt, {"kernel": 4}),
        (SwinUNETR, {"width": 16}),
        (SwinUNETR, {"heads": [5, 6, 12, 24]}),
        (UNet3D, {"widths": [4]}),
        (UNet3D, {"widths": [4, 6]}),
    ],
)
def test_what_cannot_be_is_refused(network, wrong):
    with pytest.raises(ValueError, match="must"):
        network(1, 2, **wrong)
