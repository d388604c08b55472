import numpy as np
import pytest

from cryovox.core.errors import RequestError
from cryovox.simulate.microscope import (
    OpticsConfig,
    ReconstructionConfig,
    TiltConfig,
    reconstruct,
    tilt_scheme,
)
from cryovox.simulate.microscope.optics import ctf, radial_frequency
from cryovox.simulate.microscope.projection import ProjectionGeometry, Projector, project
from cryovox.simulate.microscope.reconstruct import (
    _sirt_iterations,
    _sirt_weights,
    angular_weights,
    crop_spectrum,
    flip_phases,
    origin,
)

SHAPE = (40, 24, 64)
PLACE = np.array([23.3, 11.6, 38.2])


def gaussian(place=PLACE, sigma=2.0, shape=SHAPE):
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    square = (z - place[0]) ** 2 + (y - place[1]) ** 2 + (x - place[2]) ** 2
    return np.exp(-square / (2 * sigma**2)).astype(np.float32)


def series(step: float = 3.0, voxel: float = 10.0, volume=None, **more):
    tilts = tilt_scheme(TiltConfig(step=step, **more), np.random.default_rng(0))
    return voxel * project(gaussian() if volume is None else volume, tilts.angles), tilts


def peak(volume) -> np.ndarray:
    """Place of the maximum, from a parabola through the logarithms on each axis."""
    top = np.unravel_index(volume.argmax(), volume.shape)
    out = np.array(top, float)
    for axis in range(3):
        line = np.log([volume[tuple(np.add(top, step * np.eye(3, dtype=int)[axis]))] for step in (-1, 0, 1)])
        out[axis] += 0.5 * (line[0] - line[2]) / (line[0] - 2 * line[1] + line[2])
    return out


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"weighting": "exact"},
        {"window": "hamming"},
        {"window": "none"},
        {"method": "sirt", "iterations": 5},
    ],
)
def test_a_particle_comes_back_at_its_place(settings):
    images, tilts = series()
    volume = reconstruct(images, tilts, SHAPE, 10.0, ReconstructionConfig(**settings))
    assert volume.shape == SHAPE
    assert volume.dtype == np.float32
    assert np.abs(peak(volume) - PLACE).max() < 0.05
    assert volume.max() > 4 * abs(volume.min())


@pytest.mark.parametrize(("step", "half"), [(1.5, 60), (2.0, 40), (3.0, 60)])
def test_wbp_gives_the_part_of_the_density_that_was_measured(step, half):
    images, tilts = series(step, range=(-half, half))
    volume = reconstruct(images, tilts, SHAPE, 10.0, ReconstructionConfig(window="none"))
    place = tuple(np.round(PLACE).astype(int))
    measured = (2 * half + step) / 180
    assert volume[place] / gaussian()[place] == pytest.approx(measured, rel=0.04)


def test_all_angles_give_the_density_itself():
    images, tilts = series(2.0, range=(-89.0, 89.0), start=1.0)
    volume = reconstruct(images, tilts, SHAPE, 10.0, ReconstructionConfig(window="none"))
    inner = np.s_[5:35, :, 10:54]
    assert np.abs(volume - gaussian())[inner].max() < 0.03


def test_the_wedge_is_empty():
    noise = np.random.default_rng(1).standard_normal((81, 8, 64), dtype=np.float32)
    tilts = tilt_scheme(TiltConfig(step=1.0, range=(-40, 40)), np.random.default_rng(0))
    volume = reconstruct(noise, tilts, (64, 8, 64), 10.0)
    taper = np.hanning(64)
    power = np.abs(np.fft.fftn(volume * taper[:, None, None] * taper)) ** 2
    kz, kx = np.fft.fftfreq(64)[:, None, None], np.fft.fftfreq(64)[None, None, :]
    ring = (np.hypot(kz, kx) > 0.12) & (np.hypot(kz, kx) < 0.4) & np.ones((1, 8, 1), bool)
    tilt = np.rad2deg(np.arctan2(np.abs(kz), np.abs(kx))) + np.zeros((1, 8, 1))
    assert power[ring & (tilt > 55)].mean() < 2e-3 * power[ring & (tilt < 35)].mean()


