"""Crowded subtomograms: one target, its neighbours, and what a microscope leaves of them.

Our reconstruction of the recipe behind the sets of Liu et al. (2018, arXiv:1802.04087) and of the
50 molecules at signal-to-noise ratios of 0.03, 0.05 and infinity that later work of the same group
learns from. Two things are done otherwise, to the same end. Bounding spheres were packed there by
gradient descent; here each neighbour moves along a random line towards the target until it touches
a sphere, which has a closed form. And the noise that enters before and the noise that enters
after the contrast transfer are drawn at once, from the sum of their power spectra.
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
from cryovox.formats import subtomograms as files
from cryovox.simulate.config.microscope import OpticsConfig
from cryovox.simulate.config.subtomograms import SubtomogramConfig
from cryovox.simulate.half_spectrum import multiplicity
from cryovox.simulate.microscope.optics import ctf
from cryovox.simulate.particles.rotate import add, overlap_slices, rotate
from cryovox.simulate.particles.template import Template

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Who stands where; the target comes first.

    Attributes
    ----------
    kinds : (m,) int
        Index of the template of each.
    positions : (m, 3)
        Centres (z, y, x) in voxels of the box.
    rotations : (m, 3, 3)
        Active, reference to box, acting on (x, y, z) columns.
    """

    kinds: NDArray[np.intp]
    positions: NDArray[np.float64]
    rotations: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Subtomogram:
    """A crowded subtomogram and its truth.

    Attributes
    ----------
    image : (n, n, n) float32
        Particles bright, in volts as far as the filters let them be.
    clean : (n, n, n) float32
        The same without noise.
    grey : (n, n, n) float32
        Density of the target alone, in volts, before the microscope.
    mask : (n, n, n) uint8
        1 where it exceeds the threshold.
    instances : (n, n, n) uint8
        1 for the target, 2, 3, ... for the neighbours, 0 elsewhere.
    placed
        Who stands where, the target first.
    offset : (3,)
        From the centre of the box (voxel (n - 1) / 2) to the target's, in voxels.
    """

    image: F32
    clean: F32
    grey: F32
    mask: NDArray[np.uint8]
    instances: NDArray[np.uint8]
    placed: Arrangement
    offset: NDArray[np.float64]


def subtomogram(
    templates: Sequence[Template], target: int, config: SubtomogramConfig, rng: np.random.Generator
) -> Subtomogram:
    """Draw one subtomogram around the template of index *target*.

    The noise is drawn last: with a generator in the same state, all ratios of signal to noise show
    the same scene.
    """
    return _seen(templates, arrange(templates, target, config, rng), config, rng)


def arrange(
    templates: Sequence[Template], target: int, config: SubtomogramConfig, rng: np.random.Generator
) -> Arrangement:
    """Let neighbours fall onto the target along random lines, as bounding spheres that touch."""
    others = rng.integers(len(templates), size=config.neighbours)
    kinds = np.concatenate([[target], others]).astype(np.intp)
    rotations = Rotation.random(len(kinds), random_state=rng).as_matrix()
    shift = rng.uniform(-config.offset, config.offset, 3) * config.box
    radii = np.array([templates[k].radius for k in kinds]) / config.voxel_size
    centres = [np.zeros(3)]
    for radius in radii[1:]:
        line = rng.standard_normal(3)
        line /= np.linalg.norm(line)
        centres.append(line * _touch(line, np.array(centres), radii[: len(centres)] + radius))
    return Arrangement(kinds, np.array(centres) + (config.box - 1) / 2 + shift, rotations)


def _touch(line: NDArray[np.float64], centres: NDArray[np.float64], reach: NDArray[np.float64]) -> float:
    """Where a sphere that comes in along a line first touches one of those that lie there.

    It touches sphere j at the larger root of ``|t line - c_j| = reach_j``.
    """
    along = centres @ line
    inner = along**2 - (centres**2).sum(axis=1) + reach**2
    return float((along + np.sqrt(np.maximum(inner, 0)))[inner >= 0].max())


def _seen(
    templates: Sequence[Template], placed: Arrangement, config: SubtomogramConfig, rng: np.random.Generator
) -> Subtomogram:
    n, room = config.box, round(config.margin * config.box)
    size = fft.next_fast_len(n + 2 * room, real=True)
    whole, grey, instances = _density(templates, placed, config, room, size)
    inner = (slice(room, room + n),) * 3
    signal, noise = recipe_filters(size, config)
    clean = fft.irfftn(fft.rfftn(whole) * signal, whole.shape)[inner]
    image = clean.copy()
    if np.isfinite(config.snr):
        white = rng.standard_normal(whole.shape, dtype=np.float32)
        grain = fft.irfftn(fft.rfftn(white) * noise, whole.shape)[inner]
        image += grain * np.float32(np.sqrt(clean.var() / (config.snr * grain.var())))
    return Subtomogram(
        image=image,
        clean=np.ascontiguousarray(clean),
        grey=np.ascontiguousarray(grey[inner]),
        mask=(grey[inner] > config.threshold * grey.max()).astype(np.uint8),
        instances=np.ascontiguousarray(instances[inner]),
        placed=placed,
        offset=placed.positions[0] - (n - 1) / 2,
    )


