"""Subtomograms of one target among crowding neighbours: seen and unseen structures, several noises.

One training over all noises serves two tables: the segmentation of simulated subtomograms (MVGFormer,
Table 3, pooled IoU and Dice of the target) and the protocol of Liu et al. 2018 (mean IoU per sample,
and structures that were not trained on).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryovox.benchmark.suite import Budget, Contestant, Job, Plan, Scores, Suite, Tier
from cryovox.benchmark.training import train
from cryovox.core.errors import RequestError
from cryovox.core.intensity import sign_of
from cryovox.core.particles import Particles, Species
from cryovox.formats import subtomograms as files
from cryovox.formats.subtomograms import Subtomograms
from cryovox.metrics.subtomograms import evaluate_masks
from cryovox.metrics.table import ANY
from cryovox.simulate.config.subtomograms import SubtomogramConfig
from cryovox.simulate.subtomograms import write_subtomograms
from cryovox.workflows.devices import Device
from cryovox.workflows.simulation.templates import templates

Rows = Callable[[str], tuple[Contestant, ...]]
TARGET = Species(name="target", label=1, radius=60.0)
SEEN = ("beta-galactosidase", "apo-ferritin", "p97", "rubisco", "thyroglobulin", "proteasome-20s",
        "groel", "ribosome-70s")  # fmt: skip
UNSEEN = ("hsp90", "tric", "ribosome-80s")
NOISES = (float("inf"), 0.05, 0.03)
TOKEN = 4
"""Edge of MVGFormer's tokens, in voxels."""


@dataclass(frozen=True)
class Scale:
    """How much data a tier has: species, and subtomograms of each at every noise."""

    seen: tuple[str, ...] = SEEN
    unseen: tuple[str, ...] = UNSEEN
    learned: int = 40
    tested: int = 12


SCALES: dict[Tier, Scale] = {
    "smoke": Scale(SEEN[:2], UNSEEN[:1], learned=2, tested=1),
    "cpu": Scale(),
    "gpu": Scale(learned=500, tested=50),
}
NETWORKS = (
    "voxresnet", "deepfinder", "unet3d", "swin-unetr", "mednext", "swift3d", "u-clstm", "ssn3d-ed",
    "fcn8", "edss3d",
)  # fmt: skip


def contestants(size: str) -> tuple[Contestant, ...]:
    """Every network that is compared, and the best of them on data without noise."""
    rows = [Contestant(name, name, size) for name in NETWORKS]
    rows += [
        Contestant(f"mvgformer {decoder}", "mvgformer", size, {"decoder": decoder})
        for decoder in ("mlp", "mf", "p3da")
    ]
    rows += [Contestant("mvgformer p3da, no VSL", "mvgformer", size, {"decoder": "p3da", "vsl": False})]
    return (*rows, Contestant("oracle: voxresnet, no noise", "voxresnet", size, data="clean"))


