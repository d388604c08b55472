"""Subtomograms as training data: each is a small region, normalized on its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cryovox.core.config import Contrast
from cryovox.core.errors import RequestError
from cryovox.core.intensity import MIN_CERTAINTY, Normalization, sign_of
from cryovox.core.particles import Species
from cryovox.data.augment import augment
from cryovox.data.patches import Patch, TargetSpec, cut
from cryovox.data.regions import Region
from cryovox.data.sampling import SamplingConfig
from cryovox.data.streams import Batch, Prefetcher, collate
from cryovox.data.targets import within_radius
from cryovox.formats.subtomograms import Subtomograms, batches

IDENTITY = Normalization(0.0, 1.0)
ORDER = 2**31  # seeds a separate stream of random numbers
CONTRAST_SAMPLES = 512
"""Maximum number of subtomograms from which the contrast of a set is detected."""


@dataclass(frozen=True, eq=False)
class Cubes:
    """Subtomograms in memory, ready for training.

    Attributes
    ----------
    images : (n, z, y, x) float16
        Each of mean 0 and standard deviation 1, particles bright. Half precision is 500 times finer
        than the noise, and half as large.
    labels : (n, z, y, x) uint8 or None
        Channel + 1, 0 is background.
    voxel_size : float
        Å.
    species
        In the order of the channels.
    species_names : (n,) str
        Species of the particle that each was extracted for, by which a hold-out is stratified.
    cube_index : (m,) int, centers : (m, 3), channels : (m,) int
        Annotated particles: the subtomogram, the center in it in voxels, and the species.
    indices : (k,) int
        The subset in use.
    contrast
        Of the set on disk.
    """

    images: NDArray[np.float16]
    labels: NDArray[np.uint8] | None
    voxel_size: float
    species: tuple[Species, ...]
    species_names: NDArray[np.str_]
    cube_index: NDArray[np.intp]
    centers: NDArray[np.float64]
    channels: NDArray[np.intp]
    indices: NDArray[np.intp]
    contrast: Literal["dark", "bright"]

    def __len__(self) -> int:
        return len(self.indices)

    def region(self, i: int, spec: TargetSpec) -> Region:
        """Subtomogram number *i* of the subset, as a region.

        A mask labels all voxels. Centers do not: for heatmaps, voxels away from them are ignored.
        """
        n = self.indices[i]
        z, y, x = self.images.shape[1:]
        low, high = np.searchsorted(self.cube_index, (n, n + 1))
        return Region(
            name=str(n),
            data=self.images[n],
            voxel_size=self.voxel_size,
            normalize=IDENTITY,
            bounds=((0, z), (0, y), (0, x)),
            species=self.species,
            positions=self.centers[low:high],
            channels=self.channels[low:high],
            labels=None if self.labels is None else self.labels[n],
            annotated_mask=None,
            exhaustive=np.full(len(self.species), spec.kind == "mask"),
        )

    def digest(self) -> str:
        """Hash of all training data, wherever it is stored."""
        digest = hashlib.sha256(repr((self.voxel_size, self.species)).encode())
        arrays: tuple[Any, ...] = (self.images, self.cube_index, self.centers, self.channels, self.indices)
        for array in (*arrays, *(() if self.labels is None else (self.labels,))):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load_cubes(
    subtomograms: Subtomograms, where: Any = "set", *, contrast: Contrast = "auto", merge: bool = False
) -> Cubes:
    """Read a set into memory.

    Parameters
    ----------
    where
        Name of the set in error messages.
    contrast
        Of the images; by default that recorded in the set, else the detected one.
    merge
        Merge all species into one, called "particle".
    """
    if subtomograms.images is None:
        raise RequestError(where, "holds labels and no images", "name the set with the subtomograms")
    detected, certainty = (
        (contrast, MIN_CERTAINTY) if contrast != "auto" else detect_set_contrast(subtomograms)
    )
    if certainty < MIN_CERTAINTY:
        message = f"whether particles are dark or bright is unclear ({detected}, certainty {certainty:.1f})"
        raise RequestError(where, message, "set --set-contrast dark or --set-contrast bright")
    images = np.empty((len(subtomograms), *subtomograms.shape), np.float16)
    for at in batches(len(subtomograms), subtomograms.shape):
        images[at] = standardize(subtomograms.images[at], detected, where)
    masks = None if subtomograms.masks is None else np.asarray(subtomograms.masks[:], np.uint8)
    species = subtomograms.species or _infer_species(subtomograms, masks, where)
    cube_index, particles, centers = _annotations(subtomograms, masks)
    labels = None if masks is None else _labels_to_channels(masks, species, merge)
    if merge:
        species = (Species(name="particle", label=1, radius=max(s.radius for s in species)),)
    index = {s.name: 0 if merge else i for i, s in enumerate(species)}
    names = subtomograms.particles.species[particles]
    channels = np.array([index.get(str(n), 0 if merge else -1) for n in names], np.intp)
    has_channel = channels >= 0
    return Cubes(
        images=images,
        labels=labels,
        voxel_size=subtomograms.voxel_size,
        species=species,
        species_names=subtomograms.particles.species,
        cube_index=cube_index[has_channel],
        centers=centers[has_channel],
        channels=channels[has_channel],
        indices=np.arange(len(subtomograms)),
        contrast="dark" if detected == "dark" else "bright",
    )


def standardize(raw: Any, contrast: Contrast, where: Any = "set") -> NDArray[np.float32]:
    """Scale each of (n, z, y, x) to mean 0 and standard deviation 1, particles bright."""
    values = np.asarray(raw, np.float32)
    axes = (1, 2, 3)
    mean, std = values.mean(axes, keepdims=True), values.std(axes, keepdims=True)
    if not np.isfinite(std).all():
        message = (
            f"{int((~np.isfinite(std)).sum())} of {len(values)} subtomograms in a row hold NaN or infinity"
        )
        raise RequestError(where, message, "correct the tomogram with `cryovox convert IN OUT --fill-nan`")
    scale = sign_of(contrast) / np.where(std > 0, std, 1)
    return np.asarray((values - mean) * scale, np.float32)


def detect_set_contrast(subtomograms: Subtomograms) -> tuple[Contrast, float]:
    """Contrast recorded in the set, else detected from its voxels, and the certainty.

    The voxels of the particle (its mask, else a ball of a third of the box around its center) are
    compared with the others.

    Returns
    -------
    contrast : "dark" or "bright"
    certainty : float
        Mean difference over the subtomograms in units of its standard error; below 3 it is unclear.
    """
    if subtomograms.contrast != "auto":
        return subtomograms.contrast, np.inf
    at = np.unique(
        np.linspace(0, len(subtomograms) - 1, min(len(subtomograms), CONTRAST_SAMPLES)).astype(int)
    )
    rows = []
    for i in at:
        part = slice(int(i), int(i) + 1)
        inside = _particle_voxels(
            subtomograms,
            int(i),
            None if subtomograms.masks is None else np.asarray(subtomograms.masks[part])[0],
        )
        image = standardize(subtomograms.images[part], "bright")[0]  # type: ignore[index]
        if inside.any() and not inside.all():
            rows.append(float(image[inside].mean() - image[~inside].mean()))
    if len(rows) < 3:
        return "dark", 0.0
    mean, spread = float(np.mean(rows)), float(np.std(rows) / np.sqrt(len(rows)))
    return ("dark" if mean < 0 else "bright"), abs(mean) / (spread + 1e-6)


def _particle_voxels(subtomograms: Subtomograms, i: int, mask: NDArray[Any] | None) -> NDArray[np.bool_]:
    """Voxels of a particle: its mask, or a ball around its center."""
    if mask is not None and mask.any():
        return np.asarray(mask != 0)
    center = np.array(subtomograms.shape) / 2
    if subtomograms.corners is not None:
        center = subtomograms.particles.positions[i] / subtomograms.voxel_size - subtomograms.corners[i]
    return within_radius(center[None], min(subtomograms.shape) / 6, subtomograms.shape)


def _infer_species(
    subtomograms: Subtomograms, masks: NDArray[np.uint8] | None, where: Any
) -> tuple[Species, ...]:
    """Species of a set without a list of species: one for each label in the masks."""
    if masks is None:
        message = "has neither species with radii nor masks"
        raise RequestError(
            where, message, "cut it with `cryovox extract --dataset DATASET`, which records them"
        )
    counts = np.bincount(masks.ravel(), minlength=256)
    labels = [int(label) for label in np.flatnonzero(counts[1:]) + 1]
    names = sorted({str(n) for n in subtomograms.particles.species} - {""})
    single = len(labels) == len(names) == 1
    species = []
    for label in labels:
        voxels = counts[label] / max(1, int((masks == label).any(axis=(1, 2, 3)).sum()))
        radius = subtomograms.voxel_size * float(np.cbrt(3 * voxels / (4 * np.pi)))
        species.append(Species(name=names[0] if single else f"label-{label}", label=label, radius=radius))
    if not species:
        raise RequestError(where, "its masks are empty", "check the labels")
    return tuple(species)


def _labels_to_channels(
    masks: NDArray[np.uint8], species: tuple[Species, ...], merge: bool
) -> NDArray[np.uint8]:
    table = np.zeros(256, np.uint8)
    for channel, kind in enumerate(species):
        table[kind.label] = 1 if merge else channel + 1
    return table[masks]


Annotations = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]


def _annotations(subtomograms: Subtomograms, masks: NDArray[np.uint8] | None) -> Annotations:
    """Subtomogram, particle and center in voxels of all annotations, sorted by subtomogram.

    Subtomograms of one tomogram also show neighboring particles, which are annotated if the set has them.
    """
    names = subtomograms.particles.tomograms
    if names is None or subtomograms.corners is None:
        return _central_particles(subtomograms, masks)
    columns = [_central_particles(subtomograms, masks)]
    middle = subtomograms.corners + (np.array(subtomograms.shape) - 1) / 2
    places = subtomograms.particles.positions / subtomograms.voxel_size
    for name in np.unique(names):
        here = np.flatnonzero(names == name)
        near = KDTree(places[here]).query_ball_point(middle[here], max(subtomograms.shape) / 2, p=np.inf)
        pairs = [(i, here[j]) for i, close in zip(here, near, strict=True) for j in close if here[j] != i]
        if pairs:
            cube, particle = np.array(pairs, np.intp).T
            columns.append((cube, particle, places[particle] - subtomograms.corners[cube]))
    cube_index, particles, centers = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.argsort(cube_index, kind="stable")
    return cube_index[order], particles[order], centers[order]


def _central_particles(subtomograms: Subtomograms, masks: NDArray[np.uint8] | None) -> Annotations:
    """The particle that each was extracted for: its recorded position, else the center of mask or box."""
    n = np.arange(len(subtomograms))
    if subtomograms.corners is not None:
        return n, n, subtomograms.particles.positions / subtomograms.voxel_size - subtomograms.corners
    centers = np.tile(np.array(subtomograms.shape) // 2, (len(subtomograms), 1)).astype(float)
    if masks is not None:
        for i, mask in enumerate(masks):
            if mask.any():
                centers[i] = np.argwhere(mask).mean(axis=0)
    return n, n, centers


def hold_out_cubes(cubes: Cubes, fraction: float) -> tuple[Cubes, Cubes]:
    """Hold out a fraction of the subtomograms for validation, stratified by species, always the same ones.

    Returns
    -------
    training, validation
    """
    n = len(cubes)
    if n < 2:
        raise RequestError(
            "set", f"holds {n} subtomograms", "two are needed: one for training, one for validation"
        )
    order = np.random.default_rng(0).permutation(n)
    order = order[np.argsort(cubes.species_names[cubes.indices][order], kind="stable")]
    count = min(n - 1, max(1, round(fraction * n)))
    held = np.zeros(n, bool)
    held[order[((np.arange(count) + 0.5) * n / count).astype(int)]] = True
    return replace(cubes, indices=cubes.indices[~held]), replace(cubes, indices=cubes.indices[held])


class CubeStream(Prefetcher):
    """Batches of subtomograms: each occurs once per epoch, in random order.

    Parameters
    ----------
    cubes
        Subtomograms to train on.
    sampling
        How to draw them; where patches are cut does not matter. Smaller subtomograms are padded by
        reflection, which the valid mask leaves out; larger ones are cropped at random.
    """

    def __init__(self, cubes: Cubes, sampling: SamplingConfig) -> None:
        super().__init__(sampling.rank, sampling.world)
        self.cubes, self.sampling = cubes, sampling
        self._orders: dict[int, NDArray[np.intp]] = {}

    def make(self, number: int) -> Batch:
        """Draw batch *number* now."""
        rng = np.random.default_rng([*self.sampling.seed, number])
        count = self.sampling.batch_size
        patches = [self._patch(i, rng) for i in range(number * count, (number + 1) * count)]
        return collate(patches, self.sampling.spec)

    def _patch(self, number: int, rng: np.random.Generator) -> Patch:
        epoch, place = divmod(number, len(self.cubes))
        spec, size = self.sampling.spec, self.sampling.patch_size
        region = self.cubes.region(int(self._order(epoch)[place]), spec)
        z, y, x = (int(rng.integers(max(1, n - size + 1))) for n in region.data.shape)
        whole = self.sampling.augment.model_copy(update={"cut": 0.0})  # subtomograms have no faces
        return augment(cut(region, (z, y, x), size, spec, mirror=True), whole, rng)

    def _order(self, epoch: int) -> NDArray[np.intp]:
        if epoch not in self._orders:
            order = np.random.default_rng([*self.sampling.seed, ORDER, epoch]).permutation(len(self.cubes))
            self._orders = {epoch: order, **{e: o for e, o in self._orders.items() if e == epoch - 1}}
        return self._orders[epoch]
