"""Microscope and weighted back-projection as one linear filter.

For a weak object, a tomogram that is back-projected from all tilts is the potential times a transfer
H(k), plus noise of a power spectrum N(k)^2. A tilt by theta about y measures the plane kz = kx tan theta
(Crowther, DeRosier and Klug 1970) and is given the weight of the ramp |kx'| dtheta, kx' being the
frequency along its detector line. In a box of finite depth the plane is as thick as one step of the
spectrum; here it is shared linearly by the two steps that it passes between. Where planes lie closer
than that, H is the contrast transfer; where they lie further apart H has gaps, as has the
reconstruction itself.

Box and tomogram are periodic: what leaves through one face enters through the opposite one.
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
"""Of a table over the radius; between them a CTF at 6 µm and 10 Å is linear to 1e-4."""


class TransferFunction(NamedTuple):
    """What a box (z, y, x) is multiplied with on the half-space (z, y, x // 2 + 1) of its `rfftn`.

    Attributes
    ----------
    signal : float32, or complex64 where tilts are misaligned
        From potential to tomogram, both in volts and bright where particles are.
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
    """Compute the filter of one draw of the microscope.

    Parameters
    ----------
    shape : (z, y, x)
        Of the box.
    voxel_size
        Edge of a voxel, and of a pixel of the images, in Å.
    tilts, optics, detector
        The series; tilts are put where their nominal angles say.
    thickness
        Of the ice in Å, which takes electrons away, and more of them at high tilt.
    low_pass
        Resolution in Å at which a Gaussian filter of the tomogram has fallen to 1 / e.
    phase_flip
        Correct the sign of the contrast transfer at the nominal defocus.

    Returns
    -------
    Transfer
    """
    grid = _Grid(shape, voxel_size)
    blur = np.ones(SAMPLES) if low_pass is None else np.exp(-((grid.radii * low_pass) ** 2))
    before, after = detector_filters(grid.radii, detector, voxel_size)
    grains = _grains(tilts, optics, detector, voxel_size, thickness)
    misaligned = bool(np.any(tilts.shifts))
    signal = grid.empty(np.complex64, whole=True) if misaligned else grid.empty(np.float32)
    power = grid.empty(np.float32)
    spacings = angular_weights(tilts.nominal_angles)
    for i, angle in enumerate(tilts.nominal_angles):
        plane = _Plane(grid, float(np.deg2rad(angle)), spacings[i])
        image = plane.weigh(_images(grid.radii, i, tilts, optics, phase_flip) * before * after * blur)
        image *= shape[0] * voxel_size / plane.cosine
        moved = image[:, grid.mirror] * plane.displaced(tilts.shifts[i]) if misaligned else image
        plane.spread(signal, moved)
        plane.spread(power, plane.weigh(after * blur) ** 2 * (grains[i] * shape[0] / plane.cosine))
    return TransferFunction(grid.unfold(signal), grid.unfold(np.sqrt(power)))


@dataclass(frozen=True)
class _Grid:
    """The half-space of a box, kept as (kz, kx, ky >= 0) while tilts are spread over it."""

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
        """Index into ky of every frequency of the whole axis."""
        steps = np.arange(self.shape[1])
        return np.minimum(steps, self.shape[1] - steps)

    @cached_property
    def radii(self) -> Floats:
        """Where tables over the radius are sampled: up to the corner of an image."""
        return np.linspace(0, 0.75 / self.voxel_size, SAMPLES)

    def empty(self, dtype: type, whole: bool = False) -> NDArray[Any]:
        return np.zeros((self.shape[0], len(self.kx), self.shape[1] if whole else len(self.ky)), dtype)

    def unfold(self, array: NDArray[Any]) -> NDArray[Any]:
        """To (kz, ky, kx), with all of ky."""
        whole = array if array.shape[2] == self.shape[1] else array[:, :, self.mirror]
        return np.ascontiguousarray(whole.transpose(0, 2, 1))


class _Plane:
    """Where one tilt falls in the half-space.

    Attributes
    ----------
    seen : (m,) int
        Columns kx that it crosses within its own image and within the box.
    along : (m,)
        Frequency on the detector line there, in 1 / Å.
    weight : (m,)
        Ramp times the angle that the tilt stands for, in 1 / Å.
    """

    def __init__(self, grid: _Grid, tilt: float, spacing: float) -> None:
        self.grid, self.cosine = grid, float(np.cos(tilt))
        along, up = grid.kx / self.cosine, grid.kx * np.tan(tilt)
        nyquist = (0.5 + 1e-9) / grid.voxel_size
        self.seen = np.flatnonzero((along <= nyquist) & (np.abs(up) <= nyquist))
        self.along = along[self.seen]
        # the first frequency stands for all within half a step of it: the ramp's mean there
        ramp = np.where(self.along > 0, self.along, along[1] / 4)
        self.weight = spacing * ramp
        at = up[self.seen] * grid.shape[0] * grid.voxel_size
        self.low = np.floor(at).astype(np.intp)
        self.above = (at - self.low).astype(np.float32)
        radius = np.sqrt(self.along[:, None] ** 2 + self.grid.ky[None, :] ** 2) / grid.radii[1]
        self.sample = radius.astype(np.intp)
        self.past = radius - self.sample

    def weigh(self, table: Floats) -> Floats:
        """A function of the radius over (m, ky), times the ramp."""
        at = table[self.sample]
        return (at + self.past * (table[self.sample + 1] - at)) * self.weight[:, None]

    def spread(self, onto: NDArray[Any], values: NDArray[Any]) -> None:
        """Share (m, ky) values between the two steps of kz next to the plane."""
        for step, share in ((0, 1 - self.above), (1, self.above)):
            onto[(self.low + step) % self.grid.shape[0], self.seen] += values * share[:, None]

    def displaced(self, shift: Floats) -> NDArray[np.complex128]:
        """Phases of an image that lies *shift* (y, x) Å too far."""
        size = self.grid.shape[1]
        down = np.exp(-2j * np.pi * shift[0] * fft.fftfreq(size, self.grid.voxel_size))
        if size % 2 == 0:  # this frequency is its own opposite
            down[size // 2] = down[size // 2].real
        return down[None, :] * np.exp(-2j * np.pi * shift[1] * self.along)[:, None]


def _images(radii: Floats, i: int, tilts: Tilts, optics: OpticsConfig, phase_flip: bool) -> Floats:
    """Transfer of the image of tilt *i*, with the sign that leaves particles bright."""
    left = envelope(radii, float(tilts.defocus[i]), optics)
    if optics.damage:
        left = left * dose_filter(radii, float(tilts.accumulated[i]), float(tilts.dose[i]), optics.voltage)
    contrast = -ctf(radii, float(tilts.defocus[i]), optics)
    if phase_flip:
        contrast = np.where(ctf(radii, float(tilts.nominal_defocus[i]), optics) > 0, -contrast, contrast)
    return contrast * left


def _grains(
    tilts: Tilts, optics: OpticsConfig, detector: DetectorConfig, voxel_size: float, thickness: float
) -> Floats:
    """Variance by counting of a pixel of each tilt, as projected potential, in (V Å)^2.

    An image of a weak object is 1 + 2 sigma V (Kirkland 2010, ch. 3), sigma being the interaction
    constant; n electrons in a pixel make it uncertain by 1 / sqrt(n).
    """
    counted = flux(detector, tilts.dose, tilts.angles, voxel_size, thickness)
    return 1 / (4 * interaction_constant(optics.voltage) ** 2 * counted)
