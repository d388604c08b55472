"""Candidates of the embedded model on the part of the real tomogram that may decide between trainings: y < 160, not scored elsewhere.

Recall of the ribosome picks among 1 to 4 candidates per pick (`benchmarks/real_ribosomes.py`), between the faces of the lamella:
picks of the selected size (`--species ribosome=125`), also `--by-contrast`, beside the difference-of-Gaussians picker. `embedded_scored.py` scores the
tomogram; what was chosen here was chosen on 92 of its 128 picks.

    python benchmarks/embedded_half.py CANDIDATE.safetensors ... --work DIR        # 75 processor seconds each
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import real_ribosomes as real
from common import write_result
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import read_volume, write_volume
from cryovox.picking import pick
from cryovox.picking.blobs import dog
from cryovox.picking.selection import select
from embedded_scored import LEAST, RIBOSOME, dense_maps, recalls, score_map

CORNER, END = np.array([32, 10, 0]), np.array([98, 160, 128])
"""Voxels of the part, (z, y, x)."""


def part() -> tuple[Volume, Particles]:
    """The part of the tomogram between the faces of the lamella, and its picks."""
    volume, true = read_volume(real.TOMOGRAM), real.truth()
    (z, y, x), (far_z, far_y, far_x) = CORNER, END
    data = np.asarray(volume.data[z:far_z, y:far_y, x:far_x], np.float32)
    kept = real.inside(true, (0, int(END[1])), volume.voxel_size)
    moved = kept.positions - CORNER * volume.voxel_size
    return Volume(data, volume.voxel_size), Particles.of(moved, kept.species.tolist())


def row(picks: Particles, true: Particles) -> dict[str, Any]:
    """Number of candidates and recall."""
    return {"candidates": len(picks), **recalls(picks, true)}


def main() -> None:
    """Print and store the recall of each candidate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("candidates", type=Path, nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", default="half-embedded")
    args = parser.parse_args()
    volume, true = part()
    args.work.mkdir(parents=True, exist_ok=True)
    write_volume(args.work / "part.mrc", volume)
    table = {"difference of Gaussians, 2 voxels": row(dog(volume.data, volume.voxel_size, 2.0), true)}
    for model in args.candidates:
        maps = score_map(args.work / "part.mrc", model, args.work / model.stem)
        table[model.stem] = row(pick(select(maps, [RIBOSOME]), LEAST), true)
        dense = dense_maps(maps, args.work / "part.mrc", model, RIBOSOME)
        table[f"{model.stem}, by contrast"] = row(pick(dense, LEAST), true)
        print({name: table[name] for name in table if model.stem in name}, flush=True)
    print(table, write_result(args.name, {"picks": len(true), "recall": table}), sep="\n")


if __name__ == "__main__":
    main()
