"""70S ribosomes of another organism, after training on simulations: the particle against its surroundings.

The data are 40 boxes of 32^3 voxels of 12 Å around ribosomes of *Mycoplasma pneumoniae* (EMPIAR-10499), back-projected
by WarpTools and here binned to 24 Å. From each box nine crops of 240 Å are cut: one at the particle, and eight shifted
by 72 Å along every axis, 125 Å from it, one radius. All crops lie inside their box and are scored alike, by the largest score
at the middle of the crop, so only the content differs. The metric is the probability that the particle scores higher than a
shifted crop of the same box (AUC within boxes); the bootstrap resamples particles, whose value is the mean over the seeds.

The network, `heatmap-unet` of size s, is trained on simulated tomograms only: three of the preset `toy` at 24 Å with 70S
ribosomes among other complexes, drawn by seed, with much noise and blur as augmentation. The baseline is the mean
gray value within 100 Å of the middle. Nothing was selected on these data. The same
crops of a simulated test tomogram check the score.

    python benchmarks/mpneumoniae_70s.py --work DIR        # about 3 processor minutes
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import torch
from numpy.typing import NDArray

from common import DATA, write_result
from cryovox.benchmark.training import nested, shared_settings
from cryovox.core.config import validated
from cryovox.core.dataset import Dataset
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_particles, read_volume
from cryovox.metrics.bootstrap import interval, paired_difference
from cryovox.models.checkpoint import load_model
from cryovox.models.supervision import predict
from cryovox.simulate.presets import PRESETS
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.simulation.dataset import simulate_dataset
from cryovox.workflows.training.run import train

BOXES = DATA / "mpneumoniae_70S_warp" / "subtomos_40x32.mrc"
PARTICLES, VOXEL, BINNING = 40, 12.0, 2
CROP, SHIFT, PADDED = 10, 3, 16
"""Edge of a crop, shift along every axis and edge after mirroring, in binned voxels."""
RIBOSOME = "ribosome-70s"
COUNTS = {RIBOSOME: 60, "fatty-acid-synthase": 40, "proteasome-26s": 40, "tric": 60}
TOMOGRAMS = 3
AUGMENT = {"augment.noise": 1.0, "augment.blur": 1.0}
BASELINE = "mean gray value within 100 Å"

Crops = NDArray[np.float32]


def real_crops() -> Crops:
    """The crops (40, 9, z, y, x), z-scored, particles bright; the first of each box is at the particle."""
    with mrcfile.open(BOXES) as file:
        fine = np.asarray(file.data, np.float32).reshape(PARTICLES, *(32,) * 3)
    half = 32 // BINNING
    boxes = fine.reshape(PARTICLES, half, BINNING, half, BINNING, half, BINNING).mean(axis=(2, 4, 6))
    return nine_crops((boxes - boxes.mean()) / boxes.std())


def nine_crops(boxes: Crops) -> Crops:
    """The crop at the middle and the eight shifted ones of boxes (n, z, y, x)."""
    corners = np.array([[0, 0, 0], *np.ndindex(2, 2, 2)])
    corners[1:] = (2 * corners[1:] - 1) * SHIFT
    corners += (boxes.shape[-1] - CROP) // 2
    return np.stack([boxes[:, z : z + CROP, y : y + CROP, x : x + CROP] for z, y, x in corners], axis=1)


def simulated_crops(dataset: Dataset) -> Crops:
    """The same crops at the ribosomes of the simulated test tomogram, as a check of the score."""
    (entry,) = dataset.split("test")
    volume = read_volume(entry.tomogram)
    data = np.asarray(volume.data, np.float32)
    bright = (data.mean() - data) / data.std()
    assert entry.particles is not None
    ribosomes = read_particles(entry.particles, tomogram=volume).named(RIBOSOME)
    half = 16 // BINNING
    corners = np.rint(ribosomes.positions / volume.voxel_size).astype(int) - half
    inside = ((corners >= 0) & (corners + 2 * half <= np.array(data.shape))).all(axis=1)
    boxes = [bright[z : z + 2 * half, y : y + 2 * half, x : x + 2 * half] for z, y, x in corners[inside]]
    return nine_crops(np.stack(boxes))


def simulate_tomograms(seed: int, folder: Path) -> Dataset:
    """Simulate tomograms with 70S ribosomes for training, and one for a check."""
    scene = PRESETS["toy"].scene.model_copy(
        update={"shape": (48, 128, 128), "voxel_size": VOXEL * BINNING, "counts": COUNTS}
    )
    config = PRESETS["toy"].model_copy(update={"species": tuple(COUNTS), "scene": scene})
    split = ["train"] * TOMOGRAMS + ["test"]
    simulate_dataset(folder, config, count=len(split), seed=seed, split=split)
    return dataset_files.read(folder)


def train_on_simulations(seed: int, steps: int, folder: Path) -> Path:
    """Train on the simulated tomograms; returns the model file."""
    options = shared_settings("cpu") | AUGMENT | {
        "supervised.loss": "auto", "network.model": "heatmap-unet", "network.size": "s",
        "loop.steps": steps, "seed": seed,
    }  # fmt: skip
    settings = validated(TrainConfig, nested(options), folder)
    return train(folder / "simulated", folder / "run", settings, device="cpu")


def ribosome_scores(model: Path, crops: Crops) -> NDArray[np.float64]:
    """Largest ribosome score (40, 9) at the middle of every crop."""
    network, card = load_model(model)
    channel = [s.name for s in card.species].index(RIBOSOME)
    margin = [(0, 0)] + [((PADDED - CROP) // 2,) * 2] * 3
    padded = np.pad(crops.reshape(-1, *(CROP,) * 3), margin, mode="reflect")
    with torch.inference_mode():
        scores = predict(network, torch.from_numpy(padded)[:, None])[:, channel].numpy()
    middle = slice(scores.shape[-1] // 2 - 1, scores.shape[-1] // 2 + 1)
    return scores[:, middle, middle, middle].max(axis=(1, 2, 3)).reshape(crops.shape[:2]).astype(float)


def mean_gray(crops: Crops, radius: float = 100.0) -> NDArray[np.float64]:
    """Mean gray value (40, 9) within a radius in Å of the middle of every crop."""
    offsets = np.indices((CROP,) * 3) - (CROP - 1) / 2
    ball = np.linalg.norm(offsets, axis=0) * VOXEL * BINNING <= radius
    return crops[..., ball].mean(axis=-1).astype(float)


def within_boxes(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each particle the share of its shifted crops that score lower; ties count half."""
    particle, shifted = scores[:, :1], scores[:, 1:]
    return ((particle > shifted) + 0.5 * (particle == shifted)).mean(axis=1)


