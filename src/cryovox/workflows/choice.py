"""Which of two models to keep for a target without labels, and the page that says why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cryovox.core.atomic import replacing
from cryovox.data.config import AugmentConfig, PatchConfig
from cryovox.data.patches import TargetSpec
from cryovox.models.card import Card, read_card
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.manifest import sha256
from cryovox.workflows.target_data import JUDGED, TargetData
from cryovox.workflows.training_data import Draw, TrainingData

if TYPE_CHECKING:
    from cryovox.training.quality import Choice, Quality


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
    """

    source: TrainingData
    target: TargetData
    config: Any
    device: Device

    def choose(self, before: Path, after: Path) -> Choice:
        """Compare both models on the target, without labels."""
        from cryovox.training.quality import choose

        margin, chance = self.config.stages.margin, self.chance(after)
        return choose(self.quality(before), self.quality(after), margin=margin, chance=chance)

    def chance(self, model: Path) -> float | None:
        """Probability that what a model finds in the target is what it finds in noise."""
        import torch

        from cryovox.models.checkpoint import load_model
        from cryovox.training.emptiness import LEAST, chance

        network, card = load_model(model)
        count = min(self.config.stages.beside_noise, self.target.room(card.patch))
        if count < LEAST:
            return None
        images = self.target.sample(judging(card, count))
        device = choose_device(self.device)
        return chance(network, torch.from_numpy(images), activation=card.activation, device=device)

    def quality(self, model: Path) -> Quality:
        """What can be known of a model on the target."""
        import torch

        from cryovox.models.checkpoint import load_model
        from cryovox.training.quality import quality

        network, card = load_model(model)
        draw = judging(card, self.config.stages.judged)
        halves = self.target.halves(draw)
        return quality(
            network,
            torch.from_numpy(self.target.sample(draw)),
            activation=card.activation,
            device=choose_device(self.device),
            prior=self._prior(draw) if card.kind == "mask" else None,
            halves=None if halves is None else (torch.from_numpy(halves[0]), torch.from_numpy(halves[1])),
        )

    def _prior(self, draw: Draw) -> float | None:
        """Share of the source that is foreground, wherever it is looked at."""
        stream = self.source.stream(draw)
        try:
            batch = stream.batch(0)
        finally:
            stream.close()
        known = batch.known & (batch.target != 255)
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
        update: dict[str, Any] = {"training": told}
        if choice.adapted:
            update["domain"] = domain_of(self.target, card)
        save_model(out / "model.safetensors", network, card.model_copy(update=update))
        with replacing(out / "choice.json") as beside:
            beside.write_text(json.dumps(choice.summary(), indent=1) + "\n", encoding="utf-8")
        with replacing(out / "report.html") as beside:
            beside.write_text(self.page(choice, before, after), encoding="utf-8")

    def page(self, choice: Choice, before: Path, after: Path) -> str:
        """What was chosen and why, as HTML."""
        from cryovox.report.adaptation import MOST, adaptation_page
        from cryovox.workflows.adapt_examples import examples

        facts = {
            "strategy": self.config.strategy,
            "source": self.source.name,
            "target": ", ".join(self.target.files),
            "notes": "; ".join(self.target.notes) or "none",
            "seed": self.config.seed,
            "network": read_card(after).network,
        }
        patches = self.target.sample(judging(read_card(after), MOST))
        courses = {model.parent.name: model.parent / "metrics.csv" for model in (before, after)}
        courses = {name: path for name, path in courses.items() if path.exists()}
        return adaptation_page(choice, facts, examples(before, after, patches, self.device), courses)


def judging(card: Card, count: int) -> Draw:
    """Patches that are drawn anywhere, always the same ones, and not varied."""
    spec = TargetSpec(card.kind, card.output_stride)
    return Draw(spec, card.patch, count, PatchConfig(foreground=0.0), AugmentConfig(), JUDGED)


def domain_of(target: TargetData, card: Card) -> dict[str, Any]:
    """Fingerprint of the target, for the card of a model that was adapted to it."""
    from cryovox.metrics.domain import draw, fingerprint, limit

    if target.regions:
        cubes = [draw(_inside(r), r.normalise) for r in target.regions]
    else:
        cubes = [c.images[c.chosen].astype(np.float32) for c in target.cubes]
    return {
        "fingerprint": fingerprint(np.concatenate(cubes), card.voxel_size).model_dump(mode="json"),
        "limit": limit(cubes, card.voxel_size),
        "tomograms": [{"name": n, "sha256": sha256(p)} for n, p in target.files.items()],
    }


def _inside(region: Any) -> Any:
    (z0, z1), (y0, y1), (x0, x1) = region.bounds
    return region.data[z0:z1, y0:y1, x0:x1]
