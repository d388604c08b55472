"""Precision and recall of pseudo-labels outside the labeled picks.

The teachers are the models of the row `supervised` of a run of the suite `semi` or `semi-amounts`, because teachers
are initialized with such models. Picks of the training data are excluded.

    cryovox benchmark semi --methods supervised --time 20m --out WORK
    OMP_NUM_THREADS=1 python benchmarks/pseudo_label_quality.py --work WORK
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import write_result
from cryovox.benchmark.semi.suite import SEMI, label_amounts
from cryovox.core.particles import Particles, Species, concatenate
from cryovox.data.regions import Region, load_regions
from cryovox.formats import dataset as dataset_files
from cryovox.metrics.czii import FRACTION
from cryovox.metrics.detection import detection
from cryovox.models.checkpoint import load_model
from cryovox.training.strategies.semi.pseudo_labels import (
    accepted_peaks,
    multi_view_probabilities,
    select_views,
)

VIEWS = (1, 4, 8)
THRESHOLDS = (0.2, 0.3, 0.5)
AGREEMENT = 0.5


def predict(model: Path, sources: list[Region], views: int) -> list[torch.Tensor]:
    """Heatmaps (v, 1, k, z, y, x) of whole tomograms."""
    network, _ = load_model(model)
    network.eval()
    images = [torch.from_numpy(s.normalize(np.asarray(s.data)))[None, None] for s in sources]
    return [multi_view_probabilities(network, image, select_views(views)) for image in images]


def peaks(probabilities: torch.Tensor, source: Region, stride: int, threshold: float) -> Particles:
    """Peaks that would become pseudo-labels, in Å."""
    voxel = source.voxel_size * stride
    high = torch.full((len(source.species),), threshold)
    radii = [s.radius / voxel for s in source.species]
    agreement = AGREEMENT if len(probabilities) > 1 else 0.0
    accepted, mean = (
        accepted_peaks(probabilities, high, radii, agreement, exclusive=True),
        probabilities.mean(0),
    )
    _, channel, *index = (i.numpy() for i in accepted.nonzero(as_tuple=True))
    positions = voxel * np.stack(index, 1) + source.voxel_size * (stride - 1) / 2
    return Particles.of(positions, [source.species[c].name for c in channel], mean[accepted].numpy())


def exclude_labeled(peaks: Particles, labeled: Particles, kind: Species) -> Particles:
    """Peaks of a species without those at labeled picks."""
    of_species, positions = peaks.named(kind.name), labeled.named(kind.name).positions
    distances = np.linalg.norm(of_species.positions[:, None] - positions, axis=2)
    return of_species.take(np.flatnonzero((distances > FRACTION * kind.radius).all(1)))


def pseudo_label_scores(work: Path, amount: str, seed: int, model: Path) -> list[dict[str, Any]]:
    """One row for each number of views and threshold, averaged over the species."""
    complete = SEMI.complete(work / "data", seed)
    few = dataset_files.read(model.parents[1] / "labels")
    sources = load_regions(complete, complete.entries)
    picked = {e.name: e for e in few.entries if e.particles is not None}
    labeled = {s.name: load_regions(few, [picked[s.name]])[0].truth() for s in sources if s.name in picked}
    stride = load_model(model)[1].output_stride

    def all_of(lists: list[Particles], kind: Species) -> Particles:
        nothing = Particles.of(np.empty((0, 3)), [])
        unlabeled = [
            exclude_labeled(p, labeled.get(s.name, nothing), kind)
            for p, s in zip(lists, sources, strict=True)
        ]
        return concatenate(
            replace(p, tomograms=np.full(len(p), s.name)) for p, s in zip(unlabeled, sources, strict=True)
        )

    rows = []
    for views in VIEWS:
        probabilities = predict(model, sources, views)
        for threshold in THRESHOLDS:
            predicted = [
                peaks(maps, s, stride, threshold) for maps, s in zip(probabilities, sources, strict=True)
            ]
            outcomes = [
                detection(all_of(predicted, k), all_of([s.truth() for s in sources], k), FRACTION * k.radius)
                for k in complete.species
            ]
            nonempty = [o for o in outcomes if o.hits + o.false_picks]
            rows.append({
                "amount": amount, "views": views, "threshold": threshold,
                "precision": float(np.mean([o.precision for o in nonempty])) if nonempty else None,
                "recall": float(np.mean([o.recall for o in outcomes])),
            })  # fmt: skip
    return rows


def main() -> None:
    """Measure, print, store."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--work", type=Path, required=True, help="run folder of the suite")
    work = options.parse_args().work
    torch.set_num_threads(1)
    by_setting: dict[tuple[str, int, float], list[dict[str, Any]]] = {}
    for run in sorted((work / "runs").glob("supervised_*")):
        for amount in label_amounts(work / "data"):
            seed = int(run.name.rpartition("seed")[2])
            for row in pseudo_label_scores(work, amount, seed, run / amount / "run" / "model.safetensors"):
                by_setting.setdefault((row["amount"], row["views"], row["threshold"]), []).append(row)
    rows = []
    for (amount, views, threshold), seeds in by_setting.items():
        row: dict[str, Any] = {"amount": amount, "views": views, "threshold": threshold, "seeds": len(seeds)}
        for name in ("precision", "recall"):
            values = [r[name] for r in seeds if r[name] is not None]
            row[name] = [
                round(float(np.mean(values)), 4),
                round(float(np.std(values, ddof=min(1, len(values) - 1))), 4),
            ]
        rows.append(row)
        print(
            f"{amount:10s} {views} views, {threshold:.1f}: precision {row['precision']}, recall {row['recall']}"
        )
    print(write_result("pseudo_label_quality", {"agreement": AGREEMENT, "rows": rows}))


if __name__ == "__main__":
    main()
