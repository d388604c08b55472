"""Largest cross-correlation of all pairs of species of the built-in library.

Voxels of 10 Å (a resolution of 20 Å), over all rotations and shifts of up to one voxel. The most similar pairs are
repeated with five times as many rotations.

    OMP_NUM_THREADS=1 python benchmarks/library_correlation.py [--jobs 2] [--only NAME NAME ...]
"""

from __future__ import annotations

import argparse
import itertools
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial

from common import write_result
from cryovox.simulate.particles import library
from cryovox.simulate.particles.similarity import max_cross_correlation
from cryovox.simulate.particles.template import Template

VOXEL = 10.0
GRID, FINE_GRID = 2000, 10000
LIMIT = 0.9


@cache
def template(name: str) -> Template:
    """Template of a species, cached in each process."""
    return library.build_template(name, VOXEL)


def correlate(pair: tuple[str, str], rotations: int) -> float:
    """Largest correlation of one pair; a larger grid refines more maxima."""
    starts = 5 if rotations == GRID else 12
    return max_cross_correlation(*map(template, pair), rotations=rotations, starts=starts)


def main() -> None:
    """Compute, print and store; exit code 1 if a pair is too similar."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--jobs", type=int, default=1, help="processes")
    options.add_argument("--only", nargs="*", help="pairs with one of these species, without a result file")
    options.add_argument("--rotations", type=int, default=GRID, help="size of the grid")
    args = options.parse_args()
    names = library.species_names()
    pairs = [p for p in itertools.combinations(names, 2) if not args.only or set(p) & set(args.only)]
    start = time.monotonic()
    with ProcessPoolExecutor(args.jobs) as pool:
        correlations = dict(
            zip(pairs, pool.map(partial(correlate, rotations=args.rotations), pairs), strict=True)
        )
        closest = sorted(pairs, key=lambda p: -correlations[p])[:10]
        fine = dict(zip(closest, pool.map(partial(correlate, rotations=FINE_GRID), closest), strict=True))
    for pair in closest:
        print(f"{pair[0]:>24} {pair[1]:<24} {correlations[pair]:.4f}, finer grid {fine[pair]:.4f}")
    worst = max(*correlations.values(), *fine.values())
    seconds = time.monotonic() - start
    print(f"{len(names)} species, {len(pairs)} pairs, largest {worst:.4f}, {seconds:.0f} s")
    if not args.only:
        _store(correlations, fine, worst, seconds)
    if worst >= LIMIT:
        raise SystemExit(f"some pairs correlate with {worst:.3f}, {LIMIT} or more")


def _store(
    correlations: dict[tuple[str, str], float],
    fine: dict[tuple[str, str], float],
    worst: float,
    seconds: float,
) -> None:
    rows = [
        [*pair, round(value, 4)] for pair, value in sorted(correlations.items(), key=lambda item: -item[1])
    ]
    again = [[*pair, round(value, 4)] for pair, value in fine.items()]
    result = {
        "voxel_size": VOXEL,
        "resolution": 2 * VOXEL,
        "rotations": GRID,
        "rotations_of_the_check": FINE_GRID,
        "seconds": round(seconds),
        "species": library.species_names(),
        "largest": round(worst, 4),
        "limit": LIMIT,
        "pairs": rows,
        "check": again,
    }
    print(write_result("library_correlation", result))


if __name__ == "__main__":
    main()
