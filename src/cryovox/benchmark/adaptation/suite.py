"""Common parts of the suites of unsupervised domain adaptation: methods, training and scoring.

A method trains on a labeled source and on a target without labels; the target labels are used for scoring
only. Every training gives a source model, an adapted model, and the one of both that a selection rule kept
without labels; all three are scored. The budget covers both stages, and `source-only` spends all of it on the
source. The source model is the same for all adaptation methods: it is trained once for each seed.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from cryovox.benchmark.suite import Budget, Job, Method, Plan, Scores, Suite
from cryovox.benchmark.training import job_settings, shared_settings, train
from cryovox.core.atomic import replacing
from cryovox.core.durations import seconds
from cryovox.workflows.config import train_config
from cryovox.workflows.devices import Device

SubsetScores = Mapping[str, Mapping[str, float]]
"""Subset of the target ("" is the held-out one) -> metric -> value."""
MethodsOfSize = Callable[[str], "tuple[AdaptationMethod, ...]"]
"""Methods of a suite for a size of the network."""
ScoreModel = Callable[[Path, Path], SubsetScores]
"""Scores of a model file; the second argument is an output folder."""

SOURCE_ONLY = "source-only"
SUPERVISED = "target-supervised"
VOX_UDA = "vox-uda"
BASELINES = ("adaptive-bn", "coral", "mmd", "dann", "advent", "histogram-matching", "spectrum-matching",
             "fda", "mean-teacher", "fixmatch", "mic")  # fmt: skip
DOMAIN_GENERALIZATION = ("heavy-augmentation", "mixstyle", "fourier-mixing", "swad", "rsc")
PUBLISHED: dict[str, Any] = {
    "noise_kind": "white", "learn_noisy": False, "target_statistics": False, "class_thresholds": False,
    "denoised_statistics": False,
}  # fmt: skip
"""Vox-UDA as published, as far as that is known."""
BATCH_NORM_VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "mean-teacher, target statistics": ("mean-teacher", {"target_statistics": True}),
    f"{VOX_UDA}, statistics of both": (VOX_UDA, {"target_statistics": False}),
}
"""Methods with the other choice of batch-norm statistics, to separate the two effects."""
VOX_ZSDA = "vox-zsda"
FEW_TARGET = "vox-zsda-few"
MODELS = ("source", "adapted", "chosen")
SOURCE_MODELS = "starts"
"""Folder in the data of a suite with the shared source models."""
SELECTION = "rule"
"""Condition under which the outcome of the model selection is stored."""
TOLERANCE = 0.005
"""Models whose scores differ by less count as equally good."""
NETWORK = "voxresnet"


@dataclass(frozen=True)
class AdaptationMethod(Method):
    """A network and the strategy that adapts it.

    Attributes
    ----------
    data
        Name of the source, for suites with several.
    strategy
        Row of the table of strategies, `SOURCE_ONLY` or `SUPERVISED`.
    adaptation
        Settings of the adaptation of this row alone, by dotted name, such as ``{"own.ngm": False}``.
    target
        Name of the target, for suites with several.
    """

    data: str = "source"
    strategy: str = SOURCE_ONLY
    adaptation: Mapping[str, Any] = field(default_factory=dict)
    target: str = "target"


@dataclass(frozen=True)
class TrainingData:
    """Training data of a job.

    Attributes
    ----------
    source
        Labeled source.
    targets
        Unlabeled targets.
    labeled
        Training part of the target with labels, for the supervised upper bound only.
    """

    source: Path
    targets: tuple[Path, ...]
    labeled: Path


def uda_methods(size: str) -> tuple[AdaptationMethod, ...]:
    """Source-only training, all adaptation strategies, and supervised training on target labels."""
    names = (SOURCE_ONLY, *BASELINES, VOX_UDA, SUPERVISED)
    plain = [AdaptationMethod(name, NETWORK, size, strategy=name) for name in names]
    variants = {f"{VOX_UDA}, as published": (VOX_UDA, PUBLISHED), **BATCH_NORM_VARIANTS}
    return (*plain, *(variant(name, size, strategy, own) for name, (strategy, own) in variants.items()))


def zsda_methods(size: str) -> tuple[AdaptationMethod, ...]:
    """Source-only training, domain generalization, and three references that use the target."""
    names = (SOURCE_ONLY, *DOMAIN_GENERALIZATION, VOX_ZSDA, FEW_TARGET, VOX_UDA, SUPERVISED)
    return tuple(AdaptationMethod(name, NETWORK, size, strategy=name) for name in names)


def variant(name: str, size: str, strategy: str, own: Mapping[str, Any], **fields: Any) -> AdaptationMethod:
    """A strategy with changed settings of its own."""
    changed = {f"own.{key}": value for key, value in own.items()}
    return AdaptationMethod(name, NETWORK, size, strategy=strategy, adaptation=changed, **fields)


def as_chosen(scores: SubsetScores) -> Scores:
    """Scores of a baseline under the conditions of the selected model."""
    return {f"chosen, {subset}" if subset else "chosen": dict(row) for subset, row in scores.items()}


def uses_target(strategy: str) -> bool:
    """Whether a strategy trains on the target, and so gives two models to select from."""
    from cryovox.training.strategies import STRATEGIES

    return strategy not in (SOURCE_ONLY, SUPERVISED) and STRATEGIES[strategy].task == "domain adaptation"


def smoke_plan(methods: Sequence[AdaptationMethod]) -> Plan:
    """A plan of seconds: both bounds, Vox-ZSDA, and Vox-UDA whose models are compared on four patches."""
    strategies = (SOURCE_ONLY, VOX_ZSDA, VOX_UDA, SUPERVISED)
    by_strategy = {m.strategy: m for m in reversed(methods) if m.strategy in strategies}
    short = (
        replace(m, adaptation={**m.adaptation, "stages.selection_patches": 4})
        if uses_target(m.strategy)
        else m
        for m in reversed(by_strategy.values())
    )
    return Plan(tuple(short), (Budget(steps=4),), seeds=1)


def as_adaptation_method(method: Method) -> AdaptationMethod:
    """The method itself; a network that is not a row of the suite is trained on the source only."""
    if isinstance(method, AdaptationMethod):
        return method
    return AdaptationMethod(method.name, method.network, method.size, method.options)


class AdaptationSuite(Suite):
    """Adaptation from a labeled source to an unlabeled target.

    Attributes
    ----------
    selection_metric
        Metric on the held-out part by which the model selection is evaluated.
    """

    reference = SOURCE_ONLY
    compared: tuple[str, ...] = ("chosen",)
    selection_metric = "iou"

    def on_user_data(self, plan: Plan) -> Plan:
        """The plan without methods that train on other sources; the user's data have one source."""
        kept = (m for m in plan.methods if as_adaptation_method(m).data == AdaptationMethod.data)
        return replace(plan, methods=tuple(kept))

    def run(self, job: Job, folder: Path, out: Path, device: Device) -> Scores:
        method = as_adaptation_method(job.method)
        data = self.training_data(method, folder)
        models = train_models(replace(job, method=method), data, folder, out, device)

        def score(model: Path, scratch: Path) -> SubsetScores:
            return self.score(model, method, folder, scratch, device)

        cached = cached_score(score, folder / SOURCE_MODELS, method.target)
        return score_models(models, cached, self.selection_metric, out, selected=uses_target(method.strategy))

    @abstractmethod
    def training_data(self, method: AdaptationMethod, folder: Path) -> TrainingData:
        """Data that `prepare` wrote for a method."""

    @abstractmethod
    def score(
        self, model: Path, method: AdaptationMethod, folder: Path, out: Path, device: Device
    ) -> SubsetScores:
        """Compare the predictions of a model in the target with the labels."""


