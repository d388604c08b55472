"""Transformer layers of MVGFormer, and how the graph guides the first (section 4.2, equation 7).

The paper prints the first layer as MSA(Q = nodes, K = V = LN(tokens)) + tokens. The product has as
many rows as there are nodes, so it cannot be added to the tokens; `read_out` gives each token the
row of its cluster. The other two functions are alternatives.

Nodes are means of rectified features, so most of what they hold is common to all of them. As
queries they would all ask the same; `Layer.queries` keeps the differences, at the scale of tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.models.blocks.graph import Graph
from cryovox.models.blocks.positions import rotate


class Layer(nn.Module):
    """A transformer layer with the norms before attention and MLP (equation 7).

    Parameters
    ----------
    dim, heads
        Channels of the tokens, and attention heads.
    drop
        Chance that the updates of a sample are left out.
    guided
        Whether the nodes of a graph guide its attention.
    """

    def __init__(self, dim: int, heads: int, drop: float = 0.0, *, guided: bool = False) -> None:
        super().__init__()
        self.norm_nodes = nn.LayerNorm(dim) if guided else None
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.drop = drop

    def forward(
        self,
        x: Tensor,
        guide: Guide | None = None,
        graph: Graph | None = None,
        turns: Tensor | None = None,
    ) -> Tensor:
        if guide is None or graph is None:
            y = self.norm1(x)
            x = x + self._dropped(self.attention(y, y, turns))
        else:
            x = guide(self, x, graph)
        return x + self._dropped(self.mlp(self.norm2(x)))

    def queries(self, graph: Graph, like: Tensor) -> Tensor:
        """Nodes (b, k, c) less their mean, normalized as tokens are."""
        assert self.norm_nodes is not None
        nodes = graph.nodes.to(like.dtype)
        return self.norm_nodes(nodes - nodes.mean(1, keepdim=True))

    def _dropped(self, update: Tensor) -> Tensor:
        """Leave out the update of some samples (stochastic depth)."""
        if not self.training or not self.drop:
            return update
        kept = torch.empty(len(update), 1, 1, device=update.device).bernoulli_(1 - self.drop)
        return update * (kept / (1 - self.drop)).to(update.dtype)


class Attention(nn.Module):
    """Multi-head attention of *query* (b, m, c) over *memory* (b, n, c).

    Queries and keys may be rotated by the angles (b, n, p) of `positions.rotary`.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.memory = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, query: Tensor, memory: Tensor, turns: Tensor | None = None) -> Tensor:
        q = rearrange(self.query(query), "b n (h d) -> b h n d", h=self.heads)
        k, v = rearrange(self.memory(memory), "b n (two h d) -> two b h n d", two=2, h=self.heads)
        if turns is not None:
            q, k = rotate(q, turns), rotate(k, turns)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(rearrange(mixed, "b h n d -> b n (h d)"))


Guide = Callable[[Layer, Tensor, Graph], Tensor]


def read_out(layer: Layer, x: Tensor, graph: Graph) -> Tensor:
    """Attend from the nodes to the tokens, MSA(V, LN I, LN I); each token reads the result of its cluster."""
    updates = layer.attention(layer.queries(graph, x), layer.norm1(x))
    own = graph.assignment.flatten(1)[..., None].expand(-1, -1, x.shape[-1])
    return x + updates.gather(1, own)


def attend_to_nodes(layer: Layer, x: Tensor, graph: Graph) -> Tensor:
    """Attend from the tokens to the nodes."""
    return x + layer.attention(layer.norm1(x), layer.queries(graph, x))


def prepend_nodes(layer: Layer, x: Tensor, graph: Graph) -> Tensor:
    """Prepend the nodes to the tokens, for all layers."""
    x = torch.cat([layer.queries(graph, x), x], 1)
    y = layer.norm1(x)
    return x + layer.attention(y, y)


LAYER1: dict[str, Guide] = {"readout": read_out, "cross": attend_to_nodes, "prepend": prepend_nodes}
