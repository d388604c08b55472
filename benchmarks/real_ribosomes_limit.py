"""Classify picked ribosomes against unpicked candidates, to estimate the limit of the real benchmark.

On the part y < 160 of the tomogram, in four folds, small classifiers rank the candidates of a
difference-of-Gaussians picker: a linear one on ring averages, and a convolutional one on boxes of 17^3 voxels, with
different augmentations. They train on candidates only, so they estimate the information in the picks independently
of a detector.

    python benchmarks/real_ribosomes_limit.py
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation
from torch import nn

from common import write_result
from cryovox.core.intensity import Normalization, statistics
from cryovox.core.particles import Particles
from cryovox.data.augment import WEDGE_SYMMETRIES
from cryovox.formats import read_volume
from cryovox.picking.blobs import dog
from real_ribosomes import BUDGETS, NAME, TOMOGRAM, hits, inside, truth

FOLDS = ((0, 40), (40, 80), (80, 120), (120, 160))
MARGIN, HALF, OUTER = 8, 8, 12  # voxels


def boxes(data: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Cubes of 25^3 voxels around centers, with reflection at the faces."""
    padded = np.pad(data, OUTER, mode="reflect")
    return np.stack(
        [padded[z : z + 2 * OUTER + 1, y : y + 2 * OUTER + 1, x : x + 2 * OUTER + 1] for z, y, x in centers]
    )


def view(box: np.ndarray, rng: np.random.Generator, turn: float) -> np.ndarray:
    """A cube of 17^3 voxels, randomly flipped, and rotated with this standard deviation in degrees."""
    if turn == 0:
        inner = box[
            OUTER - HALF : OUTER + HALF + 1, OUTER - HALF : OUTER + HALF + 1, OUTER - HALF : OUTER + HALF + 1
        ]
        return np.flip(inner, WEDGE_SYMMETRIES[rng.integers(8)])
    side = np.arange(-HALF, HALF + 1.0)
    grid = np.stack(np.meshgrid(side, side, side, indexing="ij"), -1).reshape(-1, 3)
    turned = grid @ Rotation.from_rotvec(np.deg2rad(turn) * rng.normal(size=3)).as_matrix().T + OUTER
    return map_coordinates(box, turned.T, order=1, mode="nearest").reshape((2 * HALF + 1,) * 3)


def rings(cubes: np.ndarray) -> np.ndarray:
    """Means over rings around z, for every height and radius."""
    side = np.arange(-OUTER, OUTER + 1)
    height, radius = np.abs(side)[:, None, None], np.hypot(side[None, :, None], side[None, None, :])
    radius = np.broadcast_to(radius, cubes.shape[1:])
    height = np.broadcast_to(height, cubes.shape[1:])
    masks = [(height == z) & (np.abs(radius - r) < 0.5) for z in range(HALF) for r in range(HALF)]
    return np.stack([cubes[:, m].mean(axis=1) for m in masks], axis=1)


def linear(cubes: np.ndarray, picked: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Scores of linear discriminant analysis."""
    features, other = rings(cubes), rings(test)
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-6
    a, b = (features - mean) / std, (other - mean) / std
    weights = np.linalg.solve(
        np.cov(a.T) + np.eye(a.shape[1]), a[picked].mean(axis=0) - a[~picked].mean(axis=0)
    )
    return b @ weights


def convolutional(
    cubes: np.ndarray, picked: np.ndarray, test: np.ndarray, turn: float, seed: int, steps: int
) -> np.ndarray:
    """Scores of a small network, averaged over the flips."""
    rng, batch = np.random.default_rng(seed), 16
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32), (32, 32)):
        layers += [
            nn.Conv3d(before, after, 3),
            nn.BatchNorm3d(after),
            nn.ReLU(),
            *([nn.MaxPool3d(2)] if before == 1 else []),
        ]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.5), nn.Linear(32 * 27, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    positive, negative = np.flatnonzero(picked), np.flatnonzero(~picked)
    targets = torch.cat([torch.ones(batch), torch.zeros(2 * batch)])
    for _ in range(steps):
        chosen = np.concatenate([rng.choice(positive, batch), rng.choice(negative, 2 * batch)])
        images = np.stack([view(cubes[i], rng, turn) for i in chosen])
        images = images + 0.5 * rng.random((len(images), 1, 1, 1)) * rng.standard_normal(images.shape)
        logits = network(torch.from_numpy(images[:, None].astype(np.float32)))[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    window = slice(OUTER - HALF, OUTER + HALF + 1)
    inner = torch.from_numpy(test[:, None, window, window, window].astype(np.float32))
    with torch.inference_mode():
        return sum(network(torch.flip(inner, axes))[:, 0] for axes in WEDGE_SYMMETRIES).numpy()


def main() -> None:
    """Rank the candidates in every fold and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2, help="trainings of the convolutional classifier")
    parser.add_argument("--steps", type=int, default=250, help="steps of each")
    args = parser.parse_args()
    volume, true = read_volume(TOMOGRAM), truth()
    voxel, moments = volume.voxel_size, statistics(volume.data)
    candidates = dog(np.asarray(volume.data), voxel, 2.0, species=NAME, distance=50.0)
    candidates = inside(candidates, (0, FOLDS[-1][1] + MARGIN), voxel).sorted()
    candidates = candidates.take(np.arange(min(len(candidates), 1500)))
    cubes = boxes(
        Normalization(moments.mean, moments.std, -1)(volume.data),
        np.rint(candidates.positions / voxel).astype(int),
    )
    picked = KDTree(true.positions).query(candidates.positions)[0] < 80
    y = candidates.positions[:, 1] / voxel
    scores: dict[str, np.ndarray] = {"difference of Gaussians": np.asarray(candidates.scores, dtype=float)}
    methods: dict[str, Any] = {"linear on rings": linear}
    for name, turn in (("flips", 0.0), ("flips and turns of 20 degrees", 20.0)):
        for seed in range(args.seeds):
            methods[f"network, {name}, seed {seed}"] = lambda a, p, t, turn=turn, seed=seed: convolutional(
                a, p, t, turn, seed, args.steps
            )
    for name, rank in methods.items():
        scores[name] = np.zeros(len(candidates))
        for low, high in FOLDS:
            train, test = (
                (y < low - MARGIN) | ((y >= high + MARGIN) & (y < FOLDS[-1][1])),
                (y >= low) & (y < high),
            )
            scores[name][test] = rank(cubes[train], picked[train], cubes[test])
    table = {}
    for name, values in scores.items():
        ranked = Particles.of(candidates.positions, NAME, values).sorted()
        kept = apart(ranked)
        parts = [[hits(inside(kept, f, voxel), inside(true, f, voxel), b) for f in FOLDS] for b in BUDGETS]
        table[name] = {
            f"{b}x": round(float(np.mean(np.concatenate(p))), 4) for b, p in zip(BUDGETS, parts, strict=True)
        }
        print(f"{name}: {table[name]}", flush=True)
    result = {
        "folds": FOLDS,
        "picks": len(inside(true, (0, 160), voxel)),
        "candidates": len(candidates),
        "table": table,
    }
    print(write_result("real_ribosomes_limit", result))


def apart(particles: Particles, distance: float = 125.0) -> Particles:
    """The best candidates, with a minimum distance of a ribosome radius."""
    from cryovox.picking.peaks import separate

    return particles.take(separate(particles.positions, particles.scores, distance))


if __name__ == "__main__":
    main()
