import numpy as np
import pytest
import torch

from cryovox.filters.noise import high_pass, low_frequency_weights, low_pass, noise_level

READINGS = ["remove-cube", "keep-outer", "keep-highest"]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def wave(side, *frequency):
    places = torch.meshgrid(*(torch.arange(float(side)),) * 3, indexing="ij")
    phase = sum(f * p for f, p in zip(frequency, places, strict=True))
    return torch.cos(2 * np.pi * phase / side)[None, None]


def response(side, cube, reading):
    """What the filter multiplies every frequency with, seen from outside: the spectrum of its point."""
    point = torch.zeros(1, 1, side, side, side, dtype=torch.float64)
    point[0, 0, 0, 0, 0] = 1
    return torch.fft.fftn(high_pass(point, cube=cube, reading=reading)[0, 0]).real


@pytest.mark.parametrize("k", [14, 18, 20, 24])
def test_the_published_rates_are_those_of_a_cube(k):
    removed = 1 - response(32, k / 32, "remove-cube")
    assert removed.mean().item() == pytest.approx((k / 32) ** 3, abs=1e-6)
    assert response(32, k / 32, "keep-highest").mean().item() == pytest.approx((k / 32) ** 3, abs=1e-6)


def test_the_removed_cube_is_the_real_part_of_the_cube_in_a_shifted_spectrum():
    x = noise(1, 1, 8, 8, 8).double()
    spectrum = np.fft.fftshift(np.fft.fftn(x[0, 0].numpy()))
    wanted = np.zeros((8, 8, 8))
    for signs in np.ndindex(2, 2, 2):  # of 4 frequencies the lowest is -2 or the highest is 2
        low = [slice(2 + s, 6 + s) for s in signs]
        kept = spectrum.copy()
        kept[tuple(low)] = 0
        wanted += np.fft.ifftn(np.fft.ifftshift(kept)).real / 8
    assert np.allclose(high_pass(x, cube=0.5)[0, 0], wanted, atol=1e-6)


def test_keep_outer_keeps_far_more_than_its_rate():
    kept = response(32, 0.625, "keep-outer").mean().item()
    radii = np.sqrt(sum(f**2 for f in np.meshgrid(*(np.fft.fftfreq(32),) * 3)))
    assert kept == pytest.approx((radii > np.sqrt(1 - 0.625**3) / 2).mean(), abs=1e-6)
    assert kept > 2 * 0.625**3


@pytest.mark.parametrize(
    "frequency", [(0, 0, 0), (4, 0, 0), (9, 9, 9), (0, 10, 3), (11, 0, 0), (16, 2, 1)], ids=str
)
def test_waves_pass_or_do_not(frequency):
    x = wave(32, *frequency)
    most = max(frequency)
    share = 0.0 if most < 10 else 0.5 if most == 10 else 1.0
    assert torch.allclose(high_pass(x), share * x, atol=1e-4)
    assert torch.allclose(low_pass(x), (1 - share) * x, atol=1e-4)
    outer = float(np.linalg.norm(frequency) / 32 > 0.435)
    assert torch.allclose(high_pass(x, reading="keep-outer"), outer * x, atol=1e-4)
    highest = float(min(frequency) > 6)
    assert torch.allclose(high_pass(x, reading="keep-highest"), highest * x, atol=1e-4)


@pytest.mark.parametrize("reading", READINGS)
def test_parts_add_up_and_the_ends_of_the_scale_are_right(reading):
    x = noise(2, 1, 8, 9, 10)
    whole = high_pass(x, reading=reading) + low_pass(x, reading=reading)
    assert torch.allclose(whole, x, atol=1e-5)
    if reading != "keep-outer":  # whose corners are left at a rate of 0
        nothing, everything = (0.0, 1.0) if reading == "remove-cube" else (1.0, 0.0)
        assert torch.allclose(high_pass(x, cube=nothing, reading=reading), x, atol=1e-5)
        assert high_pass(x, cube=everything, reading=reading).abs().max() < 1e-5


@pytest.mark.parametrize("size", [7, 8])
def test_weights_of_an_axis(size):
    for width in range(size + 1):
        weights = low_frequency_weights(size, width / size)
        assert weights.sum().item() == width
        assert torch.equal(weights[1:], weights[1:].flip(0))
        assert weights.max() <= 1


@pytest.mark.parametrize("reading", READINGS)
def test_level_of_known_noise(reading):
    targets = 1.7 * noise(12, 1, 32, 32, 32)
    share = response(32, 0.625, reading).square().mean().sqrt().item()
    levels = {
        m: noise_level(targets, mode=m, cube=0.625, reading=reading).item()
        for m in ("mean", "averaged", "rms")
    }
    assert levels["rms"] == pytest.approx(1.7 * share, rel=0.01)
    assert levels["mean"] == pytest.approx(1.7 * share / np.sqrt(12), rel=0.01)
    assert levels["averaged"] == pytest.approx(1.7 * share / np.sqrt(12), rel=0.03)


def test_modes_by_their_formulas():
    targets = noise(3, 1, 8, 8, 8) * torch.tensor([1.0, 2.0, 5.0])[:, None, None, None, None]
    high = high_pass(targets).double().numpy()
    sigmas = high.reshape(3, -1).std(1)
    assert noise_level(targets).item() == pytest.approx(np.sqrt((sigmas**2).sum()) / 3, rel=1e-5)
    assert noise_level(targets, mode="rms").item() == pytest.approx(np.sqrt((sigmas**2).mean()), rel=1e-5)
    assert noise_level(targets, mode="averaged").item() == pytest.approx(high.mean(0).std(), rel=1e-5)
    one = [noise_level(targets[:1], mode=m).item() for m in ("mean", "rms", "averaged")]
    assert one == pytest.approx([one[0]] * 3, rel=1e-5)


def test_a_signal_of_low_frequencies_is_no_noise():
    signal = wave(32, 2, 3, 1)
    faint = 0.1 * noise(1, 1, 32, 32, 32)
    assert noise_level(signal + faint).item() == pytest.approx(noise_level(faint).item(), rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_dtype_is_kept(dtype):
    x = noise(1, 1, 8, 8, 8).to(dtype)
    assert high_pass(x).dtype == low_pass(x).dtype == dtype
    assert torch.allclose(high_pass(x).float(), high_pass(x.float()), atol=5e-3)


def test_what_cannot_be_is_refused():
    x = noise(1, 1, 4, 4, 4)
    with pytest.raises(ValueError, match="0 to 1"):
        high_pass(x, cube=1.5)
    with pytest.raises(ValueError, match="no variant"):
        high_pass(x, reading="outer")


@pytest.mark.gpu
@pytest.mark.parametrize("reading", READINGS)
def test_an_accelerator_gives_the_same(reading):
    x = noise(2, 1, 16, 16, 16)
    assert torch.allclose(
        high_pass(x.cuda(), reading=reading).cpu(), high_pass(x, reading=reading), atol=1e-5
    )
    assert noise_level(x.cuda()).is_cuda
