"""`cryovox particles filter`, `particles stats` and `particles merge`, which is also `cryovox merge`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro

from cryovox.cli.interface.screen import check_json, failures, table, terminal_meter, write_json
from cryovox.workflows.particles.config import FilterConfig, ListConfig

Lists = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="LIST...")]


def filter(
    lists: Lists,
    /,
    *,
    out: Path,
    settings: FilterConfig = FilterConfig(),
    files: ListConfig = ListConfig(),
    tomogram: Path | None = None,
    json: Path | None = None,
    overwrite: bool = False,
) -> int:
    """Select particles by name, score, surroundings, duplicates and neighbors.

    Distances become columns of the output, which STAR and CSV files keep.

    Parameters
    ----------
    lists
        Particle lists, folders or patterns.
    out
        Output file; the ending chooses the format. DIR/{name}.star filters each list on its own, otherwise
        they are joined.
    settings
        Filters.
    files
        Reading and writing.
    tomogram
        Tomogram of the particles, or folder of tomograms, for coordinates in voxels or from its center, and
        for --border.
    json
        Write the numbers of particles kept and removed to this JSON file.
    overwrite
        Overwrite existing outputs.
    """
    from cryovox.workflows.particles.lists import filter_files

    check_json(json)
    results, failed = filter_files(
        list(lists), out, settings, files,
        tomogram=tomogram, overwrite=overwrite, on_progress=terminal_meter(),
    )  # fmt: skip
    for path, count, removed in results.values():
        listed = ", ".join(f"{what} {number}" for what, number in removed.items())
        print(f"{path}: {count} particles; removed: {listed or 'none, as there is no filter'}")
    rows = {name: {"kept": count, "removed": removed} for name, (_, count, removed) in results.items()}
    write_json(json, rows)
    return failures(failed)


def stats(
    lists: Lists,
    /,
    *,
    files: ListConfig = ListConfig(),
    tomogram: Path | None = None,
    json: Path | None = None,
) -> int:
    """Count particles by tomogram and species, with their distances.

    The columns are the median score, and the smallest and the median distance to the nearest particle of the
    same species. Manifests beside the lists (LIST.manifest.json) say where picks come from.

    Parameters
    ----------
    lists
        Particle lists, folders or patterns; they are joined.
    files
        Reading.
    tomogram
        Tomogram of the particles, or folder of tomograms, for coordinates in voxels.
    json
        Write the table ("rows") and the manifests to this JSON file.
    """
    from cryovox.workflows.particles.lists import read
    from cryovox.workflows.particles.stats import COLUMNS, manifest_lines, manifests_of, statistics

    check_json(json)
    particles, _, name = read(list(lists), files, tomogram, Path("all.star"), terminal_meter())
    rows = statistics(particles, name)
    print(table(COLUMNS, [[row[column] for column in COLUMNS] for row in rows]))
    manifests = manifests_of(list(lists))
    for line in manifest_lines(manifests):
        print(line)
    write_json(
        json, {"rows": rows, "manifests": {n: m.model_dump(mode="json") for n, m in manifests.items()}}
    )
    return 0


def merge(  # noqa: PLR0913 (the options of a command)
    lists: Lists,
    /,
    *,
    out: Path,
    distance: float,
    min_agreement: int = 1,
    calibrate: bool = False,
    species: str | None = None,
    files: ListConfig = ListConfig(),
    tomogram: Path | None = None,
    overwrite: bool = False,
) -> int:
    """Merge the lists of several programs, or of several runs, into their consensus.

    Particles of the same tomogram and species within the distance become one, at their mean position weighted
    by the scores. The column `agreement` is the number of lists that hold it.

    Parameters
    ----------
    lists
        Particle lists, at least two; scores should be comparable, or --calibrate makes them so.
    out
        Output file; the ending chooses the format.
    distance
        Maximum distance in Å between particles that are the same; half the particle diameter is usual.
    min_agreement
        Minimum number of lists that hold a particle.
    calibrate
        Replace the scores of each list by its rate of agreement: the share of its particles of similar score
        that another list holds.
    species
        Name of all particles in the output, for lists that name one species differently.
    files
        Reading and writing.
    tomogram
        Tomogram of the particles, for coordinates in voxels or from its center.
    overwrite
        Overwrite an existing output.
    """
    from cryovox.workflows.particles.lists import merge_files

    merged = merge_files(
        list(lists),
        out,
        files,
        distance=distance,
        min_agreement=min_agreement,
        calibrate=calibrate,
        species=species,
        tomogram=tomogram,
        overwrite=overwrite,
        on_progress=terminal_meter(),
    )
    counts = merged.extra["agreement"].tolist()
    shares = ", ".join(f"{counts.count(k)} in {k}" for k in sorted(set(counts), reverse=True))
    print(f"{out}: {len(merged)} particles ({shares or 'none'} lists)")
    if len(names := sorted(set(merged.species.tolist()))) > 1 and max(counts) == 1:
        print(
            f"note: particles of different species are not merged ({', '.join(names)}); --species NAME makes "
            "them one",
            file=sys.stderr,
        )
    return 0
