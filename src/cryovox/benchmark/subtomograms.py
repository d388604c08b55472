"""Segmentation of subtomograms with one target in a crowded neighborhood, at several noise levels.

One training on all noise levels serves two tables: segmentation of simulated subtomograms (MVGFormer, Table
3, pooled IoU and Dice of the target) and the protocol of Liu et al. 2018 (mean IoU per sample, with
structures that are not in the training data). The masks of half of the structures fill an eighth to a sixth
of a cube, as small ones would test the size of tokens only (docs/decisions/0027-large-targets.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryovox.benchmark.suite import Budget, Job, Method, Plan, Scores, Suite, Tier, stored
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

MethodsOfSize = Callable[[str], tuple[Method, ...]]
TARGET = Species(name="target", label=1, radius=60.0)
SEEN = ("thyroglobulin", "groel", "ribosome-70s", "fatty-acid-synthase", "mitoribosome", "vlp")
UNSEEN = ("beta-galactosidase", "tric", "ribosome-80s")
NOISES = (float("inf"), 0.05, 0.03)
TOKEN = 4
"""Size of MVGFormer's tokens, in voxels."""
THRESHOLD = "threshold baseline, no training"


@dataclass(frozen=True)
class Scale:
    """Data of a tier: species, subtomograms of each at every noise level, largest offset, voxel size in Å."""

    train_species: tuple[str, ...] = SEEN
    novel_species: tuple[str, ...] = UNSEEN
    n_train: int = 20
    n_test: int = 12
    offset: float = 0.0625
    voxel_size: float = 10.0

    def config(self, snr: float) -> SubtomogramConfig:
        """Settings of the simulation at a noise level."""
        return SubtomogramConfig(snr=snr, offset=self.offset, voxel_size=self.voxel_size)


SCALES: dict[Tier, Scale] = {
    "smoke": Scale(SEEN[:2], UNSEEN[:1], n_train=2, n_test=1),
    "cpu": Scale(),
    "gpu": Scale(n_train=500, n_test=50),
}
NETWORKS = (
    "voxresnet", "deepfinder", "unet3d", "swin-unetr", "mednext", "swift3d", "u-clstm", "ssn3d-ed",
    "fcn8", "edss3d",
)  # fmt: skip


def segmentation_methods(size: str) -> tuple[Method, ...]:
    """All networks, and VoxResNet on noise-free data as an upper bound."""
    methods = [Method(name, name, size) for name in NETWORKS]
    methods += [
        Method(f"mvgformer {decoder}", "mvgformer", size, {"decoder": decoder})
        for decoder in ("mlp", "mf", "p3da")
    ]
    methods += [Method("mvgformer p3da, no VSL", "mvgformer", size, {"decoder": "p3da", "vsl": False})]
    return (*methods, Method("oracle: voxresnet, no noise", "voxresnet", size, data="clean"))


def with_readings(size: str) -> tuple[Method, ...]:
    """All networks, and MVGFormer with depth-to-space and without its graph; on a CPU also in size `m`."""
    rows = [
        Method("mvgformer depth-to-space", "mvgformer", size, {"enlarge": "depth-to-space"}),
        Method("mvgformer no graph", "mvgformer", size, {"graph": "none"}),
    ]
    if size == "s":
        medium = (Method("mvgformer p3da", "mvgformer", options={"decoder": "p3da"}), *rows)
        rows += [replace(row, name=f"{row.name}, size m", size="m") for row in medium]
    return (*segmentation_methods(size), *rows)


