"""Which of two models to keep for a target without labels, and the page that says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cryovox.core.atomic import replacing
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.data.config import PatchConfig
from cryovox.data.patches import TargetSpec
from cryovox.data.sampling import SamplingConfig
from cryovox.models.card import Card, read_card
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.manifest import sha256
from cryovox.workflows.training.data import TrainingData
from cryovox.workflows.training.target import JUDGED, TargetData
from cryovox.workflows.training.time_budget import TimeBudget, forward_seconds, ticking

if TYPE_CHECKING:
    from cryovox.training.evaluation.model_selection import Choice, Quality


BATCH = 8
"""Patches that a network answers at once."""
PAGE = 3.0
"""Seconds that drawing the page takes."""
FEWEST = 2
"""Patches that are compared however short the time."""
ON_QUALITY = 0.6
"""Share of a short time for the comparison of both models; the rest is for that with noise."""


@dataclass(frozen=True)
class Amounts:
    """How many patches are compared.

    Attributes
    ----------
    judged
        On which both models are compared.
    beside_noise, noise
        Of the target, and of noise, on which the adapted model is asked; none are compared with 0.
    unchecked
        Whether the comparison with noise was left out for want of time.
    """

    judged: int
    beside_noise: int
    noise: int
    unchecked: bool = False

    @classmethod
    def wanted(cls, judged: int, beside_noise: int) -> Amounts:
        """As the settings ask for; too few patches cannot be told from noise."""
        from cryovox.training.evaluation.noise_test import LEAST, NOISE

        many = beside_noise >= LEAST
        return cls(judged, beside_noise, max(NOISE, beside_noise)) if many else cls(judged, 0, 0)

    def within(self, forwards: int, halves: bool) -> Amounts:
        """Fewer, so that networks answer so many patches in all."""
        from cryovox.training.evaluation.noise_test import LEAST

        if self.judged * _views(halves) + self.beside_noise + self.noise <= forwards:
            return self
        judged = max(FEWEST, min(self.judged, int(ON_QUALITY * forwards) // _views(halves)))
        each = max(0, forwards - judged * _views(halves)) // 2
        if not self.beside_noise:
            return replace(self, judged=judged)
        if each < LEAST:
            return replace(self, judged=judged, beside_noise=0, noise=0, unchecked=True)
        beside_noise = min(self.beside_noise, each)
        return replace(self, judged=judged, beside_noise=beside_noise, noise=min(self.noise, each))

    def batches(self, halves: bool) -> int:
        """Times that networks are asked."""
        noise = -(-self.beside_noise // BATCH) + -(-self.noise // BATCH)
        return -(-self.judged // BATCH) * _views(halves) + noise


def _views(halves: bool) -> int:
    """Times that each patch is shown to both models together."""
    from cryovox.data.augment import WEDGE_SYMMETRIES

    return 2 * (len(WEDGE_SYMMETRIES) + 1 + 2 * halves)


@dataclass
class Judge:
    """Compares models on the target; its labels are not looked at.

    Attributes
    ----------
    source, target
        Of the adaptation.
    config
        An `AdaptConfig` with the strategy's own settings.
    device
        Where to compute.
    budget
        Time of the whole command; fewer patches are compared where it is short.
    on_progress
        Receives the share of the comparison that is done.
    """

    source: TrainingData
    target: TargetData
    config: Any
    device: Device
    budget: TimeBudget = field(default_factory=TimeBudget)
    on_progress: ProgressCallback = no_progress

    def choose(self, before: Path, after: Path) -> Choice:
        """Compare both models on the target, without labels."""
        from cryovox.training.evaluation.model_selection import choose

        amounts = self.amounts(after)
        done, total = 0, amounts.batches(bool(self.target.even))

        def tick() -> None:
            nonlocal done
            done += 1
            self.on_progress("comparing the models on the target", min(1.0, done / total))

        noise_p_value = self.noise_p_value(after, amounts, tick) if amounts.beside_noise else None
        return choose(
            self.quality(before, amounts.judged, tick),
            self.quality(after, amounts.judged, tick),
            margin=self.config.stages.margin,
            noise_p_value=noise_p_value,
            unchecked=amounts.unchecked,
        )

    def amounts(self, model: Path) -> Amounts:
        """How many patches are compared: as many as the settings ask for, or as there is time for."""
        from cryovox.models.checkpoint import load_model

        network, card = load_model(model)
        stages = self.config.stages
        wanted = Amounts.wanted(stages.judged, min(stages.beside_noise, self.target.room(card.patch)))
        if self.budget.total is None:
            return wanted
        device, processor = choose_device(self.device), self.budget.processor
        each = forward_seconds(network, card.patch, device, processor=processor)
        from cryovox.report.adaptation import MAX_EXAMPLES

        pictures = 2 * MAX_EXAMPLES + PAGE / each
        forwards = self.budget.forwards_left(each) or 0
        return wanted.within(int(forwards - pictures), bool(self.target.even))

    def noise_p_value(self, model: Path, amounts: Amounts, tick: Callable[[], None]) -> float:
        """Probability that what a model finds in the target is what it finds in noise."""
        import torch

        from cryovox.models.checkpoint import load_model
        from cryovox.training.evaluation.noise_test import noise_p_value

        network, card = load_model(model)
        images = torch.from_numpy(self.target.sample(judging(card, amounts.beside_noise)))
        device = choose_device(self.device)
        with ticking(network, tick):
            return noise_p_value(
                network, images, activation=card.activation, device=device, noise=amounts.noise
            )

    def quality(self, model: Path, count: int, tick: Callable[[], None] = lambda: None) -> Quality:
        """What can be known of a model on so many patches of the target."""
        import torch

        from cryovox.models.checkpoint import load_model
        from cryovox.training.evaluation.model_selection import quality

        network, card = load_model(model)
        draw = judging(card, count)
        halves = self.target.halves(draw)
        with ticking(network, tick):
            return quality(
                network,
                torch.from_numpy(self.target.sample(draw)),
                activation=card.activation,
                device=choose_device(self.device),
                prior=self._prior(draw) if card.kind == "mask" else None,
                halves=None if halves is None else (torch.from_numpy(halves[0]), torch.from_numpy(halves[1])),
            )

    def _prior(self, draw: SamplingConfig) -> float | None:
        """Share of the source that is foreground, wherever it is looked at."""
        stream = self.source.stream(draw)
        try:
            batch = stream.batch(0)
        finally:
            stream.close()
        known = batch.valid_mask & (batch.target != 255)
        return float((batch.target[known] > 0).float().mean()) if bool(known.any()) else None

    def keep(self, out: Path, choice: Choice, before: Path, after: Path) -> None:
        """Write the model that was chosen, what it was adapted to, and why it was chosen."""
        from cryovox.models.checkpoint import load_model, save_model

        network, card = load_model(after if choice.adapted else before)
        told = {
            **card.training,
            "adaptation": {
                "strategy": self.config.strategy,
                "source": self.source.name,
                **choice.summary(),
            },
        }
        heard = (*read_card(before).warnings, *card.warnings)
        if choice.undecided:
            heard = ("neither the source model nor the adapted one finds anything in the target", *heard)
        update: dict[str, Any] = {"training": told, "warnings": tuple(dict.fromkeys(heard))}
        if choice.adapted:
            update["domain"] = domain_of(self.target, card)
        save_model(out / "model.safetensors", network, card.model_copy(update=update))
        with replacing(out / "choice.json") as beside:
            beside.write_text(json.dumps(choice.summary(), indent=1) + "\n", encoding="utf-8")
        with replacing(out / "report.html") as beside:
            beside.write_text(self.page(choice, before, after), encoding="utf-8")

    def page(self, choice: Choice, before: Path, after: Path) -> str:
        """What was chosen and why, as HTML."""
        from cryovox.report.adaptation import MAX_EXAMPLES, adaptation_page
        from cryovox.workflows.training.examples import examples

        facts = {
            "strategy": self.config.strategy,
            "source": self.source.name,
            "target": ", ".join(self.target.files),
            "notes": "; ".join(self.target.notes) or "none",
            "seed": self.config.seed,
            "network": read_card(after).network,
        }
        patches = self.target.sample(judging(read_card(after), MAX_EXAMPLES))
        courses = {model.parent.name: model.parent / "metrics.csv" for model in (before, after)}
        courses = {name: path for name, path in courses.items() if path.exists()}
        return adaptation_page(choice, facts, examples(before, after, patches, self.device), courses)


def judging(card: Card, count: int) -> SamplingConfig:
    """Patches that are drawn anywhere, always the same ones, and not varied."""
    spec = TargetSpec(card.kind, card.output_stride)
    return SamplingConfig(spec, card.patch, count, PatchConfig(foreground=0.0), seed=JUDGED)


def domain_of(target: TargetData, card: Card) -> dict[str, Any]:
    """Fingerprint of the target, for the card of a model that was adapted to it."""
    from cryovox.metrics.fingerprint import fingerprint, limit, sample_cubes

    if target.regions:
        cubes = [sample_cubes(_inside(r), r.normalise) for r in target.regions]
    else:
        cubes = [c.images[c.indices].astype(np.float32) for c in target.cubes]
    return {
        "fingerprint": fingerprint(np.concatenate(cubes), card.voxel_size).model_dump(mode="json"),
        "limit": limit(cubes, card.voxel_size),
        "tomograms": [{"name": n, "sha256": sha256(p)} for n, p in target.files.items()],
    }


def _inside(region: Any) -> Any:
    (z0, z1), (y0, y1), (x0, x1) = region.bounds
    return region.data[z0:z1, y0:y1, x0:x1]
