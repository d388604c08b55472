import numpy as np
import pytest
from scipy import fft, ndimage

from cryovox.simulate.microscope import (
    DetectorConfig,
    OpticsConfig,
    ReconstructionConfig,
    TiltConfig,
    acquire,
    reconstruct,
    tilt_scheme,
)
from cryovox.simulate.microscope.optics import ctf, interaction_constant
from cryovox.simulate.stream.transfer import transfer_function

VOXEL = 10.0
SHAPE = (32, 48, 56)
PLAIN = OpticsConfig(model="weak", damage=False)
PERFECT = DetectorConfig.ideal()
AS_IS = ReconstructionConfig(window="none")


def series(seed=0, **more):
    return tilt_scheme(TiltConfig(**({"defocus": (3.0, 3.0)} | more)), np.random.default_rng(seed))


def frequencies(shape=SHAPE):
    kz, ky = (fft.fftfreq(n, VOXEL) for n in shape[:2])
    return kz[:, None, None], ky[None, :, None], fft.rfftfreq(shape[2], VOXEL)[None, None, :]


def blobs(shape, count=40, seed=0):
    """Gaussian balls in the inner part of a box: nothing at its faces."""
    rng = np.random.default_rng(seed)
    volume = np.zeros(shape, np.float32)
    at = (rng.uniform(0.25, 0.75, (count, 3)) * shape).astype(int)
    volume[tuple(at.T)] = rng.uniform(50, 150, count)
    return ndimage.gaussian_filter(volume, 1.5)


def filtered(volume, by):
    return fft.irfftn(fft.rfftn(volume) * by, volume.shape)


def path(volume, tilts, optics=PLAIN, detector=PERFECT, config=AS_IS):
    """Clean tomogram and noise by projection, lens, camera and back-projection, in volts."""
    taken = acquire(volume, VOXEL, tilts, optics, detector, seed=3)
    volts = 1 / (2 * interaction_constant(optics.voltage))
    return tuple(
        volts * reconstruct(images, tilts, volume.shape, VOXEL, config, optics=optics)
        for images in (taken.signal, taken.noise)
    )


def inner(volume):
    return volume[6:-6, 8:-8, 12:-12]


def agreement(a, b):
    return float(np.corrcoef(inner(a).ravel(), inner(b).ravel())[0, 1])


@pytest.mark.parametrize("limit", [40.0, 60.0])
def test_nothing_passes_in_the_wedge(limit):
    signal, noise = transfer_function(SHAPE, VOXEL, series(range=(-limit, limit)), PLAIN, PERFECT)
    kz, ky, kx = frequencies()
    # a plane is as thick as one step of the spectrum on either side
    beyond = (np.abs(kz) - 1.001 / (SHAPE[0] * VOXEL) > kx * np.tan(np.deg2rad(limit))) & (ky == ky)
    assert beyond.mean() > 0.15
    assert np.abs(signal[beyond]).max() == 0
    assert noise[beyond].max() == 0
    within = (np.abs(kz) < kx * np.tan(np.deg2rad(limit - 3))) & (ky**2 + kx**2 + kz**2 < 0.02**2)
    assert noise[within & (kx > 0)].min() > 0


def test_a_wedge_on_one_side_lies_where_the_back_projection_has_it():
    tilts, volume = series(range=(0.0, 60.0)), blobs(SHAPE)
    signal = transfer_function(SHAPE, VOXEL, tilts, PLAIN, PERFECT).signal
    clean, _ = path(volume, tilts)
    turned = series(range=(-60.0, 0.0))
    assert agreement(filtered(volume, signal), clean) > 0.98
    other = transfer_function(SHAPE, VOXEL, turned, PLAIN, PERFECT).signal
    assert agreement(filtered(volume, other), clean) < 0.8


