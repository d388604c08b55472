"""Speed and memory on one GPU in at most 100 seconds: G1, G3, G4, G5, G7, and patches per second of all networks.

Nothing is downloaded. Volumes of the real sizes are noise with planted balls of seven sizes, and the network of the real size
learns them for some seconds, so that picks can be compared and F1 means something. Parts follow each other and each is stored as
soon as it is there; a part that fails leaves its error in the result, and one for which no time is left says so.

    G1   184 x 630 x 630, 7 species: from the file to the particle list, after a warm-up
    G3   512 x 1024 x 1024 with a limit of 8 GB of GPU memory; fewer planes where time is short, which the result says
    G4   limits of 4, 8, 16 and 40 GB, and a GPU that runs out of memory: peaks, seconds, and whether the picks are the same
    G5   bfloat16 with weights channels-last against float32: network alone, and F1 of the picks of both
    G7   the streaming tiler and MONAI's sliding window: same network, tile, overlap and batch, from array to array
    networks   patches of 32^3 per second of every network at published size, inference and training, float32 and bfloat16

    PYTHONPATH=site:src python3 benchmarks/gpu/speed.py
    python benchmarks/gpu/speed.py --device cpu --small --name gpu-speed-trial      # a trial, about 2 minutes
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write_result
from cryovox.benchmark.cost import BATCH, CLASSES
from cryovox.benchmark.subtomograms import segmentation_methods
from cryovox.benchmark.suite import Method
from cryovox.benchmark.training import NEVER, nested
from cryovox.core.config import validated
from cryovox.core.dataset import Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.intensity import Normalization
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import Volume
from cryovox.formats import dataset as dataset_files
from cryovox.formats import mrc, scores, write_particles, write_volume
from cryovox.inference.backoff import is_out_of_memory
from cryovox.inference.stream import TilePlan, activate, stream
from cryovox.inference.tiling import plan
from cryovox.metrics.detection import detection
from cryovox.models import build, options
from cryovox.models.card import Card
from cryovox.models.checkpoint import load_model, save_model, update_card
from cryovox.models.supervision import predict, supervise
from cryovox.picking import PickConfig, pick
from cryovox.workflows.config import SegmentConfig, TrainConfig
from cryovox.workflows.devices import keep_freed_memory
from cryovox.workflows.find import find
from cryovox.workflows.inputs import prepare
from cryovox.workflows.score_tiles import limited_tiles, network_for, tile_plan, write_scores
from cryovox.workflows.segment import segment
from cryovox.workflows.training.run import train

Shape = tuple[int, int, int]
VOXEL, NETWORK, SIZE = 10.0, "heatmap-unet", "s"
SPECIES = tuple(
    Species(name=f"ball-{r}", label=i + 1, radius=float(r)) for i, r in enumerate(range(60, 151, 15))
)
"""Seven species; a larger ball is fainter, so that each is found about as well."""
FIRST = ("mvgformer p3da", "voxresnet", "mvgformer mf", "mednext", "swin-unetr", "unet3d", "swift3d")
"""Networks that are measured before the others."""
SPACING = 40
"""Voxels between the places of the balls, which lie on a shaken grid."""


@dataclass
class Run:
    """Settings, the clock, and what was measured so far."""

    args: argparse.Namespace
    work: Path
    start: float = field(default_factory=time.monotonic)
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> Any:
        return self.args.device

    @property
    def formats(self) -> tuple[bool, ...]:
        """Whether to compute in bfloat16: without and with on a GPU; few CPUs can."""
        return (False, True) if self.device == "cuda" else (False,)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return float(self.args.seconds) - (time.monotonic() - self.start)

    def part(self, name: str, work: Callable[[], Any], needs: float) -> None:
        """Run one part, store it, and print it; a failure is part of the result."""
        began = time.monotonic()
        if self.left < needs:
            outcome: Any = {"skipped": f"{self.left:.0f} s left, {needs:.0f} s needed"}
        else:
            try:
                outcome = work()
            except Exception as error:
                traceback.print_exc()
                outcome = {"error": f"{type(error).__name__}: {str(error)[:400]}"}
        clear(self.device)
        self.result[name] = outcome
        self.result.setdefault("seconds of each part", {})[name] = round(time.monotonic() - began, 1)
        print(f"{name} ({time.monotonic() - began:.1f} s): {outcome}", flush=True)
        settings = {k: v for k, v in vars(self.args).items() if k != "name"}
        write_result(self.args.name, {"settings": settings, "device": machine(self.device), **self.result})


def machine(device: str) -> dict[str, Any]:
    """GPU and versions."""
    if device != "cuda":
        return {"name": device, "torch": torch.__version__, "threads": torch.get_num_threads()}
    facts = torch.cuda.get_device_properties(0)
    return {
        "name": facts.name, "GB": round(facts.total_memory / 1e9, 1), "torch": torch.__version__,
        "CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version(), "threads": torch.get_num_threads(),
        "TF32 convolutions": torch.backends.cudnn.allow_tf32,
    }  # fmt: skip


def clear(device: str) -> None:
    """Give memory of the GPU back, and count its peak from here."""
    gc.collect()
    if device == "cuda":
        torch.cuda.set_per_process_memory_fraction(1.0)  # a limit of before is over
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def vram(device: str) -> dict[str, float]:
    """GB of the GPU: highest amount of tensors, and of what this process reserved with its context."""
    if device != "cuda":
        return {}
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    context = max(0, total - free - torch.cuda.memory_reserved())
    whole = torch.cuda.max_memory_reserved() + context
    return {
        "tensors, GB": round(torch.cuda.max_memory_allocated() / 1e9, 3),
        "process, GB": round(whole / 1e9, 3),
    }


def timed(device: str, work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, with what the GPU still had to do."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    value = work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, value


def planted(shape: Shape, seed: int) -> tuple[NDArray[np.float32], Particles]:
    """White noise with dark balls, and where they are."""
    rng = np.random.default_rng(seed)
    data = rng.standard_normal(shape, dtype=np.float32)
    places, names = [], []
    cells = [np.arange(SPACING // 2, n - SPACING // 2 + 1, SPACING) for n in shape]
    for corner in np.stack(np.meshgrid(*cells, indexing="ij"), -1).reshape(-1, 3):
        kind = SPECIES[rng.integers(len(SPECIES))]
        radius = kind.radius / VOXEL
        center = corner + rng.uniform(-3, 3, 3)
        low = np.maximum(0, np.floor(center - radius).astype(int))
        high = np.minimum(shape, np.ceil(center + radius).astype(int) + 1)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        grid = np.meshgrid(
            *(np.arange(a, b) - c for a, b, c in zip(low, high, center, strict=True)), indexing="ij"
        )
        inside = np.square(grid).sum(0) <= radius**2
        data[box] -= (inside * 12.0 / radius).astype(np.float32)
        places.append(center * VOXEL)
        names.append(kind.name)
    return data, Particles.of(np.array(places).reshape(-1, 3), names)


def tomogram(path: Path, shape: Shape, seed: int) -> Particles:
    """Write a planted tomogram; returns its particles."""
    data, truth = planted(shape, seed)
    write_volume(path, Volume(data, VOXEL))
    return truth


def repeated(path: Path, shape: Shape) -> None:
    """Write a large tomogram of one block, repeated."""
    block, _ = planted((64, 128, 128), 9)
    with mrc.create(path, shape, np.float32, VOXEL) as out:
        for z in range(0, shape[0], len(block)):
            depth = min(len(block), shape[0] - z)
            tiles = [-(-n // m) for n, m in zip(shape[1:], block.shape[1:], strict=True)]
            out[z : z + depth] = np.tile(block[:depth], (1, *tiles))[:, : shape[1], : shape[2]]


def blank_model(path: Path, tile: int) -> None:
    """Model file with new weights."""
    chosen = options(NETWORK, SIZE)
    torch.manual_seed(0)
    network = build(NETWORK, chosen, 1, len(SPECIES))
    card = Card(
        network=NETWORK, options=chosen, out_channels=len(SPECIES), activation="sigmoid", kind="heatmap",
        output_stride=network.output_stride, patch=tile, overlap=0.25, species=SPECIES, voxel_size=VOXEL, contrast="dark",
    )  # fmt: skip
    save_model(path, network, card)


def trained_model(run: Run) -> dict[str, Any]:
    """Train for some seconds on one planted tomogram; the file has the tile and overlap of this benchmark."""
    small, folder = run.args.small, run.work / "data"
    (folder / "tomograms").mkdir(parents=True)
    (folder / "particles").mkdir()
    shape = (48, 96, 96) if small else (96, 192, 192)
    file, listed = folder / "tomograms" / "a.mrc", folder / "particles" / "a.star"
    truth = tomogram(file, shape, 1)
    write_particles(
        listed, truth, tomogram=Volume(np.broadcast_to(np.float32(0), shape), VOXEL), tomogram_name="a"
    )
    entry = Entry(name="a", tomogram=file, particles=listed, contrast="dark")
    dataset_files.write(folder, Dataset(voxel_size=VOXEL, species=SPECIES, entries=(entry,)))
    dotted = {
        "network.model": NETWORK, "network.size": SIZE, "loop.max_time": f"{run.args.training}s",
        "loop.batch": 2 if small else 16, "loop.precision": "32-true" if run.device == "cpu" else "bf16-mixed",
        "loop.validate_every": NEVER, "loop.keep": "last",
    }  # fmt: skip
    config = validated(TrainConfig, nested(dotted), Path("training"))
    seconds, model = timed(run.device, lambda: train(folder, run.work / "trained", config, device=run.device))
    card = update_card(model, {"patch": run.args.tile, "overlap": 0.25, "calibration": None})
    (run.work / "model.safetensors").write_bytes(model.read_bytes())
    steps = card.training["steps"]
    return {
        "seconds": round(seconds, 1),
        "steps": steps,
        "patches/s": round(steps * dotted["loop.batch"] / run.args.training, 1),
    }


def f1(picks: Particles, truth: Particles) -> float:
    """F1 over all species, hits within half a radius."""
    counts = [detection(picks.named(s.name), truth.named(s.name), s.radius / 2) for s in SPECIES]
    return round(sum(counts[1:], counts[0]).f1, 4)


def agreement(picks: Particles, reference: Particles) -> float:
    """F1 of picks against other picks, within half a voxel."""
    counts = [detection(picks.named(s.name), reference.named(s.name), VOXEL / 2) for s in SPECIES]
    return round(sum(counts[1:], counts[0]).f1, 5)


def settings(run: Run, **changes: Any) -> SegmentConfig:
    """Settings of the segmentation: bfloat16 on a GPU, and the batch of this run."""
    precision = "bf16" if True in run.formats else "fp32"
    return SegmentConfig(**({"batch": run.args.batch, "precision": precision, "contrast": "dark"} | changes))


def end_to_end(run: Run) -> dict[str, Any]:
    """G1: segment and pick, and `find` with its controls and report, from the file on disk."""
    model, out = run.work / "model.safetensors", run.work / "g1"
    path, warm = run.work / "czii.mrc", run.work / "warm.mrc"
    truth = tomogram(path, run.args.czii, 2)
    tomogram(warm, (64, 96, 96), 3)
    segment([warm], model, out, settings(run), device=run.device)
    clear(run.device)
    segmented, _ = timed(run.device, lambda: segment([path], model, out, settings(run), device=run.device))
    memory = vram(run.device)
    picked, picks = timed(run.device, lambda: pick(scores.read(out / "scores" / "czii.zarr"), PickConfig()))
    network, card = load_model(model)
    network = network_for(settings(run), network.to(run.device))
    prepared, tomo = timed(run.device, lambda: prepare(path, card, None, "dark", resample=True))
    tiles = tile_plan(card, settings(run), run.device)
    scored, _ = timed(run.device, lambda: write_scores(network, tomo, card, tiles, run.work / "again.zarr"))
    found = run.work / "found"
    whole, _ = timed(run.device, lambda: find([path], model, found, settings(run), device=run.device))
    return {
        "shape": run.args.czii, "segment and pick, s": round(segmented + picked, 2), "find with report, s": round(whole, 2),
        "of it": {"segment": round(segmented, 2), "pick": round(picked, 2), "statistics": round(prepared, 2), "scores to disk": round(scored, 2)},
        "picks": len(picks), "F1": f1(picks, truth), **memory,
    }  # fmt: skip


def scored_picks(
    run: Run, path: Path, name: str, config: SegmentConfig, available: float | None = None
) -> tuple[float, dict[str, float], Particles, int]:
    """Seconds, memory, picks and batch of scoring a tomogram under limits."""
    network, card = load_model(run.work / "model.safetensors")
    network = network_for(config, network.to(run.device))
    tomo = prepare(path, card, None, "dark", resample=True)
    clear(run.device)
    if available is not None:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(available / total)
    tiles = limited_tiles(network, card, config, tomo.volume, run.work)
    target = run.work / f"{name}.zarr"
    seconds, _ = timed(run.device, lambda: write_scores(network, tomo, card, tiles, target))
    return seconds, vram(run.device), pick(scores.read(target), PickConfig()), tiles.batch


def precision(run: Run) -> dict[str, Any]:
    """G5: the network alone in both precisions, and F1 of the picks."""
    tile, batch = run.args.tile, run.args.batch
    x = torch.randn(batch, 1, tile, tile, tile, device=run.device)
    speeds = {}
    forms = {"float32": (False, False), "bfloat16": (True, False), "bfloat16, channels-last": (True, True)}
    for name, (bf16, last) in forms.items() if run.device == "cuda" else [("float32", (False, False))]:
        network = load_model(run.work / "model.safetensors")[0].to(run.device)
        if last:
            network.to(memory_format=torch.channels_last_3d)
        speeds[name] = rate(run, lambda n=network, b=bf16: forward(n, x, b, run.device), batch, 1.0)
    path = run.work / "middle.mrc"
    truth = tomogram(path, run.args.middle, 4)
    found = {}
    disk = {}
    for bf16 in run.formats:
        name = "bf16" if bf16 else "fp32"
        disk[name], _, found[name], _ = scored_picks(run, path, name, settings(run, precision=name))
    quality = {name: f1(picks, truth) for name, picks in found.items()}
    table = {
        "tiles/s": {name: round(value, 1) for name, value in speeds.items()},
        "gain": round(max(speeds.values()) / speeds["float32"], 2),
        "scores to disk, s": {name: round(value, 2) for name, value in disk.items()},
        "particles": len(truth), "F1": quality,
    }  # fmt: skip
    if "bf16" in found:
        table["F1 change, points"] = round(100 * (quality["bf16"] - quality["fp32"]), 2)
        table["same picks"] = agreement(found["bf16"], found["fp32"])
    return table


def forward(network: nn.Module, x: torch.Tensor, bf16: bool, device: str) -> None:
    """One prediction."""
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bf16):
        predict(network, x)


def rate(run: Run, work: Callable[[], None], items: int, seconds: float) -> float:
    """Items per second: median of repeats within about so many seconds, after a warm-up."""
    timed(run.device, work)
    end, times = time.monotonic() + seconds, []
    while not times or (time.monotonic() < end and len(times) < 50):
        times.append(timed(run.device, work)[0])
    return items / statistics.median(times)


def beside_monai(run: Run) -> dict[str, Any]:
    """G7: from an array to an array of scores, float32 and bfloat16."""
    from monai.inferers import sliding_window_inference

    network, card = load_model(run.work / "model.safetensors")
    network, tile, batch = network.to(run.device), run.args.tile, run.args.batch
    data, _ = planted(run.args.middle, 5)
    sides = [plan(n, tile, 0.25, card.output_stride).out_size for n in data.shape]
    ours = np.zeros((len(SPECIES), *sides), np.float32)

    def put(first: int, block: NDArray[np.float32]) -> None:
        ours[:, first : first + block.shape[1]] = block

    def with_monai(bf16: bool) -> NDArray[np.float32]:
        with torch.inference_mode(), torch.autocast(run.device, torch.bfloat16, enabled=bf16):
            volume = torch.from_numpy(data)[None, None].to(run.device)
            whole = sliding_window_inference(
                volume,
                (tile,) * 3,
                batch,
                lambda x: activate(network(x), "sigmoid"),
                overlap=0.25,
                mode="gaussian",
            )
            values: NDArray[np.float32] = whole.float().cpu().numpy()
            return values

    table: dict[str, Any] = {"shape": data.shape, "tile": tile, "overlap": 0.25, "batch": batch}
    for bf16 in run.formats:
        tiles = TilePlan(tile, 0.25, card.output_stride, "sigmoid", batch, bf16=bf16)
        works = {
            "MONAI": lambda b=bf16: with_monai(b),
            "cryovox": lambda t=tiles: stream(network, data, Normalization(0.0, 1.0), t, put),
        }
        row: dict[str, Any] = {}
        for side, work in works.items():
            timed(run.device, work)
            clear(run.device)
            seconds = [timed(run.device, work)[0] for _ in range(run.args.repeats)]
            row[side] = {"s": round(min(seconds), 3), **vram(run.device)}
        row["times as fast"] = round(row["MONAI"]["s"] / row["cryovox"]["s"], 2)
        if run.device == "cuda":
            row["tensors, share"] = round(row["cryovox"]["tensors, GB"] / row["MONAI"]["tensors, GB"], 3)
        table["bfloat16" if bf16 else "float32"] = row
    return table


def large(run: Run) -> dict[str, Any]:
    """G3: as many planes of the largest volume as the time allows, judged by 64 of them."""
    path, whole = run.work / "large.mrc", run.args.large
    first = min(whole[0], run.args.planes)
    repeated(path, (first, *whole[1:]))
    seconds, memory, _, batch = scored_picks(run, path, "large", settings(run, max_vram="8G"))
    table = {"planes": first, "scores to disk, s": round(seconds, 2), "batch": batch, **memory}
    planes = min(
        whole[0], int(0.6 * max(0.0, run.left - run.args.reserve) / (seconds / first + 1e-9)) // 64 * 64
    )
    if planes > first:
        repeated(path, (planes, *whole[1:]))
        seconds, memory, picks, batch = scored_picks(run, path, "large", settings(run, max_vram="8G"))
        table = {
            "planes": planes,
            "scores to disk, s": round(seconds, 2),
            "picks": len(picks),
            "batch": batch,
            **memory,
        }
    return {"shape": whole, **table, "all planes, s": round(seconds * whole[0] / table["planes"], 1)}


def caps(run: Run) -> dict[str, Any]:
    """G4: limits, and a GPU of which only a small part can be used."""
    path = run.work / "caps.mrc"
    tomogram(path, run.args.middle, 6)
    wish = settings(run, batch=8 * run.args.batch)
    seconds, memory, reference, batch = scored_picks(run, path, "caps", wish)
    rows: dict[str, Any] = {"no limit": {"s": round(seconds, 2), "batch": batch, **memory}}
    for cap in ("2G", "4G", "8G", "16G", "40G"):
        try:
            seconds, memory, picks, batch = scored_picks(
                run, path, "caps", wish.model_copy(update={"max_vram": cap})
            )
        except RequestError as error:
            rows[cap] = {"refused": str(error)}
            continue
        rows[cap] = {
            "s": round(seconds, 2),
            "batch": batch,
            "same picks": agreement(picks, reference),
            **memory,
        }
        if memory:
            rows[cap]["honored"] = memory["process, GB"] <= float(cap[:-1])
    if run.device == "cuda":
        seconds, memory, picks, batch = scored_picks(run, path, "caps", wish, available=2e9)
        row = {"s": round(seconds, 2), "same picks": agreement(picks, reference), **memory}
        rows["out of memory above 2 GB"] = row
    return rows


def networks(run: Run) -> list[dict[str, Any]]:
    """Patches per second of every network, as far as time allows."""
    methods = [m for m in segmentation_methods("s" if run.args.small else "paper") if m.data == "train"]
    methods.sort(key=lambda m: FIRST.index(m.name) if m.name in FIRST else len(FIRST))
    rows, end = [], time.monotonic() + min(run.left - 2, run.args.networks)
    for method in methods[:2] if run.args.small else methods:
        row: dict[str, Any] = {"network": method.name}
        try:
            row |= {"skipped": "no time left"} if time.monotonic() > end else speeds_of(run, method)
        except Exception as error:
            if not is_out_of_memory(error):
                traceback.print_exc()
            row["error"] = f"{type(error).__name__}: {str(error)[:200]}"
        print(row, flush=True)
        rows.append(row)
        clear(run.device)
    return rows


def speeds_of(run: Run, method: Method) -> dict[str, Any]:
    """Weights, patches per second and memory of a network."""
    chosen = options(method.network, method.size, **method.options)
    network = build(method.network, chosen, 1, CLASSES).to(run.device)
    x = torch.randn(run.args.patches, 1, 32, 32, 32, device=run.device)
    weights = sum(p.numel() for p in network.parameters())
    row: dict[str, Any] = {"million weights": round(weights / 1e6, 2), "batch": len(x)}
    for bf16 in run.formats:
        inference = rate(run, lambda b=bf16: forward(network.eval(), x, b, run.device), len(x), 0.3)
        training = training_rate(run, network.train(), x, bf16)
        speeds = {"inference": round(inference, 1), "training": round(training, 1)}
        row["bfloat16" if bf16 else "float32"] = speeds
    return row | vram(run.device)


def training_rate(run: Run, network: nn.Module, x: torch.Tensor, bf16: bool) -> float:
    """Patches per second of a training step: all outputs of the network, backward, AdamW."""
    optimizer = torch.optim.AdamW(network.parameters())

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(run.device, torch.bfloat16, enabled=bf16):
            outputs = supervise(network, x)
            terms = [t.float().square().mean() for t in (*outputs.logits.values(), *outputs.extra.values())]
        torch.stack(terms).sum().backward()
        optimizer.step()

    return rate(run, step, len(x), 0.4)


def options_of_this_run() -> argparse.Namespace:
    """The command line; with --small sizes that a CPU does in a minute or two."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--small", action="store_true", help="tiny volumes, for a trial")
    parser.add_argument("--seconds", type=float, default=90.0, help="after which no further part begins")
    parser.add_argument("--training", type=int, default=8, help="seconds of the training")
    parser.add_argument("--networks", type=float, default=35.0, help="seconds for all networks together")
    parser.add_argument("--only", nargs="+", help="parts to run: G1 G3 G4 G5 G7 networks")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--name", default="gpu-speed")
    args = parser.parse_args()
    small = args.small
    args.czii = (48, 96, 96) if small else (184, 630, 630)
    args.middle = (48, 48, 64) if small else (128, 256, 256)
    args.large = (64, 128, 128) if small else (512, 1024, 1024)
    args.tile, args.batch, args.patches = (32, 2, BATCH["cpu"]) if small else (96, 16, BATCH["cuda"])
    args.planes, args.reserve, args.repeats = (32, 1.0, 1) if small else (64, 1.0, 2)
    return args


PARTS: dict[str, tuple[Callable[[Run], Any], float]] = {
    "training": (trained_model, 0),
    "G1": (end_to_end, 15),
    "G5": (precision, 8),
    "G7": (beside_monai, 6),
    "networks": (networks, 5),
    "G4": (caps, 8),
    "G3": (large, 8),
}
"""Name of a part -> function, and seconds that must be left for it."""


def main() -> None:
    """Run all parts that the time allows; `results/gpu-speed.json` is written after each."""
    args = options_of_this_run()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(args, Path(folder))
        blank_model(run.work / "model.safetensors", args.tile)  # if the training fails, its weights serve
        for name, (work, needs) in PARTS.items():
            if args.only is None or name in (*args.only, "training"):
                run.part(name, lambda work=work: work(run), 0.2 * needs if args.small else needs)
    print(f"{time.monotonic() - run.start:.0f} s in all", flush=True)


if __name__ == "__main__":
    main()
