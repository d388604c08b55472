from itertools import product

import numpy as np
import pytest
import torch

from cryovox.filters.bilateral import HALO, bilateral, gradient_of_laplacian


def volume(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def tensor(x):
    return torch.from_numpy(x)[None, None]


def looked_up(x, *place):
    """The value at a place, at the edge where the place lies outside."""
    return x[tuple(np.clip(p, 0, n - 1) for p, n in zip(place, x.shape, strict=True))]


def gradient_by_loops(x):
    laplacian, gradient = np.zeros(x.shape), np.zeros((3, *x.shape))
    axes = np.eye(3, dtype=int)
    for p in np.ndindex(x.shape):
        near = [looked_up(x, *(p + way * e)) for e in axes for way in (-1, 1)]
        laplacian[p] = sum(near) - 6 * x[p]
    for p in np.ndindex(x.shape):
        for i, e in enumerate(axes):
            gradient[(i, *p)] = looked_up(laplacian, *(p + e)) - looked_up(laplacian, *(p - e))
    return gradient


def bilateral_by_loops(x, features, sigma_d, sigma_r):
    out = np.zeros(x.shape)
    for p in np.ndindex(x.shape):
        total = weights = 0.0
        for step in product((-1, 0, 1), repeat=3):
            q = tuple(np.clip(np.add(p, step), 0, np.array(x.shape) - 1))
            difference = features[(slice(None), *p)] - features[(slice(None), *q)]
            far = np.dot(step, step) / sigma_d**2 + np.dot(difference, difference) / sigma_r**2
            total += np.exp(-far / 2) * x[q]
            weights += np.exp(-far / 2)
        out[p] = total / weights
    return out


def test_gradient_is_that_of_loops_over_voxels():
    x = volume(4, 5, 6)
    assert np.allclose(gradient_of_laplacian(tensor(x))[0], gradient_by_loops(x), atol=1e-12)


def test_gradient_of_a_cubic_is_known():
    z, y, x = np.meshgrid(*(np.arange(9.0),) * 3, indexing="ij")
    found = gradient_of_laplacian(tensor(z**3 + 2 * y**3 - x**3))[0][:, 2:-2, 2:-2, 2:-2]
    for axis, wanted in zip(found, (12, 24, -12), strict=True):  # the Laplacian is 6 z + 12 y - 6 x
        assert np.allclose(axis, wanted, atol=1e-9)


@pytest.mark.parametrize("by", ["gradient", "intensity"])
@pytest.mark.parametrize("sigma_d", [0.8, 120.0])
def test_filter_is_that_of_loops_over_voxels(by, sigma_d):
    x = volume(5, 4, 6) * 0.3
    features = gradient_by_loops(x) if by == "gradient" else x[None]
    found = bilateral(tensor(x), sigma_d=sigma_d, sigma_r=0.7, by=by)
    assert np.allclose(found[0, 0], bilateral_by_loops(x, features, sigma_d, 0.7), atol=1e-12)


@pytest.mark.parametrize("by", ["gradient", "intensity"])
def test_wide_sigmas_leave_the_mean_of_the_window(by):
    x = tensor(volume(6, 6, 6))
    wide = torch.nn.functional.pad(x, (1,) * 6, "replicate")
    mean = torch.nn.functional.avg_pool3d(wide, 3, stride=1)
    assert torch.allclose(bilateral(x, sigma_d=1e6, sigma_r=1e6, by=by), mean, atol=1e-6)


def test_narrow_sigmas_leave_the_volume():
    x = tensor(volume(6, 6, 6))
    assert torch.allclose(bilateral(x, sigma_d=0.01), x)
    assert torch.allclose(bilateral(x, sigma_r=1e-6, by="intensity"), x)


def test_a_step_stays_and_noise_goes():
    step = np.zeros((8, 8, 8))
    step[:, :, 4:] = 20.0
    noisy = tensor(step + 0.3 * volume(8, 8, 8))
    found = bilateral(noisy, by="intensity")
    assert (found - tensor(step)).abs().max() < 0.5 * (noisy - tensor(step)).abs().max()


def white_noise_removed(cube, **options):
    """Share of the standard deviation of white noise that the filter removes."""
    return 1 - float(bilateral(cube, **options).std() / cube.std())


def test_the_default_width_removes_white_noise_as_the_published_one_does_from_gray_values_in_0_to_1():
    cube = tensor(volume(32, 32, 32))
    scaled = (cube - cube.min()) / (cube.max() - cube.min())
    published = white_noise_removed(scaled, sigma_r=1.2)
    assert white_noise_removed(cube) == pytest.approx(published, abs=0.05)
    assert published > 0.4
    assert white_noise_removed(cube, sigma_r=1.2) < 0.02  # the published number in the wrong units
    assert white_noise_removed(cube, by="intensity") > 0.4


def test_gradients_of_white_noise_have_the_spread_that_the_docstring_states():
    inside = gradient_of_laplacian(tensor(volume(32, 32, 32)))[..., 3:-3, 3:-3, 3:-3]
    assert float(inside.std()) == pytest.approx(82**0.5, rel=0.02)


def test_both_sides_of_an_ideal_step_have_one_gradient_so_only_the_classic_filter_keeps_it():
    step = torch.zeros(1, 1, 6, 6, 8)
    step[..., 4:] = 20.0
    assert torch.allclose(bilateral(step, by="intensity"), step, atol=1e-5)
    found = bilateral(step, sigma_r=1.2)[0, 0, 3, 3]
    assert torch.allclose(found[3:5], torch.tensor([10.0, 10.0]), atol=1e-3)


@pytest.mark.parametrize("by", ["gradient", "intensity"])
def test_sign_mirrors_and_batches_do_not_matter(by):
    x = torch.randn(3, 1, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    found = bilateral(x, by=by)
    assert torch.allclose(bilateral(-x, by=by), -found, atol=1e-6)
    assert torch.allclose(bilateral(x.flip(2, 4), by=by).flip(2, 4), found, atol=1e-6)
    assert torch.allclose(bilateral(x[1:2], by=by), found[1:2], atol=1e-6)


@pytest.mark.parametrize("by", ["gradient", "intensity"])
def test_a_value_depends_on_no_more_than_its_halo(by):
    x = torch.randn(1, 1, 12, 9, 9, generator=torch.Generator().manual_seed(1))
    halo = HALO[by]
    part = bilateral(x[:, :, 4 - halo : 7 + halo], by=by)[:, :, halo:-halo]
    assert torch.equal(part, bilateral(x, by=by)[:, :, 4:7])
    less = bilateral(x[:, :, 5 - halo : 6 + halo], by=by)[:, :, halo - 1 : 1 - halo or None]
    assert not torch.equal(less[:, :, :1], bilateral(x, by=by)[:, :, 4:5])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_dtype_and_input_are_kept(dtype):
    x = torch.randn(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(2)).to(dtype)
    before = x.clone()
    found = bilateral(x)
    assert found.dtype == dtype
    assert torch.equal(x, before)
    assert torch.allclose(found.float(), bilateral(x.float()), atol=2e-3)


@pytest.mark.parametrize("sides", [(1, 1, 1), (1, 2, 3)], ids=str)
def test_thin_volumes_are_filtered_too(sides):
    x = tensor(volume(*sides))
    assert bilateral(x).shape == x.shape
    assert torch.isfinite(bilateral(x)).all()


@pytest.mark.parametrize("widths", [{"sigma_d": 0.0}, {"sigma_r": -1.0}, {"sigma_r": float("nan")}], ids=str)
def test_widths_that_cannot_be_are_refused(widths):
    with pytest.raises(ValueError, match="above 0"):
        bilateral(torch.zeros(1, 1, 3, 3, 3), **widths)


@pytest.mark.gpu
@pytest.mark.parametrize("by", ["gradient", "intensity"])
def test_an_accelerator_gives_the_same(by):
    x = torch.randn(2, 1, 16, 17, 18, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(bilateral(x.cuda(), by=by).cpu(), bilateral(x, by=by), atol=1e-5)
