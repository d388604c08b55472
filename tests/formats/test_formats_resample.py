import numpy as np
import pytest

from cryovox.core.volume import Volume
from cryovox.formats.resample import resample, resampled_on_access


def blob(shape, voxel_size, center, sigma=40.0) -> Volume:
    axes = np.meshgrid(*[np.arange(n) * voxel_size for n in shape], indexing="ij")
    squared = sum((axis - c) ** 2 for axis, c in zip(axes, center, strict=True))
    return Volume(np.exp(-squared / (2 * sigma**2)).astype(np.float32), voxel_size, (1.0, 2.0, 3.0))


@pytest.mark.parametrize("new", [5.0, 7.3, 10.0, 13.48, 20.0, 25.0])
def test_a_blob_stays_where_it_was(new):
    center = np.array([203.0, 241.0, 267.0])
    loaded = resample(blob((44, 49, 55), 10.0, center), new)
    assert loaded.voxel_size == new
    assert loaded.origin == (1, 2, 3)
    assert loaded.data.dtype == np.float32
    weights = np.clip(loaded.data, 0.01, None) - 0.01
    axes = np.meshgrid(*[np.arange(n) * new for n in loaded.shape], indexing="ij")
    mean = [np.average(axis, weights=weights) for axis in axes]
    np.testing.assert_allclose(mean, center, atol=0.05 * new)


def test_extent_and_constants_are_kept():
    loaded = resample(Volume(np.full((7, 8, 9), 3, np.int8), 10.0), 20.0)
    assert loaded.shape == (4, 4, 5)
    np.testing.assert_allclose(loaded.data, 3, atol=1e-4)


def test_what_the_new_sampling_cannot_hold_is_gone():
    z = np.arange(64)
    fine = np.broadcast_to(np.cos(np.pi * z * 0.9)[:, None, None], (64, 8, 8))
    assert np.abs(resample(Volume(fine, 5.0), 20.0).data[2:-2]).max() < 0.02


def test_same_voxel_size_changes_nothing():
    original = blob((8, 8, 8), 10.0, (30, 30, 30))
    np.testing.assert_array_equal(resample(original, 10.0).data, original.data)


def fourier_cropped(data, shape):
    """A periodic volume with fewer voxels: the low frequencies of its transform."""
    spectrum = np.fft.fftshift(np.fft.fftn(data))
    low = [(n - m) // 2 + (n % 2 == 0 and m % 2 == 1) for n, m in zip(data.shape, shape, strict=True)]
    part = spectrum[tuple(slice(a, a + m) for a, m in zip(low, shape, strict=True))]
    scale = np.prod(shape) / data.size
    return np.fft.ifftn(np.fft.ifftshift(part)).real * scale


def test_it_agrees_with_fourier_binning_below_the_nyquist_frequency():
    rng = np.random.default_rng(0)
    spectrum = np.fft.fftn(rng.standard_normal((48, 60, 72)))
    k = np.sqrt(sum(f**2 for f in np.meshgrid(*map(np.fft.fftfreq, spectrum.shape), indexing="ij")))
    smooth = np.fft.ifftn(spectrum * (k < 0.2)).real  # 0.8 of the new Nyquist frequency
    binned = fourier_cropped(smooth, (24, 30, 36))
    inner = (slice(6, -6),) * 3
    difference = resample(Volume(smooth, 5.0), 10.0).data[inner] - binned[inner]
    assert difference.std() < 0.02 * binned.std()


def test_finer_sampling_interpolates():
    coarse = blob((20, 22, 26), 20.0, (190.0, 210.0, 250.0))
    fine = blob((39, 43, 51), 10.0, (190.0, 210.0, 250.0))
    np.testing.assert_allclose(resample(coarse, 10.0).data, fine.data, atol=2e-3)


@pytest.mark.parametrize("new", [4.1, 8.0, 23.7])
def test_what_is_read_on_access_does_not_depend_on_the_parts(new, monkeypatch):
    volume = Volume(np.random.default_rng(1).standard_normal((31, 42, 53)).astype(np.float32), 8.0)
    whole = np.asarray(resample(volume, new).data)
    lazy = resampled_on_access(volume, new)
    monkeypatch.setattr("cryovox.formats.resample.SLAB", 5000)
    z, y, x = whole.shape
    assert lazy.shape == whole.shape
    assert lazy.data.dtype == whole.dtype
    np.testing.assert_allclose(np.asarray(lazy.data), whole, atol=1e-5)
    for key in (3, -1, slice(2, 5), (slice(1, z), slice(2, y - 3, 2), 4), (slice(0, 2), 1, slice(None))):
        np.testing.assert_allclose(lazy.data[key], whole[key], atol=1e-5)
    assert lazy.data[5:2].shape == (0, y, x)
    with pytest.raises(IndexError):
        lazy.data[z]


def test_only_the_surroundings_of_a_slab_are_read():
    class Watched:
        def __init__(self, data):
            self.data, self.read = data, []
            self.shape, self.ndim, self.dtype = data.shape, 3, data.dtype

        def __getitem__(self, key):
            self.read.append(key[0])
            return self.data[key]

    watched = Watched(np.zeros((200, 8, 9), np.float32))
    lazy = resampled_on_access(Volume(watched, 5.0), 10.0)
    assert lazy.data[50:54].shape == (4, 4, 5)
    (planes,) = watched.read
    assert planes.start >= 100 - 11
    assert planes.stop <= 106 + 12
