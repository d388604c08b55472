"""Selection of the source model or the adapted one on a target without labels, with a report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import replacing
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.data.config import PatchConfig
from cryovox.data.patches import TargetSpec
from cryovox.data.sampling import SamplingConfig
from cryovox.models.card import Card, read_card
from cryovox.report.adaptation import MAX_EXAMPLES, Example, adaptation_page
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.manifest import sha256
from cryovox.workflows.training.data import TrainingData
from cryovox.workflows.training.target import SELECTION_SEED, TargetData
from cryovox.workflows.training.time_budget import TimeBudget, call_after_forward, forward_seconds

if TYPE_CHECKING:
    from cryovox.training.evaluation.model_selection import Choice, Quality


BATCH_SIZE = 8
PAGE_SECONDS = 3.0
"""Time to write the report."""
MIN_PATCHES = 2
"""Patches that are compared however short the time."""
COMPARISON_SHARE = 0.6
"""Fraction of a short time for the comparison of both models; the rest is for the noise test."""


@dataclass(frozen=True)
class SampleCounts:
    """Numbers of patches for the comparison.

    Attributes
    ----------
    compared
        Patches on which both models are compared.
    noise_test, noise
        Patches of the target and of noise for the noise test of the adapted model; 0 skips it.
    unchecked
        Whether the noise test is skipped for lack of time.
    """

    compared: int
    noise_test: int
    noise: int
    unchecked: bool = False

    @classmethod
    def requested(cls, compared: int, noise_test: int) -> SampleCounts:
        """As the settings ask for; with too few patches there is no noise test."""
        from cryovox.training.evaluation.noise_test import MIN_IMAGES, MIN_NOISE

        many = noise_test >= MIN_IMAGES
        return cls(compared, noise_test, max(MIN_NOISE, noise_test)) if many else cls(compared, 0, 0)

    def within(self, forwards: int, halves: bool) -> SampleCounts:
        """Fewer, for at most *forwards* forward passes of a patch."""
        from cryovox.training.evaluation.noise_test import MIN_IMAGES

        if self.compared * forwards_per_patch(halves) + self.noise_test + self.noise <= forwards:
            return self
        compared = max(
            MIN_PATCHES, min(self.compared, int(COMPARISON_SHARE * forwards) // forwards_per_patch(halves))
        )
        each = max(0, forwards - compared * forwards_per_patch(halves)) // 2
        if not self.noise_test:
            return replace(self, compared=compared)
        if each < MIN_IMAGES:
            return replace(self, compared=compared, noise_test=0, noise=0, unchecked=True)
        noise_test = min(self.noise_test, each)
        return replace(self, compared=compared, noise_test=noise_test, noise=min(self.noise, each))

    def batches(self, halves: bool) -> int:
        """Number of batches."""
        noise = -(-self.noise_test // BATCH_SIZE) + -(-self.noise // BATCH_SIZE)
        return -(-self.compared // BATCH_SIZE) * forwards_per_patch(halves) + noise


def forwards_per_patch(halves: bool) -> int:
    """Forward passes of both models together for each patch."""
    from cryovox.data.augment import WEDGE_SYMMETRIES

    return 2 * (len(WEDGE_SYMMETRIES) + 1 + 2 * halves)


@dataclass
class ModelSelector:
    """Compares models on the target, whose labels are not used.

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

        counts = self.counts(after)
        done, total = 0, counts.batches(bool(self.target.even))

        def on_batch() -> None:
            nonlocal done
            done += 1
            self.on_progress("comparing the models on the target", min(1.0, done / total))

        noise_p_value = self.noise_p_value(after, counts, on_batch) if counts.noise_test else None
        return choose(
            self.quality(before, counts.compared, on_batch),
            self.quality(after, counts.compared, on_batch),
            margin=self.config.stages.margin,
            noise_p_value=noise_p_value,
            unchecked=counts.unchecked,
        )

    def counts(self, model: Path) -> SampleCounts:
        """Numbers of patches: as the settings ask for, or as the time allows."""
        from cryovox.models.checkpoint import load_model

        network, card = load_model(model)
        stages = self.config.stages
        requested = SampleCounts.requested(
            stages.selection_patches, min(stages.noise_test_patches, self.target.room(card.patch))
        )
        if self.budget.total is None:
            return requested
        device, processor = choose_device(self.device), self.budget.processor
        each = forward_seconds(network, card.patch, device, processor=processor)
        pictures = 2 * MAX_EXAMPLES + PAGE_SECONDS / each
        forwards = self.budget.forwards_left(each) or 0
        return requested.within(int(forwards - pictures), bool(self.target.even))

    def noise_p_value(self, model: Path, counts: SampleCounts, on_batch: Callable[[], None]) -> float:
        """P-value of the test that a model finds as much in noise as in the target."""
        import torch

        from cryovox.models.checkpoint import load_model
        from cryovox.training.evaluation.noise_test import noise_p_value

        network, card = load_model(model)
        images = torch.from_numpy(self.target.sample(selection_sampling(card, counts.noise_test)))
        device = choose_device(self.device)
        with call_after_forward(network, on_batch):
            return noise_p_value(
                network, images, activation=card.activation, device=device, noise=counts.noise
            )

    def quality(self, model: Path, count: int, on_batch: Callable[[], None] = lambda: None) -> Quality:
        """Label-free quality of a model on *count* patches of the target."""
        import torch

        from cryovox.models.checkpoint import load_model
        from cryovox.training.evaluation.model_selection import quality

        network, card = load_model(model)
        sampling = selection_sampling(card, count)
        halves = self.target.halves(sampling)
        with call_after_forward(network, on_batch):
            return quality(
                network,
                torch.from_numpy(self.target.sample(sampling)),
                activation=card.activation,
                device=choose_device(self.device),
                prior=self._prior(sampling) if card.kind == "mask" else None,
                halves=None if halves is None else (torch.from_numpy(halves[0]), torch.from_numpy(halves[1])),
            )

    def _prior(self, sampling: SamplingConfig) -> float | None:
        """Foreground fraction of source patches that are drawn anywhere."""
        stream = self.source.stream(sampling)
        try:
            batch = stream.batch(0)
        finally:
            stream.close()
        known = batch.valid_mask & (batch.target != 255)
        return float((batch.target[known] > 0).float().mean()) if bool(known.any()) else None

    def keep(self, out: Path, choice: Choice, before: Path, after: Path) -> None:
        """Write the selected model, its target, and the reasons of the selection."""
        from cryovox.models.checkpoint import load_model, save_model

        network, card = load_model(after if choice.adapted else before)
        training = {
            **card.training,
            "adaptation": {
                "strategy": self.config.strategy,
                "source": self.source.name,
                **choice.summary(),
            },
        }
        model_warnings = (*read_card(before).warnings, *card.warnings)
        if choice.undecided:
            model_warnings = (
                "neither the source model nor the adapted model predicts foreground in the target",
                *model_warnings,
            )
        update: dict[str, Any] = {"training": training, "warnings": tuple(dict.fromkeys(model_warnings))}
        if choice.adapted:
            update["domain"] = domain_of(self.target, card)
        save_model(out / "model.safetensors", network, card.model_copy(update=update))
        with replacing(out / "choice.json") as beside:
            beside.write_text(json.dumps(choice.summary(), indent=1) + "\n", encoding="utf-8")
        with replacing(out / "report.html") as beside:
            beside.write_text(self.page(choice, before, after), encoding="utf-8")

    def page(self, choice: Choice, before: Path, after: Path) -> str:
        """Report on the selection, as HTML."""
        facts = {
            "strategy": self.config.strategy,
            "source": self.source.name,
            "target": ", ".join(self.target.files),
            "notes": "; ".join(self.target.notes) or "none",
            "seed": self.config.seed,
            "network": read_card(after).network,
        }
        patches = self.target.sample(selection_sampling(read_card(after), MAX_EXAMPLES))
        curves = {model.parent.name: model.parent / "metrics.csv" for model in (before, after)}
        curves = {name: path for name, path in curves.items() if path.exists()}
        return adaptation_page(choice, facts, examples(before, after, patches, self.device), curves)


