"""Picking from few labels and many unlabelled tomograms.

The protocol after SemiETPicker (ISBI 2026), whose label fractions and tables are not public: a stand-in of
the CZII phantom, of which a few particles are known. Every contestant is trained once for each amount
of labels; the amounts are the conditions of the table. What is not picked is unknown, not background.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.benchmark.suite import Budget, Contestant, Job, Plan, Scores, Suite, Tier
from cryovox.benchmark.tomograms import Scale, of, particles, shrunk, stand_in
from cryovox.benchmark.training import EQUAL, equal, settings
from cryovox.core.dataset import Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.intensity import sign_of
from cryovox.core.particles import Particles, concatenate
from cryovox.core.volume import ScoreMap
from cryovox.data.config import PatchConfig
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_particles, read_volume, stem, write_particles
from cryovox.formats import scores as score_files
from cryovox.metrics import czii
from cryovox.metrics.detection import detection, f_beta, precision_recall
from cryovox.models import DEFAULTS
from cryovox.picking import PickConfig, pick
from cryovox.picking.blobs import dog
from cryovox.workflows.devices import Device

SCALES: dict[Tier, Scale] = {
    "smoke": Scale((48, 96, 96), each=2, learned=2),
    "cpu": Scale((48, 96, 96), each=16, learned=4, voxel_size=20.0),
    "gpu": Scale((184, 630, 630), each=50, learned=7),
}
Labels = dict[Tier, tuple[str, ...]]
BUDGETS: Labels = {"smoke": ("30 picks",), "cpu": ("1 %", "30 picks"), "gpu": ("1 %", "30 picks")}
OTHER = ("5 %", "10 %", "one tomogram", "all")
AMOUNTS: Labels = {"smoke": OTHER[:1], "cpu": OTHER, "gpu": OTHER}
RIGHT, BOTH = "all, none wrong", "all, 30 % missing, 20 % shifted"
ERRORS: Labels = {
    "smoke": (BOTH,),
    "cpu": (RIGHT, BOTH),
    "gpu": (RIGHT, "all, 30 % missing", "all, 20 % shifted", BOTH),
}
SHIFT = 0.5
"""How far a shifted pick lies from its particle, in radii."""
Rows = Callable[[str], tuple["Picker", ...]]
LEVELS = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8)
"""Scores down to which candidates are looked at: the first for peaks; regions grow as it falls, so all."""


@dataclass(frozen=True)
class Picker(Contestant):
    """A row: a way to learn from few labels.

    Attributes
    ----------
    strategy
        Row of the table of strategies.
    own
        Settings of the strategy that only this row has, by dotted name, such as ``{"own.views": 1}``.
    """

    strategy: str = "supervised"
    own: Mapping[str, Any] = field(default_factory=dict)
    told: bool = False
    """Whether it is told how many particles are not picked, which the method takes as known."""


NETWORK = "heatmap-unet"
MASKS = "residual-unet"
"""The same backbone with an answer for every voxel, whose regions are cut at their necks and picked."""
TAUGHT = {
    "pseudo-labels, two rounds": "pseudo-labels",
    "mean teacher": "heatmap-mean-teacher",
    "fixmatch": "heatmap-fixmatch",
    "semi-etpicker": "semi-etpicker",
}
"""Rows with a teacher, by the strategy."""
ALIKE = {"supervised.drop_block": 0.03}
"""Of all rows; their averages of the weights follow alike too, whether they teach or not (`own`)."""
TEACHING = {"own.teacher_decay": EQUAL["supervised.ema"]}


def pickers(size: str) -> tuple[Picker, ...]:
    """Supervised training in two readings of what is not labelled, and all that look at it."""
    return (
        Picker("supervised", NETWORK, size, train={"supervised.unknown": "ignore"}),
        Picker("nnpu", NETWORK, size, train={"supervised.unknown": "pu"}, told=True),
        Picker("masks and regions", MASKS, size, train={"supervised.unknown": "ignore"}),
        *(Picker(name, NETWORK, size, strategy=strategy, own=TEACHING) for name, strategy in TAUGHT.items()),
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
"""One thing changed in SemiETPicker."""


def variants(size: str) -> tuple[Picker, ...]:
    """SemiETPicker with one thing changed."""
    changed = (
        Picker(name, NETWORK, size, strategy="semi-etpicker", own=TEACHING | own)
        for name, own in VARIANTS.items()
    )
    risk = {"supervised.unknown": "pu"}
    return (
        *changed,
        Picker(
            "risk of what is unknown",
            NETWORK,
            size,
            train=risk,
            strategy="semi-etpicker",
            own=TEACHING,
            told=True,
        ),
    )


class SemiSuite(Suite):
    """F1 of picks within half a radius, by amount of labels.

    Parameters
    ----------
    rows
        Gives the contestants of a size.
    labels
        What is known, see `labelled`.
    """

    source = "our own protocol, after SemiETPicker (ISBI 2026) on a stand-in of the CZII phantom"
    headlines: tuple[str, ...] = ("f1", "best_f1", "f_beta4")

    def __init__(self, name: str, title: str, reference: str, rows: Rows, labels: Labels) -> None:
        self.name, self.title, self.reference, self.rows, self.labels = name, title, reference, rows, labels

    def plan(self, tier: Tier) -> Plan:
        each = len(self.labels[tier])
        if tier == "smoke":
            return Plan(self.rows("s")[-1:], (Budget(steps=4),), seeds=1, each=each)
        if tier == "cpu":
            return Plan(self.rows("s"), (Budget(time="4m"),), each=each)
        return Plan(self.rows("paper"), (Budget(time="9m"),), each=each)

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        if data is None:
            scale = SCALES[tier]
            found, facts = stand_in(
                folder / "phantom", shrunk("czii-phantom", scale), scale.learned, scale.tested
            )
            facts["stand-in"] = "simulated: preset czii-phantom in a smaller box, built-in structures"
        else:
            found, facts = dataset_files.read(data), {"folder": data.name}
            if not found.split("test") or not found.split("train"):
                raise RequestError(data, "needs entries of split train and test", "say which in dataset.yaml")
            if not any(e.particles is not None for e in found.split("train")):
                raise RequestError(data, "has no particle lists to learn from", "add `particles:` to entries")
            check_tests(data, found)
        dataset_files.write(folder / "test", found)
        known = {}
        for labels in self.labels[tier]:
            few = labelled(found, labels, folder / labels)
            known[labels] = sum(len(some(e)) for e in few.entries if e.particles is not None)
            dataset_files.write(folder / labels, few)
            picked = tuple(e for e in few.entries if e.particles is not None)
            dataset_files.write(folder / f"{labels}, alone", few.model_copy(update={"entries": picked}))
        return facts | {"labels": known}

    def run(self, job: Job, folder: Path, out: Path, device: Device) -> Scores:
        models = {name: self.trained(job, folder, name, out / name, device) for name in amounts(folder)}
        return {
            name: {**self.score(folder, model, out / name, device), "steps": steps(model)}
            for name, model in models.items()
        }

    def score(self, folder: Path, model: Path, out: Path, device: Device) -> dict[str, float]:
        """Compare what a model finds in the tests with the truth."""
        return score(dataset_files.read(folder / "test"), model, out, device)

    def trained(self, job: Job, folder: Path, labels: str, out: Path, device: Device) -> Path:
        """Model file of a contestant that was told so much."""
        from cryovox.training.strategies import STRATEGIES
        from cryovox.workflows.config import settings_of
        from cryovox.workflows.training.train import train_supervised

        row = job.contestant if isinstance(job.contestant, Picker) else Picker(**vars(job.contestant))
        semi = STRATEGIES[row.strategy].task == "semi-supervised"
        common = equal(device) | ALIKE | dict(row.own)
        if row.told:
            common |= self.hidden(folder, labels)
        config = settings(replace(job, contestant=row), common, kind=settings_of(row.strategy))
        data = folder / (labels if semi else f"{labels}, alone")
        return train_supervised(data, out / "run", config, device=device)

    def hidden(self, folder: Path, labels: str) -> dict[str, float]:
        """How many particles are not picked for each that is, as patches show them: most hold a pick."""
        every = self.picked(folder)
        few = dataset_files.read(folder / f"{labels}, alone").split("train")
        total, known = (sum(len(some(e)) for e in entries) for entries in (every, few))
        voxels = sum(size(e) for e in every)
        seen = (total - known) * min(1.0, DEFAULTS[NETWORK].patch ** 3 / voxels)
        return {"supervised.unlabelled_ratio": round(seen / PatchConfig().foreground, 3)}

    def picked(self, folder: Path) -> list[Entry]:
        """All that could be learned from, with all of its picks."""
        entries = dataset_files.read(folder / "test").split("train")
        return [e for e in entries if e.particles is not None]

    def references(self, folder: Path) -> dict[str, Scores]:
        """One blob filter for each species, which is told how many there are of it."""
        tests = dataset_files.read(folder / "test")
        found = blobs(tests)
        row = scores_of(found, [found], tests)
        return {"floor: blobs of each size, told how many": dict.fromkeys(amounts(folder), row)}


def check_tests(data: Path, found: Dataset) -> None:
    """Refuse tests that cannot be told apart or have nothing to compare with."""
    tests = found.split("test")
    bare = [e.name for e in tests if e.particles is None]
    if bare:
        told = f"{bare[0]} of split test has no particle list"
        raise RequestError(data, told, "add `particles:`, or give it another split")
    names = [stem(e.tomogram) for e in tests]
    twice = sorted(name for name in set(names) if names.count(name) > 1)
    if twice:
        told = f"several tomograms of split test are called {twice[0]}"
        raise RequestError(data, told, "rename them; `cryovox fetch dataset` links them by entry")
    if not len(particles(found)):
        raise RequestError(data, "has no particle in its tests", "name lists that hold some")


def size(entry: Entry) -> int:
    """Voxels of an entry, within its box."""
    bounds = entry.box.bounds(read_volume(entry.tomogram).shape)
    return int(np.prod([high - low for low, high in bounds]))


def steps(model: Path) -> int:
    """How many steps the training of a model made."""
    return int(json.loads((model.parent / "manifest.json").read_text(encoding="utf-8"))["steps"])


def amounts(folder: Path) -> list[str]:
    """What `prepare` made known, by name."""
    return sorted(p.name for p in folder.iterdir() if (folder / f"{p.name}, alone").is_dir())


def labelled(found: Dataset, labels: str, folder: Path) -> Dataset:
    """The training entries with so many of their picks; those without any are unlabelled.

    Parameters
    ----------
    labels
        "1 %" of each species (one at least), "30 picks" as evenly as can be, "one tomogram", "all", or all in
        lists that do not claim to be complete, with or without errors: "all, none wrong", "all, 30 % missing,
        20 % shifted".
    folder
        Where the picks that are left are written.
    """
    entries = [e for e in found.split("train") if e.particles is not None]
    never = [bare(e) for e in found.split("train") if e.particles is None]
    if labels == "all":
        kept = entries
    elif labels == "one tomogram":
        kept = [entries[0], *map(bare, entries[1:])]
    elif labels.startswith("all, "):
        kept = erred(entries, {s.name: s.radius for s in found.species}, labels, folder)
    else:
        kept = thinned(entries, [s.name for s in found.species], labels, folder)
    entries = [e.model_copy(update={"labels": None}) for e in (*kept, *never)]
    return found.model_copy(update={"entries": tuple(entries)})


def thinned(entries: list[Entry], species: list[str], labels: str, folder: Path) -> list[Entry]:
    """Entries with few picks of each species, drawn over all of them by one seed."""
    lists = [some(e) for e in entries]
    owner = np.concatenate([np.full(len(p), i) for i, p in enumerate(lists)])
    names = np.concatenate([p.species for p in lists])
    rng, chosen = np.random.default_rng(0), np.zeros(len(names), bool)
    for i, name in enumerate(species):
        own = rng.permutation(np.flatnonzero(names == name))
        if labels.endswith("%"):
            count = max(1, round(float(labels.rstrip("% ")) / 100 * len(own)))
        else:
            count = len(range(i, int(labels.split()[0]), len(species)))
        chosen[own[:count]] = True
    kept = []
    for i, (entry, picks) in enumerate(zip(entries, lists, strict=True)):
        mine = np.flatnonzero(chosen[owner == i])
        if not len(mine):
            kept.append(bare(entry))
            continue
        path = folder / "picks" / f"{entry.name}.csv"
        write_particles(path, picks.take(mine))
        kept.append(entry.model_copy(update={"particles": path, "exhaustive": False}))
    return kept


def erred(entries: list[Entry], radii: dict[str, float], labels: str, folder: Path) -> list[Entry]:
    """Entries some of whose picks are missing, and of those that are left some shifted by half a radius.

    They do not claim to be complete: what is not picked is left to the method.
    """
    share = {kind: int(number) / 100 for number, kind in re.findall(r"(\d+) % (\w+)", labels)}
    rng, kept = np.random.default_rng(0), []
    for entry in entries:
        picks = some(entry)
        order = rng.permutation(len(picks))[round(share.get("missing", 0.0) * len(picks)) :]
        picks = picks.take(np.sort(order))
        moved = rng.permutation(len(picks))[: round(share.get("shifted", 0.0) * len(picks))]
        ways = rng.standard_normal((len(moved), 3))
        ways *= SHIFT / np.linalg.norm(ways, axis=1, keepdims=True)
        positions = picks.positions.copy()
        positions[moved] += ways * np.array([[radii[str(n)]] for n in picks.species[moved]]).reshape(-1, 1)
        volume = read_volume(entry.tomogram)
        inside = positions.clip(0, volume.voxel_size * (np.array(volume.shape) - 1))
        path = folder / "picks" / f"{entry.name}.csv"
        write_particles(path, replace(picks, positions=inside))
        kept.append(entry.model_copy(update={"particles": path, "exhaustive": False}))
    return kept


def bare(entry: Entry) -> Entry:
    """The tomogram alone."""
    return entry.model_copy(update={"labels": None, "particles": None, "exhaustive": True})


def some(entry: Entry) -> Particles:
    """The picks of an entry."""
    assert entry.particles is not None
    return read_particles(entry.particles, tomogram=read_volume(entry.tomogram))


def score(tests: Dataset, model: Path, out: Path, device: Device) -> dict[str, float]:
    """F1 and F-beta within half a radius, mean over the species weighted as in the challenge.

    "f1" and "f_beta4" are those of the picks that `find` gives. "best_f1" is what the best threshold
    would give to each species by itself, chosen with the labels of what is tested: how well they are ranked.
    """
    from cryovox.workflows.find import find

    picks, failures = find([e.tomogram for e in tests.split("test")], model, out / "found", device=device)
    for error in failures.values():
        raise error
    given = concatenate(of(picks[stem(e.tomogram)], e.name) for e in tests.split("test"))
    maps = {e.name: opened(e, out / "found") for e in tests.split("test")}
    heat = all(scores.kind == "heatmap" for scores in maps.values())
    levels = LEVELS[:1] if heat else LEVELS
    loose = [concatenate(candidates(name, maps[name], level) for name in maps) for level in levels]
    return scores_of(given, loose, tests)


def scores_of(given: Particles, loose: Sequence[Particles], tests: Dataset) -> dict[str, float]:
    """Of picks, and of candidates down to each of some scores; "f1/NAME", "f_beta4/NAME" of one species."""
    true = particles(tests)
    table: dict[str, dict[str, float]] = {}
    for kind in tests.species:
        radius, truth = czii.FRACTION * kind.radius, true.named(kind.name)
        if not len(truth):
            continue
        own = given.named(kind.name)
        curves = [precision_recall(some.named(kind.name), truth, radius)[:2] for some in loose]
        table[kind.name] = {
            "f1": detection(own, truth, radius).f1,
            "best_f1": max(
                (f_beta(p, r, 1.0) for curve in curves for p, r in zip(*curve, strict=True)), default=0.0
            ),
            "f_beta4": czii.exact_f(czii.count(own, truth, radius)),
        }
    weights = [czii.WEIGHTS.get(name, 1.0) for name in table]
    weights = weights if any(weights) else [1.0] * len(weights)
    means = {m: np.average([row[m] for row in table.values()], weights=weights) for m in SemiSuite.headlines}
    each = {f"{m}/{name}": row[m] for m in ("f1", "f_beta4") for name, row in table.items()}
    return {name: round(float(value), 5) for name, value in (means | each).items()}


def blobs(tests: Dataset) -> Particles:
    """Blobs of the size of each species, as many as there are of it; dark unless the entry says otherwise."""
    lists = []
    for entry in tests.split("test"):
        volume, true = read_volume(entry.tomogram), particles(tests).within(entry.name)
        data = np.asarray(volume.data)
        for kind in tests.species:
            width = kind.radius / 2 / volume.voxel_size
            count = len(true.named(kind.name))
            sign = sign_of(entry.contrast)
            found = dog(data, volume.voxel_size, width, sign=sign, max_count=count, species=kind.name)
            lists.append(of(found, entry.name))
    return concatenate(lists)


def opened(entry: Entry, found: Path) -> ScoreMap:
    """What `find` scored."""
    return score_files.read(found / "scores" / f"{stem(entry.tomogram)}.zarr")


def candidates(name: str, scores: ScoreMap, level: float) -> Particles:
    """Picks down to a score, of each species by itself: at a low one they would oust each other."""
    return of(pick(scores, PickConfig(threshold=level, exclusive=False, border=0.0)), name)


SEMI = SemiSuite("semi", "Picking from few labels and unlabelled tomograms", "supervised", pickers, BUDGETS)
ABLATIONS = SemiSuite("semi-ablations", "Ablations of SemiETPicker", "semi-etpicker", variants, BUDGETS)
MORE = SemiSuite("semi-amounts", "Picking from other amounts of labels", "supervised", pickers, AMOUNTS)
NOISE = SemiSuite("semi-errors", "Picking from labels with errors", "supervised", pickers, ERRORS)