def train_models(job: Job, data: TrainingData, folder: Path, out: Path, device: Device) -> dict[str, Path]:
    """Train; returns the model files before and after the adaptation, and the selected one of both."""
    method = as_adaptation_method(job.method)
    if method.strategy in (SOURCE_ONLY, SUPERVISED):
        labeled = data.source if method.strategy == SOURCE_ONLY else data.labeled
        return dict.fromkeys(MODELS, train(job, labeled, out, device))
    common = shared_settings(device) | dict(method.adaptation)
    if not uses_target(method.strategy):
        kind = train_config(method.strategy)
        return dict.fromkeys(MODELS, train(job, data.source, out, device, common=common, kind=kind))
    from cryovox.workflows.config import AdaptConfig, StageConfig
    from cryovox.workflows.training.adapt import adapt

    share = method.adaptation.get("stages.source_share", StageConfig().source_share)
    first, second = (replace(job, budget=budget_share(job.budget, s)) for s in (share, 1 - share))
    start = source_model(first, method, data.source, folder / SOURCE_MODELS, device)
    common |= {"stages.selection_share": 0.0}  # the whole budget is for training
    config = job_settings(second, common, start, train_config(method.strategy))
    assert isinstance(config, AdaptConfig)
    run = out / "run"
    adapt(data.source, data.targets, run, config, device=device)
    choice = json.loads((run / "choice.json").read_text(encoding="utf-8"))
    both = {"source": start, "adapted": run / "adapted" / "model.safetensors"}
    return both | {"chosen": both[choice["chosen"]]}


