"""One training from its first step to its manifest, whatever the strategy and the data."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryovox.core.config import Config
from cryovox.models.card import Card
from cryovox.training.config import LoopConfig
from cryovox.workflows.manifest import Manifest, versions

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import nn

    from cryovox.inference.stream import TilePlan
    from cryovox.training.state import Progress
    from cryovox.training.strategy import Strategy

Told = Callable[[int, int, float, float], None]
"""Takes steps done, steps in all, share done and the current loss."""


def fabric_of(accelerator: str, devices: int, loop: LoopConfig) -> Fabric:
    """Devices and precision of a training, launched."""
    from lightning_fabric import Fabric

    strategy = "ddp" if devices > 1 else "auto"
    found = Fabric(accelerator=accelerator, devices=devices, precision=loop.precision, strategy=strategy)
    found.launch()
    return found


@dataclass
class Job:
    """A training in a run folder.

    Attributes
    ----------
    strategy
        Name of the strategy.
    config, loop, seed
        All settings, those of the loop among them, and the seed among them.
    card
        What the model file will say, but for what the training finds out.
    out
        Run folder.
    validate
        Metrics of a network on what is held out.
    facts
        What the manifest and the card tell besides.
    """

    strategy: str
    config: Config
    loop: LoopConfig
    seed: int
    card: Card
    out: Path
    validate: Callable[[nn.Module], Mapping[str, float]]
    facts: dict[str, Any] = field(default_factory=dict)

    def run(self, strategy: Strategy, streams: Mapping[str, Any], fabric: Fabric, told: Told) -> Path:
        """Train, or go on with an interrupted training; gives the model file.

        Parameters
        ----------
        streams
            Closed in the end.
        """
        from cryovox.training.logbook import Logbook
        from cryovox.training.loop import fit, share
        from cryovox.training.state import progress_in

        before = progress_in(self.out)
        since = 0 if before is None else before.step
        logbook = Logbook(self.out / "metrics.csv" if fabric.global_rank == 0 else None, since=since)

        def tell(now: Progress, loss: float) -> None:
            told(now.step, self.loop.steps, share(now, self.loop), loss)

        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", category=UserWarning, module=r"lightning_fabric.*")
                progress = fit(
                    strategy,
                    streams,
                    self.loop,
                    fabric,
                    logbook,
                    self.out,
                    self.validate,
                    self.keep,
                    self.seed,
                    tell,
                )
        finally:
            for stream in streams.values():
                stream.close()
        self.finish(progress)
        return self.out / "model.safetensors"

    def keep(self, network: nn.Module, metrics: Mapping[str, float], now: Progress) -> None:
        """Write the model file."""
        from cryovox.models.checkpoint import save_model

        thresholds = {
            n.removeprefix("threshold/"): v for n, v in metrics.items() if n.startswith("threshold/")
        }
        held_out = {n: round(v, 5) for n, v in metrics.items() if not n.startswith("threshold/")}
        told = {
            "strategy": self.strategy,
            "steps": now.step,
            "seconds": round(now.seconds, 1),
            "held_out": held_out,
            "seed": self.seed,
            **self.facts,
            "config": self.config.model_dump(mode="json"),
            "versions": versions(),
        }
        card = self.card.model_copy(update={"thresholds": thresholds, "training": told})
        save_model(self.out / "model.safetensors", network, card)

    def finish(self, progress: Progress) -> None:
        """Complete the manifest."""
        judged = math.isfinite(progress.best)
        told = {
            "command": f"train {self.strategy}",
            **self.facts,
            "config": self.config.model_dump(mode="json"),
            "versions": versions(),
            "steps": progress.step,
            "seconds": round(progress.seconds, 1),
            "best_step": progress.best_step if judged else None,
            "best_score": progress.best if judged else None,
        }
        Manifest(self.out, told).write()


def tiles_of(card: Card) -> TilePlan:
    """Tiles for a validation."""
    from cryovox.inference.stream import TilePlan

    return TilePlan(card.patch, card.overlap, card.output_stride, card.activation, batch=4)
