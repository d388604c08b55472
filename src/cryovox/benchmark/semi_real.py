"""Picking ribosomes in one part of a real tomogram from a handful of picks in the other.

The tomogram and the cut are those of `adaptation_real`. Below the cut so many picks are known, and what is
not picked there is unknown; recall above it, at so many candidates for each of its picks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cryovox.benchmark.adaptation_real import (
    RADIUS,
    RIBOSOME,
    blob_pickers,
    candidates,
    found_or_made,
    note,
    noted,
    recalls,
)
from cryovox.benchmark.semi import Labels, SemiSuite, amounts, pickers
from cryovox.benchmark.suite import Scores, Tier
from cryovox.core.dataset import Box, Dataset, Entry
from cryovox.core.particles import Species
from cryovox.formats import dataset as dataset_files
from cryovox.formats import scores as score_files
from cryovox.formats import stem, write_particles
from cryovox.workflows.devices import Device

PICKS = ("10 picks", "30 picks", "64 picks")
LABELS: Labels = {"smoke": PICKS[:1], "cpu": PICKS, "gpu": PICKS}


class RealSemiSuite(SemiSuite):
    """Recall at 1, 2 and 4 candidates for each true particle, by number of picks."""

    headlines = ("recall_1x", "recall_2x", "recall_4x")
    source = "our own protocol"

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        real, told = found_or_made(folder, tier, data)
        note(folder, real)
        below, volume = real.part(above=False), real.volume
        order, known = np.random.default_rng(0).permutation(len(below)), {}
        for labels in self.labels[tier]:
            few = below.take(np.sort(order[: int(labels.split()[0])]))
            known[labels] = len(few)
            path = folder / labels / "particles.csv"
            write_particles(path, few, tomogram=volume)
            entry = Entry(
                name="known", tomogram=real.tomogram, particles=path.resolve(), exhaustive=False,
                box=Box(y=(0, real.cut)), contrast="dark" if real.dark else "bright",
            )  # fmt: skip
            species = (Species(name=RIBOSOME, label=1, radius=RADIUS),)
            found = Dataset(voxel_size=volume.voxel_size, species=species, entries=(entry,))
            for name in (labels, f"{labels}, alone"):
                dataset_files.write(folder / name, found)
        return {"tomogram": told, "cut": real.cut, "labels": known, "tested": len(real.part(above=True))}

    def score(self, folder: Path, model: Path, out: Path, device: Device) -> dict[str, float]:
        from cryovox.workflows.segment import segment

        real = noted(folder)
        segment([real.tomogram], model, out, device=device)
        found = candidates(score_files.read(out / "scores" / f"{stem(real.tomogram)}.zarr"))
        return recalls(real.part(above=True, some=found), real.part(above=True))

    def picked(self, folder: Path) -> list[Entry]:
        return list(dataset_files.read(folder / "labelled").entries)

    def references(self, folder: Path) -> dict[str, Scores]:
        """The blob picker without a choice, and with the best settings on the labelled part."""
        known = amounts(folder)
        return {name: dict.fromkeys(known, row) for name, row in blob_pickers(noted(folder)).items()}


REAL = RealSemiSuite(
    "semi-real", "Picking ribosomes of a real tomogram from few picks", "supervised", pickers, LABELS
)