def budget_share(budget: Budget, share: float) -> Budget:
    """A share of a budget.

    Examples
    --------
    >>> budget_share(Budget(time="4m"), 0.25).time
    '60s'
    """
    if budget.time:
        return Budget(time=f"{share * seconds(budget.time):g}s")
    return Budget(steps=max(1, round(share * (budget.steps or 0))))


def source_model(job: Job, method: AdaptationMethod, data: Path, folder: Path, device: Device) -> Path:
    """Source-only model; the first job that needs it trains it, and the others wait."""
    network = [method.network, method.size, dict(method.options), dict(method.train)]
    key = json.dumps([data.name, job.budget.name, job.seed, *network], sort_keys=True)
    name = hashlib.sha256(key.encode()).hexdigest()[:12]
    folder.mkdir(exist_ok=True)
    with FileLock(folder / f"{name}.lock"):
        model = folder / name / "run" / "model.safetensors"
        return model if model.exists() else train(job, data, folder / name, device)


def cached_score(score: ScoreModel, shared: Path, target: str) -> ScoreModel:
    """Score the source models in *shared*, which several jobs use, only once for each target."""

    def cached(model: Path, out: Path) -> SubsetScores:
        if not model.is_relative_to(shared):
            return score(model, out)
        path = model.with_name(f"scores of {target}.json")
        if not path.exists():
            with replacing(path) as beside:
                beside.write_text(json.dumps(score(model, out)), encoding="utf-8")
        return dict(json.loads(path.read_text(encoding="utf-8")))

    return cached


def score_models(
    models: Mapping[str, Path], score: ScoreModel, metric: str, out: Path, *, selected: bool
) -> Scores:
    """Score every model once; a condition is the name of a model, followed by the subset of the target.

    Parameters
    ----------
    models
        Model file of each of `MODELS`.
    metric
        Metric by which the model selection is evaluated.
    selected
        Whether a model was selected.
    """
    by_model: dict[Path, SubsetScores] = {}
    for name, path in models.items():
        if path not in by_model:
            by_model[path] = score(path, out / f"found-{name}")
    table = {
        f"{name}, {subset}" if subset else name: dict(by_model[path][subset])
        for subset in next(iter(by_model.values()))
        for name, path in models.items()
    }
    return table | ({SELECTION: selection_outcome(table, metric)} if selected else {})


def selection_outcome(table: Scores, metric: str) -> dict[str, float]:
    """Evaluate the label-free model selection with the labels of the target.

    Returns
    -------
    dict
        "right": 1 if the other model is not better by more than `TOLERANCE`; "took adapted": 1 if the adapted
        model was selected; "gain" of the selected and "gain of adapted" of the adapted model over the source
        model; "lost": difference between the better and the selected model.
    """
    source, adapted, chosen = (table[name][metric] for name in MODELS)
    loss = max(source, adapted) - chosen
    return {
        "right": float(loss <= TOLERANCE),
        "took adapted": float(table["chosen"] == table["adapted"] != table["source"]),
        "gain": round(chosen - source, 5),
        "gain of adapted": round(adapted - source, 5),
        "lost": round(loss, 5),
    }


def selection_summary(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Accuracy of the model selection over all runs of several results.

    Returns
    -------
    dict
        Number of runs and of correct selections; number of runs in which adaptation helped or harmed by more
        than `TOLERANCE`, and how many of them were selected correctly; mean gain of the selected model, of
        the adapted model, and of the better one of both.
    """
    runs = [
        run["scores"][SELECTION]
        for result in results
        for run in result["runs"]
        if SELECTION in run.get("scores", {})
    ]
    better = [r for r in runs if r["gain of adapted"] > TOLERANCE]
    worse = [r for r in runs if r["gain of adapted"] < -TOLERANCE]
    n = max(1, len(runs))
    return {
        "runs": len(runs),
        "correct selections": sum(r["right"] for r in runs),
        "adaptation helped": len(better),
        "... adapted model selected": sum(r["right"] for r in better),
        "adaptation harmed": len(worse),
        "... source model selected": sum(r["right"] for r in worse),
        "mean gain, selected model": round(sum(r["gain"] for r in runs) / n, 5),
        "mean gain, adapted model": round(sum(r["gain of adapted"] for r in runs) / n, 5),
        "mean gain, better model": round(sum(max(0.0, r["gain of adapted"]) for r in runs) / n, 5),
    }