def selection_sampling(card: Card, count: int) -> SamplingConfig:
    """Patches drawn anywhere, always the same ones, without augmentation."""
    spec = TargetSpec(card.kind, card.output_stride)
    return SamplingConfig(spec, card.patch, count, PatchConfig(foreground=0.0), seed=SELECTION_SEED)


def domain_of(target: TargetData, card: Card) -> dict[str, Any]:
    """Fingerprint of the target, for the card of a model that was adapted to it."""
    from cryovox.metrics.fingerprint import fingerprint, limit, sample_cubes

    if target.regions:
        cubes = [sample_cubes(_inside(r), r.normalize) for r in target.regions]
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


def examples(
    source: Path, adapted: Path, images: NDArray[np.float32], device: Device = "auto"
) -> list[Example]:
    """The middle slices of the first four patches.

    Parameters
    ----------
    source, adapted
        Model files.
    images : (n, 1, z, y, x)
        Patches of the target, as networks see them.
    """
    few = images[:MAX_EXAMPLES]
    before, after = (_foreground(path, few, device) for path in (source, adapted))
    return [
        Example(f"patch {i + 1}", image[0, len(image[0]) // 2], one[len(one) // 2], other[len(other) // 2])
        for i, (image, one, other) in enumerate(zip(few, before, after, strict=True))
    ]


def _foreground(path: Path, images: NDArray[np.float32], device: Device) -> NDArray[np.float32]:
    import torch

    from cryovox.models.checkpoint import load_model
    from cryovox.training.evaluation.model_selection import foreground

    network, card = load_model(path)
    x = torch.from_numpy(images)
    return foreground(network, x, activation=card.activation, device=choose_device(device)).numpy()
