"""Microscope and weighted back-projection as one linear filter.

For a weak object, the Fourier transform of a back-projected tomogram is that of the potential times a
transfer function H(k), plus noise with the power spectrum N(k)^2. A tilt by theta about y measures the
plane kz = kx tan theta (Crowther, DeRosier and Klug 1970) with the ramp weight |kx'| dtheta, where kx' is
the frequency along the detector line. In a box of finite depth, the plane is as thick as one Fourier
voxel; it is interpolated linearly between the two nearest voxels along kz. Where planes lie closer than
that, H is the CTF; where they lie further apart, H has gaps, as the reconstruction has.

The box is periodic.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryovox.simulate.config.microscope import DetectorConfig, OpticsConfig
from cryovox.simulate.microscope.detector import detector_filters, flux
from cryovox.simulate.microscope.optics import ctf, dose_filter, envelope, interaction_constant
from cryovox.simulate.microscope.reconstruct import angular_weights
from cryovox.simulate.microscope.tilts import Tilts

Floats = NDArray[np.float64]
Shape = tuple[int, int, int]
SAMPLES = 1024
"""Samples of a radial table; linear interpolation of a CTF at 6 µm and 10 Å is accurate to 1e-4."""


class TransferFunction(NamedTuple):
    """Fourier filters on the `rfftn` of a box (z, y, x), each (z, y, x // 2 + 1).

    Attributes
    ----------
    signal : float32, or complex64 if tilts are misaligned
        From potential to tomogram, both in volts with bright particles.
    noise : float32
        From white noise of unit variance to the noise of the tomogram.
    """

    signal: NDArray[Any]
    noise: NDArray[np.float32]


def transfer_function(
    shape: Shape,
    voxel_size: float,
    tilts: Tilts,
    optics: OpticsConfig,
    detector: DetectorConfig,
    *,
    thickness: float = 0.0,
    low_pass: float | None = None,
    phase_flip: bool = False,
) -> TransferFunction:
    """Compute the filters of one tilt series.

    Parameters
    ----------
    shape
        Box size (z, y, x) in voxels.
    voxel_size
        Voxel and pixel size in Å.
    tilts, optics, detector
        The series; it is reconstructed at the nominal angles.
    thickness
        Thickness of the ice in Å, for the loss of electrons.
    low_pass
        Resolution in Å at which a Gaussian low-pass filter of the tomogram falls to 1 / e.
    phase_flip
        Flip phases at the nominal defocus.

    Returns
    -------
    Transfer
    """
    grid = _Grid(shape, voxel_size)
    blur = np.ones(SAMPLES) if low_pass is None else np.exp(-((grid.radii * low_pass) ** 2))
    before, after = detector_filters(grid.radii, detector, voxel_size)
    variances = _counting_variance(tilts, optics, detector, voxel_size, thickness)
    misaligned = bool(np.any(tilts.shifts))
    signal = grid.empty(np.complex64, whole=True) if misaligned else grid.empty(np.float32)
    power = grid.empty(np.float32)
    spacings = angular_weights(tilts.nominal_angles)
    for i, angle in enumerate(tilts.nominal_angles):
        plane = _Plane(grid, float(np.deg2rad(angle)), spacings[i])
        image = plane.weight_table(
            _image_transfer(grid.radii, i, tilts, optics, phase_flip) * before * after * blur
        )
        image *= shape[0] * voxel_size / plane.cosine
        moved = image[:, grid.mirror] * plane.shift_phases(tilts.shifts[i]) if misaligned else image
        plane.accumulate(signal, moved)
        plane.accumulate(
            power, plane.weight_table(after * blur) ** 2 * (variances[i] * shape[0] / plane.cosine)
        )
    return TransferFunction(grid.unfold(signal), grid.unfold(np.sqrt(power)))


@dataclass(frozen=True)
class _Grid:
    """Half-spectrum of a box, stored as (kz, kx, ky >= 0) during accumulation."""

    shape: Shape
    voxel_size: float

    @cached_property
    def kx(self) -> Floats:
        return fft.rfftfreq(self.shape[2], self.voxel_size)

    @cached_property
    def ky(self) -> Floats:
        return np.arange(self.shape[1] // 2 + 1) / (self.shape[1] * self.voxel_size)

    @cached_property
    def mirror(self) -> NDArray[np.intp]:
        """Index into `ky` of every frequency of the full axis."""
        steps = np.arange(self.shape[1])
        return np.minimum(steps, self.shape[1] - steps)

    @cached_property
    def radii(self) -> Floats:
        """Sampled frequencies of radial tables in 1 / Å, up to the corner of an image."""
        return np.linspace(0, 0.75 / self.voxel_size, SAMPLES)

    def empty(self, dtype: type, whole: bool = False) -> NDArray[Any]:
        return np.zeros((self.shape[0], len(self.kx), self.shape[1] if whole else len(self.ky)), dtype)

    def unfold(self, array: NDArray[Any]) -> NDArray[Any]:
        """Transpose to (kz, ky, kx) with the full ky axis."""
        whole = array if array.shape[2] == self.shape[1] else array[:, :, self.mirror]
        return np.ascontiguousarray(whole.transpose(0, 2, 1))


class _Plane:
    """Central plane of one tilt in the half-spectrum.

    Attributes
    ----------
    columns : (m,) int
        Indices of kx that the plane crosses below the Nyquist frequencies of image and box.
    along : (m,)
        Frequency along the detector line, in 1 / Å.
    weight : (m,)
        Ramp times the angular weight of the tilt, in 1 / Å.
    """

    def __init__(self, grid: _Grid, tilt: float, spacing: float) -> None:
        self.grid, self.cosine = grid, float(np.cos(tilt))
        along, kz = grid.kx / self.cosine, grid.kx * np.tan(tilt)
        nyquist = (0.5 + 1e-9) / grid.voxel_size
        self.columns = np.flatnonzero((along <= nyquist) & (np.abs(kz) <= nyquist))
        self.along = along[self.columns]
        # at frequency 0, the mean of the ramp over half a step
        ramp = np.where(self.along > 0, self.along, along[1] / 4)
        self.weight = spacing * ramp
        position = kz[self.columns] * grid.shape[0] * grid.voxel_size
        self.low = np.floor(position).astype(np.intp)
        self.above = (position - self.low).astype(np.float32)
        radius = np.sqrt(self.along[:, None] ** 2 + self.grid.ky[None, :] ** 2) / grid.radii[1]
        self.sample = radius.astype(np.intp)
        self.remainder = radius - self.sample

    def weight_table(self, table: Floats) -> Floats:
        """Interpolate a radial table at (m, ky) and multiply by the ramp."""
        value = table[self.sample]
        return (value + self.remainder * (table[self.sample + 1] - value)) * self.weight[:, None]

    def accumulate(self, spectrum: NDArray[Any], values: NDArray[Any]) -> None:
        """Add (m, ky) values to the two nearest voxels along kz, by linear interpolation."""
        for step, weight in ((0, 1 - self.above), (1, self.above)):
            spectrum[(self.low + step) % self.grid.shape[0], self.columns] += values * weight[:, None]

    def shift_phases(self, shift: Floats) -> NDArray[np.complex128]:
        """Phase factors of an image shifted by (y, x) Å."""
        size = self.grid.shape[1]
        along_y = np.exp(-2j * np.pi * shift[0] * fft.fftfreq(size, self.grid.voxel_size))
        if size % 2 == 0:  # the Nyquist frequency is real
            along_y[size // 2] = along_y[size // 2].real
        return along_y[None, :] * np.exp(-2j * np.pi * shift[1] * self.along)[:, None]


def _image_transfer(radii: Floats, i: int, tilts: Tilts, optics: OpticsConfig, phase_flip: bool) -> Floats:
    """CTF with envelopes of tilt *i*, with the sign that keeps particles bright."""
    damped = envelope(radii, float(tilts.defocus[i]), optics)
    if optics.damage:
        damped = damped * dose_filter(
            radii, float(tilts.accumulated[i]), float(tilts.dose[i]), optics.voltage
        )
    contrast = -ctf(radii, float(tilts.defocus[i]), optics)
    if phase_flip:
        contrast = np.where(ctf(radii, float(tilts.nominal_defocus[i]), optics) > 0, -contrast, contrast)
    return contrast * damped


def _counting_variance(
    tilts: Tilts, optics: OpticsConfig, detector: DetectorConfig, voxel_size: float, thickness: float
) -> Floats:
    """Counting variance per pixel of each tilt, in units of squared projected potential, (V Å)^2.

    The image of a weak object is 1 + 2 sigma V (Kirkland 2010, ch. 3) with the interaction constant sigma;
    the relative standard deviation of n counted electrons is 1 / sqrt(n).
    """
    electrons = flux(detector, tilts.dose, tilts.angles, voxel_size, thickness)
    return 1 / (4 * interaction_constant(optics.voltage) ** 2 * electrons)
