import numpy as np
import pytest

from cryovox.simulate.microscope import OpticsConfig
from cryovox.simulate.microscope.optics import (
    aberration_phase,
    critical_dose,
    ctf,
    dose_filter,
    envelope,
    interaction_constant,
    radial_frequency,
    transmission,
    wavelength,
)


@pytest.mark.parametrize(
    ("voltage", "wave", "sigma"),
    [(300, 0.019687, 6.526e-4), (200, 0.025079, 7.288e-4), (100, 0.037014, 9.244e-4)],
)
def test_wavelength_and_interaction_are_the_tabulated_ones(voltage, wave, sigma):
    assert wavelength(voltage) == pytest.approx(wave, rel=1e-4)
    assert interaction_constant(voltage) == pytest.approx(sigma, rel=1e-3)


def test_the_interaction_constant_is_that_of_the_relativistic_formula():
    rest, energy = 510998.95, 3e5
    expected = 2 * np.pi / (wavelength(300) * energy) * (rest + energy) / (2 * rest + energy)
    assert interaction_constant(300) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("defocus", [20000.0, 45000.0])
@pytest.mark.parametrize("amplitude", [0.0, 0.1])
def test_zeros_are_where_the_quadratic_equation_has_them(defocus, amplitude):
    optics = OpticsConfig(amplitude_contrast=amplitude)
    wave, cs = wavelength(300), 2.7e7
    for n in range(1, 6):
        # pi wave defocus s - pi/2 cs wave^3 s^2 + asin A = n pi, for s = k^2
        a, b, c = -0.5 * cs * wave**3, wave * defocus, np.arcsin(amplitude) / np.pi - n
        square = (-b + np.sqrt(b**2 - 4 * a * c)) / (2 * a)
        k = np.sqrt(square)
        assert abs(ctf(np.array(k), defocus, optics)) < 1e-9
        assert ctf(np.array(0.999 * k), defocus, optics) * ctf(np.array(1.001 * k), defocus, optics) < 0


def test_underfocus_makes_a_positive_potential_dark_at_low_frequencies():
    low = np.array([0.0, 0.002, 0.01])
    optics = OpticsConfig(amplitude_contrast=0.07)
    assert ctf(low, 30000.0, optics)[0] == pytest.approx(-0.07)
    assert (ctf(low, 30000.0, optics) < 0).all()
    assert ctf(low, -30000.0, optics)[-1] > 0
    in_focus = ctf(low, 0.0, OpticsConfig(phase_shift=90, amplitude_contrast=0))
    assert in_focus == pytest.approx([0, -1, -1])  # the unscattered beam is not turned


def test_transmission_and_aberration_give_the_contrast_transfer_of_a_weak_wave():
    optics, k = OpticsConfig(amplitude_contrast=0.12), np.linspace(0, 0.05, 50)
    wave = transmission(optics) * np.exp(1j * aberration_phase(k, 28000.0, optics))
    assert wave.real == pytest.approx(ctf(k, 28000.0, optics), abs=1e-12)


def test_the_envelope_falls_from_one():
    k = np.linspace(0, 0.2, 100)
    damping = envelope(k, 30000.0, OpticsConfig())
    assert damping[0] == 1
    assert (np.diff(damping) <= 0).all()
    plain = OpticsConfig(cc=0, aperture=0, b_factor=100)
    assert envelope(k, 30000.0, plain) == pytest.approx(np.exp(-25 * k**2))


def test_the_temporal_envelope_is_the_average_over_a_spread_of_foci():
    optics, k = OpticsConfig(aperture=0, amplitude_contrast=0, energy_spread=1.2), np.linspace(0, 0.25, 9)
    relativity = (1 + 3e5 / 510998.95) / (1 + 3e5 / (2 * 510998.95))
    foci = 1e4 + 2.7e7 * 1.2 / 3e5 * relativity * np.linspace(-6, 6, 2001)
    weight = np.exp(-(np.linspace(-6, 6, 2001) ** 2) / 2)
    average = sum(w * ctf(k, f, optics) for w, f in zip(weight, foci, strict=True)) / weight.sum()
    assert average == pytest.approx(ctf(k, 1e4, optics) * envelope(k, 1e4, optics), abs=1e-6)


def test_damage_grows_with_dose_and_with_frequency():
    k = np.linspace(0, 0.1, 40)
    left = np.array([dose_filter(k, before, 2.0) for before in range(0, 120, 2)])
    assert (np.diff(left[:, 1:], axis=0) < 0).all()
    assert (np.diff(left, axis=1) <= 0).all()
    assert left[:, 0] == pytest.approx(1)
    assert dose_filter(k, 10.0, 0.0) == pytest.approx(np.exp(-10 / (2 * critical_dose(k))))


def test_the_critical_dose_is_the_published_one_and_damage_its_average():
    assert critical_dose(np.array(0.1)) == pytest.approx(0.245 * 0.1**-1.665 + 2.81)
    assert critical_dose(np.array(0.1), 200) == pytest.approx(0.8 * critical_dose(np.array(0.1)))
    steps = np.linspace(4, 10, 20001)
    mean = np.exp(-steps / (2 * critical_dose(np.array(0.08)))).mean()
    assert dose_filter(np.array([0.08]), 4.0, 6.0)[0] == pytest.approx(mean, rel=1e-6)


def test_frequencies_are_in_inverse_angstrom():
    frequency = radial_frequency((6, 8), 5.0)
    assert frequency.shape == (6, 5)
    assert frequency[0, 4] == pytest.approx(0.1)
    assert frequency[3, 4] == pytest.approx(np.hypot(0.1, 0.1))
