"""Inspect particle lists: against tomograms, and against another list of the same particles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.on_density import MIN_PARTICLES, Placement, placement
from cryovox.core.particles import Particles
from cryovox.core.reading import check_readable
from cryovox.core.volume import Volume
from cryovox.formats import ending, read_header, read_particles, read_volume
from cryovox.formats.particles.star import placeholder_tomograms
from cryovox.formats.particles.star_table import read_blocks
from cryovox.formats.tomogram_names import plain_name
from cryovox.metrics.list_relation import relation
from cryovox.report.doctor import Finding, sort_by_severity
from cryovox.report.list_comparison import compare
from cryovox.report.star_checks import name_findings, size_findings, star_findings

Shape = tuple[int, int, int]
Float = NDArray[np.float64]


def parse_shape(text: str) -> Shape:
    """Shape (z, y, x) from "X,Y,Z"."""
    try:
        x, y, z = (int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise RequestError("--shape", f"is {text!r}", "give X,Y,Z in voxels, such as 630,630,184") from None
    if min(x, y, z) < 1:
        raise RequestError("--shape", f"is {text!r}", "give positive numbers of voxels")
    return z, y, x


def compare_lists(
    first: Path, second: Path, shape: Shape | None = None, voxel_size: float | None = None
) -> list[Finding]:
    """How the first list differs from the second one of the same particles.

    Parameters
    ----------
    first, second
        Particle lists; where one of them is in voxels and no voxel size is known, its unit is found.
    shape : (z, y, x)
        Of the tomogram in voxels.
    voxel_size
        Of the tomogram in Å.
    """
    ours, theirs = (_read(path, shape, voxel_size) for path in (first, second))
    pairs = _by_tomogram(ours, theirs)
    matched = {name: relation(a, b) for name, (a, b) in pairs.items()}
    best = max(matched, key=lambda name: -1 if (r := matched[name]) is None else r.matched)
    findings = compare(*pairs[best], first, shape, voxel_size)
    if best:
        findings.append(Finding("ok", "tomogram", f"compared in {best}"))
    return sort_by_severity(findings)


def _by_tomogram(ours: Particles, theirs: Particles) -> dict[str, tuple[Float, Float]]:
    """Positions of both lists by tomogram; a list that names none is compared with every tomogram."""
    first, second = _names(ours), _names(theirs)
    shared = set(first) & set(second) if first and second else set(first or second)
    if first and second and not shared:
        raise RequestError("--against", "names other tomograms than --particles", "check the names")
    return {
        name: (_of(ours, first.get(name)).positions, _of(theirs, second.get(name)).positions)
        for name in sorted(shared) or [""]
    }


def _names(particles: Particles) -> dict[str, str]:
    """Names of tomograms as in the list, by plain name."""
    names = [] if particles.tomograms is None else particles.tomograms.tolist()
    return {plain_name(name): name for name in names}


def _of(particles: Particles, tomogram: str | None) -> Particles:
    return particles if tomogram is None else particles.within(tomogram)


def _read(path: Path, shape: Shape | None, voxel_size: float | None) -> Particles:
    """A list in Å, or in voxels where their size is unknown."""
    if shape is not None and voxel_size is not None:
        return read_particles(path, tomogram=Volume(np.broadcast_to(np.int8(0), shape), voxel_size))
    try:
        return read_particles(path, voxel_size=voxel_size)
    except RequestError:
        centered = placeholder_tomograms(path) if ending(path) == ".star" else None
        return read_particles(path, tomogram=centered, voxel_size=voxel_size or 1.0)


def inspect_list(path: Path, tomograms: Mapping[str, Path], voxel_size: float | None = None) -> list[Finding]:
    """Check a particle list, and whether its particles lie on the density of tomograms.

    Parameters
    ----------
    path
        Particle list, or a STAR file of tomograms or of a tilt series.
    tomograms
        Tomograms by name; may be empty.
    voxel_size
        Of the tomograms in Å; overrides their headers.
    """
    check_readable(path)
    findings: list[Finding] = []
    if ending(path) == ".star":
        blocks = read_blocks(path)
        sizes = {name: voxel_size or read_header(file).voxel_size or 0.0 for name, file in tomograms.items()}
        findings += star_findings(blocks)
        findings += size_findings(blocks, {name: size for name, size in sizes.items() if size})
    volumes = {name: read_volume(file, voxel_size) for name, file in tomograms.items()}
    try:
        single = next(iter(volumes.values())) if len(volumes) == 1 else None
        particles = read_particles(path, tomogram=single or volumes or None)
    except RequestError as error:
        if findings:  # tomograms or a tilt series
            return sort_by_severity(findings)
        return [Finding("error", "list", str(error).splitlines()[0])]
    findings.append(Finding("ok", "list", f"{len(particles)} particles"))
    names = None if particles.tomograms is None else particles.tomograms.tolist()
    if names is not None and volumes:
        findings += name_findings(names, list(volumes))
    plain = None if names is None else np.array([plain_name(name) for name in names])
    for name, volume in volumes.items():
        own = particles if plain is None else particles.take(plain == plain_name(name))
        findings.append(_on_density(name, placement(own.positions, volume), path))
    return sort_by_severity(findings)


def _on_density(name: str, result: Placement | None, path: Path) -> Finding:
    check = "picks on density"
    if result is None:
        return Finding("note", check, f"{name}: fewer than {MIN_PARTICLES} particles lie inside")
    text = f"{name}: z = {abs(result.z):.1f} of {result.count} particles against shuffled positions"
    if result.alternative is not None:
        other = result.alternative
        message = f"{text}; {other.name} would give z = {abs(result.alternative_z):.1f}"
        remedy = f"cryovox convert {path} OUT.star {other.remedy} --tomogram {name}" if other.remedy else ""
        return Finding("error", check, message, remedy)
    if result.is_significant:
        return Finding("ok", check, text)
    return Finding(
        "warning", check, f"{text}: not on density", "check that list and tomogram belong together"
    )
