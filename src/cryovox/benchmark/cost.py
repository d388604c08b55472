"""What a network costs: weights, arithmetic, and patches a second in training and use."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryovox.benchmark.subtomograms import contestants
from cryovox.benchmark.suite import Budget, Job, Plan, Scores, Suite, Tier
from cryovox.models import build, options
from cryovox.workflows.devices import Device, choose_device

CLASSES = 16
BATCH: dict[str, int] = {"cpu": 4, "cuda": 72, "mps": 16}


class CostSuite(Suite):
    """Speed of every network on 32^3 patches; a "step" of the budget is a batch that is timed."""

    name = "cost"
    title = "Weights, arithmetic and speed of every network"
    source = "MVGFormer, Table 7"
    headlines = ("million_weights", "GFLOP_per_patch", "patches_per_s", "trained_patches_per_s")
    reference = "voxresnet"

    def plan(self, tier: Tier) -> Plan:
        rows = tuple(c for c in contestants("s" if tier == "smoke" else "paper") if c.data == "train")
        timed = Budget(steps={"smoke": 1, "cpu": 5, "gpu": 50}[tier])
        return Plan(rows[:2] if tier == "smoke" else rows, (timed,), seeds=1 if tier == "smoke" else 3)

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        return {"data": "random patches of 32^3 voxels"}

    def run(self, job: Job, folder: Path, out: Path, device: Device) -> Scores:
        import torch

        from cryovox.models.cost import cost
        from cryovox.models.supervision import supervise

        where, row = choose_device(device), job.contestant
        torch.manual_seed(job.seed)
        chosen = options(row.network, row.size, **row.options)
        network = build(row.network, chosen, 1, CLASSES).to(where)
        x = torch.randn(BATCH[where], 1, 32, 32, 32, device=where)
        optimizer = torch.optim.AdamW(network.parameters())

        def learn() -> None:
            optimizer.zero_grad()
            answer = supervise(network, x)
            terms = [t.square().mean() for t in (*answer.logits.values(), *answer.extra.values())]
            torch.stack(terms).sum().backward()
            optimizer.step()

        @torch.inference_mode()
        def use() -> None:
            network(x)

        trained = _rate(learn, job.budget.steps or 1, BATCH[where], where)
        network.eval()
        used = _rate(use, job.budget.steps or 1, BATCH[where], where)
        known = cost(row.network, row.size, side=32, **row.options)
        return {
            "32^3": {
                "million_weights": known.parameters / 1e6,
                "GFLOP_per_patch": known.flops / 1e9,
                "patches_per_s": used,
                "trained_patches_per_s": trained,
            }
        }


def _rate(work: Callable[[], None], repeats: int, patches: int, device: str) -> float:
    """Patches a second, the median over the repeats after one that warms up."""
    import statistics

    import torch

    spent = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        if device != "cpu":
            torch.accelerator.synchronize()
        spent.append(time.perf_counter() - began)
    return patches / statistics.median(spent[1:])


COST = CostSuite()
