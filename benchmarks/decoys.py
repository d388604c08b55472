"""Decoys for a false discovery rate, in simulated noise with particles whose truth is known.

Peaks of a difference of Gaussians stand for the candidates of a model, so that it takes seconds. Noise has more power at low
frequency and a missing wedge; particles are balls. Printed are picks, recall and true share of false picks where the estimated false
discovery rate is 5, 10 and 20 %, pooled over the volumes, by decoys from

- whole: random phases and all power of the volume
- background: random phases and the power beside the strongest candidates (`cryovox.inference.background`)
- halves: half the difference of two half volumes with independent noise

In pure noise, the number of decoys is compared with that of the peaks above their 80 % quantile.

    python benchmarks/decoys.py                 # less than a minute of one core
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from common import write_result
from cryovox.inference.background import background_noise, beside, radial_frequency
from cryovox.inference.phase_noise import phase_randomized
from cryovox.picking.decoys import decoys_above, q_values, strongest

SHAPE, RADIUS = (40, 96, 96), 5.0
WORLDS = {"sparse": (20, 0.35), "crowded": (70, 0.35), "noise": (0, 0.0)}
"""Number of particles, and their density in standard deviations of the noise."""
RATES = (0.05, 0.1, 0.2)
KINDS = ("whole", "background", "halves")
Volume = NDArray[np.float32]


def colored(rng: np.random.Generator) -> Volume:
    """Noise of standard deviation 1."""
    frequency = radial_frequency(SHAPE)
    z, x = np.fft.fftfreq(SHAPE[0])[:, None, None], np.fft.rfftfreq(SHAPE[2])[None, None]
    wedge = np.abs(z) <= np.abs(x) * np.tan(np.deg2rad(60)) + 1e-6
    amplitude = np.sqrt(0.3 + 1 / (1 + (frequency / 0.05) ** 2)) * wedge
    noise = np.fft.irfftn(np.fft.rfftn(rng.standard_normal(SHAPE)) * amplitude, s=SHAPE, axes=(0, 1, 2))
    return (noise / noise.std()).astype(np.float32)


def particles(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Centers that do not overlap."""
    centers = np.zeros((0, 3))
    while len(centers) < count:
        center = rng.uniform(RADIUS + 1, np.array(SHAPE) - RADIUS - 2)
        if not len(centers) or np.linalg.norm(centers - center, axis=1).min() > 2.1 * RADIUS:
            centers = np.vstack([centers, center])
    return centers


def peaks(data: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions and scores of candidates."""
    blobs = ndimage.gaussian_filter(data, RADIUS / 2) - ndimage.gaussian_filter(data, RADIUS)
    top = (ndimage.maximum_filter(blobs, round(RADIUS)) == blobs) & (blobs > 0)
    inside = np.zeros(SHAPE, bool)
    inside[3:-3, 3:-3, 3:-3] = True
    return np.argwhere(top & inside).astype(float), blobs[top & inside].astype(float)


def decoys(even: Volume, odd: Volume, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Scores of the decoys of each kind for the mean of two halves."""
    whole = (even + odd) / 2
    first = phase_randomized(whole, rng)
    targets, noise = peaks(whole), peaks(first)
    cut = strongest(targets[1], noise[1])
    free = []
    for centers, scores in (targets, noise):
        strong = centers[scores >= cut]
        free.append(beside(SHAPE, strong, np.full(len(strong), RADIUS)))
    background = background_noise(whole, free[0], first, free[1], rng)
    return {"whole": noise[1], "background": peaks(background)[1], "halves": peaks((even - odd) / 2)[1]}


def run(count: int, density: float, seed: int) -> dict[str, NDArray[Any]]:
    """Scores and truth of the candidates of one volume, and scores of its decoys."""
    rng = np.random.default_rng([seed, count, round(10 * density)])
    centers = particles(rng, count)
    signal = density * ~beside(SHAPE, centers, np.full(count, 0.8 * RADIUS))
    even, odd = ((signal + np.sqrt(2) * colored(rng)).astype(np.float32) for _ in range(2))
    positions, scores = peaks((even + odd) / 2)
    truth = np.zeros(len(scores), bool)
    if count:
        truth = KDTree(centers).query(positions)[0] <= RADIUS
    return {"scores": scores, "truth": truth} | decoys(even, odd, rng)


def summary(runs: list[dict[str, NDArray[Any]]]) -> dict[str, Any]:
    """Picks, recall and true share of false picks at estimated rates; in pure noise the decoys over the peaks."""
    pooled = {key: np.concatenate([one[key] for one in runs]) for key in runs[0]}
    scores, truth = pooled["scores"], pooled["truth"]
    if not truth.any():
        cut = np.quantile(scores, 0.8, keepdims=True)
        peaks_above = int((scores >= cut).sum())
        return {kind: round(int(decoys_above(pooled[kind], cut)[0]) / peaks_above, 3) for kind in KINDS}
    rows: dict[str, Any] = {}
    for rate in RATES:
        for kind in KINDS:
            kept = q_values(scores, pooled[kind]) <= rate
            right, count = int(truth[kept].sum()), int(kept.sum())
            row = {"picks": count, "recall": round(right / int(truth.sum()), 3)}
            rows[f"{kind} at {rate:g}"] = row | {"false": round(1 - right / count, 4) if count else None}
    return rows


def main() -> None:
    """Measure, print and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--volumes", type=int, default=3, help="volumes of each world")
    parser.add_argument("--name", default="decoys", help="of the result file; empty writes none")
    args = parser.parse_args()
    result = {}
    for name, (count, density) in WORLDS.items():
        result[name] = summary([run(count, density, seed) for seed in range(args.volumes)])
        print(name, result[name], flush=True)
    if args.name:
        print(write_result(args.name, {"volumes": args.volumes, "shape": SHAPE, "worlds": result}))


if __name__ == "__main__":
    main()
