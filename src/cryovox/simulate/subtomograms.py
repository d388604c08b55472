"""Crowded subtomograms: a target and its neighbors, filtered by CTF and missing wedge.

Reconstruction of the recipe behind the sets of Liu et al. (2018, arXiv:1802.04087) and of the 50 molecules
at signal-to-noise ratios of 0.03, 0.05 and infinity that later work of the same group trains on. Two steps
differ from it, to the same end. There, bounding spheres are packed by gradient descent; here, each
neighbor moves along a random line toward the target until it touches a sphere, in closed form. And the
noise added before and the noise added after the CTF are drawn at once, from the sum of their power spectra.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.spatial.transform import Rotation

from cryovox.core.particles import Particles, Species
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.formats import subtomograms as files
from cryovox.simulate.config.microscope import OpticsConfig
from cryovox.simulate.config.subtomograms import SubtomogramConfig
from cryovox.simulate.microscope.optics import ctf
from cryovox.simulate.microscope.spectra import multiplicity
from cryovox.simulate.particles.rotate import add_box, overlap_slices, rotate
from cryovox.simulate.particles.template import Template

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Poses of the particles of a subtomogram; the target is the first.

    Attributes
    ----------
    channels : (m,) int
        Index of the template of each particle.
    positions : (m, 3)
        Centers (z, y, x) in voxels of the box.
    rotations : (m, 3, 3)
        Active, reference to box, acting on (x, y, z) columns.
    """

    channels: NDArray[np.intp]
    positions: NDArray[np.float64]
    rotations: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Subtomogram:
    """A crowded subtomogram with its ground truth.

    Attributes
    ----------
    image : (n, n, n) float32
        Filtered potential with noise, particles bright.
    clean : (n, n, n) float32
        The same without noise.
    density : (n, n, n) float32
        Potential of the target alone in volts, unfiltered.
    mask : (n, n, n) uint8
        1 where `density` exceeds the threshold.
    instances : (n, n, n) uint8
        1 for the target, 2, 3, ... for the neighbors, 0 elsewhere.
    particles
        Poses, the target first.
    offset : (3,)
        From the center of the box, voxel (n - 1) / 2, to that of the target, in voxels.
    """

    image: F32
    clean: F32
    density: F32
    mask: NDArray[np.uint8]
    instances: NDArray[np.uint8]
    particles: Arrangement
    offset: NDArray[np.float64]


def simulate_subtomogram(
    templates: Sequence[Template], target: int, config: SubtomogramConfig, rng: np.random.Generator
) -> Subtomogram:
    """Draw one subtomogram around the template of index *target*.

    The noise is drawn last: with a generator in the same state, the scene is the same at all
    signal-to-noise ratios.
    """
    return _simulate_image(templates, arrange_particles(templates, target, config, rng), config, rng)


def arrange_particles(
    templates: Sequence[Template], target: int, config: SubtomogramConfig, rng: np.random.Generator
) -> Arrangement:
    """Move neighbors along random lines toward the target until bounding spheres touch."""
    neighbors = rng.integers(len(templates), size=config.neighbors)
    channels = np.concatenate([[target], neighbors]).astype(np.intp)
    rotations = Rotation.random(len(channels), random_state=rng).as_matrix()
    shift = rng.uniform(-config.offset, config.offset, 3) * config.box
    radii = np.array([templates[c].radius for c in channels]) / config.voxel_size
    centers = [np.zeros(3)]
    for radius in radii[1:]:
        line = rng.standard_normal(3)
        line /= np.linalg.norm(line)
        reach = radii[: len(centers)] + radius
        centers.append(line * _contact_distance(line, np.array(centers), reach))
    return Arrangement(channels, np.array(centers) + (config.box - 1) / 2 + shift, rotations)


