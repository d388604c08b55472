"""Two lists of the same particles: how one differs from the other, and how to convert it."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryovox.core.on_density import FLIPS
from cryovox.metrics.list_relation import Relation, relation
from cryovox.report.doctor import Finding

Float = NDArray[np.float64]

SAME_SCALE = 0.002
"""Relative difference of scales that are the same."""
SMALL = 0.05
"""Largest constant offset in voxels that is not mentioned as a problem."""
NEAR = 0.1
"""Largest deviation in voxels from an offset of a half or a whole voxel."""


def compare(
    first: Float, second: Float, path: Path, shape: tuple[int, int, int] | None, voxel_size: float | None
) -> list[Finding]:
    """Name what turns one list of particles into another: order of axes, flips, scale, constant offset.

    Parameters
    ----------
    first, second : (n, 3), (m, 3)
        Positions as (z, y, x); the second list in Å.
    path
        File of the first list, for the commands.
    shape : (z, y, x) or None
        Shape of the tomogram in voxels. Without it, a flip and an offset cannot be separated.
    voxel_size
        Of the tomogram in Å; by default the scale between the lists.
    """
    between = relation(first, second)
    counts = f"{len(first)} and {len(second)} particles"
    if between is None:
        message = f"{counts}: no order of axes, flip, scale and offset makes most of them agree"
        return [Finding("warning", "same particles", message, "check that both are of one tomogram")]
    size = voxel_size or (1.0 if _is_one(between.scale) else between.scale)
    text = f"{counts}, {between.matched} of them agree within {between.spread:.2g} Å (root mean square)"
    findings = [Finding("ok", "same particles", text), _axes(between), _flips(between, path)]
    findings += [_scale(between, path)]
    if shape is None and any(sign < 0 for sign in between.signs):
        message = "not separable from the flip without the shape of the tomogram"
        findings.append(Finding("note", "constant offset", message, "add --shape X,Y,Z in voxels"))
    elif voxel_size is None and _is_one(between.scale) and shape is not None:
        offset = _text(list(between.offset[::-1]), "Å")
        message = f"{offset}; in voxels with the voxel size"
        findings.append(Finding("note", "constant offset", message, "add --voxel-size A"))
    else:
        findings.append(_offset(between, shape or (0, 0, 0), size))
    return findings


def _is_one(scale: float) -> bool:
    return abs(scale - 1) < SAME_SCALE


def _axes(between: Relation) -> Finding:
    if between.axes == (0, 1, 2):
        return Finding("ok", "order of axes", "the same")
    pairs = [f"{'zyx'[k]} is {'zyx'[axis]} of the first" for k, axis in enumerate(between.axes) if axis != k]
    message = f"different: in the second list {', '.join(reversed(pairs))}"
    return Finding("error", "order of axes", message, "correct the header of the columns of the first list")


def _flips(between: Relation, path: Path) -> Finding:
    flipped = _flipped(between)
    if not flipped:
        return Finding("ok", "flips", "none")
    names = flipped[0] if len(flipped) == 1 else f"{', '.join(flipped[:-1])} and {flipped[-1]}"
    mirrored = len(flipped) % 2 != (_parity(between.axes) % 2)
    hand = ", which mirrors the hand" if mirrored else ", which keeps the hand"
    axes = f"{len(flipped)} axes are flipped" if len(flipped) > 1 else "one axis is flipped"
    return Finding("error", "flips", f"{axes}: {names}{hand}", _command(between, path))


def _flipped(between: Relation) -> list[str]:
    return [axis for axis, sign in zip("xyz", between.signs[::-1], strict=True) if sign < 0]


def _command(between: Relation, path: Path) -> str:
    """The command that corrects scale and flips at once, since a flip needs the correct scale."""
    options = [] if _is_one(between.scale) else [f"--voxel-size {between.scale:.5g}"]
    if flipped := _flipped(between):
        options += [*(FLIPS[axis] for axis in flipped), "--tomogram TOMOGRAM"]
    return f"cryovox convert {shlex.quote(str(path))} OUT.csv {' '.join(options)}"


def _parity(axes: tuple[int, int, int]) -> int:
    return sum(axes[i] > axes[k] for i in range(3) for k in range(i + 1, 3))


def _scale(between: Relation, path: Path) -> Finding:
    if _is_one(between.scale):
        return Finding("ok", "scale", f"the same ({between.scale:.4f})")
    factor = between.scale if between.scale > 1 else 1 / between.scale
    whole = round(factor)
    name = f"a factor of {between.scale:.4g}"
    if abs(factor - whole) < SAME_SCALE * whole and whole in (2, 3, 4, 6, 8, 16):
        name += f", as of binning by {whole}"
    else:
        name += ": voxels of this size in Å, or another voxel size"
    return Finding("error", "scale", name, _command(between, path))


def _offset(between: Relation, shape: tuple[int, int, int], size: float) -> Finding:
    """The constant that remains after flips about the center of the volume, in voxels."""
    flipped = np.array(between.signs) < 0
    shift = np.array(between.offset) / size
    last = {"n - 1 - i": np.array(shape) - 1, "n - i": np.array(shape)}
    remaining = {name: shift - np.where(flipped, end, 0) for name, end in last.items()}
    kind = min(remaining, key=lambda name: np.abs(remaining[name]).max()) if flipped.any() else "n - 1 - i"
    rest = remaining[kind]
    largest = float(np.abs(rest).max())
    text = f"{_text(rest[::-1].tolist(), 'voxel')}, at most {largest:.2f} voxel"
    if flipped.any():
        text += f", after flips of voxel i of n to {kind}"
    if flipped.any() and kind == "n - i":
        text += " (one voxel beyond n - 1 - i: the centers differ)"
    if largest <= SMALL:
        return Finding("ok" if kind == "n - 1 - i" else "warning", "constant offset", text)
    return Finding("warning", "constant offset", f"{text}; {_meaning(rest)}", _remedy(rest))


def _text(values: list[float], unit: str) -> str:
    return ", ".join(f"{axis} {value:+.2f}" for axis, value in zip("xyz", values, strict=True)) + f" {unit}"


def _meaning(rest: Float) -> str:
    moved = np.abs(rest) > SMALL
    for step, text in (
        (0.5, "half a voxel: corners and centers of voxels"),
        (1.0, "one voxel: other centers"),
    ):
        if (np.abs(np.abs(rest[moved]) - step) <= NEAR).all():
            return f"about {text}"
    return "a constant shift"


def _remedy(rest: Float) -> str:
    if (np.abs(np.abs(rest) - 1) <= NEAR).all():
        return "if it is a RELION 5 list: --center half-1 or --center half in `cryovox convert`"
    return "compare both lists with the density: `cryovox convert LIST OUT.star --tomogram T --verify`"
