"""MinCutPool in place of k-means: the second alternative of table 9 of MVGFormer.

F. M. Bianchi, D. Grattarola and C. Alippi, ICML 2020: an MLP gives every token a share of each
cluster and learns from two losses of its own. MVGFormer names it only. Our reconstruction: tokens
are joined by the affinity of their features; nodes are means weighted by the shares, as equation 5 with
soft R; a token belongs to the cluster of its largest share where an assignment has to be hard.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cryovox.models.blocks.graph import Graph
from cryovox.models.blocks.graph_spectral import affinity


class MinCut(nn.Module):
    """Learned clusters.

    Parameters
    ----------
    dim, clusters
        Channels of the features, and nodes of the graph.
    """

    def __init__(self, dim: int, clusters: int) -> None:
        super().__init__()
        self.share = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, clusters)
        )

    def forward(self, features: Tensor) -> Graph:
        """Cluster the tokens of a feature map (b, c, z, y, x), each sample by itself."""
        points = features.flatten(2).transpose(1, 2)
        shares = self.share(points).float().softmax(-1)
        with torch.autocast(points.device.type, enabled=False):
            weights = shares / shares.sum(1, keepdim=True).clamp(min=1e-6)
            nodes = weights.transpose(1, 2) @ points.float()
            cut, overlap = mincut_losses(shares, affinity(points))
        assignment = shares.argmax(-1).unflatten(1, features.shape[2:])
        return Graph(nodes, assignment, {"graph-cut": cut, "graph-overlap": overlap})


def mincut_losses(shares: Tensor, likeness: Tensor) -> tuple[Tensor, Tensor]:
    """Cut and orthogonality loss (Bianchi et al., equation 9), mean over the batch.

    Parameters
    ----------
    shares : (b, n, k)
        S, of every token in each cluster; rows add up to 1.
    likeness : (b, n, n)
        Normalized affinity of the tokens.

    Returns
    -------
    cut
        From -1, where no two clusters are joined, to 0.
    overlap
        0 where clusters are hard and of one size, at most 2.
    """
    inside = (shares * (likeness @ shares)).sum((1, 2))
    degree = (likeness.sum(-1)[..., None] * shares.square()).sum((1, 2)).clamp(min=1e-12)
    gram = shares.transpose(1, 2) @ shares
    size = gram.shape[-1]
    even = torch.eye(size, device=gram.device) / size**0.5
    off = gram / torch.linalg.matrix_norm(gram)[:, None, None] - even
    return -(inside / degree).mean(), torch.linalg.matrix_norm(off).mean()