class SubtomogramSuite(Suite):
    """One target among neighbours, at several ratios of signal to noise.

    Parameters
    ----------
    rows
        Gives the contestants of a size.
    budgets
        2 for equal time and equal steps, 1 for equal time only.
    """

    headlines = ("iou", "mean_iou_per_sample")
    groups: Mapping[str, tuple[str, ...]] = {
        "with noise": tuple(f"SNR {snr:g}" for snr in NOISES[1:]),
        "without noise": (f"SNR {NOISES[0]:g}",),
    }

    def __init__(
        self, name: str, title: str, source: str, reference: str, rows: Rows, budgets: int = 2
    ) -> None:
        self.name, self.title, self.source, self.reference = name, title, source, reference
        self.rows, self.budgets = rows, budgets

    def plan(self, tier: Tier) -> Plan:
        if tier == "smoke":
            return Plan(self.rows("s")[:2], (Budget(steps=2),), seeds=1)
        if tier == "cpu":
            return Plan(self.rows("s"), (Budget(time="4m"), Budget(steps=400))[: self.budgets])
        return Plan(self.rows("paper"), (Budget(time="8m"), Budget(steps=4000))[: self.budgets])

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        if data is not None:
            return self._given(folder, data)
        scale = SCALES[tier]
        learned = [_simulated(folder, f"train-{snr}", scale.seen, snr, scale.learned, i)
                   for i, snr in enumerate(NOISES)]  # fmt: skip
        files.write(folder / "train.zarr", joined(learned))
        files.write(folder / "clean.zarr", learned[0])
        for kind, species, seed in (("seen", scale.seen, 100), ("unseen", scale.unseen, 200)):
            for snr in NOISES:  # one seed, so that all noises show the same scenes
                made = _simulated(folder, f"{kind}-{snr}", species, snr, scale.tested, seed)
                files.write(folder / f"test-{kind}, SNR {snr:g}.zarr", made)
        return {
            "stand-in": "simulated by `cryovox simulate --preset subtomogram-50`'s recipe",
            **asdict(scale),
        }

    def _given(self, folder: Path, data: Path) -> dict[str, Any]:
        """Sets of the user: train.zarr and test*.zarr."""
        tests = sorted(data.glob("test*.zarr"))
        if not (data / "train.zarr").exists() or not tests:
            told = "holds no train.zarr with one or more test-NAME.zarr"
            raise RequestError(data, told, "see docs/how-to/datasets.md for the layout")
        folder.mkdir(parents=True, exist_ok=True)
        for path in (data / "train.zarr", *tests):
            (folder / path.name).symlink_to(path.resolve())
        return {"folder": data.name}

    def run(self, job: Job, folder: Path, out: Path, device: Device) -> Scores:
        from cryovox.workflows.segment import label_set

        model = train(job, folder / f"{job.contestant.data}.zarr", out, device)
        return {
            condition: scores(label_set(model, test, device), masks(test))
            for condition, test in _tests(folder)
        }

    def references(self, folder: Path) -> dict[str, Scores]:
        tests = _tests(folder)
        floor = {c: scores(blobs(bright(t)), masks(t)) for c, t in tests}
        coarse = {c: scores(by_tokens(masks(t)), masks(t)) for c, t in tests}
        return {"floor: threshold, no training": floor, f"truth in tokens of {TOKEN} voxels": coarse}


def _tests(folder: Path) -> list[tuple[str, Subtomograms]]:
    """Condition and set: seen structures first, then unseen, from no noise to much."""
    found = sorted(folder.glob("test-*.zarr"), key=lambda p: (not p.stem.startswith("test-seen"), _snr(p)))
    return [(p.stem.removeprefix("test-"), files.read(p)) for p in found]


def _snr(path: Path) -> float:
    return -float(path.stem.split()[-1]) if "SNR" in path.stem else 0.0


def _simulated(
    folder: Path, name: str, species: tuple[str, ...], snr: float, count: int, seed: int
) -> Subtomograms:
    """A set whose only label is the target, whatever its species."""
    return simulated(folder / "simulated" / f"{name}.zarr", species, SubtomogramConfig(snr=snr), count, seed)


def simulated(
    path: Path, species: tuple[str, ...], config: SubtomogramConfig, count: int, seed: int
) -> Subtomograms:
    """Simulate a set, *count* of every species, and call them all the target."""
    write_subtomograms(
        path,
        templates(list(species), config.voxel_size, None, config.resolution),
        config,
        count * len(species),
        seed,
    )
    return targets(files.read(path))


def targets(found: Subtomograms) -> Subtomograms:
    """The same set with one species, the target."""
    p = found.particles
    renamed = Particles.of(p.positions, [TARGET.name] * len(p), rotations=p.rotations)
    return replace(found, images=images(found), masks=masks(found), particles=renamed, species=(TARGET,))


def masks(found: Subtomograms) -> NDArray[np.uint8]:
    """Where the target is, (n, z, y, x)."""
    if found.masks is None:
        raise RequestError("the set", "has no masks to score with", "give a set that has them")
    return (np.asarray(found.masks[:]) > 0).astype(np.uint8)


