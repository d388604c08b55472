"""The state of a training on disk, exact enough to go on as if nothing had happened."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open

from cryovox.core.errors import RequestError
from cryovox.core.reading import check_readable
from cryovox.models.checkpoint import write_tensors
from cryovox.training.strategies.base import Strategy

NAME = "state.safetensors"


@dataclass(frozen=True)
class Progress:
    """How far a training has come."""

    step: int = 0
    seconds: float = 0.0
    best: float = float("-inf")
    best_step: int = -1
    waiting: int = 0
    """Validations since the best."""
    due: bool = False
    """Whether a validation of this step is still to be done."""

    def stepped(self, seconds: float) -> Self:
        """After one more step."""
        return replace(self, step=self.step + 1, seconds=seconds, due=False)

    def at(self, seconds: float) -> Self:
        """The same, later."""
        return replace(self, seconds=seconds)

    def judged(self, score: float) -> Self:
        """After a validation."""
        if score > self.best:
            return replace(self, best=score, best_step=self.step, waiting=0)
        return replace(self, waiting=self.waiting + 1)


def save_state(folder: Path, strategy: Strategy, optimizer: Any, now: Progress) -> None:
    """Write weights, averages, optimizer and progress in one file, whole or not at all."""
    tensors = {f"strategy.{k}": v.detach().cpu().contiguous() for k, v in strategy.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        for slot, value in slots.items():
            tensors[f"optimizer.{index}.{slot}"] = torch.as_tensor(value).detach().cpu().clone().contiguous()
    write_tensors(folder / NAME, tensors, {"progress": json.dumps(asdict(now))})


def progress_in(folder: Path) -> Progress | None:
    """How far the training in a folder has come; None where there is no state."""
    path = folder / NAME
    if not path.exists():
        return None
    check_readable(path)
    try:
        with safe_open(path, framework="pt") as file:
            return Progress(**json.loads(file.metadata()["progress"]))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        message = f"is no state of a training ({str(error)[:200]})"
        raise RequestError(path, message, "use --overwrite to start anew, or another --out") from None


def load_state(folder: Path, strategy: Strategy, optimizer: Any) -> Progress | None:
    """Restore what :func:`save_state` wrote; None where there is none."""
    path = folder / NAME
    if not path.exists():
        return None
    check_readable(path)
    try:
        with safe_open(path, framework="pt") as file:
            progress = Progress(**json.loads(file.metadata()["progress"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        strategy.load_state_dict(_under(tensors, "strategy."))
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        message = f"does not fit this training ({str(error)[:200]})"
        raise RequestError(path, message, "use --overwrite to start anew, or another --out") from None
    slots: dict[int, dict[str, Any]] = {}
    for name, value in _under(tensors, "optimizer.").items():
        index, slot = name.split(".", 1)
        slots.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return progress


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
