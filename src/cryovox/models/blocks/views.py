"""The three orthogonal views of MVGFormer (section 4.2)."""

from __future__ import annotations

from torch import Tensor

# Axes of a view, as (depth, row, column) out of (z, y, x): xy = (H, W, D), yz = (H, D, W) and
# xz = (D, W, H) of section 4.2 with H = y, W = x, D = z. Each is its own inverse.
VIEWS = {"xy": (0, 1, 2), "yz": (2, 1, 0), "xz": (1, 0, 2)}


def to_view(x: Tensor, view: str) -> Tensor:
    """Transpose the last three axes into a view, or back out of it."""
    lead = x.ndim - 3
    return x.permute(*range(lead), *(lead + axis for axis in VIEWS[view]))
