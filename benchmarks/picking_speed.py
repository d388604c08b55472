"""What picking from heatmaps costs, beside masks with connected regions and masks with mean shift.

python benchmarks/picking_speed.py
python benchmarks/picking_speed.py --shape 184 630 630 --count 180 --threads 16 --device cuda

One phantom is segmented by untrained networks of size `s`, which cost as much as trained ones: the heatmap network,
the same backbone with mask output, and DeepFinder, whose authors pick by mean shift. Picking uses ideal maps,
rendered from the truth at the output resolution of the network, so all errors come from the picker. Processor
seconds are reported too, because other work may run on the same cores. Two further tables show the accuracy of the
positions and the separation of touching particles.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import write_result
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap
from cryovox.data.targets import ball_labels, gaussian_heatmap, heatmap_sigma
from cryovox.formats import write_volume
from cryovox.metrics.detection import detection
from cryovox.models import MODELS, activation, build, options
from cryovox.models.card import Card
from cryovox.models.checkpoint import save_model
from cryovox.picking import PickConfig, pick
from cryovox.simulate.phantom import SPECIES, PhantomConfig, phantom
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.devices import keep_freed_memory
from cryovox.workflows.segment import segment

SHIFT = PickConfig(method="mean-shift")
METHODS = {
    "heatmaps: peaks": ("heatmap-unet", PickConfig()),
    "masks: connected regions, cut at necks": ("residual-unet", PickConfig()),
    "masks: connected regions": ("residual-unet", PickConfig(split_touching=False)),
    "masks: mean shift": ("residual-unet", SHIFT),
    "masks: mean shift, as DeepFinder": ("deepfinder", SHIFT),
}
"""Name of a method -> network and picker."""
MATCH_RADIUS = 0.5
"""Largest distance of a hit, in radii."""
Shape = tuple[int, int, int]


def ideal_maps(
    truth: Particles, species: tuple[Species, ...], shape: Shape, voxel: float, kind: str
) -> ScoreMap:
    """Score maps rendered from the truth: Gaussians of a third of a radius, or balls."""
    stride = 2 if kind == "heatmap" else 1
    coarse, offset = voxel * stride, voxel * (stride - 1) / 2
    sides: Shape = (shape[0] // stride, shape[1] // stride, shape[2] // stride)
    index = (truth.positions - offset) / coarse
    if kind == "heatmap":
        maps = [
            gaussian_heatmap(index[truth.species == s.name], heatmap_sigma(s, coarse), sides) for s in species
        ]
    else:
        of = {s.name: s for s in species}
        kinds = [of[str(name)] for name in truth.species]
        balls = ball_labels(index, [s.label for s in kinds], [s.radius / coarse for s in kinds], sides)
        maps = [(balls == s.label).astype(np.float32) for s in species]
    return ScoreMap(
        np.stack(maps), coarse, species, offset, kind, tomogram_shape=shape, tomogram_voxel_size=voxel
    )


def quality(picks: Particles, truth: Particles, species: tuple[Species, ...]) -> dict[str, float]:
    """F1 over all species, matched one to one within half a radius, and the mean distance of hits in Å."""
    counts = [detection(picks.named(s.name), truth.named(s.name), MATCH_RADIUS * s.radius) for s in species]
    total = sum(counts[1:], counts[0])
    return {"f1": total.f1, "mean_distance_A": total.mean_distance}


def timed(work: Callable[[], Any], repeats: int) -> tuple[Any, dict[str, float]]:
    """Result of a call, and its minimum wall and processor seconds over repeats."""
    wall, processor, result = [], [], None
    for _ in range(repeats):
        start, processor_start = time.perf_counter(), time.process_time()
        result = work()
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - processor_start)
    return result, {"seconds": min(wall), "processor_seconds": min(processor)}


def untrained(path: Path, name: str, voxel: float) -> int:
    """Write an untrained model of size `s`; returns its number of weights."""
    torch.manual_seed(0)
    network_options, output_activation = options(name, "s"), activation(name, options(name, "s"))
    out_channels = len(SPECIES) + (output_activation == "softmax")
    network: Any = build(name, network_options, 1, out_channels)
    card = Card(
        network=name,
        options=network_options,
        out_channels=out_channels,
        activation=network.activation,
        kind=network.kind,
        output_stride=network.output_stride,
        patch=network.patch,
        species=SPECIES,
        voxel_size=voxel,
        contrast="dark",
    )
    save_model(path, network, card)
    return sum(p.numel() for p in network.parameters())


def compare(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Seconds of the networks and of all picking methods on one phantom."""
    shape: Shape = tuple(args.shape)
    sample = phantom(PhantomConfig(shape=shape, count=args.count), np.random.default_rng(0))
    voxel, truth = sample.volume.voxel_size, sample.particles
    write_volume(work / "phantom.mrc", sample.volume)
    networks: dict[str, Any] = {}
    for name in dict.fromkeys(name for name, _ in METHODS.values()):
        model = work / f"{name}.safetensors"
        weights = untrained(model, name, voxel)
        run = lambda m=model, n=name: segment(  # noqa: E731
            [work / "phantom.mrc"], m, work / n, SegmentConfig(), device=args.device, overwrite=True
        )
        networks[name] = {"weights": weights, **timed(run, args.repeats)[1]}
        print(name, networks[name], flush=True)
    methods: dict[str, Any] = {}
    for method, (name, config) in METHODS.items():
        maps = ideal_maps(truth, SPECIES, shape, voxel, MODELS[name].kind)
        picks, cost = timed(lambda m=maps, c=config: pick(m, c), args.repeats)
        methods[method] = {"network": name, **cost, **quality(picks, truth, SPECIES)}
        print(method, methods[method], flush=True)
    foreground = int((ideal_maps(truth, SPECIES, shape, voxel, "mask").data.max(axis=0) > 0).sum())
    facts = {"particles": len(truth), "foreground_voxels": foreground, "voxel_size_A": voxel}
    return {"data": facts, "networks": networks, "ways": methods}


