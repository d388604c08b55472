"""Submissions to the CZII challenge: one CSV for all tomograms, `id,experiment,particle_type,x,y,z`.

Positions are in Å from the center of voxel 0, `experiment` is the name of the tomogram, and the six particle
types are those of :data:`cryovox.core.czii.RADII`. There are no scores.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from io import StringIO
from pathlib import Path

import numpy as np

from cryovox.core.czii import RADII
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.formats.particles import table
from cryovox.formats.particles.column_format import ColumnFormat, Rows
from cryovox.formats.particles.convention import Convention

CONVENTION = Convention(
    program="CZII challenge",
    extensions=(".csv",),
    unit="Å",
    tomogram="experiment",
    species="particle_type",
    remark="A submission to Kaggle; see `docs/how-to/czii.md`. Scores and angles are not stored.",
)
COLUMNS = ("id", "experiment", "particle_type", "x", "y", "z")
ALIASES: Mapping[str, str] = {
    "apoferritin": "apo-ferritin",
    "ferritin": "apo-ferritin",
    "4v1w": "apo-ferritin",
    "amylase": "beta-amylase",
    "b-amylase": "beta-amylase",
    "1fa2": "beta-amylase",
    "galactosidase": "beta-galactosidase",
    "b-galactosidase": "beta-galactosidase",
    "beta-gal": "beta-galactosidase",
    "6x1q": "beta-galactosidase",
    "beta-amylase-tetramer": "beta-amylase",
    "ribosome-80s": "ribosome",
    "80s-ribosome": "ribosome",
    "cytosolic-ribosome": "ribosome",
    "80s": "ribosome",
    "vlp": "virus-like-particle",
    "pp7-vlp": "virus-like-particle",
    "virus-like-particle-pp7": "virus-like-particle",
}
"""Other names of the six types, in lower case with hyphens."""


def official(name: str) -> str:
    """The particle type of a species name; case, spaces, underscores and Greek letters do not matter."""
    plain = "-".join(name.strip().lower().replace("β", "beta").replace("_", " ").replace("-", " ").split())
    kind = ALIASES.get(plain, plain)
    if kind in RADII:
        return kind
    near = get_close_matches(plain, [*RADII, *ALIASES], n=1, cutoff=0.75)
    hint = f"did you mean {ALIASES.get(near[0], near[0])!r}? " if near else ""
    message = f"is no particle type of the CZII challenge, which has {', '.join(RADII)}"
    raise RequestError(name, message, f"{hint}Rename these particles, or remove them from the list")


def to_submission(particles: Particles, tomogram_name: str | None = None) -> Particles:
    """Convert a list to a submission: official particle types, tomograms and positions.

    Parameters
    ----------
    particles
        Particles of any species that :func:`official` knows.
    tomogram_name
        Tomogram of particles that name none.
    """
    names = {str(name): official(str(name)) for name in np.unique(particles.species)}
    tomograms = particles.tomograms if particles.tomograms is not None else tomogram_name
    listed = [tomograms] if tomograms is None or isinstance(tomograms, str) else tomograms.tolist()
    if len(particles) and (None in listed or "" in listed):
        message = "does not name the tomogram of each particle"
        raise RequestError("submission", message, "name the tomogram, or add a column `experiment`")
    species = [names[str(name)] for name in particles.species]
    return Particles.of(particles.positions, species, tomograms=tomograms)


def read(path: Path) -> Particles:
    """Read a submission, or the solution, in the order of its rows; row numbers are not kept."""
    try:
        return to_submission(table.FORMAT.read(path))
    except RequestError as error:
        raise RequestError(path, f"{error.where}: {error.message}", error.remedy) from None


def render(rows: Rows) -> str:
    """Text of a submission in the order of the list: rows numbered from 0, Å with three decimals."""
    particles = to_submission(replace(rows.particles, tomograms=rows.columns.get("experiment")))
    tomograms = () if particles.tomograms is None else particles.tomograms
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    columns = zip(tomograms, particles.species, particles.positions, strict=True)
    for number, (name, kind, zyx) in enumerate(columns):
        writer.writerow([number, name, kind, *(f"{v:.3f}" for v in zyx[::-1])])
    return text.getvalue()


FORMAT = ColumnFormat(CONVENTION, table.parse, render)
