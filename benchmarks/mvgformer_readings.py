"""Readings of MVGFormer: how tokens become voxels, and how large the first updates are.

Subtomograms of four large structures at three SNRs, which no suite holds, in size `s` with an equal number of steps.
Each seed draws its own subtomograms, test subtomograms and weights. Settings are those of the suite `subtomograms`.
A run that is interrupted continues with the trainings that have not finished (docs/decisions/0026-mvgformer-readings.md).

    python benchmarks/mvgformer_readings.py --work DIR       # about 50 processor minutes
    python benchmarks/mvgformer_readings.py --work DIR --one-view --steps 400 --name mvgformer_readings-one-view

The second is a first look at a third of the cost: one view, without its reconstruction (VSL).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from common import write_result
from cryovox.benchmark.subtomograms import NOISES, concatenate_sets, images, masks, scores, simulate_set
from cryovox.benchmark.training import nested, shared_settings
from cryovox.core.config import validated
from cryovox.data.cubes import standardize
from cryovox.formats import subtomograms as files
from cryovox.models import build, options
from cryovox.models.blocks.transformer import Layer
from cryovox.models.networks import mvgformer
from cryovox.simulate.config.subtomograms import SubtomogramConfig
from cryovox.workflows.config import TrainConfig
from cryovox.workflows.label_sets import label_set
from cryovox.workflows.training.run import train

SPECIES = ("proteasome-26s", "pyruvate-dehydrogenase", "groel-groes", "proteasome-20s")
SIMULATION = {"voxel_size": 8.0, "offset": 0.0625}
TRAINED, TESTED = 15, 5
"""Subtomograms of every species at every SNR."""
ONE_VIEW = {"views": ["xy"], "vsl": False}
VIT = "trilinear, initial weights of 0.02"
CASES: dict[str, dict[str, Any]] = {
    VIT: {},
    "trilinear": {},
    "depth-to-space": {"enlarge": "depth-to-space"},
}


@contextmanager
def initial_weights(case: str) -> Iterator[None]:
    """In the first case the initial weights of ViT, and nodes as they are for queries."""

    def raw_nodes(layer: Layer, graph: Any, like: Tensor) -> Tensor:
        nodes: Tensor = graph.nodes.to(like.dtype)
        return nodes

    if case != VIT:
        yield
        return
    with (
        mock.patch.object(mvgformer, "linear_std", return_value=0.02),
        mock.patch.object(Layer, "queries", raw_nodes),
    ):
        yield


def simulate(folder: Path, seed: int) -> None:
    """Write the training set and a test set for each SNR, once."""
    if (folder / "train.zarr").exists():
        return
    sets = []
    for i, snr in enumerate(NOISES):
        config = SubtomogramConfig(snr=snr, **SIMULATION)
        path = folder / "simulated" / f"train-{snr}.zarr"
        sets.append(simulate_set(path, SPECIES, config, TRAINED, 911_000 + 10 * seed + i))
        path = folder / "simulated" / f"test-{snr}.zarr"
        test = simulate_set(path, SPECIES, config, TESTED, 912_000 + seed)
        files.write(folder / f"test-{snr:g}.zarr", test)
    files.write(folder / "train.zarr", concatenate_sets(sets))


def run_case(case: str, seed: int, steps: int, work: Path, common: dict[str, Any]) -> dict[str, Any]:
    """Train and score one network; a finished one is read from its file."""
    folder = work / f"{case}, seed {seed}, {steps} steps{', one view' if common else ''}"
    result = folder / "result.json"
    if result.exists():
        return dict(json.loads(result.read_text(encoding="utf-8")))
    data = work / f"data {seed}"
    simulate(data, seed)
    dotted = shared_settings("cpu") | {
        "network.model": "mvgformer", "network.size": "s", "network.options": CASES[case] | common,
        "loop.steps": steps, "seed": seed,
    }  # fmt: skip
    with initial_weights(case):
        config = validated(TrainConfig, nested(dotted), Path(case))
        model = train(data / "train.zarr", folder / "run", config, device="cpu")
        table = {
            f"SNR {snr:g}": scores(label_set(model, test, "cpu"), masks(test))
            for snr in NOISES
            for test in [files.read(data / f"test-{snr:g}.zarr")]
        }
    manifest = json.loads((folder / "run" / "manifest.json").read_text(encoding="utf-8"))
    row = {"case": case, "seed": seed, "seconds": manifest["seconds"], "scores": table}
    row["iou"] = round(mean(condition["iou"] for condition in table.values()), 5)
    result.write_text(json.dumps(row, indent=1), encoding="utf-8")
    return row


def first_updates(case: str, work: Path, seed: int = 0) -> dict[str, Any]:
    """How much the updates of each layer differ between the tokens of a cube before training.

    Returns
    -------
    dict
        Standard deviation over tokens, mean over channels, of tokens and of the updates by attention and MLP; and the
        gradient norm of the segmentation loss on the graph's encoder and on the queries of layer 1, relative to the
        queries of layer 2.
    """
    simulate(work / f"data {seed}", seed)
    test = files.read(work / f"data {seed}" / f"test-{NOISES[1]:g}.zarr")
    x = torch.from_numpy(standardize(images(test)[:4], "bright"))[:, None]
    labels = torch.from_numpy(masks(test)[:4]).long()
    torch.manual_seed(seed)
    spread: dict[str, float] = {}

    def record(name: str, module: nn.Module, tokens: Any) -> None:
        module.register_forward_hook(lambda _m, _i, out: spread.update({name: tokens(out)}))

    def over_tokens(out: Tensor) -> float:
        return round(float(out.detach().std(-2).mean()), 7)

    with initial_weights(case):
        network = build("mvgformer", options("mvgformer", "s", **CASES[case]), 1, 2).eval()
        record("tokens", network.embed, over_tokens)
        for depth, layer in enumerate(network.layers, 1):
            record(f"layer {depth}, attention", layer.attention, over_tokens)
            record(f"layer {depth}, MLP", layer.mlp, over_tokens)
        nn.functional.cross_entropy(network(x), labels).backward()
    second = network.layers[1].attention.query.weight.grad.norm()
    first = network.layers[0].attention.query.weight.grad.norm()
    context = torch.cat([p.grad.flatten() for p in network.context.parameters()]).norm()
    gradients = {"queries of layer 1": float(first / second), "context encoder": float(context / second)}
    return {"case": case, "spread": spread, "gradients": gradients}


def main() -> None:
    """Run all cases and write `results/mvgformer_readings.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--one-view", action="store_true")
    parser.add_argument("--name", default="mvgformer_readings", help="name of the result file")
    args = parser.parse_args()
    spreads = [first_updates(case, args.work) for case in args.cases]
    runs = []
    for seed in range(args.seeds):
        for case in args.cases:
            runs.append(run_case(case, seed, args.steps, args.work, ONE_VIEW if args.one_view else {}))
            print(runs[-1], flush=True)
    network = "mvgformer, size s" + ", one view, no VSL" * args.one_view
    result = {"steps": args.steps, "network": network, "first_updates": spreads, "runs": runs}
    write_result(args.name, result)
    for case in args.cases:
        own = [run for run in runs if run["case"] == case]
        print(case, f"IoU {mean(run['iou'] for run in own):.3f}", [run["iou"] for run in own], sep="  ")


if __name__ == "__main__":
    main()
