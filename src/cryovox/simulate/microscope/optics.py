"""Contrast transfer function, envelopes and radiation damage.

With phi the projected potential times the interaction constant (radians), A the amplitude contrast and
underfocus positive, the image of a weak object is, relative to the incident beam,

    I = 1 + 2 F^-1[ F[phi] CTF ],  CTF(k) = -sin(gamma(k) + asin A),
    gamma(k) = pi lambda defocus k^2 - pi/2 Cs lambda^3 k^4 + phase shift

so that a positive potential is dark at low frequencies in an underfocused image. The phase shift of a phase
plate applies to the scattered wave relative to the unscattered beam (frequency 0), so that gamma(0) is 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import constants, fft

from cryovox.simulate.config.microscope import OpticsConfig

Floats = NDArray[np.float64]
REST_ENERGY = constants.m_e * constants.c**2 / constants.e
"""Rest energy of the electron in eV."""


def wavelength(voltage: float) -> float:
    """Relativistic wavelength in Å of electrons accelerated by *voltage* kV."""
    energy = 1e3 * voltage
    momentum = np.sqrt(2 * constants.m_e * constants.e * energy * (1 + energy / (2 * REST_ENERGY)))
    return float(1e10 * constants.h / momentum)


def interaction_constant(voltage: float) -> float:
    """Interaction constant 2 pi m e lambda / h^2 in rad/(V Å) (Kirkland 2010, eq. 5.6)."""
    mass = constants.m_e * (1 + 1e3 * voltage / REST_ENERGY)
    sigma = 2 * np.pi * mass * constants.e * wavelength(voltage) * 1e-10 / constants.h**2
    return float(1e-10 * sigma)


def aberration_phase(frequency: Floats, defocus: float | Floats, optics: OpticsConfig) -> Floats:
    """Phase gamma in radians at *frequency* (1/Å) for *defocus* (Å, positive for underfocus).

    Defocus may be an array over *frequency*, for astigmatism. A phase plate shifts all but frequency 0.
    """
    wave, cs = wavelength(optics.voltage), 1e7 * optics.cs
    square = frequency**2
    lens = np.pi * wave * defocus * square - 0.5 * np.pi * cs * wave**3 * square**2
    return lens + np.deg2rad(optics.phase_shift) * (frequency > 0)


def transmission(optics: OpticsConfig) -> complex:
    """Factor f of the transmitted wave exp(f phi): i for a pure phase object, with amplitude contrast."""
    amplitude = optics.amplitude_contrast
    return complex(-amplitude, np.sqrt(1 - amplitude**2))


def ctf(frequency: Floats, defocus: float | Floats, optics: OpticsConfig) -> Floats:
    """Contrast transfer function -sin(gamma + asin A), without envelopes; -A at frequency 0."""
    return -np.sin(aberration_phase(frequency, defocus, optics) + np.arcsin(optics.amplitude_contrast))


def envelope(frequency: Floats, defocus: float | Floats, optics: OpticsConfig) -> Floats:
    """Envelope of energy spread, source size and B-factor (Reimer and Kohl 2008, ch. 6.4)."""
    wave, energy = wavelength(optics.voltage), 1e3 * optics.voltage
    relativistic_factor = (1 + energy / REST_ENERGY) / (1 + energy / (2 * REST_ENERGY))
    focus = 1e7 * optics.cc * optics.energy_spread / energy * relativistic_factor
    temporal = 0.5 * (np.pi * wave * focus * frequency**2) ** 2
    gradient = 1e7 * optics.cs * wave**3 * frequency**3 - defocus * wave * frequency
    spatial = (np.pi * 1e-3 * optics.aperture / wave * gradient) ** 2
    return np.exp(-temporal - spatial - 0.25 * optics.b_factor * frequency**2)


def critical_dose(frequency: Floats, voltage: float = 300.0) -> Floats:
    """Dose in e/Å² after which the power at *frequency* is 1/e (Grant and Grigorieff 2015, eq. 3).

    Fitted at 300 kV and scaled by 0.8 for every 100 kV below: 0.64 at 100 kV, where crystals of paraffin and
    bacteriorhodopsin fade 1.57 times as fast (Peet, Henderson and Russo 2019).
    """
    with np.errstate(divide="ignore"):
        at_300 = 0.245 * np.power(frequency, -1.665) + 2.81
    return at_300 * 0.8 ** ((300 - voltage) / 100)


def dose_filter(frequency: Floats, accumulated: float, dose: float, voltage: float = 300.0) -> Floats:
    """Dose filter: remaining amplitude of the signal, averaged over the exposure of one tilt.

    Mean of exp(-N / (2 Nc)) for N from *accumulated* to *accumulated* + *dose* e/Å².
    """
    rate = 0.5 / critical_dose(frequency, voltage)
    exposure = rate * dose
    mean = np.where(exposure > 1e-8, -np.expm1(-exposure) / np.maximum(exposure, 1e-8), 1.0)
    return np.exp(-rate * accumulated) * mean


def radial_frequency(shape: tuple[int, int], voxel_size: float) -> Floats:
    """Radial frequency in 1/Å on the `rfft2` grid of an image of *shape* (y, x)."""
    ky, kx = frequency_axes(shape, voxel_size)
    return np.hypot(ky, kx)


def frequency_axes(shape: tuple[int, int], voxel_size: float) -> tuple[Floats, Floats]:
    """Frequencies ky (y, 1) and kx (1, x // 2 + 1) in 1/Å of the `rfft2` of an image of *shape*."""
    return fft.fftfreq(shape[0], voxel_size)[:, None], fft.rfftfreq(shape[1], voxel_size)[None, :]
