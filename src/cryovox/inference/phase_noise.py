"""Noise with the spectrum of a tomogram, and the piece of a tomogram that it is made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int, int]


def phase_randomized(data: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise with the amplitude of a volume at every frequency and its mean, and random phases."""
    noise = np.fft.rfftn(rng.standard_normal(data.shape, np.float32))
    noise /= np.maximum(np.abs(noise), 1e-12)
    noise[0, 0, 0] = np.sign(data.mean(dtype=np.float64))
    spectrum = np.abs(np.fft.rfftn(data)) * noise
    return np.fft.irfftn(spectrum, s=data.shape, axes=(0, 1, 2)).astype(np.float32)


def central_box(
    shape: Shape, share: float, spans: list[tuple[int, int]], least: int
) -> tuple[slice, slice, slice]:
    """Box in the middle of a part of a volume that has a share of the part.

    Parameters
    ----------
    spans
        First and last voxel of the part along each axis.
    least
        Minimum edge, as far as the volume reaches.
    """
    box = []
    for size, (low, high) in zip(shape, spans, strict=True):
        edge = min(size, max(least, round((high - low) * share ** (1 / 3))))
        start = int(np.clip((low + high - edge) / 2, 0, size - edge))
        box.append(slice(start, start + edge))
    return box[0], box[1], box[2]


def spans_of(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last voxel of the inside of a mask along each axis."""
    spans = []
    for axis in range(3):
        index = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        spans.append((int(index[0]), int(index[-1]) + 1))
    return spans
