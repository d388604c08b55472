"""Rows of the suites: networks and strategies that learn from few labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryovox.benchmark.suite import Method
from cryovox.benchmark.training import SHARED

MethodsOfSize = Callable[[str], tuple["PickingMethod", ...]]


@dataclass(frozen=True)
class PickingMethod(Method):
    """A network and the strategy that trains it from few labels.

    Attributes
    ----------
    strategy
        Row of the table of strategies.
    own
        Settings of the strategy of this row alone, by dotted name, such as ``{"own.views": 1}``.
    class_prior
        Whether the method is given the true share of unlabeled particles, as positive-unlabeled learning
        needs.
    """

    strategy: str = "supervised"
    own: Mapping[str, Any] = field(default_factory=dict)
    class_prior: bool = False


NETWORK = "heatmap-unet"


DOG_PICKER = "difference-of-Gaussians picker, given the true count per species"


MASKS = "residual-unet"
"""The same backbone with mask output; picks are the connected regions, split at necks."""


ALL_METHODS = {"supervised.drop_block": 0.03}
"""Settings of all methods. The averaging of weights is the same too, for teachers and for final models."""


TEACHER = {"own.teacher_decay": SHARED["supervised.ema"]}


def semi_methods(size: str) -> tuple[PickingMethod, ...]:
    """Supervised training, teacher-student strategies, and SemiETPicker without one of its parts."""

    def row(name: str, strategy: str, **own: Any) -> PickingMethod:
        changed = {f"own.{key}": value for key, value in own.items()}
        return PickingMethod(name, NETWORK, size, strategy=strategy, own=TEACHER | changed)

    ignoring = {"supervised.unknown": "ignore"}
    return (
        PickingMethod("supervised", NETWORK, size, train=ignoring),
        row("pseudo-labels, two rounds", "pseudo-labels"),
        row("semi-etpicker", "semi-etpicker"),
        PickingMethod("heavy augmentation", NETWORK, size, train=ignoring, strategy="heavy-augmentation"),
        row("mean teacher", "heatmap-mean-teacher"),
        row("fixmatch", "heatmap-fixmatch"),
        row("semi-etpicker, one view", "semi-etpicker", views=1, agreement=0.0),
        row("semi-etpicker, no DropBlock", "semi-etpicker", student_drop=0.0, deep_drop=0.0),
        row("semi-etpicker, no ignore band", "semi-etpicker", ignore=False),
        PickingMethod("nnpu", NETWORK, size, train={"supervised.unknown": "pu"}, class_prior=True),
        PickingMethod("masks and regions", MASKS, size, train=ignoring),
    )


VARIANTS: dict[str, dict[str, Any]] = {
    "semi-etpicker": {},
    "teacher follows": {"own.rounds": 0},
    "one view": {"own.views": 1, "own.agreement": 0.0},
    "8 views": {"own.views": 8},
    "no agreement": {"own.agreement": 0.0},
    "no DropBlock": {"own.student_drop": 0.0, "own.deep_drop": 0.0},
    "no ignore band": {"own.ignore": False},
    "fixed thresholds": {"own.adaptive": False},
    "threshold 0.5": {"own.high": 0.5},
    "one species in a place": {"own.exclusive": True},
}
"""SemiETPicker with one setting changed."""


def variants(size: str) -> tuple[PickingMethod, ...]:
    """SemiETPicker with one setting changed."""
    changed = (
        PickingMethod(name, NETWORK, size, strategy="semi-etpicker", own=TEACHER | own)
        for name, own in VARIANTS.items()
    )
    positive_unlabeled = PickingMethod(
        "risk of what is unknown", NETWORK, size, train={"supervised.unknown": "pu"},
        strategy="semi-etpicker", own=TEACHER, class_prior=True,
    )  # fmt: skip
    return (*changed, positive_unlabeled)
