"""Label-free quality of a network, and the selection of one of two networks.

Adaptation can fail without a sign in its losses: the network may predict no foreground, only foreground,
or something else in each view. The rule below is ours and conservative: the source model is kept unless the
adapted one scores higher.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cryovox.data.augment import WEDGE_SYMMETRIES

Activation = Literal["softmax", "sigmoid"]
Views = Sequence[tuple[int, ...]]
NOISE = 0.25
"""Standard deviation of the added noise, relative to that of the image."""
FLAT = 1e-12
"""Variance of probabilities below which they count as constant."""
LEAST_SHARE = 1e-6
"""Lower limit of the foreground fraction in logarithms."""


@dataclass(frozen=True)
class Quality:
    """Measures of a network on images without labels; all are NaN if a prediction is not finite.

    Attributes
    ----------
    agreement
        Concordance (Lin 1989) of the foreground probabilities between the views of the missing wedge's
        symmetries, mapped back; pooled over images and pairs of views. 1 is perfect agreement, 0 is chance
        level; constant predictions have 0.
    halves
        The same between even and odd half tomograms; None without them.
    noise
        The same between an image and the image with noise.
    confidence
        Mean of the largest probability over the foreground voxels; 0 if there are none.
    entropy
        Mean normalized entropy over the voxels, 0 (certain) to 1.
    foreground
        Fraction of foreground voxels.
    prior
        Absolute log2 ratio of that fraction to the expected one; None if none is expected.
    """

    agreement: float
    halves: float | None
    noise: float
    confidence: float
    entropy: float
    foreground: float
    prior: float | None

    @property
    def finite(self) -> bool:
        """Whether all measures are finite."""
        return all(math.isfinite(v) for v in asdict(self).values() if v is not None)


@dataclass(frozen=True)
class Rule:
    """Weights and limits of the comparison of two networks.

    Attributes
    ----------
    agreement, noise, halves
        Exponents of the terms of the score.
    octaves
        Deviation (log2) from the expected foreground that is not penalized; each octave beyond divides the
        score by e.
    nothing, everything
        Foreground fractions below and above which a network has collapsed.
    growth
        Maximum ratio of the foreground to that of the source model, unless it is near the expected fraction.
    significance
        Largest `noise_test.noise_p_value` at which detections count as different from noise.
    stable
        Minimum product of both agreements; predictions below it count as noise.
    """

    agreement: float = 1.0
    noise: float = 1.0
    halves: float = 1.0
    octaves: float = 2.0
    nothing: float = 1e-4
    everything: float = 0.9
    growth: float = 8.0
    significance: float = 0.05
    stable: float = 0.05


RULE = Rule()


@dataclass(frozen=True)
class Choice:
    """The selected network, and the reasons.

    Attributes
    ----------
    adapted
        Whether the adapted network is selected.
    reasons
        Reasons as sentences.
    scores
        Scores of the source model and of the adapted model.
    noise_p_value
        See `choose`.
    undecided
        Whether neither network predicts foreground, so that the source model is kept by default.
    """

    adapted: bool
    reasons: tuple[str, ...]
    source: Quality
    candidate: Quality
    scores: tuple[float, float]
    noise_p_value: float | None = None
    undecided: bool = False

    def summary(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "chosen": "adapted" if self.adapted else "source",
            "undecided": self.undecided,
            "reasons": list(self.reasons),
            "scores": {"source": self.scores[0], "adapted": self.scores[1]},
            "chance": self.noise_p_value,
            "quality": {"source": asdict(self.source), "adapted": asdict(self.candidate)},
        }


@torch.no_grad()
def quality(
    network: nn.Module,
    images: Tensor,
    *,
    activation: Activation,
    device: str | torch.device,
    prior: float | None = None,
    halves: tuple[Tensor, Tensor] | None = None,
    batch: int = 8,
    views: Views = WEDGE_SYMMETRIES,
) -> Quality:
    """Measure a network on images without labels; deterministic.

    Parameters
    ----------
    network
        Returns logits (b, k, z, y, x); with softmax, channel 0 is background.
    images : (n, 1, z, y, x)
        Normalized input of the network.
    prior
        Expected fraction of foreground voxels.
    halves : two of (n, 1, z, y, x)
        The same images from the even and from the odd frames.
    batch
        Batch size.
    views
        Axes to flip, the identity first.
    """
    if images.ndim != 5 or not len(images):
        raise ValueError(f"images are (n, 1, z, y, x) and at least one, got {tuple(images.shape)}")
    was_training = network.training
    network = network.to(device).eval()
    generator = torch.Generator().manual_seed(0)
    between_views, with_noise, between_halves = _Concordance(), _Concordance(), _Concordance()
    counts = _Counts()

    def predict(x: Tensor) -> Tensor:
        return _probabilities(network(x.to(device)), activation)

    try:
        for i, part in _batches(images, batch):
            first = predict(part)
            counts.add(first, activation)
            between_views.add(_views(predict, part, first, activation, views))
            noisy = part + NOISE * torch.randn(part.shape, generator=generator).to(part)
            with_noise.add(_stack(activation, first, predict(noisy)))
            if halves is not None:
                between_halves.add(_stack(activation, *(predict(half[i : i + batch]) for half in halves)))
    finally:
        network.train(was_training)
    return counts.quality(
        between_views.value, with_noise.value, None if halves is None else between_halves.value, prior
    )


@torch.no_grad()
def foreground(
    network: nn.Module, images: Tensor, *, activation: Activation, device: str | torch.device
) -> Tensor:
    """Probability of any foreground: (n, z, y, x) on the CPU, from a network in eval mode."""
    p = _probabilities(network.to(device)(images.to(device)), activation)
    return (1 - p[:, 0] if activation == "softmax" else p.amax(1)).cpu()


def score(quality: Quality, rule: Rule = RULE) -> float:
    """Selection score of a network, in [0, 1]; 0 if its predictions are not finite.

    ``agreement * noise``, or with halves ``sqrt(agreement * noise * halves)``; times
    ``exp(2 - prior)`` where the foreground deviates by more than two octaves from the expected fraction.
    """
    if not quality.finite:
        return 0.0
    value = quality.agreement**rule.agreement * quality.noise**rule.noise
    if quality.halves is not None:
        value = math.sqrt(value * quality.halves**rule.halves)
    return value * math.exp(-max(0.0, (quality.prior or 0.0) - rule.octaves))


def choose(
    source: Quality,
    candidate: Quality,
    *,
    margin: float = 0.0,
    noise_p_value: float | None = None,
    unchecked: bool = False,
    rule: Rule = RULE,
) -> Choice:
    """Select the adapted network (*candidate*) only if it passes all checks and scores higher.

    It is rejected if its predictions are not finite, if it predicts no foreground although the source model
    does, if it predicts almost only foreground, if its foreground is more than 8 times that of the source
    model and not near the expected fraction, or if it predicts as much foreground in noise. Otherwise the
    score decides; equal scores keep the source model. If neither network predicts foreground, the source
    model is kept and the outcome is undecided.

    Parameters
    ----------
    margin
        Minimum difference of the scores.
    noise_p_value
        P-value of the noise test of the adapted network (`cryovox.training.evaluation.noise_test`); None if
        it was not run.
    unchecked
        Whether the noise test was skipped for lack of time; then the adapted network is rejected.
    """
    scores = (score(source, rule), score(candidate, rule))
    if _empty(source, rule) and _empty(candidate, rule):
        reasons = tuple(_nothing(source, candidate, rule))
        return Choice(False, reasons, source, candidate, scores, noise_p_value, undecided=True)
    refused = (*_collapses(source, candidate, rule), *_fails_noise_test(noise_p_value, unchecked, rule))
    if refused:
        return Choice(False, refused, source, candidate, scores, noise_p_value)
    better = scores[1] > scores[0] + margin
    least = f" by more than {margin:g}" if margin else ""
    comparison = f"{scores[1]:.3f} against {scores[0]:.3f} of the source model"
    verdict = f"The adapted model scores {'' if better else 'not '}higher{least}: {comparison}."
    return Choice(better, (verdict, *_parts(source, candidate)), source, candidate, scores, noise_p_value)


def _empty(quality: Quality, rule: Rule) -> bool:
    """Whether a network predicts no foreground, or none that persists under flips or added noise.

    Peaks of heatmaps cover few voxels, so their foreground fraction is neither expected nor checked.
    """
    if not quality.finite:
        return True
    nothing = quality.prior is not None and quality.foreground < rule.nothing
    return nothing or quality.agreement * quality.noise < rule.stable


def _nothing(source: Quality, candidate: Quality, rule: Rule) -> Iterator[str]:
    yield "Neither model predicts foreground in the target, so neither is selected."
    for name, one in (("source", source), ("adapted", candidate)):
        if one.finite:
            yield (
                f"The {name} model labels {100 * one.foreground:.2g} % of the voxels foreground (minimum for "
                f"masks: {100 * rule.nothing:g} %); the agreement between views times that with added noise "
                f"is {one.agreement * one.noise:.3f} (minimum {rule.stable:g})."
            )
        else:
            yield f"The {name} model predicts values that are not finite."


def _collapses(source: Quality, candidate: Quality, rule: Rule) -> Iterator[str]:
    """Reasons to reject an adapted network whatever its score."""
    now = candidate.foreground
    if not candidate.finite:
        yield "The adapted model predicts values that are not finite."
        return
    if not source.finite:
        return
    before = source.foreground
    if now < rule.nothing <= before:
        yield (
            f"The adapted model predicts almost no foreground ({now:.2g} of the voxels; "
            f"the source model {before:.2g})."
        )
    if now > rule.everything >= before:
        yield f"The adapted model predicts almost only foreground ({100 * now:.0f} % of the voxels)."
    expected = candidate.prior is not None and candidate.prior <= rule.octaves
    if before >= rule.nothing and now > rule.growth * before and not expected:
        yield (
            f"The foreground of the adapted model is {now / before:.1f} times that of the source model "
            f"(maximum {rule.growth:g})."
        )


def _fails_noise_test(noise_p_value: float | None, unchecked: bool, rule: Rule) -> Iterator[str]:
    """Reasons to reject it by the noise test."""
    if unchecked:
        yield "The noise test was skipped for lack of time: increase --max-time."
    if noise_p_value is not None and noise_p_value > rule.significance:
        yield (
            "The adapted model predicts as much foreground in noise of the same power as in the target: "
            "the difference is not significant "
            f"(p = {noise_p_value:.2g}; p <= {rule.significance:g} is needed)."
        )


def _parts(source: Quality, candidate: Quality) -> Iterator[str]:
    """The parts of the scores."""
    names = {"agreement": "views of an image", "noise": "an image and the image with added noise"}
    if source.halves is not None and candidate.halves is not None:
        names["halves"] = "half tomograms"
    for name, between in names.items():
        before, after = getattr(source, name), getattr(candidate, name)
        yield f"Agreement between {between}: {after:.3f} against {before:.3f} of the source model."
    if source.prior is not None and candidate.prior is not None:
        yield (
            f"The foreground deviates {_fold(candidate.prior)} from the expected fraction, against "
            f"{_fold(source.prior)} of the source model."
        )


def _fold(octaves: float) -> str:
    return f"{2.0**octaves:.1f}-fold" if octaves < 10 else "over 1000-fold"


class _Concordance:
    """Concordance among views of the same images, pooled over images, channels and pairs of views.

    Lin's coefficient (Biometrics 45, 1989, p. 255): over pairs i < j of maps, the sum of
    2 cov(p_i, p_j) over that of var p_i + var p_j + (mean p_i - mean p_j)^2. All follows from sums
    that are taken up batch by batch.
    """

    def __init__(self) -> None:
        self.products, self.sums, self.count = torch.zeros(()), torch.zeros(()), 0

    def add(self, views: Tensor) -> None:
        """Take (v, b, k, ...) probabilities of the foreground."""
        flat = views.double().transpose(1, 2).flatten(2).cpu()  # (v, k, n)
        self.products = self.products + torch.einsum("vkn,wkn->kvw", flat, flat)
        self.sums = self.sums + flat.sum(2).T
        self.count += flat.shape[2]

    @property
    def value(self) -> float:
        """0 if every map is constant, since such a prediction does not depend on the image."""
        expected = self.sums[:, :, None] * self.sums[:, None, :] / self.count
        squares = self.products.diagonal(dim1=1, dim2=2)
        pairs = torch.ones_like(expected[0], dtype=torch.bool).triu(1)
        over = 2 * float((self.products - expected)[:, pairs].sum())
        under = float((squares[:, :, None] + squares[:, None, :] - 2 * expected)[:, pairs].sum())
        least = FLAT * self.count * int(pairs.sum())
        return min(1.0, max(0.0, over / under)) if under > least else 0.0


class _Counts:
    """Statistics of the predictions of the images themselves."""

    def __init__(self) -> None:
        self.voxels, self.foreground, self.confidence, self.entropy = 0, 0, 0.0, 0.0
        self.finite = True

    def add(self, p: Tensor, activation: Activation) -> None:
        """Take probabilities (b, k, z, y, x)."""
        best, which = p.max(dim=1)
        called = which > 0 if activation == "softmax" else best > 0.5
        self.finite &= bool(torch.isfinite(p).all())
        self.voxels += called.numel()
        self.foreground += int(called.sum())
        self.confidence += float(best[called].sum(dtype=torch.float64))
        self.entropy += float(_entropy(p, activation).sum(dtype=torch.float64))

    def quality(self, agreement: float, noise: float, halves: float | None, prior: float | None) -> Quality:
        share = self.foreground / self.voxels
        entropy, sure = self.entropy / self.voxels, self.confidence / max(1, self.foreground)
        octaves = None if prior is None else _octaves(share, prior)
        if self.finite and math.isfinite(agreement + noise + (halves or 0.0)):
            return Quality(agreement, halves, noise, sure, entropy, share, octaves)
        lost = math.nan
        return Quality(
            lost, None if halves is None else lost, lost, lost, lost, lost, None if prior is None else lost
        )


def _octaves(share: float, expected: float) -> float:
    return abs(math.log2(max(share, LEAST_SHARE) / max(expected, LEAST_SHARE)))


def _probabilities(logits: Tensor, activation: Activation) -> Tensor:
    values = logits.float()
    return values.softmax(1) if activation == "softmax" else values.sigmoid()


def _foreground(p: Tensor, activation: Activation) -> Tensor:
    return p[:, 1:] if activation == "softmax" else p


def _entropy(p: Tensor, activation: Activation) -> Tensor:
    """Entropy of every voxel, in units of the largest that there can be."""
    if activation == "softmax":
        return -torch.xlogy(p, p).sum(1) / math.log(p.shape[1])
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).mean(1) / math.log(2)


def _views(
    predict: Callable[[Tensor], Tensor], images: Tensor, first: Tensor, activation: Activation, views: Views
) -> Tensor:
    """The foreground in every view, all turned back: (v, b, k, z, y, x)."""
    others = (predict(images.flip(axes)).flip(axes) for axes in views[1:])
    return _stack(activation, first, *others)


def _stack(activation: Activation, *probabilities: Tensor) -> Tensor:
    return torch.stack([_foreground(p, activation) for p in probabilities])


def _batches(images: Tensor, batch: int) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, len(images), batch):
        yield start, images[start : start + batch]
