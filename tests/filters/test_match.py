import numpy as np
import pytest
import torch

from cryovox.filters.match import match_histogram, match_spectrum, swap_amplitudes


def cubes(n, side=8, seed=0, scale=1.0):
    made = torch.randn(n, 1, side, side, side, generator=torch.Generator().manual_seed(seed))
    return made.double() * scale


def spectra(x):
    return np.fft.fftn(x[:, 0].numpy(), axes=(1, 2, 3))


def radial(x):
    """Mean amplitude of every shell of whole frequencies, over the whole spectrum: (n, shells)."""
    side = x.shape[-1]
    f = np.fft.fftfreq(side, 1 / side)
    shells = np.round(np.sqrt(f[:, None, None] ** 2 + f[:, None] ** 2 + f**2)).astype(int)
    amplitudes = np.abs(spectra(x))
    return np.stack([amplitudes[:, shells == s].mean(1) for s in range(shells.max() + 1)], 1)


def same_phases(one, other):
    a, b = spectra(one), spectra(other)
    return np.allclose(a / np.abs(a), b / np.abs(b), atol=1e-5)


@pytest.mark.parametrize(("share", "reach"), [(0.1, 0), (0.25, 1), (0.5, 2)], ids=str)
def test_low_amplitudes_are_the_targets_and_phases_the_sources(share, reach):
    source, target = cubes(2), cubes(2, seed=1, scale=3.0)
    found = swap_amplitudes(source, target, fraction=share)
    f = np.abs(np.fft.fftfreq(8, 1 / 8))
    low = np.maximum(np.maximum(f[:, None, None], f[:, None]), f) <= reach
    amplitude = np.abs(spectra(found))
    assert np.allclose(amplitude[:, low], np.abs(spectra(target))[:, low])
    assert np.allclose(amplitude[:, ~low], np.abs(spectra(source))[:, ~low])
    assert same_phases(found, source)


def test_target_cubes_are_taken_in_turn():
    source, target = cubes(5), cubes(2, seed=1)
    found = swap_amplitudes(source, target)
    assert torch.equal(found, swap_amplitudes(source, target[[0, 1, 0, 1, 0]]))
    assert torch.equal(swap_amplitudes(source[:1], cubes(3, seed=1)), swap_amplitudes(source[:1], target[:1]))


def test_spectra_become_those_of_the_target():
    source, target = cubes(3) * torch.linspace(1, 0.2, 8).double(), cubes(4, seed=1, scale=2.0)
    found = match_spectrum(source, target)
    assert np.allclose(radial(found), radial(target).mean(0), rtol=1e-6)
    assert same_phases(found, source)


def test_the_own_spectrum_changes_nothing():
    x = cubes(1)
    assert torch.allclose(match_spectrum(x, x), x)
    assert torch.allclose(swap_amplitudes(x, x, fraction=1.0), x)
    assert torch.allclose(match_histogram(x, x), x)


def test_constant_cubes_do_no_harm():
    flat = torch.zeros(1, 1, 8, 8, 8)
    for match in (swap_amplitudes, match_spectrum, match_histogram):
        assert torch.isfinite(match(flat, cubes(2).float())).all()
        assert torch.isfinite(match(cubes(2).float(), flat)).all()
    assert torch.allclose(match_histogram(cubes(2).float(), flat), torch.zeros(2, 1, 8, 8, 8))


def test_histograms_become_that_of_all_targets():
    source = cubes(3, seed=2)
    target = torch.cat([cubes(1, seed=3).exp(), 4 - cubes(1, seed=4)])
    found = match_histogram(source, target)
    pooled = np.sort(target.flatten().numpy())
    for own, mapped in zip(source, found, strict=True):
        assert np.abs(np.sort(mapped.flatten()) - (pooled[::2] + pooled[1::2]) / 2).max() < 1e-9
        order = own.flatten().argsort()
        assert (mapped.flatten()[order].diff() >= 0).all()


def test_equal_values_stay_equal():
    source = cubes(1).round()
    found = match_histogram(source, cubes(2, seed=1))
    for value in source.unique():
        assert len(found[source == value].unique()) == 1
    half = torch.tensor([0.0, 0.0, 1.0, 1.0]).reshape(1, 1, 1, 2, 2)
    assert match_histogram(half, torch.arange(4.0)).flatten().tolist() == [0.5, 0.5, 2.5, 2.5]


@pytest.mark.parametrize("match", [swap_amplitudes, match_spectrum])
def test_other_sides_are_refused(match):
    with pytest.raises(ValueError, match="different sides"):
        match(cubes(1, side=8), cubes(1, side=6))


@pytest.mark.parametrize("match", [swap_amplitudes, match_spectrum, match_histogram])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_dtype_is_kept_on_odd_sides_too(match, dtype):
    source, target = cubes(2, side=7).to(dtype), cubes(3, side=7, seed=1).to(dtype)
    found = match(source, target)
    assert (found.dtype, found.shape) == (dtype, source.shape)
    assert torch.allclose(found.double(), match(source.double(), target.double()), atol=2e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("match", [swap_amplitudes, match_spectrum, match_histogram])
def test_an_accelerator_gives_the_same(match):
    source, target = cubes(3).float(), cubes(2, seed=1).float()
    assert torch.allclose(match(source.cuda(), target.cuda()).cpu(), match(source, target), atol=1e-4)
