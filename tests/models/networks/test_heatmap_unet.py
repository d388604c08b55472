import pytest
import torch
from torch import nn

from cryovox.models.networks.heatmap_unet import HeatmapUNet, ResidualUNet
from cryovox.training.losses import heatmap_focal

AXES = ([2], [3], [4], [2, 3, 4])


def symmetrize(network: nn.Module) -> None:
    """Make every kernel even along each axis."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv3d):
                for axis in (2, 3, 4):
                    module.weight.copy_((module.weight + module.weight.flip(axis)) / 2)


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("axes", AXES)
def test_a_flipped_input_gives_the_flipped_map(norm, axes):
    torch.manual_seed(0)
    network = HeatmapUNet(1, 2, widths=(4, 8, 8, 8), norm=norm).double().eval()
    symmetrize(network)
    x = torch.randn(1, 1, 16, 24, 16, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(network(x.flip(axes)), network(x).flip(axes), atol=1e-10)


def test_the_proof_by_flips_would_notice_a_stride_2_convolution_of_width_3():
    conv = nn.Conv3d(1, 1, kernel_size=3, stride=2, padding=1)
    symmetrize(conv)
    x = torch.randn(1, 1, 16, 16, 16)
    assert not torch.allclose(conv(x.flip(2)), conv(x).flip(2), atol=1e-3)


def test_a_heat_map_starts_nearly_empty():
    torch.manual_seed(0)
    network = HeatmapUNet(1, 2, widths=(4, 8, 8, 8))
    heatmap = network(torch.randn(1, 1, 16, 16, 16)).sigmoid()
    assert heatmap.mean().item() == pytest.approx(0.01, abs=0.002)


def test_one_particle_outweighs_the_background_of_a_patch_at_the_start():
    torch.manual_seed(0)
    network = HeatmapUNet(1, 6, widths=(4, 8, 8, 8))
    with torch.no_grad():
        logits = network(torch.randn(1, 1, 64, 64, 64))
    target = torch.zeros_like(logits)
    everywhere = torch.ones_like(logits, dtype=torch.bool)
    background = float(heatmap_focal(logits, target, everywhere))
    target[0, 0, 16, 16, 16] = 1.0
    particle = float(heatmap_focal(logits, target, everywhere)) - background
    assert background < 0.2 * particle


def test_the_stride_follows_the_widths():
    network = HeatmapUNet(1, 2, widths=(4, 8, 8), blocks=(0, 1, 1))
    assert network.stride == 4
    assert network(torch.randn(1, 1, 12, 4, 8)).shape == (1, 2, 6, 2, 4)


def test_batch_norm_makes_a_prediction_independent_of_far_voxels():
    torch.manual_seed(0)
    network = HeatmapUNet(1, 1, widths=(4, 8, 8), blocks=(0, 1, 1), norm="batch").eval()
    x = torch.randn(1, 1, 8, 8, 96)
    far = x.clone()
    far[..., -8:] += 5
    with torch.no_grad():
        assert torch.allclose(network(x)[..., :8], network(far)[..., :8], atol=1e-6)


@pytest.mark.parametrize("widths", [(4, 8), (4, 8, 8), (4, 8, 8, 8)])
@pytest.mark.parametrize("offsets", [False, True])
def test_a_head_of_surroundings_leaves_the_particles_as_they_are(widths, offsets):
    torch.manual_seed(0)
    blocks = (0,) * len(widths)
    plain = HeatmapUNet(1, 2, widths=widths, blocks=blocks, offsets=offsets).eval()
    grown = HeatmapUNet(1, 2, widths=widths, blocks=blocks, offsets=offsets, surroundings=3).eval()
    missing, unexpected = grown.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert missing
    assert all(name.startswith("surroundings.") for name in missing)
    x = torch.randn(2, 1, 16, 24, 16)
    with torch.no_grad():
        both = grown.predict_all(x)
        assert torch.equal(grown(x), plain(x))
        assert torch.equal(both[:, :2], plain.predict(x))
    assert both.shape == (2, 5, 8, 12, 8)
    assert both[:, 2:].sigmoid().mean().item() == pytest.approx(0.01, abs=0.01)


@pytest.mark.parametrize("axes", AXES)
def test_surroundings_of_a_flipped_input_are_flipped(axes):
    torch.manual_seed(0)
    network = HeatmapUNet(1, 2, widths=(4, 8, 8, 8), surroundings=3).double().eval()
    symmetrize(network)
    x = torch.randn(1, 1, 16, 24, 16, dtype=torch.float64)
    with torch.no_grad():
        flipped = network.predict_all(x.flip(axes))
        assert torch.allclose(flipped, network.predict_all(x).flip(axes), atol=1e-10)


def test_masks_have_no_head_of_surroundings():
    with pytest.raises(ValueError, match="belong to heatmaps"):
        ResidualUNet(1, 2, widths=(4, 8), blocks=(0, 0), surroundings=1)
