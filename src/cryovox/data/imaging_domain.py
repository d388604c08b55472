"""Ranges of imaging conditions of simulated patches, and the imaging of a box under one of them."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from cryovox.core.config import Config
from cryovox.data.reconstruction_filters import (
    FilterConfig,
    filter_image,
    frequencies,
    moments,
    spectral_slope,
    whitened_box,
)
from cryovox.simulate.config.surroundings import SurroundingsConfig
from cryovox.simulate.microscope import DetectorConfig, OpticsConfig, TiltConfig, tilt_scheme
from cryovox.simulate.stream.transfer import TransferFunction, transfer_function

Range = tuple[float, float]
Shape = tuple[int, int, int]
BALL_RADIUS, PROTEIN_POTENTIAL, CROWD = 75.0, 3.0, 0.1
"""Radius in Å, potential above that of ice in volts, and volume fraction of the balls of `crowd_snr`."""
EDGE = 0.05
"""Width of the edge of the filter of resampled boxes, relative to its frequency."""


class DomainConfig(Config):
    """Imaging conditions of simulated patches; values are drawn uniformly from ranges."""

    block: Shape = (64, 96, 96)
    """Size in voxels of the boxes that patches are cut from; enlarged where patches are larger."""
    patches: int = Field(18, ge=1)
    """Patches cut from every box; 18 of 32 voxels have as many voxels as a box of the default size."""
    blocks: int = Field(8, ge=1)
    """Boxes in a group whose patches are shuffled."""
    scenes: int = Field(2, ge=1)
    """Successive boxes under the same microscope, which takes as long to compute as a box."""
    poses: int = Field(5, ge=1)
    """Poses of every species and voxel size; 24 times as many with the rotations of the cube."""
    voxel_size: Range = (0.95, 1.05)
    """Ratio of the true voxel size to the nominal one."""
    voxel_sizes: int = Field(3, ge=1)
    """Number of voxel sizes within this range."""
    occupancy: Range = (0.05, 0.25)
    """Fraction of the box that particles fill, if there is room for them."""
    most: int = Field(300, ge=1)
    """Maximum number of particles in a box."""
    empty: float = Field(0.0, ge=0, le=1)
    """Fraction of boxes without particles."""
    species_per_box: tuple[int, int] | None = None
    """Number of species in a box, drawn from this range; all by default. Where species share channels, those
    of each channel are drawn equally often."""
    cut: float = Field(0.0, ge=0, le=1)
    """Fraction of patches that are cut off at a random plane, as particles are by the faces of a tomogram."""
    void: float = Field(0.0, ge=0, le=1)
    """Fraction of boxes with a sample between two faces, and ice without molecules outside of them."""
    surface: float = Field(0.2, ge=0, le=1)
    """Fraction of boxes at the surface of the sample, outside of which there are no particles."""
    surroundings: SurroundingsConfig = SurroundingsConfig()
    """Membranes, filaments, gold beads and ice, without labels; none by default."""
    tilt: Range = (48.0, 65.0)
    """Maximum tilt in degrees, drawn for each side."""
    step: Range = (2.0, 3.0)
    """Degrees between tilts."""
    defocus: Range = (1.5, 6.0)
    """Underfocus in µm."""
    defocus_spread: float = Field(0.2, ge=0)
    """Standard deviation in µm of the defocus of the tilts."""
    phase_flip: float = Field(0.3, ge=0, le=1)
    """Fraction of tomograms with corrected phases."""
    dose: Range = (60.0, 160.0)
    """Electrons per Å² over the series."""
    thickness: Range = (1000.0, 3000.0)
    """Thickness of the ice in Å, which absorbs electrons."""
    noise: Range = (0.8, 1.6)
    """Amplitude of the noise relative to that of perfect counting."""
    noise_scale: Literal["linear", "log"] = "linear"
    """Scale on which the amplitude of the noise is drawn."""
    snr: Range | None = None
    """Ratio of the variances of signal and noise in a box, drawn on a logarithmic scale; by default it
    follows from the dose."""
    crowd_snr: Range | None = None
    """As `snr`, but with the signal of a box that is filled to a tenth with balls of protein (150 Å), so that
    it does not depend on what is in the box; after low-pass filter and spectral slope."""
    cytosol: Range = (0.0, 0.0)
    """Standard deviation in volts of the potential of unlabeled molecules all over the box."""
    cytosol_grain: Range = (20.0, 60.0)
    """Their size in Å: the standard deviation of a Gaussian that smooths this potential."""
    shift: Range = (0.0, 8.0)
    """Residual alignment error of the tilts in Å (standard deviation), applied as a blur."""
    b_factor: Range = (0.0, 2000.0)
    """B-factor in Å², for all other loss of detail."""
    low_pass: Range = (10.0, 35.0)
    """Resolution in Å of a low-pass filter on the tomogram."""
    low_pass_scale: Literal["linear", "log"] = "linear"
    """Scale on which the low-pass filter is drawn."""
    coarse_share: float = Field(0.0, ge=0, le=1)
    """Fraction of boxes that were resampled from larger voxels, so that they hold nothing above the Nyquist
    frequency of these."""
    coarse: Range = (12.0, 36.0)
    """Voxel size in Å that such boxes had, drawn on a logarithmic scale."""
    filters: FilterConfig = FilterConfig()
    """Filters after the reconstruction; none by default."""
    whiten: Range | None = None
    """Resolution in Å, drawn on a logarithmic scale, to which boxes are whitened, as a model of whitened
    tomograms needs it; at least about two voxels. Not whitened by default."""
    gain: float = Field(0.2, ge=0, lt=1)
    """Gray values, of mean 0 and standard deviation 1 in a box, are scaled by a factor within 1 ± this."""
    offset: float = Field(0.1, ge=0)
    """Gray values are then shifted by up to this."""


def sample_transfer(
    domain: DomainConfig, shape: Shape, voxel_size: float, rng: np.random.Generator
) -> TransferFunction:
    """Draw a microscope, and compute the transfer function of a box of *shape* (z, y, x)."""
    tilts = tilt_scheme(
        TiltConfig(
            scheme=("dose-symmetric", "continuous", "bidirectional")[int(rng.integers(3))],
            range=(-rng.uniform(*domain.tilt), rng.uniform(*domain.tilt)),
            step=rng.uniform(*domain.step),
            total_dose=rng.uniform(*domain.dose),
            defocus=domain.defocus,
            defocus_spread=domain.defocus_spread,
        ),
        rng,
    )
    # misaligned tilts blur by a Gaussian: B = 8 pi^2 s^2
    blur = 8 * np.pi**2 * rng.uniform(*domain.shift) ** 2
    return transfer_function(
        shape,
        voxel_size,
        tilts,
        OpticsConfig(model="weak", b_factor=blur + rng.uniform(*domain.b_factor)),
        DetectorConfig(),
        thickness=rng.uniform(*domain.thickness),
        low_pass=_interpolate(domain.low_pass, rng.random(), domain.low_pass_scale),
        phase_flip=bool(rng.random() < domain.phase_flip),
    )


def apply_microscope(
    potential: NDArray[np.float32],
    transfer: TransferFunction,
    domain: DomainConfig,
    rng: np.random.Generator,
    device: str = "cpu",
    voxel_size: float = 10.0,
    sample: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Image a periodic box; the result is network input, particles bright.

    Parameters
    ----------
    potential : (z, y, x)
        In volts.
    transfer
        As `sample_transfer` gives it.
    domain
        For noise, gain and offset.
    rng
        Philox, for the noise on the CPU; the torch generator of another *device* is seeded from it.
    device
        Where to compute.
    voxel_size
        Voxel size in Å, for the filters.
    sample : (z, y, x)
        Where there is cytosol; everywhere by default.
    """
    noise, snr_draw, gain, offset = rng.uniform(size=4)
    shape = (potential.shape[0], potential.shape[1], potential.shape[2])
    signal = torch.fft.rfftn(torch.from_numpy(potential).to(device))
    if domain.cytosol[1] > 0:
        signal += _cytosol_spectrum(shape, domain, rng, device, voxel_size, sample)
    response = torch.from_numpy(transfer.signal).to(device)
    signal *= response
    noise_spectrum = white_noise_spectrum(shape, rng, device)
    noise_spectrum *= torch.from_numpy(transfer.noise).to(device)
    filters = domain.filters
    filtered = filters != FilterConfig()
    slope = spectral_slope(shape, voxel_size, filters, rng, device) if filtered else None
    if slope is not None:
        signal, noise_spectrum, response = signal * slope, noise_spectrum * slope, response * slope
    if domain.coarse_share > 0:
        sampling = _coarse_sampling(shape, domain, rng, device, voxel_size)
        signal, noise_spectrum, response = signal * sampling, noise_spectrum * sampling, response * sampling
    level = _interpolate(domain.noise, noise, domain.noise_scale)
    reference, snr = signal, domain.snr
    if domain.crowd_snr is not None:
        reference, snr = response * crowd_amplitudes(shape, voxel_size, device), domain.crowd_snr
    if snr is not None:
        ratio = _interpolate(snr, snr_draw, "log")
        level = float(torch.sqrt(signal_power(reference) / (signal_power(noise_spectrum) * ratio)))
    image = torch.fft.irfftn(signal.add_(noise_spectrum, alpha=level), s=shape)
    if filtered:
        image = filter_image(image, filters, rng)
    if domain.whiten is not None:
        finest = 2 * voxel_size
        low, high = max(domain.whiten[0], finest / 1.05), max(domain.whiten[1], finest)
        image = whitened_box(image, voxel_size, _interpolate((low, high), rng.random(), "log"))
    mean, std = moments(image, filters.clip)
    scale = (1 + domain.gain * (2 * gain - 1)) / std
    image.mul_(scale).add_(domain.offset * (2 * offset - 1) - mean * scale)
    return image.cpu().numpy()


