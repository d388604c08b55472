"""Gradients of the graph losses of Vox-ZSDA on the encoder, and how many nodes hold foreground.

Vox-ZSDA is trained on the source of the suite `zsda-classes-ablations`, whose classes are in no test. At several steps,
the gradient of every loss on the weights of the encoder (those that the features of the graph depend on) is compared
with that of the segmentation loss: the ratio of the norms, mean over a few batches. A node holds foreground if that is
the majority of its known voxels.

    python benchmarks/graph_gradient.py --work DIR       # about 6 processor minutes
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from common import write_result
from cryovox.benchmark.zero_shot.classes import ABLATIONS, VARIANTS
from cryovox.data.streams import Batch
from cryovox.formats import subtomograms as files
from cryovox.models import build, options
from cryovox.models.card import Card
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.config.vox_zsda import GraphConfig, VoxZSDAConfig
from cryovox.training.strategies.zsda.gradient_balance import gradient_norm, gradients
from cryovox.training.strategies.zsda.two_views import GRAPH_LOSSES, split_views, two_view_batch
from cryovox.training.strategies.zsda.vox_zsda import VoxZSDA

CASES = ("fixed weights", "balanced graph")
"""Rows of `VARIANTS`."""
MEASURED = (0, 25, 100, 200, 400)
BATCH, BATCHES, SIZE, RATE = 2, 6, "xs", 3e-3


def labeled_cubes(work: Path) -> Batch:
    """All cubes of the source, standardized, with their labels."""
    if not (work / "data" / "source.zarr").exists():
        ABLATIONS.prepare(work / "data", "cpu", None)
    data = files.read(work / "data" / "source.zarr")
    image = torch.from_numpy(data.images[:])[:, None]
    mean_value, spread = (getattr(image, kind)((2, 3, 4), keepdim=True) for kind in ("mean", "std"))
    target = torch.from_numpy(data.masks[:]).long()
    return Batch((image - mean_value) / spread, target, torch.ones_like(target, dtype=torch.bool))


def draw(cubes: Batch, generator: torch.Generator) -> Batch:
    """A random batch."""
    index = torch.randint(len(cubes.image), (BATCH,), generator=generator)
    return Batch(*(part[index] for part in cubes))


def strategy(case: str, classes: int, side: int) -> VoxZSDA:
    """Vox-ZSDA with the graph of a row of the suite."""
    graph = GraphConfig(**{name.removeprefix("graph."): value for name, value in VARIANTS[case].items()})
    network = build("voxresnet", options("voxresnet", SIZE), 1, classes + 1)
    vox_zsda = VoxZSDA(network, VoxZSDAConfig(graph=graph), "voxresnet", SupervisedConfig(loss="ce+dice"))
    vox_zsda.setup(
        Card(network="voxresnet", options={}, out_channels=classes + 1, activation="softmax", kind="mask", patch=side,
             species=(), voxel_size=8.0, contrast="bright")
    )  # fmt: skip
    return vox_zsda.train()


def encoder(vox_zsda: VoxZSDA, batch: Batch) -> list[torch.nn.Parameter]:
    """Weights that the features of the graph depend on."""
    _, features = vox_zsda.supervised.forward_features(batch.image)
    parameters = list(vox_zsda.student.parameters())
    reached = gradients(features[vox_zsda.views.graph.level].sum(), parameters)
    return [p for p, gradient in zip(parameters, reached, strict=True) if gradient is not None]


def ratios(vox_zsda: VoxZSDA, batch: Batch) -> dict[str, float]:
    """Norm of the gradient of each further loss on the encoder, over that of the segmentation loss."""
    weights = encoder(vox_zsda, batch)
    losses = vox_zsda.losses({"labeled": batch}, 0.0)
    further = {name: losses.pop(name) for name in (*GRAPH_LOSSES, "consistency")}
    whole = float(gradient_norm(gradients(torch.stack(list(losses.values())).sum(), weights)))
    return {name: float(gradient_norm(gradients(loss, weights))) / whole for name, loss in further.items()}


@torch.no_grad()
def foreground_nodes(vox_zsda: VoxZSDA, batch: Batch) -> tuple[float, float]:
    """Nodes of a cube that hold foreground, and nodes that hold any token."""
    views = two_view_batch(batch, vox_zsda.config.prior, vox_zsda.config.clean)
    _, features = vox_zsda.supervised.forward_features(views.image)
    level = vox_zsda.views.graph.level
    nodes, _ = vox_zsda.views.graph.nodes(*(view[level] for view in split_views(features)), batch)
    return float((nodes.label > 0).sum(1).float().mean()), float(nodes.filled.sum(1).float().mean())


def measure(vox_zsda: VoxZSDA, cubes: Batch, generator: torch.Generator) -> dict[str, float]:
    """Means over some batches; leaves the strategy as it is."""
    probe = copy.deepcopy(vox_zsda)
    rows = []
    for _ in range(BATCHES):
        batch = draw(cubes, generator)
        held, filled = foreground_nodes(probe, batch)
        rows.append({**ratios(probe, batch), "foreground nodes": held, "nodes": filled})
    return {name: mean(row[name] for row in rows) for name in rows[0]}


def run(case: str, seed: int, cubes: Batch, steps: Sequence[int]) -> list[dict[str, Any]]:
    """Train, and measure at these steps."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    vox_zsda = strategy(case, int(cubes.target.max()), cubes.image.shape[-1])
    optimizer = torch.optim.AdamW(vox_zsda.parameters(), RATE)
    rows = []
    for step in range(max(steps) + 1):
        if step in steps:
            rows.append({"case": case, "seed": seed, "step": step, **measure(vox_zsda, cubes, generator)})
            print(rows[-1], flush=True)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 20)
        optimizer.zero_grad()
        losses = vox_zsda({"labeled": draw(cubes, generator)}, step / max(1, *steps))
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(vox_zsda.parameters(), 1.0)
        optimizer.step()
        vox_zsda.after_step(step)
    return rows


def main() -> None:
    """Measure all cases and write `results/graph_gradient.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the data")
    parser.add_argument("--steps", type=int, nargs="+", default=MEASURED)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    cubes = labeled_cubes(args.work)
    rows = [row for seed in range(args.seeds) for case in CASES for row in run(case, seed, cubes, args.steps)]
    write_result("graph_gradient", {"network": f"voxresnet, size {SIZE}", "batches": BATCHES, "rows": rows})


if __name__ == "__main__":
    main()