class SubtomogramSuite(Suite):
    """One target in a crowded neighborhood, at several signal-to-noise ratios.

    Parameters
    ----------
    methods
        Function that returns the methods of a size.
    budgets
        2 for equal time and equal steps, 1 for equal time only.
    """

    headlines = ("iou", "mean_iou_per_sample")
    groups: Mapping[str, tuple[str, ...]] = {
        "with noise": tuple(f"SNR {snr:g}" for snr in NOISES[1:]),
        "without noise": (f"SNR {NOISES[0]:g}",),
    }

    def __init__(
        self, name: str, title: str, source: str, reference: str, methods: MethodsOfSize, budgets: int = 2
    ) -> None:
        self.name, self.title, self.source, self.reference = name, title, source, reference
        self.methods, self.budgets = methods, budgets

    def plan(self, tier: Tier) -> Plan:
        if tier == "smoke":
            return Plan(self.methods("s")[:2], (Budget(steps=2),), seeds=1)
        if tier == "cpu":  # 20 epochs of batches of two
            return Plan(self.methods("s"), (Budget(time="20m"), Budget(steps=3600))[: self.budgets])
        return Plan(self.methods("paper"), (Budget(time="8m"), Budget(steps=4000))[: self.budgets])

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        if data is not None:
            return self._link_user_data(folder, data)
        scale = SCALES[tier]
        write_training_sets(folder, scale)
        for kind, species, seed in (("seen", scale.train_species, 100), ("unseen", scale.novel_species, 200)):
            for snr in NOISES:  # the same seed gives the same scenes at all noise levels
                path = folder / "simulated" / f"{kind}-{snr}.zarr"
                test_set = simulate_set(path, species, scale.config(snr), scale.n_test, seed)
                files.write(folder / f"test-{kind}, SNR {snr:g}.zarr", test_set)
        return {
            "stand-in": "simulated by `cryovox simulate --preset subtomogram-50`'s recipe",
            "set": "2, large targets",
            **stored(scale),
        }

    def _link_user_data(self, folder: Path, data: Path) -> dict[str, Any]:
        """Link the user's train.zarr and test*.zarr."""
        tests = sorted(data.glob("test*.zarr"))
        if not (data / "train.zarr").exists() or not tests:
            message = "holds no train.zarr with one or more test-NAME.zarr"
            raise RequestError(data, message, "see docs/how-to/datasets.md for the layout")
        folder.mkdir(parents=True, exist_ok=True)
        for path in (data / "train.zarr", *tests):
            (folder / path.name).symlink_to(path.resolve())
        return {"folder": data.name}

    def run(self, job: Job, folder: Path, out: Path, device: Device) -> Scores:
        from cryovox.workflows.label_sets import label_set

        model = train(job, folder / f"{job.method.data}.zarr", out, device)
        return {
            condition: scores(label_set(model, test_set, device), masks(test_set))
            for condition, test_set in _test_sets(folder)
        }

    def references(self, folder: Path) -> dict[str, Scores]:
        test_subtomogram_sets = _test_sets(folder)
        baseline = {
            c: scores(threshold_baseline(bright_images(t)), masks(t)) for c, t in test_subtomogram_sets
        }
        coarse = {c: scores(token_resolution(masks(t)), masks(t)) for c, t in test_subtomogram_sets}
        return {THRESHOLD: baseline, f"ground truth at the resolution of tokens ({TOKEN} voxels)": coarse}


def _test_sets(folder: Path) -> list[tuple[str, Subtomograms]]:
    """Condition and set: seen structures first, then unseen, by increasing noise."""
    paths = sorted(folder.glob("test-*.zarr"), key=lambda p: (not p.stem.startswith("test-seen"), _snr(p)))
    return [(p.stem.removeprefix("test-"), files.read(p)) for p in paths]


def _snr(path: Path) -> float:
    return -float(path.stem.split()[-1]) if "SNR" in path.stem else 0.0


def write_training_sets(folder: Path, scale: Scale) -> None:
    """Write train.zarr with all noise levels and clean.zarr without noise."""
    train_sets = []
    for i, snr in enumerate(NOISES):
        path = folder / "simulated" / f"train-{snr}.zarr"
        train_sets.append(simulate_set(path, scale.train_species, scale.config(snr), scale.n_train, i))
    files.write(folder / "train.zarr", concatenate_sets(train_sets))
    files.write(folder / "clean.zarr", train_sets[0])


def simulate_set(
    path: Path, species: tuple[str, ...], config: SubtomogramConfig, count: int, seed: int
) -> Subtomograms:
    """Simulate *count* subtomograms of every species; all particles get the species "target"."""
    write_subtomograms(
        path,
        templates(list(species), config.voxel_size, None, config.resolution),
        config,
        count * len(species),
        seed,
    )
    return as_targets(files.read(path))


def as_targets(data: Subtomograms) -> Subtomograms:
    """The set with the species "target" in place of its own."""
    p = data.particles
    renamed = Particles.of(p.positions, [TARGET.name] * len(p), rotations=p.rotations)
    return replace(data, images=images(data), masks=masks(data), particles=renamed, species=(TARGET,))


def labels(data: Subtomograms) -> NDArray[np.uint8]:
    """Labels of the voxels, 0 is background, (n, z, y, x)."""
    if data.masks is None:
        raise RequestError("the set", "has no masks to score with", "use a set with masks")
    return np.asarray(data.masks[:]).astype(np.uint8)


