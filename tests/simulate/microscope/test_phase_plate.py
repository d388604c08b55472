"""A phase plate moves the zeros of the contrast transfer, in every model of image formation."""

import numpy as np
import pytest
from scipy import fft
from torch_ctf import calculate_ctf_1d

from cryovox.simulate.microscope import DetectorConfig, OpticsConfig, TiltConfig, acquire, tilt_scheme
from cryovox.simulate.microscope.optics import ctf, interaction_constant, radial_frequency, wavelength

MODELS = ("weak", "strong", "multislice")
VOXEL, SIZE = 4.0, 256
BLIND = {"cc": 0, "aperture": 0, "damage": False}


def point_in_the_plane_of_the_axis():
    """A weak, narrow object, 0.01 rad: nearly all frequencies, no depth."""
    sample = np.zeros((3, SIZE, SIZE), np.float32)
    y, x = np.indices((SIZE, SIZE)) - SIZE // 2
    sample[1] = 4.0 * np.exp(-(y**2 + x**2) / 2)
    return sample


def images(optics, defocus):
    """Noise-free contrast I / I0 - 1 at tilt 0, and the phase of the object."""
    scheme = TiltConfig(scheme="list", angles=(0.0,), defocus=(defocus, defocus))
    tilts = tilt_scheme(scheme, np.random.default_rng(0))
    sample = point_in_the_plane_of_the_axis()
    series = acquire(sample, VOXEL, tilts, optics, DetectorConfig.ideal())
    return -series.signal[0], interaction_constant(optics.voltage) * VOXEL * sample.sum(0)


def measured(optics, defocus):
    """(k, transfer): half of the image over the phase, averaged over rings, in steps of a frequency."""
    image, phase = (fft.rfft2(plane.astype(float)) for plane in images(optics, defocus))
    frequency = radial_frequency((SIZE, SIZE), VOXEL).ravel()
    ring = np.rint(frequency * SIZE * VOXEL).astype(int)
    values = ((image * phase.conj()).real.ravel(), (np.abs(phase) ** 2).ravel(), frequency)
    cross, power, k = (np.bincount(ring, one)[: SIZE // 2] for one in values)
    return k / np.bincount(ring)[: SIZE // 2], 0.5 * cross / power


def crossings(k, transfer):
    """Where the measured transfer changes its sign, between two samples."""
    at = np.flatnonzero(transfer[1:-1] * transfer[2:] < 0) + 1
    part = transfer[at] / (transfer[at] - transfer[at + 1])
    return k[at] + part * (k[at + 1] - k[at])


def expected_zeros(optics, defocus, upto):
    """pi w d s - pi/2 Cs w^3 s^2 + shift + asin A = n pi, for s = k^2."""
    wave, cs, d = wavelength(optics.voltage), 1e7 * optics.cs, 1e4 * defocus
    offset = np.deg2rad(optics.phase_shift) + np.arcsin(optics.amplitude_contrast)
    a, b = -0.5 * cs * wave**3, wave * d
    c = offset / np.pi - np.arange(1, 60)
    inside = b**2 - 4 * a * c
    square = (-b + np.sqrt(inside[inside > 0])) / (2 * a)
    return np.sqrt(square[(square > 0) & (square < upto**2)])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shift", [0.0, 45.0, 90.0])
@pytest.mark.parametrize("defocus", [1.0, 2.0, 3.5])
def test_zeros_of_the_transfer_are_where_the_formula_has_them(model, shift, defocus):
    optics = OpticsConfig(model=model, phase_shift=shift, **BLIND)
    k, transfer = measured(optics, defocus)
    inside = k < 0.08
    wanted = expected_zeros(optics, defocus, k[inside].max())
    zeros = crossings(k[inside], transfer[inside])
    assert len(zeros) == len(wanted) >= 1
    assert zeros == pytest.approx(wanted, abs=0.2 / (SIZE * VOXEL))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("defocus", "shift"), [(2.0, 0.0), (2.0, 45.0), (1.0, 90.0), (0.05, 90.0)])
def test_the_whole_transfer_is_that_of_torch_ctf(model, defocus, shift):
    """Theirs has the opposite sign."""
    optics = OpticsConfig(model=model, phase_shift=shift, **BLIND)
    k, transfer = measured(optics, defocus)
    count = 4001
    line = calculate_ctf_1d(
        defocus, 300.0, optics.cs, optics.amplitude_contrast, shift, 2.0, count, 1
    ).numpy()
    theirs = np.interp(k, np.linspace(0, 0.25, count), -line)
    use = (k > 0) & (k < 0.08)
    assert transfer[use] == pytest.approx(theirs[use], abs=0.06)
    assert np.corrcoef(transfer[use], theirs[use])[0, 1] > 0.999


@pytest.mark.parametrize("model", MODELS)
def test_a_plate_makes_a_phase_object_dark_in_focus(model):
    without, _ = images(OpticsConfig(model=model, amplitude_contrast=0, **BLIND), 0.0)
    turned, phase = images(OpticsConfig(model=model, amplitude_contrast=0, phase_shift=90, **BLIND), 0.0)
    assert np.abs(without).max() < 0.15 * phase.max()
    assert turned.min() < -1.5 * phase.max()
    assert np.corrcoef(turned.ravel(), -phase.ravel())[0, 1] > 0.95


def test_the_unscattered_beam_is_not_turned():
    optics = OpticsConfig(phase_shift=90, amplitude_contrast=0.07)
    k = np.array([0.0, 1e-6])
    assert ctf(k, 2e4, optics) == pytest.approx([-0.07, -np.cos(np.arcsin(0.07))], abs=1e-6)
