"""Checks of STAR files before they are used or exported: CTF values, selection, names, pixel sizes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cryovox.formats.particles.star_table import NAMES
from cryovox.formats.tomogram_names import listed, plain_name
from cryovox.report.doctor import Finding

Blocks = Mapping[str, Mapping[str, Sequence[str]]]

LIMITS = {
    "rlnDefocusU": (1e3, 2e5, "Å"),
    "rlnDefocusV": (1e3, 2e5, "Å"),
    "rlnVoltage": (60.0, 1500.0, "kV"),
    "rlnSphericalAberration": (0.0, 10.0, "mm"),
    "rlnAmplitudeContrast": (0.0, 0.5, ""),
    "rlnImagePixelSize": (0.1, 100.0, "Å"),
    "rlnMicrographPixelSize": (0.1, 100.0, "Å"),
    "rlnMicrographOriginalPixelSize": (0.1, 100.0, "Å"),
    "rlnTomoTiltSeriesPixelSize": (0.1, 100.0, "Å"),
}
"""Lowest and highest plausible values of columns, and their units."""
SELECTION = re.compile(r"select", re.IGNORECASE)
SERIES_SIZE, BINNING = "rlnTomoTiltSeriesPixelSize", "rlnTomoTomogramBinning"
SAME_SIZE = 0.01
"""Relative difference of voxel sizes that agree."""


def star_findings(blocks: Blocks) -> list[Finding]:
    """CTF values and pixel sizes that cannot be right, and rows that are marked as not selected."""
    findings = []
    for tag, values in _columns(blocks):
        findings += [*_absurd(tag, values), *_unselected(tag, values)]
    checked = sorted({tag for tag, _ in _columns(blocks) if tag in LIMITS})
    if checked and not any(f.check == "CTF and pixel sizes" for f in findings):
        findings.append(Finding("ok", "CTF and pixel sizes", f"plausible: {', '.join(checked)}"))
    return findings


def name_findings(names: Sequence[str], tomograms: Sequence[str]) -> list[Finding]:
    """Whether the tomograms of a list are among those at hand."""
    here, listed_names = {plain_name(name) for name in tomograms}, {plain_name(name) for name in names}
    missing = sorted(listed_names - here)
    text = f"the list names {listed(sorted(listed_names))}, the tomograms are {listed(sorted(here))}"
    if not missing:
        return [Finding("ok", "names", f"all {len(listed_names)} tomograms of the list are at hand")]
    if len(missing) == len(listed_names):
        remedy = "rename the tomograms or correct the column of names: other programs compare them literally"
        return [Finding("error", "names", f"no name matches: {text}", remedy)]
    return [Finding("warning", "names", f"{len(missing)} names have no tomogram: {listed(missing)}")]


def size_findings(blocks: Blocks, sizes: Mapping[str, float]) -> list[Finding]:
    """Compare pixel size times binning factor of a STAR file with voxel sizes in Å of tomograms by name."""
    expected = dict(_reconstructed(blocks))
    findings = []
    for name, size in sizes.items():
        stated = expected.get(plain_name(name))
        if stated is None:
            continue
        pixel, binning = stated
        text = f"{name}: {pixel:g} Å x binning {binning:g} = {pixel * binning:.4g} Å, header {size:.4g} Å"
        if abs(pixel * binning / size - 1) <= SAME_SIZE:
            findings.append(Finding("ok", "binning", text))
        else:
            remedy = f"cryovox convert TOMOGRAM OUT.mrc --voxel-size {pixel * binning:.5g}"
            findings.append(Finding("error", "binning", text, remedy))
    return findings


def _reconstructed(blocks: Blocks) -> Iterator[tuple[str, tuple[float, float]]]:
    """Pixel size in Å of the tilt series and binning factor of the tomogram, by name."""
    for block in blocks.values():
        if all(tag in block for tag in ("rlnTomoName", SERIES_SIZE, BINNING)):
            rows = zip(block["rlnTomoName"], block[SERIES_SIZE], block[BINNING], strict=True)
            for name, pixel, binning in rows:
                yield plain_name(name), (float(pixel), float(binning))


def _columns(blocks: Blocks) -> Iterator[tuple[str, Sequence[str]]]:
    for block in blocks.values():
        yield from block.items()


def _absurd(tag: str, values: Sequence[str]) -> list[Finding]:
    if tag not in LIMITS:
        return []
    low, high, unit = LIMITS[tag]
    numbers = np.array([_number(value) for value in values])
    wrong = np.flatnonzero(~((numbers >= low) & (numbers <= high)))
    if not len(wrong):
        return []
    first = int(wrong[0])
    text = (
        f"{tag} of {len(wrong)} of {len(values)} rows is not {low:g} to {high:g} {unit}".rstrip()
        + f"; row {first + 1} has {values[first]}"
    )
    remedy = "correct the column: a wrong CTF or pixel size spoils averages and scores without an error"
    return [Finding("error", "CTF and pixel sizes", text, remedy)]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _unselected(tag: str, values: Sequence[str]) -> list[Finding]:
    if tag in NAMES or not SELECTION.search(tag):
        return []
    kept = sum(value.lower() not in ("0", "false", "no", "") for value in values)
    kept = len(values) - kept if "unselect" in tag.lower() else kept
    if kept == len(values):
        return []
    text = f"{tag} keeps {kept} of {len(values)} rows: programs that read it leave out the others"
    return [Finding("warning" if kept else "error", "selection", text, f"correct {tag}, or drop it")]
