"""Train the head of the embedded model that marks membranes, gold and empty regions, and score it.

The head is trained on `stream:embedded` with more surroundings, and with samples that end at faces within a box. Everything else of
the network is frozen, so particles keep their scores. It is scored at voxels of 10 Å and binned to 20 Å on two tomograms of each of:

- crowded: vesicles, membrane sheets, microtubules and gold among particles (`embedded.py`);
- lamella: the same in a thin tilted sample, with ice above and below.

Its thresholds have the best mean Dice over these four tomograms at 10 Å and four more.
The filters that it is compared with have the width and the threshold that are best on the scored tomograms themselves: for membranes the
curvature of the smoothed gray values (smallest eigenvalue of the Hessian, alone or less the magnitude of the next), for gold the smoothed
gray values, for empty regions the local standard deviation.

    python benchmarks/embedded_surroundings.py --work DIR [--store]   # --store: into the package
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional as F

from common import write_result
from cryovox.core.durations import seconds
from cryovox.core.particles import Species
from cryovox.data.config import PatchConfig
from cryovox.data.patches import TargetSpec
from cryovox.data.sampling import SamplingConfig
from cryovox.data.simulated import KINDS
from cryovox.formats import mrc, read_volume
from cryovox.formats import scores as score_files
from cryovox.inference.label_map import interpolated_planes
from cryovox.models import build
from cryovox.models.card import EMBEDDED, Card, SurroundingsCard, model_file
from cryovox.models.checkpoint import load_model, save_model
from cryovox.simulate.config.scene import FilamentConfig, VesicleConfig
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.scene.canvas import place_slab
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.score_writing import SURROUNDINGS
from cryovox.workflows.segment import segment
from cryovox.workflows.training.simulated import WHITENED, SimulatedData, load_templates
from cryovox.workflows.training.stream_config import StreamConfig
from embed import SEED as THRESHOLD_SEED
from embedded import CROWDED, SMALL, TOMOGRAMS, WORLD_SEED, crowded, open_world

PATCH, BATCH, WARMUP, PEAK_LR = 48, 4, 50, 4e-3
DICE_WEIGHT = 0.3
"""Of the Dice loss beside cross-entropy."""
RADII = {"membrane": 25.0, "gold": 50.0, "empty": 100.0}
"""For the card, in Å."""
LABELED = {"membrane": "membrane", "gold": "fiducial"}
"""Names of the kinds in simulated scenes."""
CUTS = np.round(np.arange(0.02, 0.99, 0.02), 2)
WIDTHS = {"membrane": (20, 40, 60), "gold": (10, 15, 20, 30), "empty": (30, 60, 100, 150)}
"""Standard deviations in Å of the filters."""


def stream_of(card: Card, seed: int) -> Any:
    """Patches with their surroundings."""
    config = StreamConfig.model_validate(
        {
            "base": "embedded",
            "voxel_size": card.voxel_size,
            "exclude": [*CROWDED, *SMALL],
            "domain": {
                "void": 0.3,
                "surroundings": {"share": 0.9, "kind_share": 0.6},
                "whiten": WHITENED if card.whitened else None,
            },
        }
    )
    data = SimulatedData("stream:embedded", config, *load_templates(config))
    spec = TargetSpec("heatmap", card.output_stride)
    patches = PatchConfig(foreground=0.3)
    return data.stream(SamplingConfig(spec, PATCH, BATCH, patches=patches, seed=(seed, 26)))


def with_head(path: Path, seed: int) -> tuple[Any, Card]:
    """The network of a model with a new head, and its card."""
    network, card = load_model(path)
    torch.manual_seed(seed)
    options = card.options | {"surroundings": len(KINDS)}
    grown = build(card.network, options, card.in_channels, card.out_channels)
    known = {k: v for k, v in network.state_dict().items() if not k.startswith("surroundings.")}
    grown.load_state_dict(grown.state_dict() | known)
    first = len(card.species) + 1
    species = tuple(
        Species(name=name, label=first + i, radius=RADII[name], extended=True) for i, name in enumerate(KINDS)
    )
    surroundings = SurroundingsCard(species=species, thresholds=dict.fromkeys(KINDS, 0.5))
    return grown.eval(), card.model_copy(update={"options": options, "surroundings": surroundings})


def train(network: Any, card: Card, budget: float, seed: int) -> int:
    """Train the head for so many processor seconds; returns the number of steps."""
    stream, head, start, step = stream_of(card, seed), network.surroundings, time.process_time(), 0
    optimizer = torch.optim.AdamW(head.parameters(), lr=PEAK_LR, weight_decay=1e-4)
    head.train()
    running = 0.0
    while (share := (time.process_time() - start) / budget) < 1:
        rate = PEAK_LR * min(1.0, (step + 1) / WARMUP) * (1 + np.cos(np.pi * share)) / 2
        optimizer.param_groups[0]["lr"] = rate
        batch = stream.surroundings_batch(step)
        with torch.no_grad():
            features = network.decode(batch.image)
        loss = loss_of(head(features), batch.target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step, running = step + 1, 0.98 * running + 0.02 * float(loss.detach())
        if step % 100 == 0:
            print(f"step {step}, {100 * share:.0f} %, loss {running:.3f}", flush=True)
    stream.close()
    head.eval()
    return step


def loss_of(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and Dice of each kind over the batch."""
    probability, axes = logits.sigmoid(), (0, 2, 3, 4)
    both = (probability * target).sum(axes)
    dice = (2 * both + 1) / ((probability + target).sum(axes) + 1)
    return F.binary_cross_entropy_with_logits(logits, target) + DICE_WEIGHT * (1 - dice.mean())


