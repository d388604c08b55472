"""Recall at the faces of a volume: the same particles in whole tomograms, and in crops whose new faces cut them.

Networks of the tile benchmark learn from the same simulated tomograms with and without patches that are cut off
(`augment.cut`). Test tomograms are cropped along y and x, so that particles of the interior lie near a face; around the
crop the network sees a halo: nothing (its own zero padding), the mean, the edge repeated, or the mirrored volume. Thresholds
are the best of each species in the whole tomograms; recall is that of the crop over that of the whole tomogram, for the
particles within a radius of the new faces.

    OMP_NUM_THREADS=1 python benchmarks/faces.py --work DIR       # about 25 processor minutes
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import write_result
from cryovox.benchmark.semi.methods import ALL_METHODS
from cryovox.benchmark.semi.scores import pick_candidates
from cryovox.benchmark.tomograms import true_particles
from cryovox.benchmark.training import nested, shared_settings
from cryovox.core.config import validated
from cryovox.core.dataset import Dataset
from cryovox.core.particles import Particles, concatenate
from cryovox.core.volume import ScoreMap
from cryovox.inference.stream import TilePlan, stream
from cryovox.metrics.detection import detection
from cryovox.models.checkpoint import load_model
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.inputs import prepare
from cryovox.workflows.training.run import train
from tile_choice import LEVELS, phantom

CUTS, HALOS = (0.0, 0.15), ("none", "constant", "edge", "reflect")
SIZE, LOWS, HALO, TILE = 72, (12, 44, 76, 108), 12, 48
"""Voxels of a crop and its first ones, of the halo, and of a tile: with overlap 0.5 both sizes fit exactly."""
EDGES = (0, 0.25, 0.5, 0.75, 1, 1.5, 2)
"""Distances from the nearest new face, in radii."""


def trained(cut: float, seed: int, work: Path) -> Path:
    """Model trained with that fraction of cut patches, once."""
    out = work / f"cut-{cut:g}-{seed}"
    if not (out / "done").exists():
        options = shared_settings("cpu") | ALL_METHODS | {
            "supervised.loss": "auto", "network.model": "heatmap-unet", "network.size": "s",
            "loop.max_time": "2m", "augment.cut": cut, "seed": seed,
        }  # fmt: skip
        config = validated(TrainConfig, nested(options), out)
        train(work / "phantom", out, config, device="cpu", overwrite=True)
        (out / "done").touch()
    return out / "model.safetensors"


class Model:
    """A network that scores arrays."""

    def __init__(self, path: Path, voxel_size: float) -> None:
        self.network, self.card = load_model(path)
        self.voxel_size = voxel_size
        self.tiles = TilePlan(TILE, 0.5, self.card.output_stride, self.card.activation)

    def scores(self, data: NDArray[Any], normalize: Any) -> NDArray[np.float32]:
        """Scores (k, z, y, x) of a volume."""
        blocks: list[Any] = []
        stream(self.network, data, normalize, self.tiles, lambda _, block: blocks.append(block.copy()))
        return np.concatenate(blocks, axis=1)

    def around(self, part: NDArray[Any], halo: str, axis: int, normalize: Any) -> NDArray[np.float32]:
        """Scores of a crop with a halo along an axis."""
        if halo == "none":
            return self.scores(part, normalize)
        width = [(HALO, HALO) if a == axis else (0, 0) for a in range(3)]
        more: Any = {"constant_values": normalize.mean} if halo == "constant" else {}
        scores, n = self.scores(np.pad(part, width, halo, **more), normalize), HALO // self.tiles.stride
        return np.take(scores, np.arange(n, scores.shape[axis + 1] - n), axis=axis + 1)

    def map(self, scores: NDArray[np.float32]) -> ScoreMap:
        """Scores with their geometry."""
        stride, voxel = self.tiles.stride, self.voxel_size
        offset = voxel * (stride - 1) / 2
        return ScoreMap(scores, voxel * stride, self.card.species, offset, self.card.kind)


def best_thresholds(maps: dict[str, ScoreMap], true: Particles, dataset: Dataset) -> dict[str, float]:
    """Threshold of the highest F1 of each species."""
    levels = LEVELS["heatmap"]
    lists = [concatenate(pick_candidates(n, m, float(level)) for n, m in maps.items()) for level in levels]
    return {
        s.name: float(
            levels[np.argmax([detection(p.named(s.name), true.named(s.name), s.radius).f1 for p in lists])]
        )
        for s in dataset.species
    }


def matched(picks: NDArray[Any], true: NDArray[Any], radius: float) -> NDArray[np.bool_]:
    """Which true particles have a pick of their own within the radius, the closest pairs first."""
    hit, used = np.zeros(len(true), bool), np.zeros(len(picks), bool)
    apart = np.linalg.norm(picks[:, None] - true[None], axis=2)
    for i, j in zip(*np.unravel_index(np.argsort(apart, axis=None), apart.shape), strict=True):
        if apart[i, j] <= radius and not used[i] and not hit[j]:
            used[i] = hit[j] = True
    return hit


def crops(shape: tuple[int, ...]) -> Iterator[tuple[int, int, tuple[slice, ...]]]:
    """Axis, first voxel and slices of the crops."""
    for axis in (1, 2):
        for low in LOWS:
            yield (
                axis,
                low,
                tuple(slice(low, low + SIZE) if a == axis else slice(None) for a in range(len(shape))),
            )


def measure(model: Model, dataset: Dataset) -> dict[str, Any]:
    """Particles by distance from the new faces: number, those with a pick in the whole tomogram, in the crop."""
    true = true_particles(dataset)
    opened = {e.name: prepare(e.tomogram, model.card, None, "auto") for e in dataset.split("test")}
    maps = {n: model.map(model.scores(np.asarray(t.volume.data), t.normalize)) for n, t in opened.items()}
    thresholds = best_thresholds(maps, true, dataset)
    edges = np.array([*EDGES, np.inf])
    table: dict[str, Any] = {h: {"crop": np.zeros(len(EDGES)), "false": np.zeros(len(EDGES))} for h in HALOS}
    count, in_whole = np.zeros(len(EDGES)), np.zeros(len(EDGES))
    for name, tomogram in opened.items():
        data, own = np.asarray(tomogram.volume.data), true.take(true.tomograms == name)
        for axis, low, window in crops(data.shape):
            for halo in HALOS:
                scores = model.map(model.around(data[window], halo, axis, tomogram.normalize))
                for kind in dataset.species:
                    level, radius, voxel = thresholds[kind.name], kind.radius, model.voxel_size
                    places = own.named(kind.name).positions
                    picks = pick_candidates(name, scores, level).named(kind.name).positions.copy()
                    picks[:, axis] += low * voxel
                    ends = (low - 0.5) * voxel, (low + SIZE - 0.5) * voxel
                    bins, bins_of_picks = (
                        np.digitize(np.minimum(p[:, axis] - ends[0], ends[1] - p[:, axis]) / radius, edges)
                        - 1
                        for p in (places, picks)
                    )
                    inside = bins >= 0
                    apart = np.linalg.norm(picks[:, None] - places[None], axis=2).min(1, initial=np.inf)
                    wrong = (apart > radius) & (bins_of_picks >= 0)
                    table[halo]["false"] += np.bincount(bins_of_picks[wrong], minlength=len(EDGES))
                    hit = matched(picks, places, radius) & inside
                    table[halo]["crop"] += np.bincount(bins[hit], minlength=len(EDGES))
                    if halo == HALOS[0]:
                        whole = pick_candidates(name, maps[name], level).named(kind.name).positions
                        count += np.bincount(bins[inside], minlength=len(EDGES))
                        hit = matched(whole, places, radius) & inside
                        in_whole += np.bincount(bins[hit], minlength=len(EDGES))
    near = np.array(EDGES) < 1
    rows = {
        halo: {
            "recall of that of the whole, within a radius": round(
                t["crop"][near].sum() / in_whole[near].sum(), 4
            ),
            "by distance": np.round(t["crop"] / in_whole, 4).tolist(),
            "false picks by distance": t["false"].astype(int).tolist(),
        }
        for halo, t in table.items()
    }
    return {"particles by distance": count.astype(int).tolist(), "halos": rows}


def main() -> None:
    """Train, measure, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    dataset = phantom(args.work / "phantom")
    runs = []
    for seed in range(args.seeds):
        for cut in CUTS:
            model = Model(trained(cut, seed, args.work), dataset.voxel_size)
            runs.append({"cut": cut, "seed": seed} | measure(model, dataset))
            print(runs[-1], flush=True)
    write_result("faces", {"edges": EDGES, "halo": HALO, "runs": runs})


if __name__ == "__main__":
    main()
