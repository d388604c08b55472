"""What all suites of unsupervised domain adaptation share: rows, trainings, and what is asked of them.

A contestant learns from a labelled source and from a target whose labels it never sees; labels of the
target score it afterwards. Every training leaves two models, before and after the adaptation, and the one
that a rule chose without labels; all three are scored. The budget of a contestant holds both stages, and
`source-only` has the whole of it for the source. The first stage is the same for all ways to adapt: it is
trained once for each seed, and all of them start from its model.
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

from cryovox.benchmark.suite import Budget, Contestant, Job, Plan, Scores, Suite
from cryovox.benchmark.training import equal, settings, train
from cryovox.core.atomic import replacing
from cryovox.core.durations import seconds
from cryovox.workflows.config import settings_of
from cryovox.workflows.devices import Device

Parts = Mapping[str, Mapping[str, float]]
"""Part of the target ("" is the held-out one) -> metric -> value."""
Rows = Callable[[str], "tuple[Adapter, ...]"]
"""Contestants of a size of the network."""
Score = Callable[[Path, Path], Parts]
"""From a model file and a folder to write in."""

SOURCE_ONLY = "source-only"
SUPERVISED = "target-supervised"
VOX_UDA = "vox-uda"
BASELINES = ("adaptive-bn", "coral", "mmd", "dann", "advent", "histogram-matching", "spectrum-matching",
             "fda", "mean-teacher", "fixmatch", "mic")  # fmt: skip
GENERALISING = ("heavy-augmentation", "mixstyle", "fourier-mixing", "swad", "rsc")
PUBLISHED: dict[str, Any] = {"noise_kind": "white", "learn_noisy": False, "target_statistics": False}
"""Vox-UDA as its paper has it, as far as that is known."""
COUNTING: dict[str, tuple[str, dict[str, Any]]] = {
    "mean-teacher, target statistics": ("mean-teacher", {"target_statistics": True}),
    f"{VOX_UDA}, statistics of both": (VOX_UDA, {"target_statistics": False}),
}
"""Whether batch norms count the target, crossed with the methods: which of the two brings what."""
VOX_ZSDA = "vox-zsda"
FEW_TARGET = "vox-zsda-few"
MODELS = ("source", "adapted", "chosen")
STARTS = "starts"
"""Folder in the data of a suite: models that know the source alone, by what they were trained with."""
RULE = "rule"
CLOSE = 0.005
"""Models whose scores differ by less are equally right."""
NETWORK = "voxresnet"


@dataclass(frozen=True)
class Adapter(Contestant):
    """A row: a network that adapts in one way.

    Attributes
    ----------
    data
        Which source, where a suite has several.
    strategy
        Row of the table of strategies, `SOURCE_ONLY` or `SUPERVISED`.
    adapting
        Settings of the adaptation that only this row has, by dotted name, such as ``{"own.ngm": False}``.
    target
        Which target, where a suite has several.
    """

    data: str = "source"
    strategy: str = SOURCE_ONLY
    adapting: Mapping[str, Any] = field(default_factory=dict)
    target: str = "target"


@dataclass(frozen=True)
class Material:
    """What a job learns from.

    Attributes
    ----------
    source
        Labelled.
    targets
        Without labels.
    labelled
        The training part of the target with its labels, for the upper bound alone.
    """

    source: Path
    targets: tuple[Path, ...]
    labelled: Path


def rows(size: str) -> tuple[Adapter, ...]:
    """The source alone, every way to adapt, and what labels of the target would give."""
    names = (SOURCE_ONLY, *BASELINES, VOX_UDA, SUPERVISED)
    plain = [Adapter(name, NETWORK, size, strategy=name) for name in names]
    changed = {f"{VOX_UDA}, as published": (VOX_UDA, PUBLISHED), **COUNTING}
    return (*plain, *(
        Adapter(name, NETWORK, size, strategy=strategy, adapting={f"own.{k}": v for k, v in own.items()})
        for name, (strategy, own) in changed.items()
    ))  # fmt: skip


def blind(size: str) -> tuple[Adapter, ...]:
    """What learns from the source and nothing else, and three references that know the target."""
    names = (SOURCE_ONLY, *GENERALISING, VOX_ZSDA, FEW_TARGET, VOX_UDA, SUPERVISED)
    return tuple(Adapter(name, NETWORK, size, strategy=name) for name in names)


def adapts(strategy: str) -> bool:
    """Whether a strategy looks at the target, and so leaves two models to choose from."""
    from cryovox.training.strategies import STRATEGIES

    return strategy not in (SOURCE_ONLY, SUPERVISED) and STRATEGIES[strategy].task == "domain adaptation"


def smoke(found: Sequence[Adapter]) -> Plan:
    """A plan of seconds: both bounds, one that generalises, and Vox-UDA judged on few patches."""
    one_each = (SOURCE_ONLY, VOX_ZSDA, VOX_UDA, SUPERVISED)
    kinds = {c.strategy: c for c in reversed(found) if c.strategy in one_each}
    few = (
        replace(c, adapting={**c.adapting, "stages.judged": 4}) if adapts(c.strategy) else c
        for c in reversed(kinds.values())
    )
    return Plan(tuple(few), (Budget(steps=4),), seeds=1)


def adapter(row: Contestant) -> Adapter:
    """The row itself; a network that is no row of the suite learns from the source alone."""
    return row if isinstance(row, Adapter) else Adapter(row.name, row.network, row.size, row.options)


class AdaptationSuite(Suite):
    """From a labelled source to a target without labels.

    Attributes
    ----------
    judged
        Metric on the held-out part by which the rule that chooses is judged.
    """

    reference = SOURCE_ONLY
    compared: tuple[str, ...] = ("chosen",)
    judged = "iou"

    def given(self, plan: Plan) -> Plan:
        """On the user's data there is one source."""
        kept = (c for c in plan.contestants if adapter(c).data == Adapter.data)
        return replace(plan, contestants=tuple(kept))

    def run(self, job: Job, folder: Path, out: Path, device: Device) -> Scores:
        row = adapter(job.contestant)
        found = models(replace(job, contestant=row), self.material(row, folder), folder, out, device)

        def score(model: Path, beside: Path) -> Parts:
            return self.score(model, row, folder, beside, device)

        known = remembered(score, folder / STARTS, row.target)
        return scored(found, known, self.judged, out, ruled=adapts(row.strategy))

    @abstractmethod
    def material(self, row: Adapter, folder: Path) -> Material:
        """What `prepare` left for a row."""

    @abstractmethod
    def score(self, model: Path, row: Adapter, folder: Path, out: Path, device: Device) -> Parts:
        """Compare what a model finds in the target with its labels."""


