"""Data augmentation: symmetries of the missing wedge, gray values, noise, blur, and faces of a volume.

The symmetries of the missing wedge are the half turns about x, y and z and the mirrors: exactly
the eight combinations of flips of the axes. A quarter turn about z moves the wedge and is not
among them.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryovox.data.config import AugmentConfig
from cryovox.data.patches import Patch
from cryovox.data.targets import IGNORE_INDEX

WEDGE_SYMMETRIES: tuple[tuple[int, ...], ...] = tuple(
    tuple(axis for axis, flipped in zip((-3, -2, -1), flips, strict=True) if flipped)
    for flips in product((False, True), repeat=3)
)
"""Axes to flip (of z, y, x as -3, -2, -1): the identity, three mirrors, three half turns, inversion."""

HALF_TURNS: tuple[tuple[int, ...], ...] = tuple(a for a in WEDGE_SYMMETRIES if len(a) in (0, 2))
"""The symmetries that keep the handedness of particles."""


def augment(patch: Patch, config: AugmentConfig, rng: np.random.Generator) -> Patch:
    """Augment a patch at random; image and target are flipped together."""
    axes: tuple[int, ...] = ()
    if config.flips:
        group = WEDGE_SYMMETRIES if config.mirrors else HALF_TURNS
        axes = group[rng.integers(len(group))]
    image = _gray_values(np.flip(patch.image, axes), config, rng)
    patch = replace(
        patch,
        image=np.ascontiguousarray(image, dtype=np.float32),
        target=np.ascontiguousarray(np.flip(patch.target, axes)),
        valid_mask=np.ascontiguousarray(np.flip(patch.valid_mask, axes)),
    )
    own = rng.spawn(1)[0]  # so that the other random numbers of a seed stay what they were
    return cut_off(patch, own) if own.random() < config.cut else patch


def cut_off(patch: Patch, rng: np.random.Generator) -> Patch:
    """The patch as it would be at a face of the tomogram: the mean beyond a plane, and no target there.

    The plane lies up to a third of the patch from one of its faces.
    """
    axis, at_end = int(rng.integers(-3, 0)), bool(rng.integers(2))
    size, cells = patch.image.shape[axis], patch.valid_mask.shape[axis]
    n = int(rng.integers(1, max(2, cells // 3)))
    image, valid_mask, target = patch.image.copy(), patch.valid_mask.copy(), patch.target
    for array, outside in ((image, n * size // cells), (valid_mask, n)):
        beyond = slice(-outside, None) if at_end else slice(0, outside)
        array[(..., beyond, *(slice(None),) * (-1 - axis))] = 0
    if target.dtype.kind != "f":
        target = np.where(valid_mask, target, IGNORE_INDEX).astype(target.dtype)
    return replace(patch, image=image, target=target, valid_mask=valid_mask)


def _gray_values(
    image: NDArray[np.float32], config: AugmentConfig, rng: np.random.Generator
) -> NDArray[np.float32]:
    gain = 1 + config.contrast * rng.uniform(-1, 1)
    shift = config.brightness * rng.uniform(-1, 1)
    blur = config.blur * rng.uniform() if rng.random() < 0.5 else 0.0
    out = image if blur < 0.3 else ndimage.gaussian_filter(image, blur)
    out = out * np.float32(gain) + np.float32(shift)
    sigma = config.noise * rng.uniform()
    if sigma > 0:
        out = out + np.float32(sigma) * rng.standard_normal(out.shape, dtype=np.float32)
    return out
