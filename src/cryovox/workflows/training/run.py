"""One training from its first step to its manifest, whatever the strategy and the data."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryovox.core.config import Config
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.models.card import Card
from cryovox.training.config import LoopConfig
from cryovox.workflows.manifest import Manifest, versions
from cryovox.workflows.training.time_budget import ticking

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import nn

    from cryovox.inference.stream import TilePlan
    from cryovox.training.evaluation.summary import Course
    from cryovox.training.state import Progress
    from cryovox.training.strategies.base import Strategy


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
    blobs
        What a blob picker scores on what is held out.
    picks, passes
        Annotated particles to learn from, and how often each was shown on average after so many steps; see
        `cryovox.training.evaluation.summary.Course`.
    on_message
        Takes a line after each validation.
    on_progress
        Receives the share of the training that is done.
    """

    strategy: str
    config: Config
    loop: LoopConfig
    seed: int
    card: Card
    out: Path
    validate: Callable[[nn.Module], Mapping[str, float]]
    facts: dict[str, Any] = field(default_factory=dict)
    blobs: Mapping[str, float] = field(default_factory=dict)
    picks: int = 0
    passes: Callable[[int], float | None] = lambda steps: None
    on_message: Callable[[str], None] = lambda text: None
    on_progress: ProgressCallback = no_progress
    _done: float = field(default=0.0, init=False)

    def run(self, strategy: Strategy, streams: Mapping[str, Any], fabric: Fabric) -> Path:
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

        def on_step(now: Progress, loss: float) -> None:
            note = f"step {now.step} of at most {self.loop.steps}  loss {loss:.3f}"
            self._done = share(now, self.loop)
            self.on_progress("training", self._done, note)

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
                    self._judged,
                    self.keep,
                    self.seed,
                    on_step,
                )
        finally:
            for stream in streams.values():
                stream.close()
        if fabric.global_rank == 0:
            self.finish(progress)
        fabric.barrier()
        return self.out / "model.safetensors"

    def _judged(self, network: nn.Module) -> Mapping[str, float]:
        """Metrics of what is held out, which a line on the screen repeats."""
        from cryovox.training.evaluation.held_out import whole_figures
        from cryovox.training.evaluation.summary import in_one_line

        def still_validating() -> None:
            self.on_progress("training", min(self._done, 0.999), "validation")

        still_validating()
        with ticking(network, still_validating):
            metrics = self.validate(network)
        if "score" in metrics:
            self.on_message(in_one_line(whole_figures(metrics), self.blobs))
        return metrics

    def _course(self, now: Progress) -> Course:
        from cryovox.training.evaluation.held_out import cross_fit
        from cryovox.training.evaluation.summary import Course, table_of
        from cryovox.training.loop import finished, share

        validations, losses = table_of(self.out / "metrics.csv")
        scored = [rows for rows in validations if "score" in rows]
        return Course(
            steps=now.step,
            warmup=self.loop.warmup,
            share=1.0 if finished(now, self.loop) else share(now, self.loop),
            picks=self.picks,
            passes=self.passes(now.step),
            losses=losses,
            figures=cross_fit(scored, choose=self.loop.keep == "best"),
            blobs=self.blobs,
        )

    def keep(self, network: nn.Module, metrics: Mapping[str, float], now: Progress) -> None:
        """Write the model file."""
        from cryovox.models.checkpoint import save_model

        thresholds = {
            n.removeprefix("threshold/"): v for n, v in metrics.items() if n.startswith("threshold/")
        }
        course = self._course(now)
        told = {
            "strategy": self.strategy,
            "steps": now.step,
            "seconds": round(now.seconds, 1),
            **_figures(course),
            "seed": self.seed,
            **self.facts,
            "config": self.config.model_dump(mode="json"),
            "versions": versions(),
        }
        update = {"thresholds": thresholds, "training": told, "warnings": tuple(course.warnings())}
        card = self.card.model_copy(update=update)
        save_model(self.out / "model.safetensors", network, card)

    def finish(self, progress: Progress) -> None:
        """Complete the manifest, and the card by what the whole training tells of the model."""
        from cryovox.models.card import read_card
        from cryovox.models.checkpoint import update_card

        course, model = self._course(progress), self.out / "model.safetensors"
        training = read_card(model).training | _figures(course)
        update_card(model, {"training": training, "warnings": tuple(course.warnings())})
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


def _figures(course: Course) -> dict[str, Any]:
    """Held-out figures for the card, beside those of a blob picker."""
    return {
        "held_out": {name: round(value, 5) for name, value in course.figures.items()},
        "blob_picker": {name: round(value, 5) for name, value in course.blobs.items()},
    }


def tiles_of(card: Card) -> TilePlan:
    """Tiles for a validation."""
    from cryovox.inference.stream import TilePlan

    return TilePlan(card.patch, card.overlap, card.output_stride, card.activation, batch=4)