def images(found: Subtomograms) -> NDArray[np.float32]:
    """Grey values, (n, z, y, x)."""
    if found.images is None:
        raise RequestError("the set", "has no images", "give a set that has them")
    return np.asarray(found.images[:])


def bright(found: Subtomograms) -> NDArray[np.float32]:
    """Grey values with bright particles; taken for bright where the set does not say."""
    return sign_of(found.contrast, otherwise=1) * images(found)


def joined(sets: list[Subtomograms]) -> Subtomograms:
    """Several sets as one."""
    lists = [s.particles for s in sets]
    turns = np.concatenate([p.rotations for p in lists if p.rotations is not None])
    return replace(
        sets[0],
        images=np.concatenate([images(s) for s in sets]),
        masks=np.concatenate([s.masks for s in sets if s.masks is not None]),
        particles=Particles.of(
            np.concatenate([p.positions for p in lists]), [TARGET.name] * len(turns), rotations=turns
        ),
        corners=np.concatenate([s.corners for s in sets if s.corners is not None]),
    )


def scores(found: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
    """Pooled IoU and Dice of the target, and the mean IoU per sample of 2018."""
    rows = {r["metric"]: float(r["value"]) for r in evaluate_masks(found, truth) if r["species"] == ANY}
    kept = ("iou", "dice", "mean_iou_per_sample")
    return {metric: round(float(np.nan_to_num(rows[metric])), 5) for metric in kept}


def blobs(cubes: NDArray[np.float32], sigma: float = 1.5, level: float = 1.5) -> NDArray[np.uint8]:
    """What needs no training: the blob above a threshold that lies nearest to the centre.

    Parameters
    ----------
    cubes : (n, z, y, x)
        Bright particles.
    sigma
        Of the smoothing, in voxels.
    level
        Threshold in standard deviations above the mean of the smoothed cube.
    """
    out = np.zeros(cubes.shape, np.uint8)
    for image, mask in zip(cubes, out, strict=True):
        smooth = ndimage.gaussian_filter(image, sigma)
        pieces, n = ndimage.label(smooth > smooth.mean() + level * smooth.std())
        if not n:
            continue
        centre = (np.array(image.shape) - 1) / 2
        middles = np.array(ndimage.center_of_mass(pieces > 0, pieces, range(1, n + 1)))
        sizes = ndimage.sum_labels(pieces > 0, pieces, range(1, n + 1))
        away = np.linalg.norm(middles - centre, axis=1) + np.where(sizes < sizes.max() / 4, 1e3, 0)
        mask[pieces == 1 + int(away.argmin())] = 1
    return out


def by_tokens(truth: NDArray[np.uint8], edge: int = TOKEN) -> NDArray[np.uint8]:
    """What is left of masks of which one number per token is known, enlarged trilinearly.

    Roughly what is left to a network that makes up its mind on tokens.
    The numbers are the shares of the truth, not the ones that would score best.

    Parameters
    ----------
    truth : (n, z, y, x)
        Of 0 and 1.
    edge
        Of a token, in voxels.

    Examples
    --------
    >>> mask = np.zeros((1, 8, 8, 8), np.uint8)
    >>> mask[:, :4] = 1
    >>> bool((by_tokens(mask) == mask).all())
    True
    """
    sides = truth.shape[1:]
    full = np.pad(truth, [(0, 0), *((0, -n % edge) for n in sides)], mode="edge")
    shape = [n for side in full.shape[1:] for n in (side // edge, edge)]
    shares = full.reshape(len(full), *shape).mean(axis=(2, 4, 6))
    large = [ndimage.zoom(s, edge, order=1, mode="nearest", grid_mode=True) > 0.5 for s in shares]
    return np.array(large, np.uint8)[:, : sides[0], : sides[1], : sides[2]]


SUBTOMOGRAMS = SubtomogramSuite(
    "subtomograms",
    "Segmentation of simulated subtomograms, seen and unseen structures",
    "MVGFormer, Table 3 (simulated); Liu et al. 2018 (unseen structures)",
    "voxresnet",
    contestants,
)