def center_error(sigma: float, draws: int = 300) -> dict[str, float]:
    """RMS and largest distance of picks from centers between voxels, in voxels of the map."""
    rng, errors = np.random.default_rng(0), []
    kind = Species(name="a", label=1, radius=3 * sigma)
    for center in rng.uniform(10, 14, (draws, 3)):
        data = gaussian_heatmap(center[None], sigma, (24, 24, 24))
        positions = pick(ScoreMap(data[None], 1.0, (kind,), kind="heatmap")).positions
        errors.append(float(np.linalg.norm(positions[0] - center)) if len(positions) == 1 else np.inf)
    return {"sigma": sigma, "rms": float(np.sqrt(np.mean(np.square(errors)))), "largest": max(errors)}


def sphere_chains(rng: np.random.Generator, radius: float, sides: Shape, count: int) -> np.ndarray:
    """Chains of two to four spheres without overlap, with neighbors 1.0 to 1.2 diameters apart."""
    placed = np.zeros((0, 3))
    for start in rng.uniform(radius, np.array(sides) - 1 - radius, (count, 3)):
        chain: list[np.ndarray] = []
        for _ in range(100):
            step = rng.standard_normal(3)
            gap = 2 * radius * rng.uniform(1.0, 1.2)
            new = start if not chain else chain[-1] + gap * step / np.linalg.norm(step)
            others = np.concatenate([placed, np.reshape(chain, (-1, 3))])
            free = (np.linalg.norm(others - new, axis=1) >= 2 * radius - 1e-9).all()
            if free and (new >= radius).all() and (new <= np.array(sides) - 1 - radius).all():
                chain.append(new)
            if not chain or len(chain) == 4:
                break
        if len(chain) > 1:
            placed = np.concatenate([placed, chain])
    return placed


def touching(radius: float) -> dict[str, Any]:
    """F1 of all picking methods on touching spheres; the radius is in voxels."""
    voxel, sides = 10.0, (96, 96, 96)
    kinds = (Species(name="a", label=1, radius=radius * voxel),)
    centers = sphere_chains(np.random.default_rng(0), radius, sides, 60)
    truth = Particles.of(centers * voxel, "a")
    row: dict[str, Any] = {"radius": radius, "spheres": len(centers)}
    for method, (name, config) in METHODS.items():
        maps = ideal_maps(truth, kinds, sides, voxel, MODELS[name].kind)
        row[method] = quality(pick(maps, config), truth, kinds)["f1"]
    return row


def main() -> None:
    """Measure everything and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", nargs=3, type=int, default=(64, 128, 128))
    parser.add_argument("--count", type=int, default=24, help="particles of each of two species")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--name", default="picking_speed", help="of the result file")
    args = parser.parse_args()
    keep_freed_memory()  # as the command does
    torch.set_num_threads(args.threads)
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as work:
        result = compare(args, Path(work))
    result["centres"] = [center_error(sigma) for sigma in (1.0, 1.5, 2.0, 3.0)]
    result["touching"] = [touching(radius) for radius in (4.0, 5.0, 6.0)]
    print(result["centres"], result["touching"], sep="\n")
    settings = {**vars(args), "shape": list(args.shape), "reach_radii": MATCH_RADIUS, "load_before": load}
    print(write_result(args.name, {"settings": settings, **result}))


if __name__ == "__main__":
    main()
