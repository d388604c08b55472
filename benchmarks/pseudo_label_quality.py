"""How good pseudo-labels are: precision and recall of the peaks that a teacher sees where nobody picked.

The teachers are the models of the row `supervised` of a finished run of the suite `semi`, since a teacher begins
as one. Picks that it learned from are left out of what is counted.

    cryovox benchmark semi --contestants supervised --time 4m --out WORK
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
from cryovox.benchmark.semi import label_amounts
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


def answers(model: Path, sources: list[Region], views: int) -> list[torch.Tensor]:
    """Heatmaps (v, 1, k, z, y, x) of whole tomograms."""
    network, _ = load_model(model)
    network.eval()
    images = [torch.from_numpy(s.normalise(np.asarray(s.data)))[None, None] for s in sources]
    return [multi_view_probabilities(network, image, select_views(views)) for image in images]


def peaks(seen: torch.Tensor, source: Region, stride: int, threshold: float) -> Particles:
    """What would become a pseudo-label, in Å."""
    voxel = source.voxel_size * stride
    high = torch.full((len(source.species),), threshold)
    radii = [s.radius / voxel for s in source.species]
    agreement = AGREEMENT if len(seen) > 1 else 0.0
    found, mean = accepted_peaks(seen, high, radii, agreement, exclusive=True), seen.mean(0)
    _, channel, *index = (i.numpy() for i in found.nonzero(as_tuple=True))
    middle = voxel * np.stack(index, 1) + source.voxel_size * (stride - 1) / 2
    return Particles.of(middle, [source.species[c].name for c in channel], mean[found].numpy())


def unknown(found: Particles, known: Particles, kind: Species) -> Particles:
    """Those of a species that do not lie upon a pick that was learned from."""
    own, taken = found.named(kind.name), known.named(kind.name).positions
    away = np.linalg.norm(own.positions[:, None] - taken, axis=2)
    return own.take(np.flatnonzero((away > FRACTION * kind.radius).all(1)))


def quality(work: Path, amount: str, model: Path) -> list[dict[str, Any]]:
    """One row for each number of views and threshold; means over the species."""
    every, few = (dataset_files.read(work / "data" / name) for name in ("test", amount))
    sources = load_regions(every, every.split("train"))
    picked = {e.name: e for e in few.entries if e.particles is not None}
    known = {s.name: load_regions(few, [picked[s.name]])[0].truth() for s in sources if s.name in picked}
    stride = load_model(model)[1].output_stride

    def all_of(lists: list[Particles], kind: Species) -> Particles:
        nothing = Particles.of(np.empty((0, 3)), [])
        left = [unknown(p, known.get(s.name, nothing), kind) for p, s in zip(lists, sources, strict=True)]
        return concatenate(
            replace(p, tomograms=np.full(len(p), s.name)) for p, s in zip(left, sources, strict=True)
        )

    rows = []
    for views in VIEWS:
        seen = answers(model, sources, views)
        for threshold in THRESHOLDS:
            found = [peaks(maps, s, stride, threshold) for maps, s in zip(seen, sources, strict=True)]
            outcomes = [
                detection(all_of(found, k), all_of([s.truth() for s in sources], k), FRACTION * k.radius)
                for k in every.species
            ]
            made = [o for o in outcomes if o.hits + o.false_picks]
            rows.append({
                "amount": amount, "views": views, "threshold": threshold,
                "precision": float(np.mean([o.precision for o in made])) if made else None,
                "recall": float(np.mean([o.recall for o in outcomes])),
            })  # fmt: skip
    return rows


def main() -> None:
    """Measure, print, store."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--work", type=Path, required=True, help="folder of the suite's run")
    work = options.parse_args().work
    torch.set_num_threads(1)
    found: dict[tuple[str, int, float], list[dict[str, Any]]] = {}
    for run in sorted((work / "runs").glob("supervised_*")):
        for amount in label_amounts(work / "data"):
            for row in quality(work, amount, run / amount / "run" / "model.safetensors"):
                found.setdefault((row["amount"], row["views"], row["threshold"]), []).append(row)
    rows = []
    for (amount, views, threshold), of in found.items():
        row: dict[str, Any] = {"amount": amount, "views": views, "threshold": threshold, "seeds": len(of)}
        for name in ("precision", "recall"):
            values = [r[name] for r in of if r[name] is not None]
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