def pooled_auc(scores: NDArray[np.float64]) -> float:
    """AUC of all particles against all shifted crops."""
    particle, shifted = scores[:, :1], scores[:, 1:].ravel()
    return float(((particle > shifted) + 0.5 * (particle == shifted)).mean())


def main() -> None:
    """Train, score the crops and write `results/mpneumoniae_70s.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3, help="trainings, each on its own simulations")
    parser.add_argument("--steps", type=int, default=400)
    args = parser.parse_args()
    crops, folders = real_crops(), [args.work / f"seed{s}" for s in range(args.seeds)]
    simulations = [simulate_tomograms(s, folder / "simulated") for s, folder in enumerate(folders)]
    models = [train_on_simulations(s, args.steps, folder) for s, folder in enumerate(folders)]
    check = [
        within_boxes(ribosome_scores(model, simulated_crops(dataset))).mean()
        for model, dataset in zip(models, simulations, strict=True)
    ]
    scores = [ribosome_scores(model, crops) for model in models]
    by_particle = np.mean([within_boxes(s) for s in scores], axis=0)
    baseline = mean_gray(crops)
    table: dict[str, Any] = {
        "heatmap-unet": {
            "auc": asdict(interval(by_particle)),
            "by_seed": [round(float(within_boxes(s).mean()), 4) for s in scores],
            "pooled_by_seed": [round(pooled_auc(s), 4) for s in scores],
        },
        BASELINE: {
            "auc": asdict(interval(within_boxes(baseline))),
            "by_seed": [round(float(within_boxes(baseline).mean()), 4)],
            "pooled_by_seed": [round(pooled_auc(baseline), 4)],
        },
    }
    settings = {"steps": args.steps, "tomograms": TOMOGRAMS, "counts": COUNTS, "voxel_A": VOXEL * BINNING}
    difference = asdict(paired_difference(by_particle, within_boxes(baseline)))
    result = {
        "settings": settings,
        "table": table,
        "difference": difference,
        "simulated_auc_by_seed": [round(float(c), 4) for c in check],
    }
    print(result, write_result("mpneumoniae_70s", result), sep="\n")


if __name__ == "__main__":
    main()
