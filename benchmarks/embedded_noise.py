"""Whether the outputs of the embedded model rank particles of one size better when noise says how to weigh them.

Percolator (Kall et al., Nature Methods 4, 2007, p. 923) combines several scores of a candidate by the discriminant
that best separates confident candidates from decoys. Here the candidates are picks of the model and of a
difference of Gaussians, the decoys are those of phase-randomized noise, and the scores are the logits of all outputs
and the contrast of a blob of the radius. No label takes part. Folds keep a candidate out of its own discriminant.

Scored are the part of the real tomogram that may decide (`embedded_half.py`) and, for each species of the choice
worlds of `embedded.py`, the ranking of its particles among all others.

    python benchmarks/embedded_noise.py --work DIR --worlds DIR      # about 10 processor minutes
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special
from scipy.spatial import KDTree

from common import write_result
from cryovox.benchmark.tomograms import in_tomogram
from cryovox.core.particles import Particles, concatenate
from cryovox.core.volume import ScoreMap, Volume
from cryovox.formats import read_volume, write_volume
from cryovox.inference.phase_noise import phase_randomized
from cryovox.metrics.detection import average_precision, recall_at_budget
from cryovox.models.card import EMBEDDED, model_file
from cryovox.picking import pick
from cryovox.picking.blobs import dog
from cryovox.picking.decoys import q_values
from cryovox.picking.selection import select
from embedded import BUDGETS, MIN_DISTANCE, WORLDS, World, open_world
from embedded_half import part
from embedded_scored import LEAST, score_map
from real_ribosomes import MATCH

CONFIDENT, ROUNDS, FOLDS, FEWEST = 0.05, 10, 3, 20
"""False discovery rate of the candidates that a discriminant is learned from, and how it is learned."""
SHRINKAGE, CLIP = 0.05, 1e-4
SHARE = 0.85
"""Radius that a user would give, as a share of the largest extent of the simulated species."""
METHODS = ("model", "difference of Gaussians", "weighed against noise")
Floats = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Searched:
    """A volume of unit variance, with bright particles, and the scores of the model."""

    gray: Floats
    voxel_size: float
    maps: ScoreMap

    def logit(self, positions: Floats, values: Floats, radius: float) -> Floats:
        """Highest logit within about a quarter of the radius of positions in Å."""
        size, offset = self.maps.voxel_size, self.maps.offset
        edge = 2 * max(0, round(radius / 8 / size + 0.25)) + 1
        field = special.logit(np.clip(ndimage.maximum_filter(values, edge), CLIP, 1 - CLIP))
        return ndimage.map_coordinates(field, ((positions - offset) / size).T, order=1, mode="nearest")

    def blob(self, positions: Floats, radius: float) -> tuple[Floats, Floats]:
        """Contrast of a ball, and gray value, at positions in Å."""
        width = radius / 2 / self.voxel_size
        narrow, wide = (ndimage.gaussian_filter(self.gray, w) for w in (width, 1.6 * width))
        return self.at(positions, narrow - wide), self.at(
            positions, ndimage.gaussian_filter(self.gray, width / 2)
        )

    def at(self, positions: Floats, field: Floats) -> Floats:
        return ndimage.map_coordinates(field, (positions / self.voxel_size).T, order=1, mode="nearest")

    def of_model(self, radius: float) -> Particles:
        """Picks of the size, by the model."""
        return pick(select(self.maps, [f"particle={radius:g}"]), LEAST)

    def of_blobs(self, radius: float) -> Particles:
        """Picks of the size, by a difference of Gaussians."""
        return dog(self.gray, self.voxel_size, radius / 2 / self.voxel_size, sign=1, distance=radius)

    def candidates(self, radius: float) -> tuple[Floats, Floats]:
        """Positions (n, 3) and scores (n, k)."""
        positions = np.concatenate([self.of_model(radius).positions, self.of_blobs(radius).positions])
        outputs = np.asarray(self.maps.data, np.float32)
        logits = [self.logit(positions, values, radius) for values in (*outputs, outputs.sum(axis=0))]
        return positions, np.stack([*self.blob(positions, radius), *logits], axis=1)


def search(path: Path, folder: Path) -> Searched:
    """Run the embedded model."""
    volume = read_volume(path)
    maps = score_map(path, model_file(EMBEDDED), folder)
    return Searched(-np.asarray(volume.data, np.float32), volume.voxel_size, maps)


def with_noise(volume: Volume, folder: Path, seed: int) -> tuple[Searched, Searched]:
    """A tomogram with dark particles, and noise of its power."""
    data = np.asarray(volume.data, np.float32)
    data = (data - data.mean()) / data.std()
    noise = phase_randomized(data, np.random.default_rng(seed))
    searched = []
    for name, values in (("tomogram", data), ("noise", noise)):
        path = folder / f"{name}.mrc"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(path, Volume(values, volume.voxel_size))
        searched.append(search(path, folder / name))
    return searched[0], searched[1]


def discriminant(own: Floats, noise: Floats) -> Floats:
    """Weights that separate confident candidates from those in noise, from the best single score on."""
    counts = [(q_values(own[:, j], noise[:, j]) <= CONFIDENT).sum() for j in range(own.shape[1])]
    weights = np.eye(own.shape[1])[int(np.argmax(counts))]
    for _ in range(ROUNDS):
        combined = own @ weights
        good = q_values(combined, noise @ weights) <= CONFIDENT
        if good.sum() < FEWEST:
            good = combined >= np.sort(combined)[-FEWEST]
        within = (np.cov(own[good].T) + np.cov(noise.T)) / 2
        within += np.diag(SHRINKAGE * np.diag(within) + 1e-6)
        weights = np.linalg.solve(within, own[good].mean(axis=0) - noise.mean(axis=0))
    return np.asarray(weights / (noise @ weights).std())


def weighed(tomogram: Searched, noise: Searched, radius: float) -> Particles:
    """Candidates with their combined score, at least a radius apart."""
    positions, own = tomogram.candidates(radius)
    _, decoys = noise.candidates(radius)
    both = np.concatenate([own, decoys])
    own, decoys = ((values - both.mean(axis=0)) / (both.std(axis=0) + 1e-9) for values in (own, decoys))
    rng = np.random.default_rng(0)
    fold, other = rng.integers(FOLDS, size=len(own)), rng.integers(FOLDS, size=len(decoys))
    combined = np.empty(len(own))
    for k in range(FOLDS):
        weights = discriminant(own[fold != k], decoys[other != k])
        combined[fold == k] = own[fold == k] @ weights - (decoys @ weights).mean()
    return apart(positions, combined, radius)


def apart(positions: Floats, values: Floats, distance: float) -> Particles:
    """The best of the candidates that lie closer than a distance."""
    tree, left, kept = KDTree(positions), np.ones(len(positions), bool), []
    for i in np.argsort(-values, kind="stable"):
        if left[i]:
            kept.append(i)
            left[tree.query_ball_point(positions[i], distance)] = False
    return Particles.of(positions[kept], "particle", values[kept])


def three(tomogram: Searched, noise: Searched, radius: float) -> dict[str, Particles]:
    """Ranked candidates of each method."""
    lists = tomogram.of_model(radius), tomogram.of_blobs(radius), weighed(tomogram, noise, radius)
    return dict(zip(METHODS, lists, strict=True))


def metrics(picks: Particles, truth: Particles, tolerance: float) -> dict[str, float]:
    """Average precision, and recall at 1 to 4 candidates per particle."""
    named = Particles.of(picks.positions, str(truth.species[0]), picks.scores, tomograms=picks.tomograms)
    row = {"average_precision": average_precision(named, truth, tolerance)}
    row |= {f"recall@{b}x": v for b, v in recall_at_budget(named, truth, tolerance, BUDGETS).items()}
    return {name: round(float(value), 4) for name, value in row.items()}


def of_real(work: Path, radii: tuple[float, ...] = (100.0, 125.0, 150.0)) -> dict[str, Any]:
    """The part of the real tomogram, with several radii."""
    volume, truth = part()
    pair = with_noise(volume, work / "real", 0)
    return {
        f"real ribosomes, {radius:g} Å": {
            m: metrics(p, truth, MATCH) for m, p in three(*pair, radius).items()
        }
        for radius in radii
    }


def by_species(
    world: World, rank: Callable[[float], list[dict[str, Particles]]]
) -> dict[str, dict[str, dict[str, float]]]:
    """Scores of each species among the others; *rank* gives the candidates of a radius, by tomogram and method."""
    entries, table = world.dataset.split("test"), {}
    extents = {kind.name: kind.radius for kind in world.dataset.species}
    for name in sorted({str(species) for species in world.truth.species}):
        radius = float(round(SHARE * extents[name]))
        lists = rank(radius)
        tolerance = max(MIN_DISTANCE, extents[name] / 2)
        table[f"{name}, {radius:g} Å"] = {
            method: metrics(
                concatenate(in_tomogram(own[method], e.name) for own, e in zip(lists, entries, strict=True)),
                world.truth.named(name),
                tolerance,
            )
            for method in lists[0]
        }
    return table


def of_world(world: World, folder: Path) -> dict[str, Any]:
    """Each species of a choice world among the others."""
    entries = world.dataset.split("test")
    pairs = [with_noise(read_volume(e.tomogram), folder / e.name, i) for i, e in enumerate(entries)]
    return by_species(world, lambda radius: [three(*pair, radius) for pair in pairs])


def main() -> None:
    """Score all, print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--worlds", type=Path, required=True, help="folder of the choice worlds")
    args = parser.parse_args()
    table = of_real(args.work)
    print(table, flush=True)
    for name, make in WORLDS.items():
        table |= of_world(open_world(make(), args.worlds / name), args.work / name)
    for name, row in table.items():
        print(name, {method: list(values.values()) for method, values in row.items()})
    print(write_result("noise-embedded", {"table": table}))


if __name__ == "__main__":
    main()
