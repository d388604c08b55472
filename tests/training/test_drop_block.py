import math

import pytest
import torch

from cryovox.models import build
from cryovox.training.strategies.semi.drop_block import deep_drop, drop_block, drop_cuboids, noise_like


@pytest.mark.parametrize("share", [0.05, 0.15])
def test_so_much_is_dropped_and_the_rest_stays(share):
    torch.manual_seed(0)
    x = 5 + 2 * torch.randn(16, 1, 32, 32, 32)
    out = drop_cuboids(x, share)
    changed = (out != x).float().mean()
    kept = 1 - float(changed)  # cuboids overlap: of n cuboids, each leaves 1 - share / n
    assert kept == pytest.approx(math.exp(-share), abs=0.25 * share)
    fill = out[out != x]
    assert float(fill.mean()) == pytest.approx(5, abs=0.1)
    assert float(fill.std()) == pytest.approx(2, abs=0.1)
    assert drop_cuboids(x, 0.0) is x


def test_cuboids_are_taller_than_wide():
    torch.manual_seed(1)
    x = torch.zeros(1, 1, 64, 64, 64)
    x[0, 0, 0, 0, 0] = 1  # some spread
    spans = []
    for _ in range(40):
        hole = (drop_cuboids(x, 1e-9) != x)[0, 0].nonzero()
        spans.append((hole.amax(0) - hole.amin(0) + 1).float())
    z, y, x_ = torch.stack(spans).mean(0).tolist()
    assert z > 1.5 * max(y, x_)


def power_in_wedge(x):
    """Share of the power at tilts beyond 45 degrees about y."""
    power = torch.fft.fftn(x, dim=(2, 3, 4)).abs().square()
    kz, kx = torch.fft.fftfreq(x.shape[2]), torch.fft.fftfreq(x.shape[4])
    wedge = kz[:, None, None].abs() > kx.abs()
    return float((power * wedge).sum() / power.sum())


def test_noise_has_the_spectrum_of_the_patch_and_leaves_its_missing_wedge_empty():
    torch.manual_seed(0)
    white = torch.randn(4, 1, 32, 32, 32)
    spectrum = torch.fft.fftn(white, dim=(2, 3, 4))
    kz, kx = torch.fft.fftfreq(32), torch.fft.fftfreq(32)
    spectrum = spectrum * (kz[:, None, None].abs() <= kx.abs())
    x = 3 + torch.fft.ifftn(spectrum, dim=(2, 3, 4)).real
    noise = noise_like(x)
    assert power_in_wedge(noise - 3) < 1e-6 < 0.3 < power_in_wedge(white)
    assert float(noise.std()) == pytest.approx(float(x.std()), rel=0.05)
    assert abs(float(((noise - 3) * (x - 3)).mean())) < 0.05 * float(x.var())  # it shows nothing of the patch
    torch.manual_seed(0)
    dropped = drop_cuboids(x, 0.1)
    other = torch.where(dropped == x, x, 3 + x.std() * white)  # white noise in the same cuboids
    assert power_in_wedge(dropped - 3) < 0.7 * power_in_wedge(other - 3)


def test_drop_block():
    torch.manual_seed(0)
    features = torch.ones(4, 3, 16, 16, 16)
    out = drop_block(features, 0.2)
    gone = (out == 0).float()
    assert float(gone.mean()) == pytest.approx(0.2, abs=0.03)
    faces = torch.cat([gone[..., 0].flatten(), gone[..., -1].flatten()])
    assert float(faces.mean()) == pytest.approx(0.2, abs=0.06)
    assert torch.equal(gone[:, :1].expand_as(gone), gone)  # all channels alike
    assert float(out.mean()) == pytest.approx(1, abs=1e-4)


def test_deep_features_have_holes_within_and_none_after():
    torch.manual_seed(0)
    network = build("heatmap-unet", {"widths": [4, 8], "blocks": [0, 1], "norm": "batch"}, 1, 1).eval()
    x = torch.randn(2, 1, 16, 16, 16)
    with torch.no_grad():
        before = network(x)
        with deep_drop(network, 0.3):
            assert not torch.allclose(network(x), before)
        with deep_drop(network, 0.0):
            assert torch.equal(network(x), before)
        assert torch.equal(network(x), before)
