"""Simulate the tilt series of a potential."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryovox.core.progress import ProgressCallback, no_progress, tracked
from cryovox.core.unfinished import NO_PARTS, UnfinishedParts
from cryovox.core.volume import check_voxel_size
from cryovox.simulate.config.microscope import Beyond, DetectorConfig, OpticsConfig
from cryovox.simulate.microscope import detector as camera
from cryovox.simulate.microscope import optics as lens
from cryovox.simulate.microscope.multislice import exit_wave
from cryovox.simulate.microscope.projection import project
from cryovox.simulate.microscope.spectra import amplitude_gain, filter_rings
from cryovox.simulate.microscope.tilts import Tilts

Floats = NDArray[np.float64]
Images = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TiltSeries:
    """A recorded tilt series in electrons per pixel; particles are dark.

    Attributes
    ----------
    noisefree, counts : (n, y, x) float32
        Expected and counted electrons.
    flux : (n,)
        Expected electrons per pixel in plain ice.
    tilts
        Angles, doses, shifts and defoci, true and nominal.
    voxel_size
        Pixel size in Å.
    optics, detector, seed
        Settings of the simulation.
    frames : (2, n, y, x) float32 or None
        Two exposures of each tilt, if requested; their sum is `counts`.
    amplitudes : (bins,) or None
        Target of the radial amplitudes of `counts`, if they were matched.
    """

    noisefree: Images
    counts: Images
    flux: Floats
    tilts: Tilts
    voxel_size: float
    optics: OpticsConfig
    detector: DetectorConfig
    seed: int
    frames: Images | None = None
    amplitudes: Floats | None = None

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def signal(self) -> Images:
        """Noise-free contrast 1 - I / I0, particles bright."""
        return 1 - self.noisefree / self._flux

    @property
    def contrast(self) -> Images:
        """Recorded contrast, particles bright."""
        return 1 - self.counts / self._flux

    @property
    def noise(self) -> Images:
        """Noise: `contrast` minus `signal`."""
        return (self.noisefree - self.counts) / self._flux

    @property
    def _flux(self) -> Images:
        return self.flux.astype(np.float32)[:, None, None]

    def halves(self) -> tuple[TiltSeries, TiltSeries]:
        """Two series with independent noise: the exposures of each tilt, or else even and odd tilts."""
        if self.frames is None:
            return self.subset(slice(0, None, 2)), self.subset(slice(1, None, 2))
        half = replace(self, noisefree=self.noisefree * np.float32(0.5), flux=self.flux / 2, frames=None)
        return replace(half, counts=self.frames[0]), replace(half, counts=self.frames[1])

    def subset(self, which: slice | NDArray[Any]) -> TiltSeries:
        """Select tilts."""
        frames = None if self.frames is None else self.frames[:, which]
        return replace(
            self,
            noisefree=self.noisefree[which],
            counts=self.counts[which],
            flux=self.flux[which],
            tilts=self.tilts.subset(which),
            frames=frames,
        )

    def scale_noise(self, factor: float) -> TiltSeries:
        """The series with its noise multiplied by *factor*."""

        def scaled(counts: Images, fraction: float) -> Any:
            expected = self.noisefree * np.float32(fraction)
            return expected + np.float32(factor) * (counts - expected)

        frames = None if self.frames is None else scaled(self.frames, 0.5)
        return replace(self, counts=scaled(self.counts, 1.0), frames=frames)

    def match_amplitudes(self, amplitudes: Floats) -> TiltSeries:
        """Filter the images to the radial *amplitudes* (bins,) of an experiment.

        The recorded images are matched, since the spectrum of the experiment includes noise. Signal and
        noise pass the same filter, which keeps their ratio at each frequency. Every image keeps its
        variance, since the scale of gray values differs between experiments.
        """
        gain = amplitude_gain(self.counts, amplitudes)
        before, after = (
            s.std((1, 2), dtype=np.float64) for s in (self.counts, filter_rings(self.counts, gain))
        )
        gain *= (before / after)[:, None]
        noisefree, counts = filter_rings(self.noisefree, gain), filter_rings(self.counts, gain)
        frames = None if self.frames is None else np.stack([filter_rings(f, gain) for f in self.frames])
        return replace(self, noisefree=noisefree, counts=counts, frames=frames, amplitudes=amplitudes)

    def as_dict(self) -> dict[str, Any]:
        """Parameters of the series, for JSON."""
        matched = {} if self.amplitudes is None else {"amplitudes": self.amplitudes.tolist()}
        return matched | {
            "voxel_size": self.voxel_size,
            "seed": self.seed,
            "flux": self.flux.tolist(),
            "tilts": self.tilts.as_dict(),
            "optics": self.optics.model_dump(mode="json"),
            "detector": self.detector.model_dump(mode="json"),
        }


def acquire(  # noqa: PLR0913 (settings of a microscope)
    potential: Images,
    voxel_size: float,
    tilts: Tilts,
    optics: OpticsConfig | None = None,
    detector: DetectorConfig | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    beyond: Beyond = "nothing",
    parts: UnfinishedParts = NO_PARTS,
    on_progress: ProgressCallback = no_progress,
) -> TiltSeries:
    """Simulate a tilt series.

    Parameters
    ----------
    potential : (z, y, x)
        Electrostatic potential above that of the ice, in V; plain ice surrounds the volume.
    voxel_size
        Voxel size in Å.
    tilts
        From `tilt_scheme`; the true angles, defoci and shifts are used.
    seed
        Seed of the counting noise, together with the number of the tilt.
    device
        "cpu" or a torch device, for the projections and the multislice waves.
    beyond
        Content next to the volume in x: ice, or the mirror image of the volume (not with multislice).
    parts
        Images of an interrupted run with multislice, which are used again.
    """
    check_voxel_size(voxel_size)
    optics, detector = optics or OpticsConfig(), detector or DetectorConfig()
    images = intensities(potential, voxel_size, tilts, optics, device, beyond, parts, on_progress)
    thickness = potential.shape[0] * voxel_size
    flux = camera.flux(detector, tilts.dose, tilts.angles, voxel_size, thickness)
    recorded = [
        _record(image, flux[i], detector, voxel_size, (seed, int(tilts.order[i])))
        for i, image in enumerate(images)
    ]
    noisefree = np.stack([expected for expected, _ in recorded])
    exposures = np.stack([counts for _, counts in recorded], 1)
    frames = exposures if detector.frames else None
    series = TiltSeries(noisefree, exposures.sum(0), flux, tilts, voxel_size, optics, detector, seed, frames)
    if detector.snr is None:
        return series
    return series.scale_noise(camera.noise_factor(series.signal, series.noise, detector.snr))


def intensities(
    potential: Images,
    voxel_size: float,
    tilts: Tilts,
    optics: OpticsConfig,
    device: str = "cpu",
    beyond: Beyond = "nothing",
    parts: UnfinishedParts = NO_PARTS,
    on_progress: ProgressCallback = no_progress,
) -> Images:
    """(n, y, x) intensities before the detector relative to plain ice, with optics, damage and shift."""
    if optics.model == "multislice":
        samples = [potential] * len(tilts)
    else:
        phase_per_volt = lens.interaction_constant(optics.voltage) * voxel_size
        phases = project(potential, tilts.angles, device, beyond, on_progress)
        samples = list(np.float32(phase_per_volt) * phases)
        parts, on_progress = NO_PARTS, no_progress  # the rest takes moments
    images = [
        parts.array(f"tilt-{i}", partial(_image, sample, i, voxel_size, tilts, optics, device))
        for i, sample in enumerate(tracked(samples, on_progress, "tilts"))
    ]
    return np.stack(images)


def _image(
    sample: Images, i: int, voxel_size: float, tilts: Tilts, optics: OpticsConfig, device: str
) -> Images:
    """Intensity of tilt i; *sample* is the phase (y, x), or the potential (z, y, x) for multislice."""
    shape = sample.shape[-2:]
    padded = _padded_shape(shape, voxel_size, tilts, optics)
    if optics.model == "weak":
        ky, kx = lens.frequency_axes(padded, voxel_size)
        frequency, defocus = np.hypot(ky, kx), tilts.defocus_at(i, ky, kx)
        transfer = lens.ctf(frequency, defocus, optics) * lens.envelope(frequency, defocus, optics)
        spectrum = fft.rfft2(sample, s=padded) * (2 * transfer).astype(np.float32)
    else:
        wave = _wave(sample, i, voxel_size, tilts, optics, padded, device)
        spectrum = fft.rfft2(_image_of_wave(wave, i, voxel_size, tilts, optics) - 1)
    spectrum *= _damage_and_shift(padded, i, voxel_size, tilts, optics)
    return 1 + fft.irfft2(spectrum, s=padded)[: shape[0], : shape[1]]


def _wave(
    sample: Images,
    i: int,
    voxel_size: float,
    tilts: Tilts,
    optics: OpticsConfig,
    padded: tuple[int, int],
    device: str,
) -> NDArray[np.complex64]:
    if optics.model == "multislice":
        return exit_wave(sample, float(tilts.angles[i]), voxel_size, optics, padded, device)
    wave = np.ones(padded, np.complex64)
    wave[: sample.shape[0], : sample.shape[1]] = np.exp(np.complex64(lens.transmission(optics)) * sample)
    return wave


def _image_of_wave(
    wave: NDArray[np.complex64], i: int, voxel_size: float, tilts: Tilts, optics: OpticsConfig
) -> Images:
    """Intensity |wave|^2 in the plane of the detector."""
    ky, kx = np.meshgrid(*(fft.fftfreq(n, voxel_size) for n in wave.shape), indexing="ij")
    frequency, defocus = np.hypot(ky, kx), tilts.defocus_at(i, ky, kx)
    phase = lens.aberration_phase(frequency, defocus, optics)
    transfer = np.exp(1j * phase) * lens.envelope(frequency, defocus, optics)
    image_wave = fft.ifft2(fft.fft2(wave) * transfer.astype(np.complex64))
    return image_wave.real**2 + image_wave.imag**2


def _damage_and_shift(
    padded: tuple[int, int], i: int, voxel_size: float, tilts: Tilts, optics: OpticsConfig
) -> NDArray[np.complex64]:
    """Fourier filter of radiation damage and image shift of tilt i."""
    ky, kx = lens.frequency_axes(padded, voxel_size)
    shift = tilts.shifts[i]
    transfer = np.exp(-2j * np.pi * (ky * shift[0] + kx * shift[1]))
    if optics.damage:
        frequency = np.hypot(ky, kx)
        transfer *= lens.dose_filter(frequency, tilts.accumulated[i], tilts.dose[i], optics.voltage)
    return transfer.astype(np.complex64)


def _padded_shape(
    shape: tuple[int, ...], voxel_size: float, tilts: Tilts, optics: OpticsConfig
) -> tuple[int, int]:
    """Image size with a margin of ice for the delocalization by optics and shifts."""
    nyquist = 0.5 / voxel_size
    defocus = np.abs(tilts.defocus) + 0.5 * tilts.astigmatism
    spread = lens.wavelength(optics.voltage) * defocus.max() * nyquist
    margin = int(np.ceil((spread + 2 * np.abs(tilts.shifts).max()) / voxel_size)) + 8
    y, x = (fft.next_fast_len(n + margin, real=True) for n in shape)
    return y, x


def _record(
    image: Images, flux: float, detector: DetectorConfig, voxel_size: float, key: tuple[int, int]
) -> tuple[Images, Images]:
    """Expected image (y, x), and counted exposures (1 or 2, y, x)."""
    before, after = camera.detector_filters(
        lens.radial_frequency(image.shape, voxel_size), detector, voxel_size
    )
    expected = flux * _apply_filter(image, before)
    count = 2 if detector.frames else 1
    exposures = [camera.poisson_counts(expected / count, key[0], key[1], part) for part in range(count)]
    return _apply_filter(expected, after), np.stack([_apply_filter(part, after) for part in exposures])


def _apply_filter(image: Images, transfer: Floats) -> Images:
    if np.all(transfer == 1):
        return image.astype(np.float32)
    return fft.irfft2(fft.rfft2(image) * transfer.astype(np.float32), s=image.shape).astype(np.float32)
