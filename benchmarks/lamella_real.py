"""The estimated boundary of the sample in the real tomogram: beside its picks, and what it does to recall.

    python benchmarks/lamella_real.py

The picks are centers of ribosomes, so the nearest of them should lie a radius inside of each face. The picker is the
difference of Gaussians with its defaults; recall at a budget counts its best candidates, as many as there are picks or
twice as many, with and without those more than a radius outside the faces, as `find` leaves them out. Nothing is
chosen on these data: the estimate has no setting that was tuned on them.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from common import DATA, write_result
from cryovox.core.particles import Particles
from cryovox.formats import read_particles, read_volume
from cryovox.metrics.detection import recall_at_budget
from cryovox.picking.blobs import dog
from cryovox.picking.lamella import Lamella, estimate

RADIUS, MATCH = 125.0, 100.0
"""Radius of a ribosome, and distance of a match, in Å."""
TEST = 160
"""First y in voxels of the test region."""


def faces(lamella: Lamella, picks: Particles) -> list[dict[str, Any]]:
    """Distance from each face to the nearest pick, in voxels along the normal, beside a radius."""
    rows = []
    radius = RADIUS / lamella.voxel_size
    for name, plane, sign in (("lower", lamella.lower, 1), ("upper", lamella.upper, -1)):
        if plane is None:
            rows.append({"face": name, "nearest_pick": None, "radius": round(radius, 2), "difference": None})
            continue
        nearest = float((sign * plane.height(picks.positions / lamella.voxel_size)).min())
        facts = {"face": name, "nearest_pick": round(nearest, 2), "radius": round(radius, 2)}
        rows.append(facts | {"difference": round(nearest - radius, 2)})
    return rows


def recalls(candidates: Particles, picks: Particles, lamella: Lamella, voxel: float) -> list[dict[str, Any]]:
    """Recall at budgets in parts of the tomogram along y, with and without the boundary."""
    rows = []
    inside = candidates.take(lamella.contain(candidates.positions, RADIUS))
    for name, low, high in (
        ("y < 160", -np.inf, TEST),
        ("y >= 160", TEST, np.inf),
        ("whole", -np.inf, np.inf),
    ):
        parts = [_between(own, low * voxel, high * voxel) for own in (picks, candidates, inside)]
        for kind, own in zip(("without", "with"), parts[1:], strict=True):
            recall = recall_at_budget(own, parts[0], MATCH)
            values = {f"{budget}x": round(recall[budget], 4) for budget in (1, 2, 4)}
            rows.append({"region": name, "picks": len(parts[0]), "mask": kind} | values)
    return rows


def _between(particles: Particles, low: float, high: float) -> Particles:
    y = particles.positions[:, 1]
    return particles.take((y >= low) & (y < high))


def main() -> None:
    """Estimate, compare and write the result."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    folder = DATA / "real_tomograms"
    volume = read_volume(folder / "tomo_171_xlow_31.36A.mrc.gz")
    picks = read_particles(folder / "tomo_171_xlow_80S_angstrom.csv")
    lamella, note = estimate(volume, RADIUS)
    print(note)
    if lamella is None:
        raise RuntimeError("no boundary of the sample")
    candidates = dog(np.asarray(volume.data), volume.voxel_size)
    outside = ~lamella.contain(candidates.positions, RADIUS)
    rows = faces(lamella, picks) + recalls(candidates, picks, lamella, volume.voxel_size)
    for row in rows:
        print(row)
    counts = {"candidates": len(candidates), "candidates_outside": int(outside.sum())}
    counts["picks_outside"] = int((~lamella.contain(picks.positions, RADIUS)).sum())
    print(counts)
    result = {"lamella": lamella.to_dict(), "counts": counts, "rows": rows}
    print(write_result("lamella_real", result))


if __name__ == "__main__":
    main()
