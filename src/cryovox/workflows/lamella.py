"""Limit picks to the sample: its faces are estimated, and picks clearly outside are left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import writable_folder
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import mrc, read_volume
from cryovox.picking.lamella import Lamella, estimate
from cryovox.report.doctor import Finding
from cryovox.workflows.inputs import mask_file

FOLDER = "masks"
CHECK = "sample boundary"


@dataclass(frozen=True, eq=False)
class SearchRegion:
    """Where picks of a tomogram are accepted.

    Attributes
    ----------
    mask : (z, y, x) or None
        Where particles may lie; None for the entire volume.
    lamella
        Faces of the sample; None where they are not estimated, or not clear.
    margin
        Distance in Å outside the faces up to which picks are kept.
    fraction
        Part of the volume, or of the mask of the user, that remains.
    note
        Outcome of the estimate; empty where none was asked for.
    file
        Mask of the sample that was written.
    """

    mask: NDArray[np.bool_] | None
    lamella: Lamella | None = None
    margin: float = 0.0
    fraction: float = 1.0
    note: str = ""
    file: Path | None = None

    def outside(self, picks: Particles) -> int:
        """Number of picks that the estimated boundary leaves out."""
        if self.lamella is None:
            return 0
        return int((~self.lamella.contain(picks.positions, self.margin)).sum())

    @property
    def findings(self) -> list[Finding]:
        """The estimate as a finding for the report."""
        if not self.note:
            return []
        remedy = "" if self.lamella is None else "--no-lamella picks in the entire volume"
        return [Finding("ok" if self.lamella is None else "note", CHECK, self.note, remedy)]

    def record(self, out: Path) -> dict[str, Any]:
        """Facts for the manifest."""
        if self.lamella is None:
            return {"note": self.note} if self.note else {}
        facts = {"note": self.note, "margin": round(self.margin, 2), "fraction": round(self.fraction, 4)}
        file = {} if self.file is None else {"mask": str(self.file.relative_to(out))}
        return self.lamella.to_dict() | facts | file


def search_region(
    volume: Volume, radius: float, own_mask: NDArray[np.bool_] | None, target: Path, mask: Path | None = None
) -> SearchRegion:
    """Estimate the faces of the sample, and write the mask of what lies between them.

    Parameters
    ----------
    volume
        The tomogram.
    radius
        Radius in Å of the largest particles: picks up to this distance outside the faces are kept.
    own_mask : (z, y, x) or None
        Mask of the user, which limits the region as well.
    target
        File for the mask.
    mask
        File or folder of the mask of the user, which is never overwritten.
    """
    lamella, note = estimate(volume, radius)
    if lamella is None:
        return SearchRegion(own_mask, note=note)
    if own_mask is not None:
        both = own_mask.copy()
        for row, plane in zip(both, lamella.masks(radius), strict=True):
            row &= plane
        if not both.any():
            note = f"{note}, but the mask lies outside: only the mask is used"
            return SearchRegion(own_mask, note=note)
        fraction = float(both.sum() / own_mask.sum())
        file = None if mask is not None and _is_same(mask, target) else target
        if file is not None:
            write_mask(file, volume, lamella, radius)
        return SearchRegion(both, lamella, radius, fraction, note, file)
    fraction = write_mask(target, volume, lamella, radius)
    stored = np.asanyarray(read_volume(target, volume.voxel_size).data).view(np.bool_)
    return SearchRegion(stored, lamella, radius, fraction, note, target)


def _is_same(mask: Path, target: Path) -> bool:
    return target.exists() and mask_file(mask, target.stem).resolve() == target.resolve()


def write_mask(target: Path, volume: Volume, lamella: Lamella, margin: float) -> float:
    """Write 1 between the faces of the sample and up to a margin in Å outside, else 0.

    Returns
    -------
    float
        Fraction of the voxels that are 1.
    """
    writable_folder(target.parent)
    count = 0
    with mrc.create(target, volume.shape, "int8", volume.voxel_size, volume.origin, volume.nstart) as mask:
        for z, plane in enumerate(lamella.masks(margin)):
            mask[z] = plane
            count += int(plane.sum())
    return count / volume.data.size
