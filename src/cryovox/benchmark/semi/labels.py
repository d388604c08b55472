"""Training tomograms and labels that a seed draws."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cryovox.benchmark.semi.methods import NETWORK
from cryovox.core.dataset import Dataset, Entry
from cryovox.core.particles import Particles
from cryovox.data.config import PatchConfig
from cryovox.formats import read_particles, read_volume, write_particles
from cryovox.models import MODELS

SHIFT = 0.5
"""Distance of a shifted pick from its particle, in radii."""


def named_species(dataset: Dataset, names: Sequence[str], folder: Path) -> Dataset:
    """The dataset with the picks of these species, written to *folder*; membranes and gold are background."""
    entries = []
    for entry in dataset.entries:
        picks, path = read_picks(entry), folder / f"{entry.name}.csv"
        write_particles(path, picks.take(np.flatnonzero(np.isin(picks.species, names))))
        entries.append(entry.model_copy(update={"particles": path, "labels": None}))
    kept = tuple(s for s in dataset.species if s.name in names)
    return dataset.model_copy(update={"species": kept, "entries": tuple(entries)})


def drawn_tomograms(dataset: Dataset, seed: int, count: int) -> Dataset:
    """The next *count* training tomograms for each seed, from the start again where they are used up."""
    entries = dataset.split("train")
    drawn = tuple(entries[(seed * count + i) % len(entries)] for i in range(count))
    return dataset.model_copy(update={"entries": drawn})


def voxel_count(entry: Entry) -> int:
    """Number of voxels of an entry within its box."""
    bounds = entry.box.bounds(read_volume(entry.tomogram).shape)
    return int(np.prod([high - low for low, high in bounds]))


def unlabeled_particles(picked: Sequence[Entry], complete: Dataset) -> dict[str, float]:
    """Expected number of unlabeled particles per labeled one in the training patches."""
    entries = [e for e in complete.entries if e.particles is not None]
    labeled, total = (sum(len(read_picks(e)) for e in some) for some in (picked, entries))
    per_patch = (total - labeled) * min(1.0, MODELS[NETWORK].patch ** 3 / sum(map(voxel_count, entries)))
    return {"supervised.unlabeled_ratio": round(per_patch / PatchConfig().foreground, 3)}


def labeled(dataset: Dataset, labels: str, folder: Path, seed: int = 0) -> Dataset:
    """The training entries with some of their picks; entries without picks are unlabeled.

    Parameters
    ----------
    labels
        "1 %" of each species (at least one), "30 picks" evenly over the species, "one tomogram", "all", or
        all picks in lists marked as incomplete, with or without errors: "all, none wrong", "all, 30 %
        missing, 20 % shifted".
    folder
        Output folder of the remaining picks.
    seed
        Draws the picks that remain, and the tomogram of "one tomogram".
    """
    entries = [e for e in dataset.split("train") if e.particles is not None]
    unpicked = [without_picks(e) for e in dataset.split("train") if e.particles is None]
    if labels == "all":
        kept = entries
    elif labels == "one tomogram":
        drawn = seed % len(entries)
        kept = [e if i == drawn else without_picks(e) for i, e in enumerate(entries)]
    elif labels.startswith("all, "):
        kept = with_errors(entries, {s.name: s.radius for s in dataset.species}, labels, folder, seed)
    else:
        kept = subsampled(entries, [s.name for s in dataset.species], labels, folder, seed)
    entries = [e.model_copy(update={"labels": None}) for e in (*kept, *unpicked)]
    return dataset.model_copy(update={"entries": tuple(entries)})


def subsampled(entries: list[Entry], species: list[str], labels: str, folder: Path, seed: int) -> list[Entry]:
    """Entries with few picks of each species, drawn over all entries."""
    lists = [read_picks(e) for e in entries]
    owner = np.concatenate([np.full(len(p), i) for i, p in enumerate(lists)])
    names = np.concatenate([p.species for p in lists])
    rng, chosen = np.random.default_rng(seed), np.zeros(len(names), bool)
    for i, name in enumerate(species):
        own = rng.permutation(np.flatnonzero(names == name))
        if labels.endswith("%"):
            count = max(1, round(float(labels.rstrip("% ")) / 100 * len(own)))
        else:
            count = len(range(i, int(labels.split()[0]), len(species)))
        chosen[own[:count]] = True
    kept = []
    for i, (entry, picks) in enumerate(zip(entries, lists, strict=True)):
        index = np.flatnonzero(chosen[owner == i])
        if not len(index):
            kept.append(without_picks(entry))
            continue
        path = folder / "picks" / f"{entry.name}.csv"
        write_particles(path, picks.take(index))
        kept.append(entry.model_copy(update={"particles": path, "exhaustive": False}))
    return kept


def with_errors(
    entries: list[Entry], radii: dict[str, float], labels: str, folder: Path, seed: int
) -> list[Entry]:
    """Entries with some picks removed, and some of the others shifted by half a radius.

    The lists are marked as incomplete, so every method decides how to treat voxels without a pick.
    """
    share = {kind: int(number) / 100 for number, kind in re.findall(r"(\d+) % (\w+)", labels)}
    rng, kept = np.random.default_rng(seed), []
    for entry in entries:
        picks = read_picks(entry)
        order = rng.permutation(len(picks))[round(share.get("missing", 0.0) * len(picks)) :]
        picks = picks.take(np.sort(order))
        moved = rng.permutation(len(picks))[: round(share.get("shifted", 0.0) * len(picks))]
        shifts = rng.standard_normal((len(moved), 3))
        shifts *= SHIFT / np.linalg.norm(shifts, axis=1, keepdims=True)
        positions = picks.positions.copy()
        positions[moved] += shifts * np.array([[radii[str(n)]] for n in picks.species[moved]]).reshape(-1, 1)
        volume = read_volume(entry.tomogram)
        inside = positions.clip(0, volume.voxel_size * (np.array(volume.shape) - 1))
        path = folder / "picks" / f"{entry.name}.csv"
        write_particles(path, replace(picks, positions=inside))
        kept.append(entry.model_copy(update={"particles": path, "exhaustive": False}))
    return kept


def without_picks(entry: Entry) -> Entry:
    """The tomogram without annotations."""
    return entry.model_copy(update={"labels": None, "particles": None, "exhaustive": True})


def read_picks(entry: Entry) -> Particles:
    """The picks of an entry."""
    assert entry.particles is not None
    return read_particles(entry.particles, tomogram=read_volume(entry.tomogram))
