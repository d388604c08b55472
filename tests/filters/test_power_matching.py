import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cryovox.filters.power_matching import autocovariance_power, match_power, power_spectrum, sample_noise
from cryovox.filters.spectra import frequencies, irfftn_like, rfftn


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def colored(x, edge):
    """Nothing beyond a frequency."""
    fz, fy, fx = frequencies(x)
    return irfftn_like(rfftn(x) * ((fz**2 + fy**2 + fx**2).sqrt() < edge), x)


@pytest.mark.parametrize("sides", [(16, 16, 16), (8, 12, 15)])
def test_white_noise_has_power_one_everywhere(sides):
    found = power_spectrum(3 * torch.randn(400, 1, *sides) + 5)
    away = found.flatten()[9:] / 9  # the mean is taken out, which costs the lowest frequencies
    assert found.shape == (*sides[:2], sides[2] // 2 + 1)
    assert away.mean().item() == pytest.approx(1, rel=0.05)
    assert found[4, 4, 4].item() == pytest.approx(9, rel=0.2)


def test_borders_that_do_not_fit_leak_little():
    ramp = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32, 32).contiguous()
    plain = rfftn(ramp).abs().square()[0, 0, 0, 0]
    assert (power_spectrum(ramp)[0, 0, 6:].sum() / power_spectrum(ramp)[0, 0, :3].sum()).item() < 1e-3
    assert (plain[6:].sum() / plain[:3].sum()).item() > 0.05


def test_what_lacks_is_noise_and_what_is_too_much_is_damped():
    source, target = 2 * colored(torch.randn(200, 1, 16, 16, 16), 0.2), torch.randn(200, 1, 16, 16, 16)
    own, wanted = power_spectrum(source), power_spectrum(target)
    found = match_power(source, own, wanted)
    assert found.std().item() == pytest.approx(1, rel=0.05)
    assert (power_spectrum(found) / wanted).log2().abs().median().item() < 0.15

    def like(frequency):
        a, b = (rfftn(x)[:, 0][(slice(None), *frequency)] for x in (source, found))
        return np.corrcoef(a.real, b.real)[0, 1]

    assert like((0, 1, 2)) > 0.99  # damped, and no noise on top
    assert abs(like((0, 0, 7))) < 0.3  # nothing but noise


def test_a_source_that_has_the_power_wanted_stays():
    x = torch.randn(3, 1, 9, 8, 8)
    torch.testing.assert_close(match_power(x, power_spectrum(x), power_spectrum(x)), x, rtol=1e-4, atol=1e-4)


def test_half_precision_comes_back_as_it_was():
    x = torch.randn(2, 1, 8, 8, 8).to(torch.bfloat16)
    assert match_power(x, power_spectrum(x), power_spectrum(x)).dtype == torch.bfloat16


def box(n, sides, wide):
    """Noise through a box filter, without borders; its spectrum has zeros."""
    return F.avg_pool3d(torch.randn(n, 1, *(side + wide - 1 for side in sides)), wide, 1)


def theory(sides, wide):
    """Power of such noise on a torus of twice the sides."""
    kernel = torch.zeros(1, 1, *(2 * side for side in sides))
    kernel[..., :wide, :wide, :wide] = wide**-3
    return rfftn(kernel)[0, 0].abs().square()


@pytest.mark.parametrize("sides", [(16, 16, 16), (8, 12, 15)])
def test_the_covariance_keeps_the_zeros_of_a_spectrum_that_a_window_fills(sides):
    found, wanted = autocovariance_power(box(300, sides, 3)), theory(sides, 3)
    assert found.shape == wanted.shape
    zeros, strong = wanted < 1e-4 * wanted.max(), wanted > 0.1 * wanted.max()
    assert found[zeros].mean() < 2e-3 * wanted.max()
    strong[:2, :2, :2] = False  # the mean is taken out, which costs the lowest frequencies
    assert (found / wanted)[strong].median().item() == pytest.approx(1, abs=0.1)
    windowed = power_spectrum(box(300, sides, 3))
    there = theory(sides, 3)[::2, ::2, ::2][: windowed.shape[0], : windowed.shape[1], : windowed.shape[2]]
    assert windowed[there < 1e-4 * there.max()].mean() > found[zeros].mean()


def test_noise_has_the_covariance_it_was_made_from():
    seen = box(200, (12, 12, 12), 3)
    made = sample_noise(autocovariance_power(seen), 200, (12, 12, 12))
    for lag in ((1, 0, 0), (0, 2, 0), (1, 1, 1), (0, 0, 5)):
        a, b = (covariance(x, lag) for x in (seen, made))
        assert a == pytest.approx(b, abs=0.05 * float(seen.var()))


def covariance(x, lag):
    z, y, w = lag
    there = x[:, :, z:, y:, w:]
    here = x[:, :, : x.shape[2] - z, : x.shape[3] - y, : x.shape[4] - w]
    return float((here * there).mean() - x.mean() ** 2)