def white_noise_spectrum(shape: tuple[int, ...], rng: np.random.Generator, device: str = "cpu") -> Tensor:
    """The `rfftn` of white noise of unit variance, drawn in Fourier space.

    On the CPU by numpy, elsewhere by the device's own generator.
    """
    z, y, x = shape
    half = (z, y, x // 2 + 1, 2)
    if torch.device(device).type == "cpu":
        values = torch.from_numpy(rng.standard_normal(half, dtype=np.float32))
    else:
        generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
        values = torch.randn(half, generator=generator, device=device)
    spectrum = torch.view_as_complex(values.mul_(float(np.sqrt(z * y * x / 2))))
    for plane in {0, x // 2} if x % 2 == 0 else {0}:  # planes that hold both k and -k
        own_half = spectrum[:, :, plane]
        opposite = own_half.flip(0, 1).roll((1, 1), (0, 1)).conj()
        spectrum[:, :, plane] = (own_half + opposite) / float(np.sqrt(2))
    return spectrum


def signal_power(half: Tensor) -> Tensor:
    """Sum of squares over the frequencies of a half-space but 0; kx = 0 and Nyquist count as much."""
    squares = half.abs() ** 2
    return squares.sum() - squares[0, 0, 0]


@lru_cache(maxsize=8)
def crowd_amplitudes(shape: Shape, voxel_size: float, device: str) -> Tensor:
    """Root of the expected power of the `rfftn` of balls of protein at random positions, real.

    Parameters
    ----------
    shape
        Box (z, y, x) in voxels.
    voxel_size
        Å.
    """
    voxels = 4 / 3 * np.pi * (BALL_RADIUS / voxel_size) ** 3
    phase = (2 * np.pi * BALL_RADIUS * frequencies(shape, voxel_size, device)).clamp(min=1e-2)
    form = 3 * (torch.sin(phase) - phase * torch.cos(phase)) / phase**3
    return form * PROTEIN_POTENTIAL * float(np.sqrt(np.prod(shape) * CROWD * voxels))


def _cytosol_spectrum(
    shape: Shape,
    domain: DomainConfig,
    rng: np.random.Generator,
    device: str,
    voxel_size: float,
    sample: NDArray[np.bool_] | None = None,
) -> Tensor:
    """The `rfftn` of the potential of molecules without labels: smoothed white noise, in the sample alone."""
    amplitude, grain = rng.uniform(*domain.cytosol), rng.uniform(*domain.cytosol_grain)
    smoothing = torch.exp(-2 * (np.pi * grain * frequencies(shape, voxel_size, device)) ** 2)
    spectrum = (
        white_noise_spectrum(shape, rng, device) * smoothing * (amplitude / _deviation(smoothing, shape))
    )
    if sample is None:
        return spectrum
    return torch.fft.rfftn(torch.fft.irfftn(spectrum, s=shape) * torch.from_numpy(sample).to(device))


def _coarse_sampling(
    shape: Shape, domain: DomainConfig, rng: np.random.Generator, device: str, voxel_size: float
) -> Tensor:
    """Gains on an `rfftn`: 1/2 at the Nyquist frequency of larger voxels on each axis, as in `resample`."""
    drawn, coarse = rng.random(), _interpolate(domain.coarse, rng.random(), "log")
    gains = torch.ones((), device=device)
    if drawn < domain.coarse_share:
        axes = [torch.fft.fftfreq(n, voxel_size) for n in shape[:2]] + [
            torch.fft.rfftfreq(shape[2], voxel_size)
        ]
        for axis, k in enumerate(axes):
            edge = torch.sigmoid((1 - 2 * coarse * k.abs()) / EDGE).to(device)
            gains = gains * edge.reshape([-1 if a == axis else 1 for a in range(3)])
    return gains


def _deviation(gains: Tensor, shape: Shape) -> float:
    """Standard deviation of white noise of unit variance with its `rfftn` times *gains*."""
    weight = torch.full_like(gains, 2.0)
    weight[..., 0] = 1.0
    if shape[2] % 2 == 0:
        weight[..., -1] = 1.0
    return float(torch.sqrt((weight * gains**2).sum() / float(np.prod(shape))))


def _interpolate(ends: Range, share: float, scale: str = "linear") -> float:
    """Value at a share of a range, on a linear or a logarithmic scale."""
    if scale == "log":
        return float(np.exp(_interpolate((float(np.log(ends[0])), float(np.log(ends[1]))), share)))
    return float(ends[0] + (ends[1] - ends[0]) * share)