def test_where_planes_lie_close_the_transfer_is_the_ctf():
    shape = (16, 96, 96)
    tilts = series(step=0.25, range=(-70.0, 70.0))
    optics = OpticsConfig(damage=False, energy_spread=0, aperture=0)
    signal = transfer_function(shape, VOXEL, tilts, optics, PERFECT).signal
    kz, ky, kx = frequencies(shape)
    radius = np.sqrt(kz**2 + ky**2 + kx**2)
    expected = -ctf(radius, 3e4, optics)
    dense = (np.abs(kz) < kx * np.tan(np.deg2rad(65))) & (np.hypot(kz, kx) < 0.045)
    dense = dense & (kx > 0.01) & (np.abs(ky) < 0.03)
    # the CTF of the planes on either side, not that of the point itself
    assert np.abs(signal - expected)[dense].mean() < 0.06
    assert signal[dense] @ expected[dense] == pytest.approx((expected[dense] ** 2).sum(), rel=0.05)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"step": 3.0, "defocus": (6.0, 6.0)},
        {"range": (-42.0, 60.0)},
        {"shift": 12.0},
        {"defocus_spread": 0.5},
    ],
    ids=["plain", "coarse", "lopsided", "misaligned", "spread"],
)
def test_filtered_like_projected_and_back_projected(change):
    tilts, volume = series(**change), blobs(SHAPE)
    clean, _ = path(volume, tilts)
    result = filtered(volume, transfer_function(SHAPE, VOXEL, tilts, PLAIN, PERFECT).signal)
    assert agreement(result, clean) > (0.98 if "shift" in change else 0.998)
    slope = np.polyfit(inner(clean).ravel(), inner(result).ravel(), 1)[0]
    assert slope == pytest.approx(1, abs=0.06)


def test_detector_damage_and_corrected_phases_agree_too():
    tilts, volume = series(), blobs(SHAPE)
    optics, detector = OpticsConfig(model="weak"), DetectorConfig(mtf_nyquist=0.2)
    config = ReconstructionConfig(window="none", phase_flip=True)
    clean, _ = path(volume, tilts, optics, detector, config)
    signal = transfer_function(SHAPE, VOXEL, tilts, optics, detector, phase_flip=True).signal
    assert agreement(filtered(volume, signal), clean) > 0.99
    plain = transfer_function(SHAPE, VOXEL, tilts, optics, detector).signal
    assert np.array_equal(np.abs(plain) > 0, np.abs(signal) > 0)
    assert (np.abs(plain).sum() - np.abs(signal).sum()) < 0.1 * np.abs(signal).sum()


def test_noise_has_the_power_of_the_back_projected_noise():
    tilts = series()
    detector = DetectorConfig(dqe_nyquist=0.5, mtf_nyquist=0.6)
    empty = np.zeros(SHAPE, np.float32)
    _, grain = path(empty, tilts, detector=detector)
    noise = transfer_function(SHAPE, VOXEL, tilts, PLAIN, detector, thickness=SHAPE[0] * VOXEL).noise
    white = np.random.default_rng(0).standard_normal(SHAPE)
    drawn = filtered(white, noise)
    assert drawn.std() == pytest.approx(inner(grain).std(), rel=0.06)
    ours, theirs = (np.abs(fft.rfftn(v * taper(SHAPE))) ** 2 for v in (drawn, grain))
    kz, ky, kx = frequencies()
    ring = np.round(np.hypot(np.hypot(kz, ky), kx) * VOXEL * 16).astype(int)
    ratio = np.array([ours[ring == r].mean() / theirs[ring == r].mean() for r in range(2, 9)])
    assert ratio == pytest.approx(np.ones(7), abs=0.3)


def taper(shape):
    z, y, x = (np.hanning(n) for n in shape)
    return z[:, None, None] * y[None, :, None] * x[None, None, :]


def test_noise_falls_with_the_root_of_the_dose_and_rises_with_the_ice():
    def level(dose=100.0, thickness=0.0):
        detector = DetectorConfig()
        noise = transfer_function(
            SHAPE, VOXEL, series(total_dose=dose), PLAIN, detector, thickness=thickness
        ).noise
        return float(np.sqrt((noise.astype(float) ** 2).mean()))

    assert level(400.0) == pytest.approx(level(100.0) / 2, rel=1e-5)
    assert level(thickness=3000.0) > 1.3 * level()


def test_bright_stays_bright_and_a_low_pass_dampens():
    volume, tilts = blobs(SHAPE, count=4), series()
    both = [transfer_function(SHAPE, VOXEL, tilts, PLAIN, PERFECT, low_pass=r) for r in (None, 40.0)]
    result = filtered(volume, both[0].signal)
    assert result[volume > 0.5 * volume.max()].mean() > 2 * result.std()
    kz, ky, kx = frequencies()
    at = (np.abs(np.hypot(np.hypot(kz, ky), kx) - 0.025) < 0.0005) & (both[0].noise > 0)
    assert (both[1].noise[at] / both[0].noise[at]).mean() == pytest.approx(np.exp(-1), rel=0.03)


def test_alignment_errors_keep_the_tomogram_real():
    signal = transfer_function((16, 24, 24), VOXEL, series(shift=10.0), PLAIN, PERFECT).signal
    assert signal.dtype == np.complex64
    plane = signal[:, :, 0]
    opposite = plane[-np.arange(16) % 16][:, -np.arange(24) % 24]
    assert np.abs(plane - opposite.conj()).max() < 1e-5