def models(job: Job, material: Material, folder: Path, out: Path, device: Device) -> dict[str, Path]:
    """Train; gives the model file before the adaptation, after it, and the chosen one of both."""
    row = adapter(job.contestant)
    if row.strategy in (SOURCE_ONLY, SUPERVISED):
        data = material.source if row.strategy == SOURCE_ONLY else material.labelled
        return dict.fromkeys(MODELS, train(job, data, out, device))
    if not adapts(row.strategy):
        own = {"common": equal(device) | dict(row.adapting), "kind": settings_of(row.strategy)}
        return dict.fromkeys(MODELS, train(job, material.source, out, device, **own))
    from cryovox.workflows.config import AdaptConfig, StageConfig, adapt_settings
    from cryovox.workflows.training.adapt import train_adapted

    share = row.adapting.get("stages.source_share", StageConfig().source_share)
    first, second = (replace(job, budget=part(job.budget, s)) for s in (share, 1 - share))
    start = source_model(first, row, material.source, folder / STARTS, device)
    common = equal(device) | dict(row.adapting) | {"stages.choice_share": 0.0}  # the budget is for training
    config = settings(second, common, start, adapt_settings(row.strategy))
    assert isinstance(config, AdaptConfig)
    run = out / "run"
    train_adapted(material.source, material.targets, run, config, device=device)
    choice = json.loads((run / "choice.json").read_text(encoding="utf-8"))
    both = {"source": start, "adapted": run / "adapted" / "model.safetensors"}
    return both | {"chosen": both[choice["chosen"]]}