def masks(data: Subtomograms) -> NDArray[np.uint8]:
    """Binary masks of the target, (n, z, y, x)."""
    return (labels(data) > 0).astype(np.uint8)


def images(data: Subtomograms) -> NDArray[np.float32]:
    """Gray values, (n, z, y, x)."""
    if data.images is None:
        raise RequestError("the set", "has no images", "use a set with images")
    return np.asarray(data.images[:])


def bright_images(data: Subtomograms) -> NDArray[np.float32]:
    """Gray values with bright particles; a set without a contrast is taken as bright."""
    return sign_of(data.contrast, otherwise=1) * images(data)


def concatenate_sets(sets: list[Subtomograms]) -> Subtomograms:
    """Several sets as one."""
    lists = [s.particles for s in sets]
    rotations = np.concatenate([p.rotations for p in lists if p.rotations is not None])
    return replace(
        sets[0],
        images=np.concatenate([images(s) for s in sets]),
        masks=np.concatenate([s.masks for s in sets if s.masks is not None]),
        particles=Particles.of(
            np.concatenate([p.positions for p in lists]), [TARGET.name] * len(rotations), rotations=rotations
        ),
        corners=np.concatenate([s.corners for s in sets if s.corners is not None]),
    )


def scores(predicted: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
    """Pooled IoU and Dice of the target, and mean IoU per sample as in Liu et al. 2018."""
    rows = {r["metric"]: float(r["value"]) for r in evaluate_masks(predicted, truth) if r["species"] == ANY}
    kept = ("iou", "dice", "mean_iou_per_sample")
    return {metric: round(float(np.nan_to_num(rows[metric])), 5) for metric in kept}


def threshold_baseline(
    cubes: NDArray[np.float32], sigma: float = 1.5, level: float = 1.5
) -> NDArray[np.uint8]:
    """Segment the connected component above a threshold that lies nearest to the center.

    Parameters
    ----------
    cubes : (n, z, y, x)
        Bright particles.
    sigma
        Standard deviation of the smoothing, in voxels.
    level
        Threshold in standard deviations above the mean of the smoothed cube.
    """
    out = np.zeros(cubes.shape, np.uint8)
    for image, mask in zip(cubes, out, strict=True):
        smooth = ndimage.gaussian_filter(image, sigma)
        components, n = ndimage.label(smooth > smooth.mean() + level * smooth.std())
        if not n:
            continue
        center = (np.array(image.shape) - 1) / 2
        centroids = np.array(ndimage.center_of_mass(components > 0, components, range(1, n + 1)))
        sizes = ndimage.sum_labels(components > 0, components, range(1, n + 1))
        distance = np.linalg.norm(centroids - center, axis=1) + np.where(sizes < sizes.max() / 4, 1e3, 0)
        mask[components == 1 + int(distance.argmin())] = 1
    return out


def token_resolution(truth: NDArray[np.uint8], size: int = TOKEN) -> NDArray[np.uint8]:
    """Masks averaged over tokens, upsampled trilinearly and thresholded at 0.5.

    An approximate upper bound for networks that predict one value per token. The values are the foreground
    shares of the tokens, not those that would maximize the score.

    Parameters
    ----------
    truth : (n, z, y, x)
        Binary masks.
    size
        Size of a token, in voxels.

    Examples
    --------
    >>> mask = np.zeros((1, 8, 8, 8), np.uint8)
    >>> mask[:, :4] = 1
    >>> bool((token_resolution(mask) == mask).all())
    True
    """
    shape = truth.shape[1:]
    full = np.pad(truth, [(0, 0), *((0, -n % size) for n in shape)], mode="edge")
    blocks = [n for length in full.shape[1:] for n in (length // size, size)]
    shares = full.reshape(len(full), *blocks).mean(axis=(2, 4, 6))
    large = [ndimage.zoom(s, size, order=1, mode="nearest", grid_mode=True) > 0.5 for s in shares]
    return np.array(large, np.uint8)[:, : shape[0], : shape[1], : shape[2]]


SUBTOMOGRAMS = SubtomogramSuite(
    "subtomograms",
    "Segmentation of simulated subtomograms, seen and unseen structures",
    "MVGFormer, Table 3 (simulated); Liu et al. 2018 (unseen structures)",
    "voxresnet",
    with_readings,
)
