"""A graph over the features of a network: labeled nodes, and edges between similar ones.

Of Vox-ZSDA (IJCV 2026) only the abstract is public. This graph is our reconstruction: the nodes are those
of MVGFormer, by some of the same authors; the edges are computed in each layer as in DGCNN (Y. Wang et al.,
ACM TOG 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cryovox.data.targets import IGNORE_INDEX
from cryovox.models.blocks.graph import cluster_means, full_precision, kmeans

Rule = Literal["dynamic", "static"]
"""Edges by similarity, computed in each pass and layer, or by location."""
MAX_TOKENS = 512
"""Tokens to cluster, 8 x 8 x 8; finer features are averaged first."""
MIN_NORM = 1e-3
"""Norm below which a feature has no direction; bounds the gradient of a dead one."""


@dataclass(frozen=True)
class Nodes:
    """Clusters of the tokens of each sample.

    Parameters
    ----------
    features : (b, k, c) float32
        Mean feature of each node, 0 for an empty one.
    assignment : (b, z, y, x) int64
        Node of each token.
    label : (b, k) int64
        Class of most of the known voxels of a node, 0 is background; -1 without known voxels.
    filled : (b, k) bool
        Whether a node has tokens.
    """

    features: Tensor
    assignment: Tensor
    label: Tensor
    filled: Tensor

    @property
    def centroids(self) -> Tensor:
        """Centroids (b, k, 3), each axis from -1 to 1 over the grid; 0 for an empty node."""
        sides, device = self.assignment.shape[1:], self.features.device
        axes = [(2 * torch.arange(side, device=device) + 1) / side - 1 for side in sides]
        grid = torch.stack(torch.meshgrid(axes, indexing="ij"), -1).flatten(0, 2)
        none = grid.new_zeros(*self.filled.shape, 3)
        return cluster_means(grid.expand(len(none), -1, -1), self.assignment.flatten(1), none)


def cluster_nodes(
    features: Tensor,
    clusters: int,
    steps: int = 5,
    assignment: Tensor | None = None,
    *,
    target: Tensor | None = None,
    valid_mask: Tensor | None = None,
    max_tokens: int = MAX_TOKENS,
) -> Nodes:
    """Average features over clusters of k-means, or over those of another view of the same cubes.

    The assignment carries no gradient; the means do.

    Parameters
    ----------
    features : (b, c, z', y', x')
        On a grid that covers the patch, coarser or not.
    clusters
        Nodes of each sample.
    steps
        Of Lloyd's iteration.
    assignment : (b, z'', y'', x'') int64
        Assignment of another view, for nodes that match its nodes, on the grid of the averaged features.
    target : (b, z, y, x) int64
        Channel, 0 is background; 255 is unknown.
    valid_mask : (b, z, y, x) bool
        Voxels with a valid target; all by default.
    most
        Tokens to which finer features are averaged.
    """
    with full_precision(features):
        tokens = pool_tokens(features.float(), max_tokens)
        points = tokens.flatten(2).transpose(1, 2)
        if assignment is None:
            assignment = _clustered(points, clusters, steps).unflatten(1, tokens.shape[2:])
        _check_grid(assignment, tokens)
        flat = assignment.flatten(1)
        means = cluster_means(points, flat, points.new_zeros(len(points), clusters, points.shape[2]))
        filled = F.one_hot(flat, clusters).any(1)
        if target is None:
            label = torch.full_like(filled, -1, dtype=torch.int64)
        else:
            known = target != IGNORE_INDEX if valid_mask is None else valid_mask & (target != IGNORE_INDEX)
            label = _majority(target, known, assignment, clusters)
        return Nodes(means, assignment, label, filled)


def knn_edges(nodes: Nodes, k: int = 4, rule: Rule = "dynamic") -> Tensor:
    """Find the nearest filled nodes of each node, itself left out.

    Returns
    -------
    (b, n, min(k, n)) int64
        By the cosine of the features (dynamic) or the distance of the centroids (static), nearest
        first. Where there are too few filled nodes, the node itself takes their place.
    """
    with full_precision(nodes.features):
        points = unit_vectors(nodes.features) if rule == "dynamic" else nodes.centroids
        return _nearest(points, nodes.filled, k)


def _nearest(points: Tensor, filled: Tensor, k: int) -> Tensor:
    """Indices of the nearest filled points of each point (b, n, c), the point itself left out."""
    itself = torch.arange(points.shape[1], device=points.device)[:, None]
    distance = (points[:, :, None] - points[:, None]).detach().square().sum(-1)
    distance = distance.masked_fill(~filled[:, None] | (itself == itself.T), torch.inf)
    nearest = distance.topk(min(k, points.shape[1]), largest=False)
    return torch.where(nearest.values.isinf(), itself, nearest.indices)


def unit_vectors(x: Tensor) -> Tensor:
    """Scale vectors to unit length, those below `MIN_NORM` to less."""
    return F.normalize(x, dim=-1, eps=MIN_NORM)


def pool_tokens(features: Tensor, max_tokens: int) -> Tensor:
    """Average features (b, c, z, y, x) to about *most* tokens, if they are more."""
    shape = features.shape[2:]
    shrunk = (max_tokens / shape.numel()) ** (1 / 3)
    if shrunk >= 1:
        return features
    z, y, x = (max(1, int(shrunk * side + 1e-6)) for side in shape)
    return F.adaptive_avg_pool3d(features, (z, y, x))


def _clustered(points: Tensor, clusters: int, steps: int) -> Tensor:
    if clusters > points.shape[1]:
        raise ValueError(f"{clusters} nodes cannot be made of {points.shape[1]} tokens; ask for fewer nodes")
    return kmeans(points, clusters, steps)[0]


def _check_grid(assignment: Tensor, tokens: Tensor) -> None:
    expected = (len(tokens), *tokens.shape[2:])
    if tuple(assignment.shape) != expected:
        raise ValueError(f"the assignment {tuple(assignment.shape)} does not fit the tokens {expected}")


def _majority(target: Tensor, valid_mask: Tensor, assignment: Tensor, clusters: int) -> Tensor:
    """Label (b, k) of each node: foreground where that is more than half of what is known."""
    clean = target.masked_fill(~valid_mask, 0)
    classes = max(2, int(clean.max()) + 1)
    node = F.interpolate(assignment[:, None].float(), size=target.shape[1:])[:, 0].long()
    counts = torch.zeros(len(target), clusters * classes, device=target.device)
    counts.scatter_add_(1, (node * classes + clean).flatten(1), valid_mask.flatten(1).float())
    counts = counts.unflatten(1, (clusters, classes))
    total, inside = counts.sum(-1), counts[..., 1:]
    label = torch.where(inside.sum(-1) > total / 2, inside.argmax(-1) + 1, 0)
    return label.masked_fill(total == 0, -1)