def part(budget: Budget, share: float) -> Budget:
    """A share of a budget.

    Examples
    --------
    >>> part(Budget(time="4m"), 0.25).time
    '60s'
    """
    if budget.time:
        return Budget(time=f"{share * seconds(budget.time):g}s")
    return Budget(steps=max(1, round(share * (budget.steps or 0))))


def source_model(job: Job, row: Adapter, data: Path, folder: Path, device: Device) -> Path:
    """Model that knows the source alone; trained by the first job that asks, while the others wait."""
    told = [data.name, job.budget.name, job.seed, row.network, row.size, dict(row.options), dict(row.train)]
    name = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
    folder.mkdir(exist_ok=True)
    with FileLock(folder / f"{name}.lock"):
        model = folder / name / "run" / "model.safetensors"
        return model if model.exists() else train(job, data, folder / name, device)


def remembered(score: Score, shared: Path, target: str) -> Score:
    """Score models under *shared*, which several jobs start from, once for each target."""

    def known(model: Path, out: Path) -> Parts:
        if not model.is_relative_to(shared):
            return score(model, out)
        path = model.with_name(f"scores of {target}.json")
        if not path.exists():
            with replacing(path) as beside:
                beside.write_text(json.dumps(score(model, out)), encoding="utf-8")
        return dict(json.loads(path.read_text(encoding="utf-8")))

    return known


def scored(found: Mapping[str, Path], score: Score, judged: str, out: Path, *, ruled: bool) -> Scores:
    """Score every model once; conditions are the names of the models, and those of the parts.

    Parameters
    ----------
    found
        Model file of each of `MODELS`.
    judged
        Metric by which the choice is judged.
    ruled
        Whether there was a choice.
    """
    parts: dict[Path, Parts] = {}
    for name, path in found.items():
        if path not in parts:
            parts[path] = score(path, out / f"found-{name}")
    table = {
        f"{name}, {part}" if part else name: dict(metrics)
        for part in next(iter(parts.values()))
        for name, path in found.items()
        for metrics in [parts[path][part]]
    }
    return table | ({RULE: rule(table, judged)} if ruled else {})


def rule(table: Scores, judged: str) -> dict[str, float]:
    """How the rule chose, by what it could not see.

    Returns
    -------
    dict
        "right": 1 where the other model would not have been better by `CLOSE`; "took adapted"; "gain" of
        the chosen one over the source; "gain of adapted"; "lost" to the better one.
    """
    source, adapted, chosen = (table[name][judged] for name in MODELS)
    lost = max(source, adapted) - chosen
    return {
        "right": float(lost <= CLOSE),
        "took adapted": float(table["chosen"] == table["adapted"] != table["source"]),
        "gain": round(chosen - source, 5),
        "gain of adapted": round(adapted - source, 5),
        "lost": round(lost, 5),
    }


def record(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How the rule did over all runs of several results.

    Returns
    -------
    dict
        Number of runs; how often the rule was right, how often adapting was better or worse than the source
        by more than `CLOSE` and the rule saw it; mean gain by the rule, by always adapting, and by always
        knowing better.
    """
    runs = [
        run["scores"][RULE] for result in results for run in result["runs"] if RULE in run.get("scores", {})
    ]
    better = [r for r in runs if r["gain of adapted"] > CLOSE]
    worse = [r for r in runs if r["gain of adapted"] < -CLOSE]
    n = max(1, len(runs))
    return {
        "runs": len(runs),
        "right": sum(r["right"] for r in runs),
        "adapting helped": len(better),
        "... and was taken": sum(r["right"] for r in better),
        "adapting harmed": len(worse),
        "... and was refused": sum(r["right"] for r in worse),
        "mean gain by the rule": round(sum(r["gain"] for r in runs) / n, 5),
        "mean gain by always adapting": round(sum(r["gain of adapted"] for r in runs) / n, 5),
        "mean gain by knowing": round(sum(max(0.0, r["gain of adapted"]) for r in runs) / n, 5),
    }
