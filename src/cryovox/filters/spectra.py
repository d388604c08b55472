"""Spectra of batches of cubes."""

from __future__ import annotations

import torch
from torch import Tensor

AXES = (2, 3, 4)


def as_float(x: Tensor) -> Tensor:
    """At least single precision, which Fourier transforms need on every device."""
    return x if x.dtype == torch.float64 else x.float()


def rfftn(x: Tensor) -> Tensor:
    """The `rfftn` of cubes (b, 1, z, y, x)."""
    return torch.fft.rfftn(as_float(x), dim=AXES)


def irfftn_like(spectrum: Tensor, like: Tensor) -> Tensor:
    """Cubes from their `rfftn`, with the shape and dtype of *like*."""
    return torch.fft.irfftn(spectrum, s=like.shape[2:], dim=AXES).to(like.dtype)


def frequencies(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Frequencies of an `rfftn` in cycles per voxel, shaped for broadcasting."""
    z, y, n = x.shape[2:]
    of = torch.fft.fftfreq
    fz, fy = of(z, device=x.device)[:, None, None], of(y, device=x.device)[:, None]
    return fz, fy, torch.fft.rfftfreq(n, device=x.device)
