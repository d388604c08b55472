"""Simulated training patches: crowded boxes imaged by randomly drawn microscopes.

A periodic box is filled with particles in precomputed poses (`simulate.stream.box`), multiplied in Fourier
space by the transfer function of a microscope and a back-projection (`simulate.stream.transfer`), given
noise of the spectrum that these leave, and cut into patches. The patches of a group of boxes are shuffled, so
that a batch shows several microscopes.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.data.augment import cut_off
from cryovox.data.channels import template_species
from cryovox.data.imaging_domain import DomainConfig, Shape, apply_microscope, sample_transfer
from cryovox.data.patches import Patch
from cryovox.data.sampling import SamplingConfig
from cryovox.data.streams import Batch, collate
from cryovox.data.targets import gaussian_heatmap, heatmap_sigma
from cryovox.simulate.particles.template import Template
from cryovox.simulate.stream.box import (
    EMPTY,
    GOLD,
    MEMBRANE,
    Mixture,
    PeriodicBox,
    draw_sample,
    fill_box,
    periodic_slices,
)
from cryovox.simulate.stream.poses import PoseLibrary
from cryovox.simulate.stream.surroundings import Surroundings
from cryovox.simulate.stream.transfer import TransferFunction

# independent streams of random numbers
SCENE, MICROSCOPE, NOISE, CUTS, ORDER, POSES, SHAPES, AROUND, FACES = range(9)
KINDS = {"membrane": MEMBRANE, "gold": GOLD, "empty": EMPTY}
"""Surroundings by name, with their labels in `PeriodicBox.surroundings`."""
CACHED = 3  # microscopes besides the newest
Cut = tuple["Block", NDArray[np.intp]]


@dataclass(frozen=True, eq=False)
class Block:
    """An imaged periodic box, and where to cut it.

    Attributes
    ----------
    image : (z, y, x) float32
        Network input.
    contents
        Particles in the box.
    corners : (m, 3) int
        Low corners of the patches, which wrap around the faces of the box.
    """

    image: NDArray[np.float32]
    contents: PeriodicBox
    corners: NDArray[np.intp]


class SimulatedStream:
    """Batches of simulated patches.

    Batch n depends on the seed, on n and on the settings only: not on the order in which batches are drawn,
    nor on the number of workers. Noise is numpy's Philox on the CPU; other devices draw other noise, with
    their own torch generator.

    Parameters
    ----------
    templates
        Species, in the order of the channels unless *channels* says otherwise.
    sampling
        How to draw patches; they are not augmented, except by `DomainConfig.cut`. Fourier transforms are
        computed on its device.
    domain
        Range of imaging conditions.
    voxel_size
        Nominal voxel size in Å; that of the templates by default.
    workers
        Boxes computed at a time, each in a thread.
    species, channels
        Species of the targets, and the index into them of every template, where templates share species.
    abundance
        Weight of each template where the species of a box are drawn (`species_per_box`); all 1 by default.
    ahead
        Groups of boxes to compute in advance.
    """

    def __init__(  # noqa: PLR0913
        self,
        templates: Sequence[Template],
        sampling: SamplingConfig,
        domain: DomainConfig | None = None,
        *,
        voxel_size: float | None = None,
        workers: int = 1,
        species: Sequence[Species] | None = None,
        channels: Sequence[int] | None = None,
        abundance: Sequence[float] | None = None,
        ahead: int = 1,
    ) -> None:
        if not templates:
            raise RequestError("templates", "there are none", "name at least one species to simulate")
        self.sampling, self.domain = sampling, domain or DomainConfig()
        *seed, last = sampling.seed
        self.seed, self.patch_size = (*seed, last + sampling.rank), sampling.patch_size
        self.voxel_size = voxel_size or templates[0].voxel_size
        self.species = tuple(species or template_species(templates))
        self.channels = np.arange(len(templates)) if channels is None else np.asarray(channels, np.intp)
        weights = np.ones(len(templates)) if abundance is None else np.asarray(abundance, float)
        self.weights = weights / np.bincount(self.channels)[self.channels]
        sizes = np.linspace(*self.domain.voxel_size, self.domain.voxel_sizes) * self.voxel_size
        self.pose_library = PoseLibrary(templates, sizes.tolist(), self.domain.poses, (*self.seed, POSES))
        self.surroundings = Surroundings(
            self.domain.surroundings, self.pose_library.voxel_sizes, (*self.seed, SHAPES)
        )
        z, y, x = (max(n, self.patch_size) for n in self.domain.block)
        self.shape: Shape = (z, y, x)
        self.blocks = max(self.domain.blocks, -(-sampling.batch_size // self.domain.patches))
        self.batches_per_group = self.blocks * self.domain.patches // sampling.batch_size
        self.ahead = ahead
        self._pool = ThreadPoolExecutor(workers)
        self._microscopes: dict[int, tuple[int, TransferFunction]] = {}
        self._groups: dict[int, list[Future[Block]]] = {}

    def batch(self, number: int) -> Batch:
        """Return batch *number*, and start computing the next group of boxes."""
        rng = np.random.default_rng([*self.seed, FACES, number])
        patches = [self._patch(*cut) for cut in self._cuts(number)]
        patches = [cut_off(patch, rng) if rng.random() < self.domain.cut else patch for patch in patches]
        return collate(patches, self.sampling.spec)

    def _patch(self, block: Block, corner: NDArray[np.intp]) -> Patch:
        image = _cube(block.image, corner, self.patch_size)
        if self.sampling.spec.kind == "mask":
            target: NDArray[Any] = _cube(block.contents.labels, corner, self.patch_size)
        else:
            target = self._heatmap(block, corner)
        return Patch(image, target, np.ones(target.shape, bool))

    def surroundings_batch(self, number: int) -> Batch:
        """Images of batch *number*; the target is the fraction of each output voxel in each of `KINDS`.

        What is cut off (`DomainConfig.cut`) is empty.
        """
        rng = np.random.default_rng([*self.seed, FACES, number])
        patches = []
        for block, corner in self._cuts(number):
            target = self._fractions(block, corner)
            image = _cube(block.image, corner, self.patch_size)
            patch = Patch(image, target, np.ones(target.shape, bool))
            if rng.random() < self.domain.cut:
                patch = cut_off(patch, rng)
                empty = np.array([kind == EMPTY for kind in KINDS.values()], np.float32)[:, None, None, None]
                target = np.where(patch.valid_mask, patch.target, empty)
                patch = Patch(patch.image, target, np.ones(target.shape, bool))
            patches.append(patch)
        return collate(patches, self.sampling.spec)

    def _fractions(self, block: Block, corner: NDArray[np.intp]) -> NDArray[np.float32]:
        labels = _cube(block.contents.surroundings, corner, self.patch_size)
        stride, n = self.sampling.spec.output_stride, self.patch_size // self.sampling.spec.output_stride
        cells = labels.reshape(n, stride, n, stride, n, stride)
        return np.stack([(cells == kind).mean(axis=(1, 3, 5), dtype=np.float32) for kind in KINDS.values()])

    def truth(self, number: int) -> list[Particles]:
        """Particles in every patch of batch *number*, in Å from the first voxel of the patch."""
        return [self._particles(*cut) for cut in self._cuts(number)]

    def block(self, number: int) -> Block:
        """Compute box *number*."""
        scene, cuts = (np.random.default_rng([*self.seed, part, number]) for part in (SCENE, CUTS))
        noise = np.random.Generator(np.random.Philox(np.random.SeedSequence([*self.seed, NOISE, number])))
        level, transfer = self._microscope(number // self.domain.scenes)
        around = np.random.default_rng([*self.seed, AROUND, number])
        contents = self._fill(level, scene, around)
        image = apply_microscope(
            contents.potential,
            transfer,
            self.domain,
            noise,
            self.sampling.device,
            self.pose_library.voxel_sizes[level],
            contents.sample,
        )
        return Block(image, contents, self._corners(contents, cuts))

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _microscope(self, number: int) -> tuple[int, TransferFunction]:
        """Index of a voxel size, and a transfer function; two threads may compute the same one."""
        microscope = self._microscopes.get(number)
        if microscope is None:
            rng = np.random.default_rng([*self.seed, MICROSCOPE, number])
            level = int(rng.integers(self.domain.voxel_sizes))
            microscope = (
                level,
                sample_transfer(self.domain, self.shape, self.pose_library.voxel_sizes[level], rng),
            )
            self._microscopes = {number: microscope, **dict(list(self._microscopes.items())[:CACHED])}
        return microscope

    def _fill(self, level: int, rng: np.random.Generator, around: np.random.Generator) -> PeriodicBox:
        domain = self.domain
        occupancy, has_surface = rng.uniform(*domain.occupancy), rng.random() < domain.surface
        depth = rng.uniform(0.4, 0.9) if has_surface else 1.0
        if around.random() < domain.empty:
            occupancy = 0.0
        box = fill_box(
            self.pose_library,
            level,
            self.shape,
            occupancy * depth,
            rng,
            most=domain.most,
            depth=depth,
            mixture=self._mixture(around),
            grids=self.surroundings.draw(level, self.shape, around),
        )
        has_void = domain.void > 0 and around.random() < domain.void
        return box.cut(draw_sample(self.shape, around)) if has_void else box

    def _mixture(self, rng: np.random.Generator) -> Mixture:
        """Species of a box; where only some occur, channels are drawn equally often."""
        every = np.arange(len(self.channels))
        if self.domain.species_per_box is None:
            return Mixture(every.tolist(), self.channels.tolist())
        low, high = self.domain.species_per_box
        number = min(int(rng.integers(low, high + 1)), len(every))
        drawn = rng.choice(every, number, replace=False, p=self.weights / self.weights.sum())
        return Mixture(drawn.tolist(), self.channels.tolist())

    def _cuts(self, number: int) -> list[Cut]:
        """Blocks and corners of the patches of a batch."""
        per_block, size = self.domain.patches, self.sampling.batch_size
        group, place = divmod(number, self.batches_per_group)
        blocks = [future.result() for future in self._group(group)]
        order = np.random.default_rng([*self.seed, ORDER, group]).permutation(self.blocks * per_block)
        pairs = (divmod(int(i), per_block) for i in order[place * size : (place + 1) * size])
        return [(blocks[block], blocks[block].corners[patch]) for block, patch in pairs]

    def _group(self, number: int) -> list[Future[Block]]:
        """Start computing this group of boxes and the next ones, and drop the others."""
        kept = range(number, number + 1 + self.ahead)
        for other in set(self._groups) - set(kept):
            for future in self._groups.pop(other):
                future.cancel()
        for n in kept:
            if n not in self._groups:
                first = n * self.blocks
                self._groups[n] = [self._pool.submit(self.block, first + i) for i in range(self.blocks)]
        return self._groups[number]

    def _corners(self, contents: PeriodicBox, rng: np.random.Generator) -> NDArray[np.intp]:
        """Low corners of the patches: a fraction near a particle, the others anywhere."""
        config = self.sampling.patches
        corners = rng.integers(0, self.shape, (self.domain.patches, 3))
        kinds = np.unique(contents.channels)
        for corner in corners:
            near, shift = rng.random() < config.foreground, rng.uniform(-config.jitter, config.jitter, 3)
            if near and len(kinds):
                every = np.arange(len(contents.channels))
                balanced = np.flatnonzero(contents.channels == rng.choice(kinds)) if config.balance else every
                center = contents.positions[rng.choice(balanced)]
                corner[:] = np.rint(center + self.patch_size * (shift - 0.5))
        return (corners % np.array(self.shape)).astype(np.intp)

    def _nearby(self, block: Block, corner: NDArray[np.intp]) -> NDArray[np.float64]:
        """Centers relative to the first voxel of a patch, each in the period closest to the patch."""
        gap = (np.array(self.shape) - self.patch_size) / 2
        return np.mod(block.contents.positions - corner + gap, self.shape) - gap

    def _particles(self, block: Block, corner: NDArray[np.intp]) -> Particles:
        near = self._nearby(block, corner)
        within = ((near >= -0.5) & (near < self.patch_size - 0.5)).all(axis=1)
        names = [self.species[c].name for c in block.contents.channels[within]]
        turns = block.contents.rotations[within]
        return Particles.of(near[within] * self.voxel_size, names, rotations=turns)

    def _heatmap(self, block: Block, corner: NDArray[np.intp]) -> NDArray[np.float32]:
        # output voxel i of a head of stride s is centered at input voxel s * i + (s - 1) / 2
        stride = self.sampling.spec.output_stride
        patch_size = self.patch_size // stride
        centers = (self._nearby(block, corner) - (stride - 1) / 2) / stride
        sigmas = [heatmap_sigma(kind, self.voxel_size * stride) for kind in self.species]
        reaching = ((centers > -4 * max(sigmas)) & (centers < patch_size + 4 * max(sigmas))).all(axis=1)
        centers, channels = centers[reaching], block.contents.channels[reaching]
        maps = [gaussian_heatmap(centers[channels == c], s, (patch_size,) * 3) for c, s in enumerate(sigmas)]
        return np.stack(maps)


def _cube(array: NDArray[Any], corner: NDArray[np.intp], patch_size: int) -> NDArray[Any]:
    z, y, x = array.shape
    return array[periodic_slices(corner, (patch_size,) * 3, (z, y, x))]
