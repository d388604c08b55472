"""Compare an average with a map of the same structure: hand and contrast."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.volume import Volume
from cryovox.formats import read_volume
from cryovox.formats.resample import resample
from cryovox.metrics.average_relation import AverageRelation, average_relation
from cryovox.report.doctor import Finding

MAX_EDGE = 512
"""Longest axis in voxels of a volume that is taken for an average."""
MIN_CORRELATION = 0.4
"""Lowest correlation of two maps of one structure."""
MIN_DIFFERENCE = 0.02
"""Lowest difference of the correlations of both hands, or contrasts, above which a finding is certain."""


def compare_average(path: Path, reference: Path, voxel_size: float | None = None) -> list[Finding]:
    """Hand and contrast of an average, beside a map of which both are known.

    Parameters
    ----------
    path, reference
        Volumes with the structure near their centers, in any orientation.
    voxel_size
        Voxel size of the average in Å; overrides its header.
    """
    volumes = [read_volume(path, voxel_size), read_volume(reference)]
    for where, volume in zip((path, reference), volumes, strict=True):
        if max(volume.shape) > MAX_EDGE:
            z, y, x = volume.shape
            message = f"has {z} x {y} x {x} voxels, more than an average"
            raise RequestError(
                where, message, "--reference compares two averages; leave it out for tomograms"
            )
    size = max(volume.voxel_size for volume in volumes)
    average, other = (_sampled(volume, size) for volume in volumes)
    return _findings(average_relation(average, other), path, reference)


def _sampled(volume: Volume, size: float) -> NDArray[np.float32]:
    data = np.asarray(resample(volume, size).data, np.float32)
    return np.nan_to_num(data, nan=float(np.nanmean(data)))


def _findings(between: AverageRelation, path: Path, reference: Path) -> list[Finding]:
    mirrored, inverted = between.best
    best = between.correlations[between.best]
    if best < MIN_CORRELATION:
        message = f"in no rotation, hand and contrast like {reference.name} (correlation {best:.2f})"
        remedy = "check that both are of one structure, and their voxel sizes"
        return [Finding("warning", "same structure", message, remedy)]
    findings = [Finding("ok", "same structure", f"correlation with {reference.name} {best:.2f}")]
    file = shlex.quote(str(path))
    for check, wrong, rest, names, option in (
        ("contrast", inverted, between.other_contrast, ("the same", "inverted"), "--invert"),
        ("hand", mirrored, between.other_hand, ("the same", "mirrored"), "--flip-z"),
    ):
        text = f"correlation {best:.2f}, of the other {check} {rest:.2f}"
        if best - rest < MIN_DIFFERENCE:
            remedy = "compare at a finer voxel size, or with a map of which more is resolved"
            findings.append(Finding("note", f"average {check}", f"is unclear: {text}", remedy))
        elif wrong:
            remedy = f"cryovox convert {file} OUT.mrc {option}"
            findings.append(Finding("error", f"average {check}", f"{names[1]}: {text}", remedy))
        else:
            findings.append(Finding("ok", f"average {check}", f"{names[0]}: {text}"))
    return findings
