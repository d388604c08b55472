"""Losses of a graph over the features of a network: nodes reconstructed from neighbors, and matching nodes.

Of Vox-ZSDA (IJCV 2026) only the abstract is public, which names self-supervised graph learning and dynamic
graph contrastive learning. Our reconstruction: EdgeConv (Y. Wang et al., ACM TOG 2019) reconstructs masked
nodes, with the loss of GraphMAE (Z. Hou et al., KDD 2022), and InfoNCE with labels (P. Khosla et al., NeurIPS
2020) compares the nodes of two views.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.models.blocks.graph import full_precision
from cryovox.training.strategies.config.vox_zsda import Positives
from cryovox.training.strategies.zsda.feature_graph import Nodes, Rule, knn_edges, unit_vectors


class EdgeConv(nn.Module):
    """Maximum of one layer of (x_i, x_j - x_i) over the neighbors j (DGCNN, section 3.1).

    The layer is linear up to a monotonic activation, so it is applied to each node and not to each edge.
    A layer norm replaces the batch norm of DGCNN, since the batch holds empty nodes.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.own = nn.Linear(before, after)
        self.other = nn.Linear(before, after, bias=False)
        self.norm = nn.LayerNorm(after)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Pass nodes (b, n, c) along edges (b, n, k)."""
        messages = self.other(x)
        index = edges.flatten(1)[..., None].expand(-1, -1, messages.shape[-1])
        highest = messages.gather(1, index).unflatten(1, edges.shape[1:]).amax(2)
        return self.norm(F.leaky_relu(self.own(x) + highest, 0.2))


class NodeReconstruction(nn.Module):
    """Reconstruct the features of masked nodes from their neighbors.

    A masked node is a learned token plus a linear embedding of its centroid, which visible nodes get too.
    Dynamic edges must not reveal masked features. In the first layer only visible nodes send messages: to a
    visible node the most similar ones, to a masked one those nearest to its centroid. In the second layer
    all nodes send messages: the most similar ones by the features of the first layer, or under the static
    rule those nearest in space.

    Parameters
    ----------
    channels
        Of the features.
    width
        Of the layers; that of the features by default.
    neighbors
        Edges of each node.
    share
        Fraction of the filled nodes of each sample that are masked, one at least and never all.
    rule
        Whether edges follow similarity or location.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int | None = None,
        neighbors: int = 4,
        share: float = 0.5,
        rule: Rule = "dynamic",
    ) -> None:
        super().__init__()
        width = width or channels
        self.neighbors, self.share, self.rule = neighbors, share, rule
        self.token = nn.Parameter(0.02 * torch.randn(channels))
        self.embedding = nn.Linear(3, channels)
        self.layers = nn.ModuleList([EdgeConv(channels, width), EdgeConv(width, width)])
        self.head = nn.Linear(width, channels)

    def forward(self, nodes: Nodes, masked: Tensor | None = None) -> Tensor:
        """Mean of (1 - cos)^2 over the masked nodes, against their own features without gradient.

        Parameters
        ----------
        nodes
        masked : (b, k) bool
            Which nodes; random by default.
        """
        with full_precision(nodes.features):
            masked = sample_masked(nodes.filled, self.share) if masked is None else masked & nodes.filled
            predicted = unit_vectors(self.reconstruct(nodes, masked))
            error = (1 - (predicted * unit_vectors(nodes.features.detach())).sum(-1)).square()
            return (error * masked).sum() / masked.sum().clamp(min=1)

    def reconstruct(self, nodes: Nodes, masked: Tensor) -> Tensor:
        """Features (b, k, c) predicted from the visible nodes."""
        visible = F.layer_norm(nodes.features, nodes.features.shape[-1:])
        x = torch.where(masked[..., None], self.token, visible) + self.embedding(nodes.centroids)
        unmasked = replace(nodes, filled=nodes.filled & ~masked)
        nearest, similar = (knn_edges(unmasked, self.neighbors, rule) for rule in ("static", self.rule))
        edges = torch.where(masked[..., None], nearest, similar)
        x = self.layers[0](x, edges)
        edges = knn_edges(replace(nodes, features=x), self.neighbors, self.rule)
        return self.head(self.layers[1](x, edges))


class NeighborContext(nn.Module):
    """Add to each node what an EdgeConv gathers from its most similar nodes.

    With it, the contrast compares nodes with their edges instead of single nodes.

    Parameters
    ----------
    channels
        Of the features.
    neighbors
        Edges of each node.
    rule
        Whether edges follow similarity or location.
    """

    def __init__(self, channels: int, *, neighbors: int = 4, rule: Rule = "dynamic") -> None:
        super().__init__()
        self.neighbors, self.rule = neighbors, rule
        self.layer = EdgeConv(channels, channels)

    def forward(self, nodes: Nodes) -> Nodes:
        """The nodes with context; features are scaled by a layer norm first."""
        with full_precision(nodes.features):
            x = F.layer_norm(nodes.features, nodes.features.shape[-1:])
            return replace(nodes, features=x + self.layer(x, knn_edges(nodes, self.neighbors, self.rule)))


def node_contrast(
    first: Nodes,
    second: Nodes,
    *,
    project: Callable[[Tensor], Tensor],
    temperature: float = 0.1,
    positives: Positives = "both",
) -> Tensor:
    """InfoNCE of all nodes of both views of a batch (L_out of Khosla et al., equation 2).

    All other nodes of the batch are negatives.

    Parameters
    ----------
    first, second
        Matching nodes, of one assignment. The labels of either view count for both.
    project
        Projection head, from (n, c) to (n, d).
    temperature
    positives
        The same node in the other view ("matched"), all nodes of the same known label ("labels"), or
        both. A node without positives is no anchor.
    """
    with full_precision(first.features):
        filled = first.filled & second.filled
        embedding = unit_vectors(project(torch.cat([first.features[filled], second.features[filled]])))
        label = torch.maximum(first.label, second.label)[filled].repeat(2)
        node = torch.arange(len(label) // 2, device=label.device).repeat(2)
        same_node, same_label = node[:, None] == node, (label[:, None] == label) & (label >= 0)
        same = {"matched": same_node, "labels": same_label, "both": same_node | same_label}[positives]
        return _info_nce(embedding @ embedding.T / temperature, same)


def projection(channels: int, width: int = 64) -> nn.Sequential:
    """Head of one hidden layer for :func:`node_contrast`."""
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, width))


def sample_masked(filled: Tensor, share: float) -> Tensor:
    """Random fraction of the filled nodes (b, k) of each sample: one at least, never all."""
    order = torch.rand(filled.shape, device=filled.device).masked_fill(~filled, 2.0)
    count = filled.sum(1, keepdim=True)
    number = (share * count).round().clamp(min=1)
    return order.argsort(1).argsort(1) < torch.minimum(number, count - 1)


def _info_nce(similarity: Tensor, same: Tensor) -> Tensor:
    """Mean over the anchors of minus the mean log-probability of their positives."""
    itself = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    log_p = similarity - similarity.masked_fill(itself, -torch.inf).logsumexp(1, keepdim=True)
    pairs = same & ~itself
    number = pairs.sum(1)
    terms = (log_p * pairs).sum(1) / number.clamp(min=1)
    return -terms.sum() / (number > 0).sum().clamp(min=1)
