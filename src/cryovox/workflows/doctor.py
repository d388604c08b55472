"""Look tomograms over before anything else."""

from __future__ import annotations

from pathlib import Path

from cryovox.core.errors import RequestError
from cryovox.formats import read_header, read_volume
from cryovox.models.card import Card, read_card
from cryovox.report.doctor import Expected, Finding, examine, ranked
from cryovox.workflows.home import domain_finding
from cryovox.workflows.inputs import expand


def consult(
    tomograms: list[Path], model: Path | None = None, voxel_size: float | None = None
) -> tuple[dict[Path, list[Finding]], dict[str, Exception]]:
    """Examine every tomogram; a file that cannot be read at all is a failure.

    A header without a usable voxel size is a finding, not a failure: the file is read as if its
    voxels were of 10 Å and the finding says so.
    """
    card = expected = None
    if model is not None:
        card = read_card(model)
        expected = Expected(card.voxel_size, card.contrast, model.name)
    files = expand(tomograms)
    found: dict[Path, list[Finding]] = {}
    failed: dict[str, Exception] = {}
    for name, path in files.items():
        try:
            found[path] = _one(path, card, expected, voxel_size)
        except RequestError as error:
            if len(files) == 1:
                raise
            failed[name] = error
    return found, failed


def _one(path: Path, card: Card | None, expected: Expected | None, voxel_size: float | None) -> list[Finding]:
    header = read_header(path)
    volume = read_volume(path, voxel_size or header.voxel_size or 10.0)
    if voxel_size is not None:
        found = examine(volume, path, model=expected)
    else:
        found = examine(volume, path, header.voxel_sizes, header.problems, model=expected)
    far = None if card is None else domain_finding(volume, card, path)
    return found if far is None else ranked([*found, far])
