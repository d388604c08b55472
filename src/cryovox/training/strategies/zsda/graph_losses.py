"""Losses of a graph over the features of a network: nodes rebuilt from neighbours, nodes that match.

Of Vox-ZSDA (IJCV 2026) only the abstract is public, which names self-supervised graph learning and dynamic
graph contrastive learning. Our reconstruction: EdgeConv (Y. Wang et al., ACM TOG 2019) rebuilds masked
nodes, judged as in GraphMAE (Z. Hou et al., KDD 2022), and InfoNCE with labels (P. Khosla et al., NeurIPS
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
from cryovox.training.strategies.zsda.feature_graph import Nodes, Rule, knn_edges, unit


class EdgeConv(nn.Module):
    """Largest answer of one layer to (x_i, x_j - x_i) over the neighbours j (DGCNN, section 3.1).

    The layer is linear up to a rising activation, so each node passes it once and not each edge.
    A norm of each node stands for the batch norm of DGCNN, since empty nodes are in the batch.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.own = nn.Linear(before, after)
        self.other = nn.Linear(before, after, bias=False)
        self.norm = nn.LayerNorm(after)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Pass nodes (b, n, c) along edges (b, n, k)."""
        sent = self.other(x)
        index = edges.flatten(1)[..., None].expand(-1, -1, sent.shape[-1])
        heard = sent.gather(1, index).unflatten(1, edges.shape[1:]).amax(2)
        return self.norm(F.leaky_relu(self.own(x) + heard, 0.2))


class NodeReconstruction(nn.Module):
    """Rebuild the features of masked nodes from their neighbours.

    A masked node is a learned token plus a linear embedding of its centroid, which visible nodes get too.
    Dynamic edges say nothing of what is masked: in the first layer only visible nodes are heard, by a
    visible node those most alike, by a masked one those nearest to its centroid, which is all that is known
    of it. In the second layer all nodes are heard: the most alike among the answers of the first, or under
    the static rule those nearest in space.

    Parameters
    ----------
    channels
        Of the features.
    width
        Of the layers; that of the features by default.
    neighbours
        Edges of each node.
    share
        Of the filled nodes of each sample that are masked, one at least and never all.
    rule
        Whether edges follow likeness or place.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int | None = None,
        neighbours: int = 4,
        share: float = 0.5,
        rule: Rule = "dynamic",
    ) -> None:
        super().__init__()
        width = width or channels
        self.neighbours, self.share, self.rule = neighbours, share, rule
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
            Which nodes; drawn by default.
        """
        with full_precision(nodes.features):
            masked = drawn(nodes.filled, self.share) if masked is None else masked & nodes.filled
            rebuilt = unit(self.rebuilt(nodes, masked))
            missed = (1 - (rebuilt * unit(nodes.features.detach())).sum(-1)).square()
            return (missed * masked).sum() / masked.sum().clamp(min=1)

    def rebuilt(self, nodes: Nodes, masked: Tensor) -> Tensor:
        """Features (b, k, c) as far as the visible nodes tell them."""
        visible = F.layer_norm(nodes.features, nodes.features.shape[-1:])
        x = torch.where(masked[..., None], self.token, visible) + self.embedding(nodes.places)
        seen = replace(nodes, filled=nodes.filled & ~masked)
        near, alike = (knn_edges(seen, self.neighbours, rule) for rule in ("static", self.rule))
        edges = torch.where(masked[..., None], near, alike)
        x = self.layers[0](x, edges)
        edges = knn_edges(replace(nodes, features=x), self.neighbours, self.rule)
        return self.head(self.layers[1](x, edges))


def node_contrast(
    first: Nodes,
    second: Nodes,
    *,
    project: Callable[[Tensor], Tensor],
    temperature: float = 0.1,
    positives: Positives = "both",
) -> Tensor:
    """InfoNCE of all nodes of both views of a batch (L_out of Khosla et al., equation 2).

    All nodes of the batch that are no positives are negatives.

    Parameters
    ----------
    first, second
        Nodes that match: of one assignment. Labels that one view has count for both.
    project
        Head that is trained along, from (n, c) to (n, d).
    temperature
    positives
        The same node in the other view ("matched"), all nodes of the same known label ("labels"), or
        both. A node without any has no say.
    """
    with full_precision(first.features):
        held = first.filled & second.filled
        found = unit(project(torch.cat([first.features[held], second.features[held]])))
        label = torch.maximum(first.label, second.label)[held].repeat(2)
        node = torch.arange(len(label) // 2, device=label.device).repeat(2)
        matched, alike = node[:, None] == node, (label[:, None] == label) & (label >= 0)
        same = {"matched": matched, "labels": alike, "both": matched | alike}[positives]
        return _information(found @ found.T / temperature, same)


def projection(channels: int, width: int = 64) -> nn.Sequential:
    """Head of one hidden layer for :func:`node_contrast`."""
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, width))


def drawn(filled: Tensor, share: float) -> Tensor:
    """Draw a share of the filled nodes (b, k) of each sample: one at least, never all."""
    chances = torch.rand(filled.shape, device=filled.device).masked_fill(~filled, 2.0)
    count = filled.sum(1, keepdim=True)
    wanted = (share * count).round().clamp(min=1)
    return chances.argsort(1).argsort(1) < torch.minimum(wanted, count - 1)


def _information(alike: Tensor, same: Tensor) -> Tensor:
    """Mean over the anchors of minus the mean log-chance of their positives."""
    itself = torch.eye(len(alike), dtype=torch.bool, device=alike.device)
    chances = alike - alike.masked_fill(itself, -torch.inf).logsumexp(1, keepdim=True)
    pairs = same & ~itself
    number = pairs.sum(1)
    terms = (chances * pairs).sum(1) / number.clamp(min=1)
    return -terms.sum() / (number > 0).sum().clamp(min=1)