def lamella() -> SimulationConfig:
    """A thin tilted sample with membranes and gold; half of the tomogram is empty."""
    config = crowded()
    scene = config.scene.model_copy(
        update={
            "slab": 350.0,
            "slab_tilt": (8.0, 5.0),
            "vesicles": VesicleConfig(count=2, radius=(90.0, 120.0), protein_mass=0.5),
            "filaments": FilamentConfig(),
        }
    )
    return config.model_copy(update={"scene": scene})


WORLDS = {"crowded": crowded, "lamella": lamella}


@dataclass(frozen=True, eq=False)
class Scored:
    """A tomogram of a simulation, on disk and in memory, with the voxels of each kind.

    Attributes
    ----------
    path
        File with dark particles.
    image : (z, y, x)
        Gray values, particles bright.
    truth
        Kind -> (z, y, x) bool.
    """

    path: Path
    image: NDArray[np.float32]
    truth: dict[str, NDArray[np.bool_]]


def tomograms(name: str, folder: Path, count: int, seed: int) -> list[Scored]:
    """The tomograms of a world, simulated unless an earlier run has."""
    config = WORLDS[name]()
    dataset = open_world(config, folder / name, count, seed).dataset
    labels = {kind.name: kind.label for kind in dataset.species}
    points = np.stack(np.indices(config.scene.shape), -1) * config.scene.voxel_size
    slab = place_slab(config.scene)
    outside = np.abs(slab.depth(points)) > slab.half
    listed = []
    for entry in dataset.split("test"):
        found = np.asarray(read_volume(entry.labels).data)
        truth = {kind: found == labels[LABELED[kind]] for kind in LABELED}
        truth["empty"] = outside & (found == 0)
        image = -np.asarray(read_volume(entry.tomogram).data, np.float32)
        listed.append(Scored(entry.tomogram, image, {k: v for k, v in truth.items() if v.any()}))
    return listed


def binned(one: Scored, folder: Path) -> Scored:
    """The tomogram at twice the voxel size; a voxel has a kind if half of it has."""
    size, path = 2 * read_volume(one.path).voxel_size, folder / one.path.name
    image = _blocks(one.image)
    with mrc.create(path, image.shape, "float32", size) as file:
        file[...] = -image
    return Scored(path, image, {kind: _blocks(mask) >= 0.5 for kind, mask in one.truth.items()})


def _blocks(values: NDArray[Any]) -> NDArray[np.float32]:
    z, y, x = (n // 2 for n in values.shape)
    blocks = values[: 2 * z, : 2 * y, : 2 * x].reshape(z, 2, y, 2, x, 2)
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))


def dice(first: list[NDArray[np.bool_]], second: list[NDArray[np.bool_]]) -> float:
    """Of all voxels of the tomograms."""
    both = sum(int((a & b).sum()) for a, b in zip(first, second, strict=True))
    return 2 * both / max(1, sum(int(mask.sum()) for mask in (*first, *second)))


def best_dice(scores: list[NDArray[np.float32]], truth: list[NDArray[np.bool_]]) -> float:
    """Dice at the threshold that is best for these tomograms."""
    values, inside = (np.concatenate([one.ravel() for one in many]) for many in (scores, truth))
    hits = np.cumsum(inside[np.argsort(-values)])
    return float((2 * hits / (np.arange(1, len(hits) + 1) + hits[-1])).max())


def filtered(kind: str, image: NDArray[np.float32], voxel: float) -> dict[str, NDArray[np.float32]]:
    """Filters for a kind, by name; *voxel* is the voxel size in Å."""
    maps = {}
    for width in WIDTHS[kind]:
        sigma = width / voxel
        if kind == "membrane":
            first, second = curvatures(image, sigma)
            maps[f"curvature, {width} Å"] = np.maximum(0, first)
            maps[f"curvature less the next, {width} Å"] = np.maximum(0, first - np.abs(second))
        elif kind == "gold":
            maps[f"gray values, {width} Å"] = ndimage.gaussian_filter(image, sigma)
        else:
            maps[f"deviation, {width} Å"] = -deviation(image, sigma)
    return maps


