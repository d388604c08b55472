"""70S ribosomes of another organism, after training on simulations: the particle against its surroundings.

The data are 40 boxes of 32^3 voxels of 12 Å around ribosomes of *Mycoplasma pneumoniae* (EMPIAR-10499), back-projected
by WarpTools and here binned to 24 Å. From each box nine crops of 240 Å are cut: one at the particle, and eight shifted
by 72 Å along every axis, 125 Å from it, one radius. All crops lie inside their box and are scored alike, by the largest score
at the middle of the crop, so only the content differs. The metric is the probability that the particle scores higher than a
shifted crop of the same box (AUC within boxes); the bootstrap resamples particles, whose value is the mean over the seeds.

The network, `heatmap-unet` of size s, is trained on simulated tomograms only: three of the preset `toy` at 24 Å with 70S
ribosomes among other complexes, drawn by seed, with much noise and blur as augmentation. Two rows adapt without labels:
batch-norm statistics of the crops, and boxes filtered to the power spectrum of simulated ones. The baseline is the mean
gray value within 100 Å of the middle. Nothing was selected on these data. The same
crops of a simulated test tomogram check the score.

    python benchmarks/mpneumoniae_70s.py --work DIR        # about 1 processor minute
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
from cryovox.training.batch_norm import bn_layers, update_bn_stats
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
TRAIN = {"patches.patch": 16, "loop.batch": 4, "augment.noise": 1.0, "augment.blur": 1.0}
NETWORK = "heatmap-unet"
BASELINE = "mean gray value within 100 Å"

Crops = NDArray[np.float32]


def real_boxes() -> Crops:
    """The binned boxes (40, z, y, x), z-scored, particles bright."""
    with mrcfile.open(BOXES) as file:
        fine = np.asarray(file.data, np.float32).reshape(PARTICLES, *(32,) * 3)
    half = 32 // BINNING
    boxes = fine.reshape(PARTICLES, half, BINNING, half, BINNING, half, BINNING).mean(axis=(2, 4, 6))
    return (boxes - boxes.mean()) / boxes.std()


def nine_crops(boxes: Crops) -> Crops:
    """Crops (n, 9, z, y, x) of boxes (n, z, y, x); the first is at the middle, at the particle."""
    corners = np.array([[0, 0, 0], *np.ndindex(2, 2, 2)])
    corners[1:] = (2 * corners[1:] - 1) * SHIFT
    corners += (boxes.shape[-1] - CROP) // 2
    return np.stack([boxes[:, z : z + CROP, y : y + CROP, x : x + CROP] for z, y, x in corners], axis=1)


def spectrum_matched(boxes: Crops, like: Crops) -> Crops:
    """The boxes, filtered to the radial power spectrum of others; both (n, z, y, x) of the same shape."""
    side = boxes.shape[-1]
    frequencies = np.meshgrid(
        np.fft.fftfreq(side), np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"
    )
    shells = np.rint(np.linalg.norm(frequencies, axis=0) * side).astype(int)
    spectra = [np.fft.rfftn(b, axes=(1, 2, 3)) for b in (boxes, like)]
    power = [np.bincount(shells.ravel(), (np.abs(s) ** 2).mean(axis=0).ravel()) for s in spectra]
    gain = np.sqrt(power[1] / power[0])[shells]
    return np.fft.irfftn(spectra[0] * gain, boxes.shape[1:], axes=(1, 2, 3)).astype(np.float32)


def simulated_boxes(dataset: Dataset) -> Crops:
    """Boxes (n, z, y, x) at the ribosomes of the simulated test tomogram."""
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
    return np.stack(boxes)


def simulate_tomograms(seed: int, folder: Path) -> Dataset:
    """Simulate tomograms with 70S ribosomes for training, and one for a check, once."""
    if (folder / "dataset.yaml").exists():
        return dataset_files.read(folder)
    scene = PRESETS["toy"].scene.model_copy(
        update={"shape": (48, 128, 128), "voxel_size": VOXEL * BINNING, "counts": COUNTS}
    )
    config = PRESETS["toy"].model_copy(update={"species": tuple(COUNTS), "scene": scene})
    split = ["train"] * TOMOGRAMS + ["test"]
    simulate_dataset(folder, config, count=len(split), seed=seed, split=split)
    return dataset_files.read(folder)


def train_on_simulations(seed: int, steps: int, folder: Path) -> Path:
    """Train on the simulated tomograms, once; returns the model file."""
    if (model := folder / "run" / "model.safetensors").exists():
        return model
    options = shared_settings("cpu") | TRAIN | {
        "supervised.loss": "auto", "network.model": NETWORK, "network.size": "s",
        "loop.steps": steps, "seed": seed,
    }  # fmt: skip
    settings = validated(TrainConfig, nested(options), folder)
    return train(folder / "simulated", folder / "run", settings, device="cpu")


def ribosome_scores(model: Path, crops: Crops, *, own_statistics: bool = False) -> NDArray[np.float64]:
    """Largest ribosome score (n, 9) at the middle of crops (n, 9, z, y, x).

    With *own_statistics*, the batch norms take the statistics of the crops (adaptive batch norm).
    """
    network, card = load_model(model)
    channel = [s.name for s in card.species].index(RIBOSOME)
    margin = [(0, 0)] + [((PADDED - CROP) // 2,) * 2] * 3
    images = torch.from_numpy(np.pad(crops.reshape(-1, *(CROP,) * 3), margin, mode="reflect"))[:, None]
    if own_statistics:
        for norm in bn_layers(network):
            norm.momentum = 1.0
        update_bn_stats(network, images)
    with torch.inference_mode():
        scores = predict(network, images)[:, channel].numpy()
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
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    boxes, folders = real_boxes(), [args.work / f"seed{s}" for s in range(args.seeds)]
    simulations = [simulated_boxes(simulate_tomograms(s, f / "simulated")) for s, f in enumerate(folders)]
    models = [train_on_simulations(s, args.steps, folder) for s, folder in enumerate(folders)]
    pairs, crops = list(zip(models, simulations, strict=True)), nine_crops(boxes)
    scores = {
        NETWORK: [ribosome_scores(m, crops) for m in models],
        f"{NETWORK}, batch-norm statistics of the crops": [
            ribosome_scores(m, crops, own_statistics=True) for m in models
        ],
        f"{NETWORK}, boxes filtered to the spectrum of simulated ones": [
            ribosome_scores(m, nine_crops(spectrum_matched(boxes, like))) for m, like in pairs
        ],
        BASELINE: [mean_gray(crops)],
    }
    check = [within_boxes(ribosome_scores(m, nine_crops(like))).mean() for m, like in pairs]
    baseline = within_boxes(scores[BASELINE][0])
    table: dict[str, Any] = {}
    for name, of_seeds in scores.items():
        by_particle = np.mean([within_boxes(s) for s in of_seeds], axis=0)
        table[name] = {
            "auc": asdict(interval(by_particle)),
            "difference": asdict(paired_difference(by_particle, baseline)),
            "by_seed": [round(float(within_boxes(s).mean()), 4) for s in of_seeds],
            "pooled_by_seed": [round(pooled_auc(s), 4) for s in of_seeds],
        }
    settings = {"steps": args.steps, "tomograms": TOMOGRAMS, "counts": COUNTS, "voxel_A": VOXEL * BINNING}
    result = {
        "settings": settings,
        "table": table,
        "simulated_auc_by_seed": [round(float(c), 4) for c in check],
    }
    print(result, write_result("mpneumoniae_70s", result), sep="\n")


if __name__ == "__main__":
    main()
