"""Subtomograms as training data: each is a small region of its own, normalised by itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cryovox.core.config import Contrast
from cryovox.core.errors import RequestError
from cryovox.core.intensity import MIN_CERTAINTY, Normalisation, sign_of
from cryovox.core.particles import Species
from cryovox.data.augment import augment
from cryovox.data.patches import Patch, TargetSpec, cut
from cryovox.data.regions import Region
from cryovox.data.sampling import SamplingConfig
from cryovox.data.streams import Batch, Prefetcher, collate
from cryovox.data.targets import within_radius
from cryovox.formats.subtomograms import Subtomograms, batches

IDENTITY = Normalisation(0.0, 1.0)
ORDER = 2**31  # a stream of random numbers of its own
CONTRAST_SAMPLES = 512
"""Subtomograms that tell the contrast of a set."""


@dataclass(frozen=True, eq=False)
class Cubes:
    """Subtomograms in memory, ready to be learned from.

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
    kinds : (n,) str
        What each shows, as the set says, for a hold-out that is fair to all.
    owners : (m,) int, centres : (m, 3), channels : (m,) int
        Annotated particles: the subtomogram, the place in it in voxels, and the species.
    chosen : (k,) int
        Which subtomograms are meant.
    contrast
        Of the set on disk.
    """

    images: NDArray[np.float16]
    labels: NDArray[np.uint8] | None
    voxel_size: float
    species: tuple[Species, ...]
    kinds: NDArray[np.str_]
    owners: NDArray[np.intp]
    centres: NDArray[np.float64]
    channels: NDArray[np.intp]
    chosen: NDArray[np.intp]
    contrast: Literal["dark", "bright"]

    def __len__(self) -> int:
        return len(self.chosen)

    def source(self, i: int, spec: TargetSpec) -> Region:
        """Subtomogram number *i* of the chosen ones, as a region.

        A mask says of all voxels what they are. A centre says nothing of the neighbours, so that for
        heatmaps the rest is unknown.
        """
        n = self.chosen[i]
        z, y, x = self.images.shape[1:]
        low, high = np.searchsorted(self.owners, (n, n + 1))
        return Region(
            name=str(n),
            data=self.images[n],
            voxel_size=self.voxel_size,
            normalise=IDENTITY,
            bounds=((0, z), (0, y), (0, x)),
            species=self.species,
            positions=self.centres[low:high],
            channels=self.channels[low:high],
            labels=None if self.labels is None else self.labels[n],
            annotated_mask=None,
            exhaustive=np.full(len(self.species), spec.kind == "mask"),
        )

    def digest(self) -> str:
        """Hash of everything that a training sees, wherever it is stored."""
        found = hashlib.sha256(repr((self.voxel_size, self.species)).encode())
        arrays: tuple[Any, ...] = (self.images, self.owners, self.centres, self.channels, self.chosen)
        for array in (*arrays, *(() if self.labels is None else (self.labels,))):
            found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()


def load_cubes(
    found: Subtomograms, where: Any = "set", *, contrast: Contrast = "auto", merge: bool = False
) -> Cubes:
    """Read a set into memory.

    Parameters
    ----------
    where
        What the set is called in refusals.
    contrast
        Of the images; what the set says by default, else what is clearly seen.
    merge
        Make one species of all, called "particle".
    """
    if found.images is None:
        raise RequestError(where, "holds labels and no images", "name the set with the subtomograms")
    seen, certainty = (contrast, MIN_CERTAINTY) if contrast != "auto" else detect_set_contrast(found)
    if certainty < MIN_CERTAINTY:
        told = f"whether particles are dark or bright is unclear ({seen}, certainty {certainty:.1f})"
        raise RequestError(where, told, "say --set-contrast dark or bright")
    images = np.empty((len(found), *found.shape), np.float16)
    for at in batches(len(found), found.shape):
        images[at] = standardize(found.images[at], seen, where)
    masks = None if found.masks is None else np.asarray(found.masks[:], np.uint8)
    species = found.species or _named(found, masks, where)
    whole, which, centres = _annotated(found, masks)
    labels = None if masks is None else _by_channel(masks, species, merge)
    if merge:
        species = (Species(name="particle", label=1, radius=max(s.radius for s in species)),)
    index = {s.name: 0 if merge else i for i, s in enumerate(species)}
    names = found.particles.species[which]
    channels = np.array([index.get(str(n), 0 if merge else -1) for n in names], np.intp)
    known = channels >= 0
    return Cubes(
        images=images,
        labels=labels,
        voxel_size=found.voxel_size,
        species=species,
        kinds=found.particles.species,
        owners=whole[known],
        centres=centres[known],
        channels=channels[known],
        chosen=np.arange(len(found)),
        contrast="dark" if seen == "dark" else "bright",
    )


def standardize(raw: Any, contrast: Contrast, where: Any = "set") -> NDArray[np.float32]:
    """Scale each of (n, z, y, x) to mean 0 and standard deviation 1, particles bright."""
    values = np.asarray(raw, np.float32)
    axes = (1, 2, 3)
    mean, std = values.mean(axes, keepdims=True), values.std(axes, keepdims=True)
    if not np.isfinite(std).all():
        told = f"{int((~np.isfinite(std)).sum())} of {len(values)} subtomograms in a row hold NaN or infinity"
        raise RequestError(where, told, "mend the tomogram with `cryovox convert IN OUT --fill-nan`")
    scale = sign_of(contrast) / np.where(std > 0, std, 1)
    return np.asarray((values - mean) * scale, np.float32)


def detect_set_contrast(found: Subtomograms) -> tuple[Contrast, float]:
    """What the set says, else what its voxels show, and how sure that is.

    The voxels of the particle (its mask, else a ball of a third of the box around its centre) are
    compared with the others.

    Returns
    -------
    contrast : "dark" or "bright"
    certainty : float
        Mean difference over the subtomograms in units of its own uncertainty; under 3 is a guess.
    """
    if found.contrast != "auto":
        return found.contrast, np.inf
    at = np.unique(np.linspace(0, len(found) - 1, min(len(found), CONTRAST_SAMPLES)).astype(int))
    rows = []
    for i in at:
        part = slice(int(i), int(i) + 1)
        inside = _body(found, int(i), None if found.masks is None else np.asarray(found.masks[part])[0])
        image = standardize(found.images[part], "bright")[0]  # type: ignore[index]
        if inside.any() and not inside.all():
            rows.append(float(image[inside].mean() - image[~inside].mean()))
    if len(rows) < 3:
        return "dark", 0.0
    mean, spread = float(np.mean(rows)), float(np.std(rows) / np.sqrt(len(rows)))
    return ("dark" if mean < 0 else "bright"), abs(mean) / (spread + 1e-6)


def _body(found: Subtomograms, i: int, mask: NDArray[Any] | None) -> NDArray[np.bool_]:
    """Voxels of a particle: its mask, or the middle of it."""
    if mask is not None and mask.any():
        return np.asarray(mask != 0)
    centre = np.array(found.shape) / 2
    if found.corners is not None:
        centre = found.particles.positions[i] / found.voxel_size - found.corners[i]
    return within_radius(centre[None], min(found.shape) / 6, found.shape)


def _named(found: Subtomograms, masks: NDArray[np.uint8] | None, where: Any) -> tuple[Species, ...]:
    """Species of a set that does not say what its labels mean: one for each label in the masks."""
    if masks is None:
        told = "knows neither species with their radii nor masks"
        raise RequestError(where, told, "cut it with `cryovox extract --dataset DATASET`, which knows them")
    counts = np.bincount(masks.ravel(), minlength=256)
    labels = [int(label) for label in np.flatnonzero(counts[1:]) + 1]
    names = sorted({str(n) for n in found.particles.species} - {""})
    alone = len(labels) == len(names) == 1
    kinds = []
    for label in labels:
        voxels = counts[label] / max(1, int((masks == label).any(axis=(1, 2, 3)).sum()))
        radius = found.voxel_size * float(np.cbrt(3 * voxels / (4 * np.pi)))
        kinds.append(Species(name=names[0] if alone else f"label-{label}", label=label, radius=radius))
    if not kinds:
        raise RequestError(where, "its masks are empty", "there is nothing to learn; check the labels")
    return tuple(kinds)


def _by_channel(masks: NDArray[np.uint8], species: tuple[Species, ...], merge: bool) -> NDArray[np.uint8]:
    table = np.zeros(256, np.uint8)
    for channel, kind in enumerate(species):
        table[kind.label] = 1 if merge else channel + 1
    return table[masks]


Places = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]


def _annotated(found: Subtomograms, masks: NDArray[np.uint8] | None) -> Places:
    """Subtomogram, particle and place in voxels of all that is annotated, by subtomogram.

    What was cut out of one tomogram shows its neighbours too, where they are in the set.
    """
    names = found.particles.tomograms
    if names is None or found.corners is None:
        return _own(found, masks)
    parts = [_own(found, masks)]
    middle = found.corners + (np.array(found.shape) - 1) / 2
    places = found.particles.positions / found.voxel_size
    for name in np.unique(names):
        here = np.flatnonzero(names == name)
        near = KDTree(places[here]).query_ball_point(middle[here], max(found.shape) / 2, p=np.inf)
        pairs = [(i, here[j]) for i, close in zip(here, near, strict=True) for j in close if here[j] != i]
        if pairs:
            owner, which = np.array(pairs, np.intp).T
            parts.append((owner, which, places[which] - found.corners[owner]))
    owners, whose, centres = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(owners, kind="stable")
    return owners[order], whose[order], centres[order]


def _own(found: Subtomograms, masks: NDArray[np.uint8] | None) -> Places:
    """The particle that each was cut for: where it was said to be, else the middle of mask or box."""
    n = np.arange(len(found))
    if found.corners is not None:
        return n, n, found.particles.positions / found.voxel_size - found.corners
    centres = np.tile(np.array(found.shape) // 2, (len(found), 1)).astype(float)
    if masks is not None:
        for i, mask in enumerate(masks):
            if mask.any():
                centres[i] = np.argwhere(mask).mean(axis=0)
    return n, n, centres


def hold_out_cubes(cubes: Cubes, fraction: float) -> tuple[Cubes, Cubes]:
    """Put whole subtomograms aside, the same share of every kind, always the same ones.

    Returns
    -------
    training, validation
    """
    n = len(cubes)
    if n < 2:
        raise RequestError("set", f"holds {n} subtomograms", "two are needed: one to learn, one to judge by")
    order = np.random.default_rng(0).permutation(n)
    order = order[np.argsort(cubes.kinds[cubes.chosen][order], kind="stable")]
    count = min(n - 1, max(1, round(fraction * n)))
    held = np.zeros(n, bool)
    held[order[((np.arange(count) + 0.5) * n / count).astype(int)]] = True
    return replace(cubes, chosen=cubes.chosen[~held]), replace(cubes, chosen=cubes.chosen[held])


class CubeStream(Prefetcher):
    """Batches of subtomograms: all of them, in a new order, before any of them again.

    Parameters
    ----------
    cubes
        Subtomograms to train on.
    sampling
        How to draw them; where patches are cut does not matter. Smaller subtomograms are padded by
        reflection, which the valid mask leaves out; larger ones are cropped at random.
    """

    def __init__(self, cubes: Cubes, sampling: SamplingConfig) -> None:
        super().__init__()
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
        region = self.cubes.source(int(self._order(epoch)[place]), spec)
        z, y, x = (int(rng.integers(max(1, n - size + 1))) for n in region.data.shape)
        return augment(cut(region, (z, y, x), size, spec), self.sampling.augment, rng)

    def _order(self, epoch: int) -> NDArray[np.intp]:
        if epoch not in self._orders:
            order = np.random.default_rng([*self.sampling.seed, ORDER, epoch]).permutation(len(self.cubes))
            self._orders = {epoch: order, **{e: o for e, o in self._orders.items() if e == epoch - 1}}
        return self._orders[epoch]
