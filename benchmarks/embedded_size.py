"""How picks of one size are best ranked from the channels of the embedded model.

A user gives a radius (`--species ribosome=125`); particles of other sizes are then false. Compared are the sum of all channels,
of which picks with another strongest channel are left out; the channel of the size; its odds against the other sizes, which `find`
uses (`cryovox.picking.selection.SizeOdds`); the response to a blob of the size; and the odds with this contrast, which `find
--by-contrast` uses (`cryovox.picking.selection.DenseOdds`).

Scored are the part of the real tomogram that may decide (`embedded_half.py`) and, for each species of the choice worlds of
`embedded.py`, the ranking of its particles among all others. The radius given is 0.85 times the largest extent of a simulated species.

    python benchmarks/embedded_size.py --work DIR      # about 6 processor minutes
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from common import write_result
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import read_volume, write_volume
from cryovox.models.card import EMBEDDED
from cryovox.picking import pick
from cryovox.picking.selection import Joined, channels_of, select
from embedded import WORLDS, World, open_world
from embedded_half import part
from embedded_noise import Searched, apart, by_species, metrics, search
from embedded_scored import LEAST, dense_maps
from real_ribosomes import MATCH

TOMOGRAM = "tomogram.mrc"
RADII = (100.0, 125.0, 150.0)
"""Radii in Å tried on the ribosomes of the real tomogram."""


def searched(volume: Volume, folder: Path) -> Searched:
    """Scores of the embedded model for a tomogram with dark particles."""
    data = np.asarray(volume.data, np.float32)
    path = folder / TOMOGRAM
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, Volume((data - data.mean()) / data.std(), volume.voxel_size))
    return search(path, folder / "scores")


def rankings(tomogram: Searched, radius: float, folder: Path) -> dict[str, Particles]:
    """Candidates of each method, at least a radius apart, best first."""
    maps, wanted = tomogram.maps, [f"particle={radius:g}"]
    (chosen,) = channels_of(maps.species, wanted)
    names = [maps.species[at].name for at in chosen.channels]
    every, odds, blobs = pick(maps, LEAST), pick(select(maps, wanted), LEAST), tomogram.of_blobs(radius)
    positions = np.concatenate([odds.positions, blobs.positions])
    channel = Joined(maps.data, (chosen.channels,))[0]
    return {
        "sum of all sizes": every.take(np.isin(every.species, names)),
        "channel of the size": apart(positions, tomogram.logit(positions, channel, radius), radius),
        "odds of the size": odds,
        "blob": blobs,
        "odds of the size, by contrast": pick(dense_maps(maps, folder / TOMOGRAM, EMBEDDED, *wanted), LEAST),
    }


def of_world(world: World, folder: Path) -> dict[str, Any]:
    """Each species of a choice world among the others."""
    entries = world.dataset.split("test")
    folders = [folder / entry.name for entry in entries]
    tomograms = [searched(read_volume(e.tomogram), own) for e, own in zip(entries, folders, strict=True)]
    return by_species(
        world,
        lambda radius: [rankings(one, radius, own) for one, own in zip(tomograms, folders, strict=True)],
    )


def main() -> None:
    """Score all, print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    volume, truth = part()
    real = searched(volume, args.work / "real")
    table: dict[str, Any] = {
        f"real ribosomes, {radius:g} Å": {
            method: metrics(picks, truth, MATCH)
            for method, picks in rankings(real, radius, args.work / "real").items()
        }
        for radius in RADII
    }
    for name, make in WORLDS.items():
        table |= of_world(open_world(make(), args.work / "worlds" / name), args.work / name)
    for name, row in table.items():
        print(name, {method: list(values.values()) for method, values in row.items()}, flush=True)
    print(write_result("size-embedded", {"table": table}))


if __name__ == "__main__":
    main()