def _contact_distance(
    line: NDArray[np.float64], centers: NDArray[np.float64], reach: NDArray[np.float64]
) -> float:
    """Distance along a line at which an incoming sphere first touches one of *centers*.

    It touches sphere j at the larger root t of ``|t line - c_j| = reach_j``.
    """
    along = centers @ line
    discriminant = along**2 - (centers**2).sum(axis=1) + reach**2
    return float((along + np.sqrt(np.maximum(discriminant, 0)))[discriminant >= 0].max())


def _simulate_image(
    templates: Sequence[Template], particles: Arrangement, config: SubtomogramConfig, rng: np.random.Generator
) -> Subtomogram:
    n, margin = config.box, round(config.margin * config.box)
    size = fft.next_fast_len(n + 2 * margin, real=True)
    scene, density, instances = _scene(templates, particles, config, margin, size)
    box = (slice(margin, margin + n),) * 3
    signal_filter, noise_filter = recipe_filters(size, config)
    clean = fft.irfftn(fft.rfftn(scene) * signal_filter, scene.shape)[box]
    image = clean.copy()
    if np.isfinite(config.snr):
        white = rng.standard_normal(scene.shape, dtype=np.float32)
        noise = fft.irfftn(fft.rfftn(white) * noise_filter, scene.shape)[box]
        image += noise * np.float32(np.sqrt(clean.var() / (config.snr * noise.var())))
    return Subtomogram(
        image=image,
        clean=np.ascontiguousarray(clean),
        density=np.ascontiguousarray(density[box]),
        mask=(density[box] > config.threshold * density.max()).astype(np.uint8),
        instances=np.ascontiguousarray(instances[box]),
        particles=particles,
        offset=particles.positions[0] - (n - 1) / 2,
    )


def _scene(
    templates: Sequence[Template], particles: Arrangement, config: SubtomogramConfig, margin: int, size: int
) -> tuple[F32, F32, NDArray[np.uint8]]:
    """Density of all particles and of the target alone, and the instance map."""
    scene = np.zeros((size,) * 3, np.float32)
    instances = np.zeros(scene.shape, np.uint8)
    target = scene
    for i, channel in enumerate(particles.channels):
        center = particles.positions[i] + margin
        voxel = np.rint(center).astype(int)
        density, support = rotate(
            templates[channel], particles.rotations[i], center - voxel, config.voxel_size
        )
        corner = voxel - density.shape[0] // 2
        add_box(scene, density, corner)
        overlap = overlap_slices(corner, support.shape, scene.shape)
        if overlap is not None:
            inside, part = overlap
            instances[inside][support[part] & (instances[inside] == 0)] = i + 1
        if i == 0:
            target = scene.copy()
    return scene, target, instances


@lru_cache(maxsize=4)
def recipe_filters(size: int, config: SubtomogramConfig) -> tuple[F32, F32]:
    """Fourier filters of the signal and of white noise, (size, size, size // 2 + 1) each.

    The fraction `before` of the variance of the noise is added before the CTF, on average.
    """
    kz, ky = (fft.fftfreq(size)[a] for a in np.ogrid[:size, :size])
    kz, ky, kx = kz[:, :, None], ky[:, :, None], fft.rfftfreq(size)[None, None, :]
    radius = np.sqrt(kz**2 + ky**2 + kx**2)
    steepest = np.tan(np.deg2rad(min(config.tilt, 89.99)))
    measured = (np.abs(kz) <= np.abs(kx) * steepest + 1e-9) & (radius <= 0.5)
    edge = config.voxel_size / config.resolution
    band = _gaussian_edge(radius, edge, config.roll_off / config.box) * measured
    lens = OpticsConfig(voltage=config.voltage, cs=config.cs, amplitude_contrast=config.amplitude_contrast)
    contrast = -ctf(radius / config.voxel_size, 1e4 * config.defocus, lens)  # bright for underfocus
    optics = contrast * np.exp(-((2 * radius / config.envelope) ** 2))
    detector = _gaussian_edge(radius, 1 / config.box, 0.2)
    before, after = optics * band, detector * band
    power = config.before * before**2 / _mean_power(before)
    power += (1 - config.before) * after**2 / _mean_power(after)
    return before.astype(np.float32), np.sqrt(power).astype(np.float32)


