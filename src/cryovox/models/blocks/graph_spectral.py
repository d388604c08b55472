"""Spectral clustering in place of k-means: the first alternative of table 9 of MVGFormer.

The paper gives its name only. Ours is that of A. Ng, M. Jordan and Y. Weiss (NIPS 2001) on a
Gaussian affinity whose widths are the distances to a near neighbor (L. Zelnik-Manor and P. Perona,
NIPS 2004), so that nothing has to be tuned to the scale of the features.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cryovox.models.blocks.graph import Graph, cluster_means, kmeans

NEIGHBOR = 7  # whose distance is the width of the affinity


def spectral_graph(features: Tensor, clusters: int, steps: int = 5) -> Graph:
    """Cluster the tokens of a feature map (b, c, z, y, x), each sample by itself.

    As for k-means, the assignment carries no gradient and the nodes are the means of equation 5.
    Its cost grows with the cube of the number of tokens.
    """
    points = features.flatten(2).transpose(1, 2)
    with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
        assignment, _ = kmeans(embedding(affinity(points), clusters), clusters, steps)
        wide = points.to(torch.promote_types(points.dtype, torch.float32))
        middle = wide.mean(1, keepdim=True).expand(-1, clusters, -1)
    return Graph(cluster_means(points, assignment, middle), assignment.unflatten(1, features.shape[2:]))


@torch.no_grad()
def affinity(points: Tensor) -> Tensor:
    """Likeness of points (b, n, c), normalized as D^-1/2 W D^-1/2: (b, n, n), symmetric.

    W is exp(-d_ij^2 / (s_i s_j)) with s_i the distance of point i to its seventh neighbor, and 0
    on the diagonal.
    """
    with torch.autocast(points.device.type, enabled=False):
        points = points.to(torch.promote_types(points.dtype, torch.float32))
        points = points - points.mean(1, keepdim=True)
        distance = torch.cdist(points, points)
        rank = min(NEIGHBOR + 1, points.shape[1])  # every point is its own first
        width = distance.kthvalue(rank, dim=-1).values.clamp(min=1e-6)
        weight = torch.exp(-distance.square() / (width[:, :, None] * width[:, None]))
        weight = weight - torch.diag_embed(weight.diagonal(dim1=1, dim2=2))
        weight = (weight + weight.transpose(1, 2)).nan_to_num() / 2
        scale = weight.sum(-1).clamp(min=1e-12).rsqrt()
        return (scale[:, :, None] * scale[:, None]) * weight


def embedding(likeness: Tensor, count: int) -> Tensor:
    """Coordinates (b, n, count) in which clusters lie apart: rows of unit length.

    The eigenvectors of the *count* smallest eigenvalues of the Laplacian, 1 minus *likeness*.
    """
    vectors = torch.linalg.eigh(likeness).eigenvectors[..., -count:]
    return F.normalize(vectors, dim=-1)
