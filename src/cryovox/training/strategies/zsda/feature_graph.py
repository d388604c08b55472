"""A graph over the features of a network: labeled nodes, and edges between similar ones.

Of Vox-ZSDA (IJCV 2026) only the abstract is public. This graph is our reconstruction: the nodes are those
of MVGFormer, by some of the same authors; the edges are computed in each layer as in DGCNN (Y. Wang et al.,
ACM TOG 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cryovox.data.targets import IGNORE_INDEX
from cryovox.models.blocks.graph import cluster_means, farthest_points, full_precision, kmeans

Rule = Literal["dynamic", "static"]
"""Edges by similarity, computed in each pass and layer, or by location."""
MAX_TOKENS = 512
"""Tokens to cluster, 8 x 8 x 8; finer features are averaged first."""
APART = 10.0
"""Distance of foreground and background when they are clustered, in standard deviations of the features."""
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
        grid = token_positions(self.assignment.shape[1:], self.features)
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
    max_tokens
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
            label = _majority(target, known_voxels(target, valid_mask), assignment, clusters)
        return Nodes(means, assignment, label, filled)


def foreground_assignment(
    features: Tensor,
    foreground: Tensor,
    clusters: int,
    *,
    share: float,
    position: float,
    steps: int = 5,
    max_tokens: int = MAX_TOKENS,
) -> Tensor:
    """Cluster features and positions, foreground and background apart.

    Particles are small: of clusters of all features, few hold any foreground.

    Parameters
    ----------
    features : (b, c, z', y', x')
        On a grid that covers the patch, coarser or not.
    foreground : (b, z, y, x) bool
        Voxels of particles.
    clusters
        Of each sample.
    share
        Fraction of the clusters in the foreground, at least one and never all; 0 ignores the foreground.
    position
        Weight of the positions: their standard deviation over that of the features.
    steps
        Of Lloyd's iteration.
    max_tokens
        Tokens to which finer features are averaged.

    Returns
    -------
    (b, z'', y'', x'') int64
        Cluster of each token.
    """
    with full_precision(features):
        tokens = pool_tokens(features.detach().float(), max_tokens)
        points = _with_positions(tokens, position)
        if not share:
            return _clustered(points, clusters, steps).unflatten(1, tokens.shape[2:])
        inside = foreground_tokens(foreground, tokens.shape[2:])
        points = torch.cat([points, APART * inside[..., None].float()], -1)
        count = min(max(1, round(share * clusters)), clusters - 1)
        start = [farthest_points(points, count, inside), farthest_points(points, clusters - count, ~inside)]
        return _clustered(points, clusters, steps, torch.cat(start, 1)).unflatten(1, tokens.shape[2:])


def foreground_tokens(foreground: Tensor, sides: Sequence[int]) -> Tensor:
    """Tokens (b, n) of a grid of these sides of which at least half is foreground (b, z, y, x)."""
    z, y, x = sides
    share = F.adaptive_avg_pool3d(foreground[:, None].float(), (z, y, x))
    return (share >= 0.5).flatten(1)


def token_positions(sides: Sequence[int], like: Tensor) -> Tensor:
    """Centers (n, 3) of the tokens of a grid, each axis from -1 to 1."""
    axes = [(2 * torch.arange(side, device=like.device) + 1) / side - 1 for side in sides]
    return torch.stack(torch.meshgrid(axes, indexing="ij"), -1).flatten(0, 2)


def _with_positions(tokens: Tensor, weight: float) -> Tensor:
    """Features and weighted positions (b, n, c + 3), each scaled to a standard deviation of 1."""
    features = _unit_spread(tokens.flatten(2).transpose(1, 2))
    positions = _unit_spread(token_positions(tokens.shape[2:], tokens)[None])
    return torch.cat([features, weight * positions.expand(len(features), -1, -1)], -1)


def _unit_spread(points: Tensor) -> Tensor:
    """Points (b, n, c) around 0 with a mean square norm of 1."""
    centered = points - points.mean(1, keepdim=True)
    return centered / centered.square().sum(-1).mean(1)[:, None, None].sqrt().clamp(min=MIN_NORM)


def known_voxels(target: Tensor, valid_mask: Tensor | None) -> Tensor:
    """Voxels with a known label."""
    labeled = target != IGNORE_INDEX
    return labeled if valid_mask is None else valid_mask & labeled


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


def _clustered(points: Tensor, clusters: int, steps: int, start: Tensor | None = None) -> Tensor:
    if clusters > points.shape[1]:
        raise ValueError(f"{clusters} nodes cannot be made of {points.shape[1]} tokens; ask for fewer nodes")
    return kmeans(points, clusters, steps, start)[0]


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