def curvatures(image: NDArray[np.float32], sigma: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Minus the smallest and the middle eigenvalue of the Hessian."""
    hessian = np.empty((*image.shape, 3, 3), np.float32)
    for i, j in itertools.combinations_with_replacement(range(3), 2):
        order = [int(axis == i) + int(axis == j) for axis in range(3)]
        hessian[..., i, j] = hessian[..., j, i] = ndimage.gaussian_filter(image, sigma, order=order)
    values = np.linalg.eigvalsh(hessian)
    return -values[..., 0], -values[..., 1]


def deviation(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Local standard deviation."""
    mean = ndimage.gaussian_filter(image, sigma)
    return np.asarray(np.sqrt(np.maximum(0, ndimage.gaussian_filter(image**2, sigma) - mean**2)))


def head_scores(listed: list[Scored], model: Path, out: Path) -> dict[str, list[NDArray[np.float32]]]:
    """Scores of each kind at the voxels of the tomograms."""
    paths = [one.path for one in listed]
    _, failures = segment(paths, model, out, SegmentConfig(surroundings=True), device="cpu", overwrite=True)
    for error in failures.values():
        raise error
    maps: dict[str, list[NDArray[np.float32]]] = {kind: [] for kind in KINDS}
    for path in paths:
        scores, volume = score_files.read(out / SURROUNDINGS / f"{path.stem}.zarr"), read_volume(path)
        for channel, kind in enumerate(KINDS):
            maps[kind].append(np.stack(list(interpolated_planes(scores, channel, volume))))
    return maps


Maps = dict[str, list[NDArray[np.float32]]]
"""Kind -> scores of each tomogram of a scene."""


def choose_thresholds(scenes: list[tuple[list[Scored], Maps]]) -> dict[str, float]:
    """Thresholds with the best mean Dice of the tomograms that hold a kind."""
    chosen = {}
    for kind in KINDS:
        rows = [
            [dice([scores >= cut], [one.truth[kind]]) for cut in CUTS]
            for listed, maps in scenes
            for one, scores in zip(listed, maps[kind], strict=True)
            if kind in one.truth
        ]
        chosen[kind] = float(CUTS[int(np.argmax(np.mean(rows, axis=0)))])
    return chosen


def rows_of(
    name: str, voxel: float, listed: list[Scored], maps: Maps, thresholds: dict[str, float]
) -> list[dict[str, Any]]:
    """Dice of the head and of the best filter for each kind in a scene."""
    rows = []
    for kind in KINDS:
        if not all(kind in one.truth for one in listed):
            continue
        truth = [one.truth[kind] for one in listed]
        maps_of = [filtered(kind, one.image, voxel) for one in listed]
        peers = {peer: best_dice([one[peer] for one in maps_of], truth) for peer in maps_of[0]}
        best = max(peers, key=lambda peer: peers[peer])
        own = dice([m >= thresholds[kind] for m in maps[kind]], truth)
        row = {"world": name, "voxel_size": voxel, "kind": kind}
        row |= {"share": round(float(np.mean([t.mean() for t in truth])), 4), "dice": round(own, 3)}
        row |= {"best_dice": round(best_dice(maps[kind], truth), 3)}
        rows.append(row | {"filter": best, "filter_dice": round(peers[best], 3)})
        print(rows[-1], flush=True)
    return rows


def train_head(args: argparse.Namespace, model: Path) -> None:
    """Train the head, and store the model."""
    network, card = with_head(EMBEDDED, args.seed)
    steps = train(network, card, seconds(args.time), args.seed)
    facts = {"surroundings": {"steps": steps, "seconds": seconds(args.time), "seed": args.seed}}
    save_model(model, network, card.model_copy(update={"training": card.training | facts}))


def main() -> None:
    """Train, choose thresholds, score, and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="folder of the run; gets surroundings.safetensors"
    )
    parser.add_argument("--worlds", type=Path, help="folder of the scored worlds, as of embedded.py")
    parser.add_argument("--time", default="7m", help="processor time of the training")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches")
    parser.add_argument("--store", action="store_true", help="make it the model of the package")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    model = args.work / "surroundings.safetensors"
    if not model.exists():  # of an earlier run
        train_head(args, model)
    scenes, further = [], []
    for name in WORLDS:
        more = tomograms(name, args.work / "thresholds", TOMOGRAMS, THRESHOLD_SEED)
        further.append((more, head_scores(more, model, args.work / "scored" / f"thresholds-{name}")))
        listed = tomograms(name, args.worlds or args.work / "worlds", TOMOGRAMS, WORLD_SEED)
        (args.work / "binned" / name).mkdir(parents=True, exist_ok=True)
        coarse = [binned(one, args.work / "binned" / name) for one in listed]
        for voxel, many in ((10.0, listed), (20.0, coarse)):
            out = args.work / "scored" / f"{name}-{voxel:g}"
            scenes.append((name, voxel, many, head_scores(many, model, out)))
    fine = [(listed, maps) for _, voxel, listed, maps in scenes if voxel == 10.0]
    thresholds = choose_thresholds(further + fine)
    print(thresholds, flush=True)
    network, card = load_model(model)
    assert card.surroundings is not None
    head = card.surroundings.model_copy(update={"thresholds": thresholds})
    save_model(model, network, card.model_copy(update={"surroundings": head}))
    rows = [row for scene in scenes for row in rows_of(*scene, thresholds)]
    facts = {"training": card.training["surroundings"], "thresholds": thresholds}
    print(write_result("surroundings-embedded", {**facts, "rows": rows}))
    if args.store:
        shutil.copyfile(model, model_file(EMBEDDED))


if __name__ == "__main__":
    main()