def _density(
    templates: Sequence[Template], placed: Arrangement, config: SubtomogramConfig, room: int, size: int
) -> tuple[F32, F32, NDArray[np.uint8]]:
    """Density of all and of the target alone, and whose envelope is where."""
    whole = np.zeros((size,) * 3, np.float32)
    instances = np.zeros(whole.shape, np.uint8)
    grey = whole
    for i, kind in enumerate(placed.kinds):
        centre = placed.positions[i] + room
        voxel = np.rint(centre).astype(int)
        density, support = rotate(templates[kind], placed.rotations[i], centre - voxel, config.voxel_size)
        corner = voxel - density.shape[0] // 2
        add(whole, density, corner)
        met = overlap_slices(corner, support.shape, whole.shape)
        if met is not None:
            instances[met[0]][support[met[1]] & (instances[met[0]] == 0)] = i + 1
        if i == 0:
            grey = whole.copy()
    return whole, grey, instances


@lru_cache(maxsize=4)
def recipe_filters(size: int, config: SubtomogramConfig) -> tuple[F32, F32]:
    """What the signal and white noise are multiplied with, (size, size, size // 2 + 1) each.

    Both halves of the noise have the share of its variance that `before` says, in the mean over
    white noise.
    """
    kz, ky = (fft.fftfreq(size)[a] for a in np.ogrid[:size, :size])
    kz, ky, kx = kz[:, :, None], ky[:, :, None], fft.rfftfreq(size)[None, None, :]
    radius = np.sqrt(kz**2 + ky**2 + kx**2)
    measured = (np.abs(kz) <= np.abs(kx) * np.tan(np.deg2rad(min(config.tilt, 89.99))) + 1e-9) & (
        radius <= 0.5
    )
    band = _edge(radius, config.voxel_size / config.resolution, config.roll_off / config.box) * measured
    optics = _contrast(radius / config.voxel_size, config) * np.exp(-((2 * radius / config.envelope) ** 2))
    detector = _edge(radius, 1 / config.box, 0.2)
    projected, recorded = optics * band, detector * band
    power = config.before * projected**2 / _mean_power(projected)
    power += (1 - config.before) * recorded**2 / _mean_power(recorded)
    return projected.astype(np.float32), np.sqrt(power).astype(np.float32)


def _edge(radius: NDArray[np.float64], high: float, width: float) -> NDArray[np.float64]:
    """1 up to *high*, then a Gaussian flank."""
    return np.exp(-((np.maximum(radius - high, 0) / width) ** 2))


def _mean_power(half: NDArray[np.float64]) -> float:
    """Mean square over the whole spectrum, of which the half with kx >= 0 is given."""
    size = half.shape[0]
    return float((half**2 * multiplicity(size)).sum() / size**3)


def _contrast(k: NDArray[np.float64], config: SubtomogramConfig) -> NDArray[np.float64]:
    """Contrast transfer at frequencies in 1 / Å, bright for underfocus."""
    lens = OpticsConfig(voltage=config.voltage, cs=config.cs, amplitude_contrast=config.amplitude_contrast)
    return -ctf(k, 1e4 * config.defocus, lens)


def write_subtomograms(
    path: Path, templates: Sequence[Template], config: SubtomogramConfig, count: int, seed: int
) -> None:
    """Write *count* subtomograms, shared evenly by the templates; the masks hold their labels (index + 1).

    Number i is drawn from (seed, i) alone, so that sets of one seed that differ in the ratio of
    signal to noise show the same scenes. They are made a chunk at a time, when they are written.
    """
    voxel = config.voxel_size
    kinds = np.arange(count) * len(templates) // count
    drawn = _Drawn(templates, kinds, config, seed)
    placed = [drawn.arrangement(i)[0] for i in range(count)]
    names = [t.name for t in templates]
    particles = Particles.of(
        np.array([p.positions[0] for p in placed]).reshape(-1, 3) * voxel,
        [names[k] for k in kinds],
        rotations=np.array([p.rotations[0] for p in placed]).reshape(-1, 3, 3),
    )
    species = tuple(
        Species(name=t.name, label=i + 1, radius=t.radius, structure=t.source)
        for i, t in enumerate(templates)
    )
    corners = np.zeros((count, 3), np.intp)
    found = files.Subtomograms(drawn, _Masks(drawn), voxel, particles, species, corners, "bright")
    files.write(path, found)


class _Drawn:
    """Images that are made when they are asked for."""

    def __init__(
        self,
        templates: Sequence[Template],
        kinds: NDArray[np.intp],
        config: SubtomogramConfig,
        seed: int,
    ) -> None:
        self.templates, self.kinds, self.config, self.seed = templates, kinds, config, seed
        self.shape = (len(kinds), config.box, config.box, config.box)
        self._last: tuple[slice | None, list[Subtomogram]] = (None, [])

    def arrangement(self, i: int) -> tuple[Arrangement, np.random.Generator]:
        rng = np.random.default_rng([self.seed, i])
        return arrange(self.templates, int(self.kinds[i]), self.config, rng), rng

    def at(self, where: slice) -> list[Subtomogram]:
        if self._last[0] != where:
            made = []
            for i in range(*where.indices(len(self.kinds))):
                placed, rng = self.arrangement(i)
                made.append(_seen(self.templates, placed, self.config, rng))
            self._last = (where, made)
        return self._last[1]

    def __getitem__(self, where: slice) -> F32:
        return np.stack([s.image for s in self.at(where)])


class _Masks:
    """Their masks, with the label of the target."""

    def __init__(self, drawn: _Drawn) -> None:
        self.parameters, self.shape = drawn, drawn.shape

    def __getitem__(self, where: slice) -> NDArray[np.uint8]:
        labels = self.parameters.kinds[where] + 1
        masks: Any = [s.mask * np.uint8(k) for s, k in zip(self.parameters.at(where), labels, strict=True)]
        return np.stack(masks)
