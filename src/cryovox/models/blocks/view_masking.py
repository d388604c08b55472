"""View-masked self-supervision of MVGFormer (section 4.4): hidden tokens and their reconstruction."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cryovox.models.blocks.transformer import Layer


class ViewReconstruction(nn.Module):
    """Light decoder of view-masked self-supervision (4.4): hidden tokens from the other views."""

    def __init__(
        self, dim: int, views: int, count: int, voxels: int, width: int = 128, layers: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        self.hidden = nn.Parameter(torch.zeros(dim))  # replaces a hidden token in the encoder
        self.blank = nn.Parameter(torch.zeros(width))  # and in this decoder
        self.position = nn.Parameter(torch.empty(views, count, width))
        self.own = nn.Linear(dim, width)
        self.other = nn.Linear(dim, width) if views > 1 else None
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, voxels))
        for parameter in (self.hidden, self.blank, self.position):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, own: Tensor, others: list[Tensor], hidden: Tensor, view: int) -> Tensor:
        """Voxels (b, n, voxels) from features (b, n, c), all along the axes of the hidden view."""
        visible = self.own(own)
        x = torch.where(hidden[..., None], self.blank.to(visible.dtype), visible) + self.position[view]
        if self.other is not None:
            x = x + self.other(torch.stack(others).mean(0))
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def random_token_mask(batch: int, tokens: int, rate: float, device: torch.device) -> Tensor:
    """Tokens to hide, (b, n) bool, the same number in each sample."""
    order = torch.rand(batch, tokens, device=device).argsort(1)
    return order < max(round(rate * tokens), 1)
