"""One pass of source and target through batch norm against a pass for each, for DANN and Vox-UDA.

Data are subtomograms of species and of a microscope that no suite scores, simulated anew for each seed. The second
part follows the gradients of the other losses beside that of the segmentation loss, with respect to the features
that the discriminator receives, over a training of Vox-UDA.

    OMP_NUM_THREADS=1 python benchmarks/joint_pass.py --work DIR      # about 18 processor minutes
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common import write_result
from cryovox.benchmark.adaptation.cubes import DrawnSuite, Scale
from cryovox.benchmark.adaptation.suite import (
    NETWORK,
    SOURCE_ONLY,
    VOX_UDA,
    AdaptationMethod,
    uda_methods,
    variant,
)
from cryovox.benchmark.subtomograms import images, masks
from cryovox.benchmark.suite import Budget, Job
from cryovox.benchmark.zero_shot.suite import VALIDATION_MICROSCOPE, VALIDATION_SPECIES
from cryovox.data.cubes import standardize
from cryovox.data.streams import Batch
from cryovox.formats import subtomograms as files
from cryovox.models import build, options
from cryovox.training.strategies import STRATEGIES

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "vox-uda, separate passes": (VOX_UDA, {"joint_pass": False}),
    "vox-uda, joint pass": (VOX_UDA, {"joint_pass": True}),
    "vox-uda, joint pass, statistics of both": (VOX_UDA, {"joint_pass": True, "target_statistics": False}),
    "dann, separate passes": ("dann", {"joint_pass": False}),
    "dann, joint pass": ("dann", {"joint_pass": True}),
    "mean-teacher": ("mean-teacher", {}),
    SOURCE_ONLY: (SOURCE_ONLY, {}),
}
SCALE = Scale(novel_species=VALIDATION_SPECIES, source=24, target=32)
FIRST_SEED = 41_000
CHOICES = DrawnSuite("joint-pass", "", "", uda_methods, VALIDATION_MICROSCOPE, VALIDATION_SPECIES, FIRST_SEED)
BATCH, RATE = 2, 3e-3


def simulated(work: Path, seed: int) -> Path:
    """Data of a seed, simulated once."""
    folder = work / f"data-{seed}"
    if not (folder / "target-train.zarr").exists():
        CHOICES.simulate(folder, SCALE, FIRST_SEED + 10 * seed)
    return folder


def scores(case: str, seed: int, time: str, work: Path) -> dict[str, float]:
    """Scores of the adapted model on the whole target."""
    strategy, own = CASES[case]
    method = variant(case, "xs", strategy, own)
    out = work / f"{case.replace(', ', '-').replace(' ', '-')}-{time}-{seed}"
    return CHOICES.run(Job(method, Budget(time=time), seed), simulated(work, seed), out, "cpu")[
        "adapted, all"
    ]


def gradients(folder: Path, steps: int, seed: int) -> list[dict[str, float]]:
    """Norms of the gradients on the coarsest features over a training of Vox-UDA from random weights."""
    torch.manual_seed(seed)
    kind = STRATEGIES[VOX_UDA]
    method = kind(build(NETWORK, options(NETWORK, "xs"), 1, 2), kind.Config(), NETWORK).train()
    features: list[Tensor] = []
    forward = method.supervised.forward_features

    def recording(x: Tensor) -> Any:
        output, by_name = forward(x)
        features.append(list(by_name.values())[-1])
        return output, by_name

    method.supervised.forward_features = recording  # type: ignore[method-assign]
    source, target = (files.read(folder / f"{name}.zarr") for name in (AdaptationMethod.data, "target"))
    patches = {"labeled": cubes(source), "target": cubes(target)}
    labels = torch.from_numpy(masks(source)).long()
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], RATE)
    rows = []
    for step in range(steps):
        index = {name: torch.randint(len(x), (BATCH,)) for name, x in patches.items()}
        target_labels = torch.full((BATCH, *labels.shape[1:]), 255)
        batches = {
            "labeled": Batch(patches["labeled"][index["labeled"]], labels[index["labeled"]],
                              torch.ones_like(target_labels, dtype=torch.bool)),
            "target": Batch(patches["target"][index["target"]], target_labels,
                            torch.zeros_like(target_labels, dtype=torch.bool)),
        }  # fmt: skip
        features.clear()
        progress = step / steps
        losses = method.losses(batches, progress)
        if step % (steps // 10) == steps // 20:
            rows.append({"progress": progress} | gradient_norms(losses, features[0]))
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        method.after_step(step + 1)
    return rows


def gradient_norms(losses: dict[str, Tensor], features: Tensor) -> dict[str, float]:
    """Norm of the gradient of each group of losses on the features of the joint batch."""
    groups = {name: (name,) for name in ("adversarial", "consistency", "pseudo") if name in losses}
    groups["segmentation"] = tuple(name for name in losses if name in ("main", "fc", "v2", "v4", "v6"))
    norms = {}
    for group, names in groups.items():
        total = torch.stack([losses[name] for name in names]).sum()
        (gradient,) = torch.autograd.grad(total, features, retain_graph=True)
        norms[group] = float(gradient.norm())
    return norms


def cubes(data: files.Subtomograms) -> Tensor:
    """Standardized images (n, 1, z, y, x)."""
    return torch.from_numpy(standardize(images(data), "bright"))[:, None]


def main() -> None:
    """Train, measure, print, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--cases", nargs="*", default=list(CASES), help="methods to train; gradients only without"
    )
    parser.add_argument("--time", default="60s", help="processor time of each training, half for the source")
    parser.add_argument("--steps", type=int, default=60, help="steps of the gradient measurement")
    args = parser.parse_args()
    runs, norms = [], []
    for seed in args.seeds:
        for case in args.cases:
            row = scores(case, seed, args.time, args.work)
            print(f"{case:42s} seed {seed} IoU {row['iou']:.3f}", flush=True)
            runs.append({"case": case, "seed": seed, **row})
        norms.append(gradients(simulated(args.work, seed), args.steps, seed))
        for row in norms[-1]:
            print(*(f"{name} {value:.4f}" for name, value in row.items()), flush=True)
    result = {"time": args.time, "steps": args.steps, "gradients": norms, "runs": runs}
    write_result("joint_pass", result)


if __name__ == "__main__":
    main()
