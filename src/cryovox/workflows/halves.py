"""Half tomograms: the same model picks in both, and their difference is noise without particles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.core.progress import ProgressCallback, no_progress, renamed
from cryovox.core.reading import check_readable
from cryovox.core.volume import ScoreMap, Volume
from cryovox.formats import is_volume, read_header, read_volume, scores, stem
from cryovox.models.card import Card, read_card
from cryovox.picking import PickConfig
from cryovox.picking.agreement import Agreement, agreement, columns
from cryovox.picking.rated import candidates
from cryovox.picking.selection import select
from cryovox.report.doctor import Finding
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.contrast import Contrasts, contrasts
from cryovox.workflows.devices import Device
from cryovox.workflows.finding.input_files import are_recorded
from cryovox.workflows.inputs import checked_statistics, mask_file, prepare
from cryovox.workflows.manifest import Manifest, sha256, stamp
from cryovox.workflows.model_grid import on_model_grid, whitened
from cryovox.workflows.segment import segment

OPTION = "--halves"
FOLDER = "halves"
CHECK = "half tomograms"
ROLES = ("even", "odd")
ENDINGS: Mapping[str, tuple[str, ...]] = {
    "even": ("", "_even", "_evn", "_half1"),
    "odd": ("", "_odd", "_half2"),
}
"""What follows the name of the tomogram in the names of its halves, in lower case."""
CENTER = 160
"""Edge in voxels of the central box in which a tomogram is compared with its halves."""


@dataclass(frozen=True, eq=False)
class Halves:
    """Half tomograms of a run, and how they are searched.

    Attributes
    ----------
    even, odd
        Files, or folders with a half tomogram of each tomogram.
    model, out, segmenting, picking, device
        As for :func:`cryovox.workflows.find.find`; the results are in `halves/even` and `halves/odd`.
    """

    even: Path
    odd: Path
    model: Path
    out: Path
    segmenting: SegmentConfig
    picking: PickConfig
    device: Device = "auto"

    def check(self, tomograms: Mapping[str, Path], *, voxels: bool = True) -> None:
        """Refuse halves that are missing or do not fit; tomograms that cannot be read fail later.

        Parameters
        ----------
        voxels
            Also read the halves, except those that the output folder records as they are now.
        """
        card, entries = read_card(self.model), Manifest(self.out, {}).entries
        for name, path in tomograms.items():
            try:
                shape = read_header(path).shape
            except (RequestError, OSError):
                continue
            files = self.files(name, shape)
            if voxels and not self._is_checked(path, files, entries.get(name)):
                self._check_voxels(name, path, files, card)

    def _is_checked(self, path: Path, files: tuple[Path, Path], entry: Any) -> bool:
        """Whether an earlier run with this model has read the halves of a tomogram."""
        if not isinstance(entry, dict) or entry.get("stamp") != stamp(path):
            return False
        is_same = entry["key"].get("input") == str(path.resolve())
        is_same = is_same and entry["key"].get("model_sha256") == sha256(self.model)
        return is_same and are_recorded(files, entry)

    def _check_voxels(self, name: str, path: Path, files: tuple[Path, Path], card: Card) -> None:
        """Refuse halves with NaN, and those whose mean is not the tomogram."""
        from cryovox.inference.background import MIN_CORRELATION

        try:
            tomogram = read_volume(path, self.segmenting.voxel_size)
        except (RequestError, OSError):
            return
        halves = [read_volume(file, tomogram.voxel_size) for file in files]
        for file, half in zip(files, halves, strict=True):
            checked_statistics(file, half)
        try:
            correlation = _correlation(path, tomogram, files, halves, card)
        except (RequestError, OSError):
            return
        if correlation < MIN_CORRELATION:
            message = (
                f"the mean of the halves of {name!r} and the tomogram have a correlation of only "
                f"{correlation:.2f}"
            )
            remedy = "give the halves of this tomogram, reconstructed and filtered as it was"
            raise RequestError(OPTION, message, remedy)

    def files(self, name: str, shape: tuple[int, int, int] | None = None) -> tuple[Path, Path]:
        """Even and odd half of a tomogram; refused if they are missing, the same, or of another shape.

        Parameters
        ----------
        shape
            Of the tomogram; not compared where None.
        """
        even, odd = (
            half_file(path, name, role) for path, role in zip((self.even, self.odd), ROLES, strict=True)
        )
        if even.resolve() == odd.resolve():
            raise RequestError(
                OPTION, f"{even} is both the even and the odd half", "give two different files"
            )
        for path in (even, odd):
            if shape is not None and (own := read_header(path).shape) != shape:
                message = f"{path} has shape {own} (z, y, x), the tomogram has {shape}"
                raise RequestError(OPTION, message, "give the half tomograms of this tomogram")
        return even, odd

    def stamp(self, name: str) -> list[list[Any]]:
        """Files, sizes and times, which change when the halves do."""
        return [[str(path.resolve()), *stamp(path)] for path in self.files(name)]

    def search(
        self,
        name: str,
        entry: Mapping[str, Any],
        score_map: ScoreMap,
        mask: NDArray[np.bool_] | None,
        on_progress: ProgressCallback = no_progress,
    ) -> list[Particles]:
        """Candidates in both halves, searched as the tomogram was."""
        shape = score_map.tomogram_shape
        assert shape is not None
        found = []
        for role, path in zip(ROLES, self.files(name, shape), strict=True):
            same = {
                "contrast": entry["contrast"],
                "voxel_size": entry["voxel_size"],
                "precision": entry["key"]["settings"]["precision"],
                "surroundings": False,
                "mask": None if self.segmenting.mask is None else mask_file(self.segmenting.mask, name),
            }
            config, folder = self.segmenting.model_copy(update=same), self.out / FOLDER / role
            progress = renamed(on_progress, f"{name}, {role} half")
            segment([path], self.model, folder, config, device=self.device, on_progress=progress)
            stored = scores.read(folder / "scores" / f"{stem(path)}.zarr")
            chosen = select(stored, self.picking.species, self._contrasts(path, entry, stored.species))
            found.append(candidates(chosen, self.picking, mask))
        return found

    def _contrasts(
        self, path: Path, entry: Mapping[str, Any], species: tuple[Species, ...]
    ) -> Contrasts | None:
        if not self.picking.by_contrast:
            return None
        card = read_card(self.model)
        half = prepare(path, card, entry["voxel_size"], entry["contrast"], resample=True)
        return contrasts(half, species, self.picking)

    def compared(
        self, picks: Particles, halves: list[Particles], score_map: ScoreMap, mask: NDArray[np.bool_] | None
    ) -> tuple[Particles, Agreement]:
        """The picks with columns that say in which halves they are."""
        shape, voxel_size = score_map.tomogram_shape, score_map.tomogram_voxel_size
        assert shape is not None
        assert voxel_size is not None
        share = 1.0 if mask is None else float(mask.mean())
        volume = share * float(np.prod(shape)) * voxel_size**3
        result = agreement(picks, halves, score_map.species, volume, score_map.voxel_size)
        return replace(picks, extra={**picks.extra, **columns(result)}), result


def _correlation(
    path: Path, tomogram: Volume, files: Sequence[Path], halves: Sequence[Volume], card: Card
) -> float:
    """Correlation of a tomogram with the mean of its halves, in a central box, as the model sees them."""
    from cryovox.filters.whitening import WhitenedVoxels
    from cryovox.inference.background import half_difference

    volume, _ = on_model_grid(path, tomogram, card)
    parts = [on_model_grid(file, half, card)[0].data for file, half in zip(files, halves, strict=True)]
    if card.whitened:
        volume, _ = whitened(path, volume, tomogram)
    if isinstance(volume.data, WhitenedVoxels):
        parts = [volume.data.alike(data) for data in parts]
    edges = [min(CENTER, n) for n in volume.shape]
    z, y, x = (slice((n - e) // 2, (n - e) // 2 + e) for n, e in zip(volume.shape, edges, strict=True))
    even, odd = (np.asarray(data[z, y, x], np.float32) for data in parts)
    return half_difference(np.asarray(volume.data[z, y, x], np.float32), even, odd)[1]


def half_file(path: Path, name: str, role: str) -> Path:
    """The half of a tomogram: the file itself, or the volume in a folder that is named after the tomogram."""
    check_readable(path)
    if is_volume(path) or not path.is_dir():
        return path
    wanted = [f"{name}{end}".lower() for end in ENDINGS[role]]
    for file in sorted(path.iterdir()):
        if is_volume(file) and stem(file).lower() in wanted:
            return file
    endings = ", ".join(f"{name}{end}" for end in ENDINGS[role])
    message = f"the folder {path} holds no {role} half of {name!r}"
    raise RequestError(OPTION, message, f"name it {endings}, with the extension of a volume")


def halves_finding(found: Agreement) -> Finding:
    """Agreement of picks with both halves in a sentence; a warning where most are not in both."""
    both, one, none = (found.count(n) for n in (2, 1, 0))
    text = (
        f"{both} of {len(found.halves)} picks are in both half tomograms, {one} in one and {none} in none "
        f"(column cryovoxHalves)"
    )
    if 2 * both >= len(found.halves):
        return Finding("ok" if not one + none else "note", CHECK, text)
    return Finding("warning", CHECK, text, "inspect the picks that are in one half only, or use --fdr 0.05")
