"""Computational cost of the networks: weights, FLOPs, and patches per second in training and inference."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryovox.benchmark.subtomograms import segmentation_methods
from cryovox.benchmark.suite import Budget, Job, Plan, Scores, Suite, Tier
from cryovox.models import build, options
from cryovox.workflows.devices import Device, choose_device

CLASSES = 16
BATCH: dict[str, int] = {"cpu": 4, "cuda": 72, "mps": 16}


class CostSuite(Suite):
    """Speed of all networks on 32^3 patches; a step of the budget is one timed batch."""

    name = "cost"
    title = "Weights, FLOPs and speed of all networks"
    source = "MVGFormer, Table 7"
    headlines = ("million_weights", "GFLOP_per_patch", "patches_per_s", "trained_patches_per_s")
    reference = "voxresnet"

    def plan(self, tier: Tier) -> Plan:
        methods = tuple(
            m for m in segmentation_methods("s" if tier == "smoke" else "paper") if m.data == "train"
        )
        timed = Budget(steps={"smoke": 1, "cpu": 5, "gpu": 50}[tier])
        return Plan(methods[:2] if tier == "smoke" else methods, (timed,), seeds=1 if tier == "smoke" else 3)

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        return {"data": "random patches of 32^3 voxels"}

    def run(self, job: Job, folder: Path, out: Path, device: Device) -> Scores:
        import torch

        from cryovox.models.cost import cost
        from cryovox.models.supervision import supervise

        resolved, method = choose_device(device), job.method
        torch.manual_seed(job.seed)
        network_options = options(method.network, method.size, **method.options)
        network = build(method.network, network_options, 1, CLASSES).to(resolved)
        x = torch.randn(BATCH[resolved], 1, 32, 32, 32, device=resolved)
        optimizer = torch.optim.AdamW(network.parameters())

        def train_step() -> None:
            optimizer.zero_grad()
            outputs = supervise(network, x)
            terms = [t.square().mean() for t in (*outputs.logits.values(), *outputs.extra.values())]
            torch.stack(terms).sum().backward()
            optimizer.step()

        @torch.inference_mode()
        def predict() -> None:
            network(x)

        trained = _rate(train_step, job.budget.steps or 1, BATCH[resolved], resolved)
        network.eval()
        predicted = _rate(predict, job.budget.steps or 1, BATCH[resolved], resolved)
        counted = cost(method.network, method.size, side=32, **method.options)
        return {
            "32^3": {
                "million_weights": counted.parameters / 1e6,
                "GFLOP_per_patch": counted.flops / 1e9,
                "patches_per_s": predicted,
                "trained_patches_per_s": trained,
            }
        }


def _rate(work: Callable[[], None], repeats: int, patches: int, device: str) -> float:
    """Patches per second: the median over the repeats, after one warm-up."""
    import statistics

    import torch

    durations = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device != "cpu":
            torch.accelerator.synchronize()
        durations.append(time.perf_counter() - start)
    return patches / statistics.median(durations[1:])


COST = CostSuite()
