"""The visual graph of MVGFormer: k-means over context features (section 4.1, equations 2 to 5).

The paper gives neither initialization nor iterations. Ours: farthest points, which depend on the
values and not on the order of the tokens, so that a transposed grid gets the transposed assignment,
and a fixed number of Lloyd steps. Every sample is clustered by itself. The hard assignment carries
no gradient; the mean of equation 5 does.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Graph:
    """Nodes, and the assignment of tokens to them.

    Parameters
    ----------
    nodes : (b, k, c)
        Mean feature of each cluster.
    assignment : (b, z, y, x) int64
        Cluster of each token.
    extra
        Named scalar losses of a learned graph.
    """

    nodes: Tensor
    assignment: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)


def kmeans_graph(features: Tensor, clusters: int, steps: int = 5) -> Graph:
    """Cluster the tokens of a feature map (b, c, z, y, x), each sample by itself."""
    points = features.flatten(2).transpose(1, 2)
    assignment, centers = kmeans(points, clusters, steps)
    nodes = cluster_means(points, assignment, centers)
    return Graph(nodes, assignment.unflatten(1, features.shape[2:]))


@torch.no_grad()
def kmeans(
    points: Tensor, clusters: int, steps: int = 5, start: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Minimize equation 3 by Lloyd's iteration.

    Parameters
    ----------
    points : (b, n, c)
        With n at least *clusters*.
    start : (b, clusters, c)
        Centers to start from; by default the farthest points.

    Returns
    -------
    assignment : (b, n) int64
        The nearest center of each point; the first of equals.
    centers : (b, k, c)
        The centers that the assignment was made with. A cluster without points keeps its center.
    """
    with full_precision(points):
        points = points.to(torch.promote_types(points.dtype, torch.float32))
        centers = farthest_points(points, clusters) if start is None else start.to(points.dtype)
        for _ in range(steps):
            centers = cluster_means(points, _nearest(points, centers), centers)
        return _nearest(points, centers), centers


def farthest_points(points: Tensor, count: int, among: Tensor | None = None) -> Tensor:
    """Choose *count* of the points (b, n, c), each farthest from those before; first, from the mean.

    Only points in *among* (b, n) are chosen, several times if they are too few.
    """
    distance = (points - points.mean(1, keepdim=True)).square().sum(-1)
    excluded = torch.zeros_like(distance, dtype=torch.bool) if among is None else ~among
    chosen: list[Tensor] = []
    for index in range(count):
        at = distance.masked_fill(excluded, -1).argmax(1)[:, None, None].expand(-1, 1, points.shape[-1])
        chosen.append(points.gather(1, at))
        nearer = (points - chosen[-1]).square().sum(-1)
        distance = nearer if index == 0 else torch.minimum(distance, nearer)
    return torch.cat(chosen, 1)


def cluster_means(points: Tensor, assignment: Tensor, fallback: Tensor) -> Tensor:
    """Average the points (b, n, c) of each cluster (equation 5); an empty one takes its *fallback*."""
    with full_precision(points):
        points = points.to(fallback.dtype)
        member = F.one_hot(assignment, fallback.shape[1]).to(points.dtype)
        size = member.sum(1)[..., None]
        means = member.transpose(1, 2) @ points / size.clamp(min=1)
        return torch.where(size > 0, means, fallback)


def full_precision(like: Tensor) -> AbstractContextManager[Any]:
    """Suspend autocast on the device of a tensor; the meta device, on which costs are counted, has none."""
    kind = like.device.type
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)


def _nearest(points: Tensor, centers: Tensor) -> Tensor:
    shift = points.mean(1, keepdim=True)  # less cancellation in the product below
    points, centers = points - shift, centers - shift
    squares = centers.square().sum(-1)[:, None]
    return (squares - 2 * points @ centers.transpose(1, 2)).argmin(-1)
