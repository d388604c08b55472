"""From the potential of a scene to the tilt series that a camera records."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

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
    """A tilt series as recorded: particles are dark, values are electrons per pixel.

    Attributes
    ----------
    noisefree, counts : (n, y, x) float32
        What is expected, through optics and camera, and what was counted.
    flux : (n,)
        Electrons counted per pixel where the sample is plain ice.
    tilts
        The series' angles, doses, shifts and defoci, true and nominal.
    voxel_size
        Edge of a pixel in Å.
    optics, detector, seed
        What made it.
    frames : (2, n, y, x) float32 or None
        The two exposures of each tilt, where they were asked for; their sum is `counts`.
    amplitudes : (bins,) or None
        To what the radial amplitudes of `counts` were made proportional.
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
        """The noise-free contrast 1 - I / I0, particles bright: what to reconstruct."""
        return 1 - self.noisefree / self._flux

    @property
    def contrast(self) -> Images:
        """The recorded contrast, particles bright."""
        return 1 - self.counts / self._flux

    @property
    def noise(self) -> Images:
        """What `contrast` has more than `signal`."""
        return (self.noisefree - self.counts) / self._flux

    @property
    def _flux(self) -> Images:
        return self.flux.astype(np.float32)[:, None, None]

    def halves(self) -> tuple[TiltSeries, TiltSeries]:
        """Two series of independent noise: the two exposures of each tilt, or else even and odd tilts."""
        if self.frames is None:
            return self.subset(slice(0, None, 2)), self.subset(slice(1, None, 2))
        half = replace(self, noisefree=self.noisefree * np.float32(0.5), flux=self.flux / 2, frames=None)
        return replace(half, counts=self.frames[0]), replace(half, counts=self.frames[1])

    def subset(self, which: slice | NDArray[Any]) -> TiltSeries:
        """Some of the tilts."""
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
        """The same series with its noise multiplied by *factor*."""

        def scaled(counts: Images, part: float) -> Any:
            expected = self.noisefree * np.float32(part)
            return expected + np.float32(factor) * (counts - expected)

        frames = None if self.frames is None else scaled(self.frames, 0.5)
        return replace(self, counts=scaled(self.counts, 1.0), frames=frames)

    def match_amplitudes(self, amplitudes: Floats) -> TiltSeries:
        """The same series, the recorded images having the radial *amplitudes* (bins,) of an experiment.

        What the camera recorded is filtered, noise and all, since so was the experiment's spectrum; signal
        and noise pass the same filter, and at each frequency their ratio stays. Every image keeps its
        variance: what one grey value stands for is another matter in every experiment.
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
        """Everything but the images, for JSON."""
        matched = {} if self.amplitudes is None else {"amplitudes": self.amplitudes.tolist()}
        return matched | {
            "voxel_size": self.voxel_size,
            "seed": self.seed,
            "flux": self.flux.tolist(),
            "tilts": self.tilts.as_dict(),
            "optics": self.optics.model_dump(mode="json"),
            "detector": self.detector.model_dump(mode="json"),
        }


def acquire(
    potential: Images,
    voxel_size: float,
    tilts: Tilts,
    optics: OpticsConfig | None = None,
    detector: DetectorConfig | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    beyond: Beyond = "nothing",
) -> TiltSeries:
    """Take a tilt series.

    Parameters
    ----------
    potential : (z, y, x)
        Electrostatic potential above that of the ice, in V; the ice goes on beyond the volume.
    voxel_size
        Edge of a voxel in Å.
    tilts
        As drawn by `tilt_scheme`; the true angles, defoci and shifts are used.
    seed
        Of the counting noise, together with the number of the tilt.
    device
        "cpu" or a torch device, for the projections and the multislice waves.
    beyond
        What lies next to the volume in x: nothing but ice, or its mirror image (not for multislice).
    """
    check_voxel_size(voxel_size)
    optics, detector = optics or OpticsConfig(), detector or DetectorConfig()
    light = intensities(potential, voxel_size, tilts, optics, device, beyond)
    thickness = potential.shape[0] * voxel_size
    flux = camera.flux(detector, tilts.dose, tilts.angles, voxel_size, thickness)
    recorded = [
        _record(image, flux[i], detector, voxel_size, (seed, int(tilts.order[i])))
        for i, image in enumerate(light)
    ]
    noisefree = np.stack([expected for expected, _ in recorded])
    parts = np.stack([counted for _, counted in recorded], 1)
    frames = parts if detector.frames else None
    series = TiltSeries(noisefree, parts.sum(0), flux, tilts, voxel_size, optics, detector, seed, frames)
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
) -> Images:
    """(n, y, x) images before the camera, relative to those of plain ice: lens, damage and shift."""
    if optics.model == "multislice":
        objects = [potential] * len(tilts)
    else:
        strength = lens.interaction_constant(optics.voltage) * voxel_size
        objects = list(np.float32(strength) * project(potential, tilts.angles, device, beyond))
    seen = [_image(thing, i, voxel_size, tilts, optics, device) for i, thing in enumerate(objects)]
    return np.stack(seen)


def _image(
    thing: Images, i: int, voxel_size: float, tilts: Tilts, optics: OpticsConfig, device: str
) -> Images:
    """One image: *thing* is the phase (y, x), or for multislice the potential (z, y, x)."""
    shape = thing.shape[-2:]
    padded = _padded(shape, voxel_size, tilts, optics)
    if optics.model == "weak":
        ky, kx = lens.frequency_axes(padded, voxel_size)
        frequency, defocus = np.hypot(ky, kx), tilts.defocus_at(i, ky, kx)
        transfer = lens.ctf(frequency, defocus, optics) * lens.envelope(frequency, defocus, optics)
        change = fft.rfft2(thing, s=padded) * (2 * transfer).astype(np.float32)
    else:
        wave = _wave(thing, i, voxel_size, tilts, optics, padded, device)
        change = fft.rfft2(_through_lens(wave, i, voxel_size, tilts, optics) - 1)
    change *= _after(padded, i, voxel_size, tilts, optics)
    return 1 + fft.irfft2(change, s=padded)[: shape[0], : shape[1]]


def _wave(
    thing: Images,
    i: int,
    voxel_size: float,
    tilts: Tilts,
    optics: OpticsConfig,
    padded: tuple[int, int],
    device: str,
) -> NDArray[np.complex64]:
    if optics.model == "multislice":
        return exit_wave(thing, float(tilts.angles[i]), voxel_size, optics, padded, device)
    wave = np.ones(padded, np.complex64)
    wave[: thing.shape[0], : thing.shape[1]] = np.exp(np.complex64(lens.transmission(optics)) * thing)
    return wave


def _through_lens(
    wave: NDArray[np.complex64], i: int, voxel_size: float, tilts: Tilts, optics: OpticsConfig
) -> Images:
    """|wave|^2 in the plane of the camera."""
    ky, kx = np.meshgrid(*(fft.fftfreq(n, voxel_size) for n in wave.shape), indexing="ij")
    frequency, defocus = np.hypot(ky, kx), tilts.defocus_at(i, ky, kx)
    phase = lens.aberration_phase(frequency, defocus, optics)
    transfer = np.exp(1j * phase) * lens.envelope(frequency, defocus, optics)
    there = fft.ifft2(fft.fft2(wave) * transfer.astype(np.complex64))
    return there.real**2 + there.imag**2


def _after(
    padded: tuple[int, int], i: int, voxel_size: float, tilts: Tilts, optics: OpticsConfig
) -> NDArray[np.complex64]:
    """Radiation damage and the shift of tilt i, as a filter."""
    ky, kx = lens.frequency_axes(padded, voxel_size)
    shift = tilts.shifts[i]
    transfer = np.exp(-2j * np.pi * (ky * shift[0] + kx * shift[1]))
    if optics.damage:
        frequency = np.hypot(ky, kx)
        transfer *= lens.dose_filter(frequency, tilts.accumulated[i], tilts.dose[i], optics.voltage)
    return transfer.astype(np.complex64)


def _padded(shape: tuple[int, ...], voxel_size: float, tilts: Tilts, optics: OpticsConfig) -> tuple[int, int]:
    """Size with ice around the image for what the lens and the shifts carry across its edge."""
    nyquist = 0.5 / voxel_size
    defocus = np.abs(tilts.defocus) + 0.5 * tilts.astigmatism
    spread = lens.wavelength(optics.voltage) * defocus.max() * nyquist
    margin = int(np.ceil((spread + 2 * np.abs(tilts.shifts).max()) / voxel_size)) + 8
    y, x = (fft.next_fast_len(n + margin, real=True) for n in shape)
    return y, x


def _record(
    image: Images, flux: float, detector: DetectorConfig, voxel_size: float, key: tuple[int, int]
) -> tuple[Images, Images]:
    """The expected image (y, x), and the counted exposures (1 or 2, y, x)."""
    before, after = camera.detector_filters(
        lens.radial_frequency(image.shape, voxel_size), detector, voxel_size
    )
    arriving = flux * _filtered(image, before)
    count = 2 if detector.frames else 1
    drawn = [camera.poisson_counts(arriving / count, key[0], key[1], part) for part in range(count)]
    return _filtered(arriving, after), np.stack([_filtered(part, after) for part in drawn])


def _filtered(image: Images, transfer: Floats) -> Images:
    if np.all(transfer == 1):
        return image.astype(np.float32)
    return fft.irfft2(fft.rfft2(image) * transfer.astype(np.float32), s=image.shape).astype(np.float32)
