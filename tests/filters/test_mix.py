import numpy as np
import pytest
import torch

from cryovox.filters.mix import mix_amplitudes


def noise(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spectra(x):
    return np.fft.fftn(x[:, 0].numpy(), axes=(1, 2, 3))


def gains(found, x):
    return np.abs(spectra(found)) / np.abs(spectra(x))


def shells(side):
    f = np.fft.fftfreq(side, 1 / side)
    return np.unique(f[:, None, None] ** 2 + f[:, None] ** 2 + f**2, return_inverse=True)[1].reshape(
        [side] * 3
    )


@pytest.mark.parametrize("sides", [(8, 8, 8), (7, 6, 9)], ids=str)
@pytest.mark.parametrize("spread", [0.0, 0.8])
def test_phases_stay(sides, spread):
    x = noise(4, 1, *sides)
    found = mix_amplitudes(x, spread=spread)
    a, b = spectra(x), spectra(found)
    assert np.allclose(a / np.abs(a), b / np.abs(b), atol=1e-6)
    assert not torch.allclose(found, x, atol=0.01)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_amplitudes_are_shared_with_another_of_the_batch(share):
    torch.manual_seed(0)
    x = torch.cat([noise(1, 1, 8, 8, 8, seed=n, scale=n + 1.0) for n in range(3)])
    amplitudes = np.abs(spectra(x))
    mixtures = (1 - share) * amplitudes[:, None] + share * amplitudes[None]  # (own, other, ...)
    partners = set()
    for _ in range(20):
        found = np.abs(spectra(mix_amplitudes(x, (share, share), spread=0.0)))
        same = np.isclose(found[:, None], mixtures, atol=1e-6).all((2, 3, 4))
        assert (same.sum(1) == 1).all()
        partners.add(tuple(same.argmax(1).tolist()))
    assert partners == {(1, 2, 0), (2, 0, 1)}


def test_shares_are_drawn_between_their_ends_for_every_cube():
    torch.manual_seed(1)
    x = torch.tensor([1.0, 2.0]).double()[:, None, None, None, None].expand(2, 1, 4, 4, 4)
    found = torch.stack([mix_amplitudes(x, (0.2, 0.6), spread=0.0)[:, 0, 0, 0, 0] for _ in range(100)])
    shares = torch.stack([found[:, 0] - 1, 2 - found[:, 1]])
    assert 0.2 <= shares.min() < 0.22
    assert 0.58 < shares.max() <= 0.6
    assert np.abs(np.corrcoef(shares.numpy())[0, 1]) < 0.3


def test_random_spectra_are_smooth_functions_of_the_radius():
    torch.manual_seed(2)
    x = noise(2, 1, 16, 16, 16)
    factors, own = gains(mix_amplitudes(x, (0.0, 0.0)), x), shells(16)
    for cube in factors:
        curve = [cube[own == s] for s in range(own.max() + 1)]
        assert max(np.ptp(values) for values in curve) < 1e-5
        logs = np.log([values[0] for values in curve])
        assert np.ptp(logs) > 0.1
        assert np.abs(np.diff(logs)).max() < 0.5
    assert not np.allclose(factors[0], factors[1], atol=0.05)


def test_random_spectra_keep_the_deviation_of_every_cube():
    x = torch.cat([noise(2, 1, 9, 8, 8), noise(2, 1, 9, 8, 8, seed=1, scale=5.0)])
    found = mix_amplitudes(x, (0.0, 0.0), spread=1.0)
    assert torch.allclose(found.std((1, 2, 3, 4)), x.std((1, 2, 3, 4)))


@pytest.mark.parametrize("spread", [0.1, 0.7])
def test_the_logarithm_of_random_spectra_has_their_spread(spread):
    torch.manual_seed(3)
    x = noise(200, 1, 8, 8, 8)
    logs = np.log(gains(mix_amplitudes(x, (0.0, 0.0), spread=spread), x))
    line = logs[:, range(5), range(5), range(5)]  # to the corner; its constant part keeps the deviation
    # differences of sums of cosines with weights of variance spread^2 / 2
    waves = np.cos(np.pi * np.arange(5)[:, None] / 4 * np.arange(1, 5))
    wanted = spread**2 / 2 * np.square(np.diff(waves, axis=0)).sum(1)
    assert np.allclose(np.diff(line, axis=1).var(0), wanted, rtol=0.3)


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_mixed_is_the_identity(count):
    x = noise(count, 1, 8, 7, 6)
    assert torch.allclose(mix_amplitudes(x, (0.0, 0.0), spread=0.0), x)
    assert torch.allclose(mix_amplitudes(x[:1], (1.0, 1.0), spread=0.0), x[:1])


def test_seeds_determine():
    x = noise(3, 1, 8, 8, 8)
    torch.manual_seed(4)
    first, second = mix_amplitudes(x), mix_amplitudes(x)
    torch.manual_seed(4)
    assert torch.equal(mix_amplitudes(x), first)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("shares", [(-0.1, 0.5), (0.5, 1.1), (0.6, 0.4)], ids=str)
def test_impossible_shares_are_refused(shares):
    with pytest.raises(ValueError, match="ascending order within 0 and 1"):
        mix_amplitudes(noise(2, 1, 8, 8, 8), shares)


def test_constant_cubes_do_no_harm():
    assert torch.isfinite(mix_amplitudes(torch.zeros(2, 1, 8, 8, 8))).all()
    assert torch.isfinite(mix_amplitudes(torch.full((2, 1, 8, 8, 8), 3.0))).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_dtype_is_kept_and_autocast_makes_no_difference(dtype):
    x = noise(2, 1, 7, 8, 9).to(dtype)
    torch.manual_seed(5)
    wanted = mix_amplitudes(x)
    assert (wanted.dtype, wanted.shape) == (dtype, x.shape)
    torch.manual_seed(5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mix_amplitudes(x), wanted)


@pytest.mark.gpu
def test_an_accelerator_mixes_too():
    found = mix_amplitudes(noise(3, 1, 9, 8, 8).float().cuda())
    assert found.device.type == "cuda"
    assert torch.isfinite(found).all()