def _gaussian_edge(radius: NDArray[np.float64], edge: float, width: float) -> NDArray[np.float64]:
    """1 up to *edge*, then a Gaussian fall."""
    return np.exp(-((np.maximum(radius - edge, 0) / width) ** 2))


def _mean_power(half: NDArray[np.float64]) -> float:
    """Mean square over the full spectrum of a half-spectrum."""
    size = half.shape[0]
    return float((half**2 * multiplicity(size)).sum() / size**3)


def write_subtomograms(
    path: Path,
    templates: Sequence[Template],
    config: SubtomogramConfig,
    count: int,
    seed: int,
    on_progress: ProgressCallback = no_progress,
) -> None:
    """Write *count* subtomograms, distributed evenly over the templates; masks hold labels (index + 1).

    Subtomogram i depends on (seed, i) only: sets of one seed that differ in the signal-to-noise ratio
    show the same scenes. Images are computed chunk by chunk during writing.
    """
    voxel = config.voxel_size
    channels = np.arange(count) * len(templates) // count
    images = _LazyImages(templates, channels, config, seed, on_progress)
    arrangements = [images.arrangement(i)[0] for i in range(count)]
    names = [t.name for t in templates]
    particles = Particles.of(
        np.array([a.positions[0] for a in arrangements]).reshape(-1, 3) * voxel,
        [names[c] for c in channels],
        rotations=np.array([a.rotations[0] for a in arrangements]).reshape(-1, 3, 3),
    )
    species = tuple(
        Species(name=t.name, label=i + 1, radius=t.radius, structure=t.source)
        for i, t in enumerate(templates)
    )
    corners = np.zeros((count, 3), np.intp)
    masks = _LazyMasks(images)
    files.write(path, files.Subtomograms(images, masks, voxel, particles, species, corners, "bright"))


class _LazyImages:
    """Images of a set, computed on access."""

    def __init__(
        self,
        templates: Sequence[Template],
        channels: NDArray[np.intp],
        config: SubtomogramConfig,
        seed: int,
        on_progress: ProgressCallback = no_progress,
    ) -> None:
        self.on_progress = on_progress
        self.templates, self.channels, self.config, self.seed = templates, channels, config, seed
        self.shape = (len(channels), config.box, config.box, config.box)
        self._last: tuple[slice | None, list[Subtomogram]] = (None, [])

    def arrangement(self, i: int) -> tuple[Arrangement, np.random.Generator]:
        rng = np.random.default_rng([self.seed, i])
        return arrange_particles(self.templates, int(self.channels[i]), self.config, rng), rng

    def subtomograms(self, index: slice) -> list[Subtomogram]:
        if self._last[0] != index:
            arranged = [self.arrangement(i) for i in range(*index.indices(len(self.channels)))]
            chunk = [_simulate_image(self.templates, a, self.config, rng) for a, rng in arranged]
            self._last = (index, chunk)
            done, count = index.indices(len(self.channels))[1], len(self.channels)
            self.on_progress("subtomograms", done / count, f"{done} of {count}")
        return self._last[1]

    def __getitem__(self, index: slice) -> F32:
        return np.stack([s.image for s in self.subtomograms(index)])


class _LazyMasks:
    """Masks of a set with the label of the target, computed on access."""

    def __init__(self, images: _LazyImages) -> None:
        self.images, self.shape = images, images.shape

    def __getitem__(self, index: slice) -> NDArray[np.uint8]:
        labels = self.images.channels[index] + 1
        subtomograms = self.images.subtomograms(index)
        masks: Any = [s.mask * np.uint8(k) for s, k in zip(subtomograms, labels, strict=True)]
        return np.stack(masks)