def test_sirt_comes_nearer_at_every_step():
    images, tilts = series(6.0)
    projector = Projector(ProjectionGeometry.of(40, 64), tilts.angles)
    lines = np.ascontiguousarray(images.transpose(0, 2, 1)) / 10
    noise = np.random.default_rng(0).standard_normal(lines.shape, dtype=np.float32)
    _, residuals = _sirt_iterations(projector, lines + 0.1 * noise, _sirt_weights(projector), 12)
    assert (np.diff(residuals) < 0).all()
    assert residuals[-1] < 0.3 * residuals[0]


def test_bright_stays_bright_and_it_is_linear():
    images, tilts = series()
    one, two = reconstruct(images, tilts, SHAPE, 10.0), reconstruct(-2 * images, tilts, SHAPE, 10.0)
    assert one.max() > 0.5
    assert np.abs(two + 2 * one).max() < 1e-5


def test_it_believes_the_nominal_angles():
    tilts = tilt_scheme(TiltConfig(step=3.0), np.random.default_rng(0))
    images = 10 * project(gaussian(), tilts.nominal_angles + 8.0)
    result = peak(reconstruct(images, tilts, SHAPE, 10.0))
    (z, _, x), c, s = PLACE - (20, 12, 32), np.cos(np.deg2rad(8)), np.sin(np.deg2rad(8))
    assert result == pytest.approx([20 + z * c - x * s, PLACE[1], 32 + x * c + z * s], abs=0.05)


def test_binning_keeps_places_and_values():
    shape, place = (40, 24, 60), np.array([23.0, 12.4, 36.5])
    images, tilts = series(volume=gaussian(place, 3.0, shape))
    config = ReconstructionConfig(binning=4)
    result = reconstruct(images, tilts, shape, 10.0, config)
    assert result.shape == (10, 6, 15)
    assert np.abs(4 * peak(result) - place).max() < 0.6
    config = ReconstructionConfig(binning=2)
    result = reconstruct(images, tilts, shape, 10.0, config)
    assert np.abs(2 * peak(result) - place).max() < 0.1
    assert result.max() == pytest.approx(reconstruct(images, tilts, shape, 10.0).max(), rel=0.05)


def test_fourier_cropping_keeps_what_both_grids_hold():
    y, x = np.meshgrid(np.arange(24), np.arange(32), indexing="ij")
    wave = (np.cos(2 * np.pi * (2 * x / 32 + y / 24) + 0.4) + 0.5).astype(np.float32)
    assert np.abs(crop_spectrum(wave[None], 2)[0] - wave[::2, ::2]).max() < 1e-5


@pytest.mark.parametrize("thickness", [20, 31, 60])
def test_another_thickness_moves_the_origin_and_nothing_else(thickness):
    images, tilts = series()
    config = ReconstructionConfig(thickness=thickness)
    volume = reconstruct(images, tilts, SHAPE, 10.0, config)
    offset = np.array(origin(SHAPE, 10.0, config)) / 10
    assert volume.shape == (thickness, 24, 64)
    assert np.abs(peak(volume) + offset - PLACE).max() < 0.05


def test_phase_flipping_turns_the_transfer_of_one_sign():
    optics, tilts = OpticsConfig(), tilt_scheme(TiltConfig(step=60), np.random.default_rng(0))
    rng = np.random.default_rng(1)
    spectrum = np.fft.rfft2(rng.standard_normal((1, 32, 48)))
    frequency = radial_frequency((32, 48), 5.0)
    for i, defocus in enumerate(tilts.nominal_defocus):
        transfer = ctf(frequency, defocus, optics)
        image = np.fft.irfft2(spectrum * transfer, s=(32, 48)).astype(np.float32)
        flipped = flip_phases(image, tilts.subset(slice(i, i + 1)), 5.0, optics)
        expected = np.fft.irfft2(-spectrum * np.abs(transfer), s=(32, 48))
        assert np.abs(flipped - expected).max() < 1e-5


def test_each_tilt_stands_for_its_share():
    share = np.rad2deg(angular_weights(np.array([10.0, 0.0, 4.0, -2.0])))
    assert share == pytest.approx([6, 3, 5, 2])
    assert np.rad2deg(angular_weights(np.arange(-60, 61, 3.0))) == pytest.approx(3)


def test_sizes_that_do_not_fit_are_told():
    images, tilts = series(30.0)
    with pytest.raises(RequestError, match="multiples"):
        reconstruct(images, tilts, SHAPE, 10.0, ReconstructionConfig(binning=3))
    with pytest.raises(ValueError, match="does not belong"):
        reconstruct(images, tilts, (40, 64, 24), 10.0)
