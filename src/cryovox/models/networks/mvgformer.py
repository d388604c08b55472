"""MVGFormer: a transformer that reads a cube along three views, guided by a graph of its context.

H. Li et al., Knowledge-Based Systems 331 (2025) 114810. Equations and sections below are those of
the paper; ``docs/methods/mvgformer.md`` lists every element, what the paper leaves open and what
was decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from cryovox.models.blocks.decoders import LastLevel, MultiLevel
from cryovox.models.blocks.graph import Graph, kmeans_graph
from cryovox.models.blocks.graph_mincut import MinCut
from cryovox.models.blocks.graph_spectral import spectral_graph
from cryovox.models.blocks.layers import MaskNetwork, check_choice, conv_block, he_init
from cryovox.models.blocks.p3da import ENLARGEMENTS
from cryovox.models.blocks.positions import rotary, sinusoidal, token_positions
from cryovox.models.blocks.transformer import LAYER1, Layer
from cryovox.models.blocks.unetr_decoder import UNETRDecoder
from cryovox.models.blocks.view_masking import ViewReconstruction, random_token_mask
from cryovox.models.blocks.views import VIEWS, to_view
from cryovox.models.supervision import Supervision

SIDE = 32  # voxels along the cube; the position tables belong to it
STRIDES = {2: (2, 1, 1), 4: (2, 2, 1), 8: (2, 2, 2), 16: (4, 2, 2)}  # of the context, per token side
GRAPHS = ("kmeans", "spectral", "mincut", "none")
POSITIONS = ("per-view", "learned", "sinusoidal", "rotary")
DECODERS = ("p3da", "mf", "mlp", "unetr")


class MVGFormer(MaskNetwork):
    """Context graph, three views through one encoder, one mask per view, their sum.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and of the logits (background included).
    dim, layers, heads
        Width C, depth L_n and attention heads of the encoder; the MLPs are 4 times as wide.
    token
        Voxels along a token: 2, 4, 8 or 16.
    clusters, graph
        Nodes K of the visual graph; ``"kmeans"``, ``"spectral"``, ``"mincut"``, or ``"none"`` for plain
        self-attention.
    context
        Channels of the first two context blocks; the third has *dim*.
    layer1
        How the graph guides layer 1: ``"readout"``, ``"cross"`` or ``"prepend"``.
    positions
        ``"per-view"``, one learned table for each view (equation 6); or places in the cube, alike in all
        views: ``"learned"``, ``"sinusoidal"`` or ``"rotary"``.
    decoder, width
        ``"p3da"``, ``"mf"``, ``"mlp"`` or ``"unetr"``, and the channels inside it.
    enlarge
        How tokens become voxels: ``"trilinear"`` or ``"depth-to-space"``; ``"unetr"`` has its own way.
    levels
        Encoder depths that ``"mf"`` and ``"mlp"`` read.
    fusion
        ``"sum"`` of the views' logits, ``"norm-sum"`` of their probabilities, or ``"learned"`` weights.
    views
        Names from `VIEWS`; a name may come more than once.
    mask_rate, vsl
        Share of the tokens hidden in one view, and whether that view is reconstructed in training.
    vsl_apart
        Hide them in a pass of its own, so that the masks are made from all that there is; costs that pass.
    drop_path
        Chance that the last layer is skipped for a sample; earlier layers in proportion.
    view_noise
        Standard deviation of Gaussian noise on the voxels of a view, such as ``{"xz": 0.05}``, outside of
        training: the permutation test of table 2. May be set on a trained network.
    """

    waves: Tensor | None
    turns: Tensor | None
    order: Tensor | None

    stride = SIDE
    patch = SIDE
    fixed_patch = True

    def __init__(  # noqa: PLR0913 - each ablation of the paper is a size or a choice
        self,
        in_channels: int,
        out_channels: int,
        *,
        dim: int = 256,
        layers: int = 12,
        heads: int = 16,
        token: int = 4,
        clusters: int = 16,
        graph: str = "kmeans",
        context: Sequence[int] = (64, 128),
        layer1: str = "readout",
        positions: str = "per-view",
        decoder: str = "p3da",
        width: int = 128,
        enlarge: str = "trilinear",
        levels: int = 4,
        fusion: str = "sum",
        views: Sequence[str] = ("xy", "yz", "xz"),
        mask_rate: float = 0.5,
        vsl: bool = True,
        vsl_apart: bool = False,
        drop_path: float = 0.1,
        view_noise: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        check_choice("token", token, STRIDES)
        check_choice("graph", graph, GRAPHS)
        check_choice("layer1", layer1, LAYER1)
        check_choice("positions", positions, POSITIONS)
        check_choice("decoder", decoder, DECODERS)
        check_choice("enlarge", enlarge, ENLARGEMENTS)
        check_choice("fusion", fusion, ("sum", "norm-sum", "learned"))
        for view in views:
            check_choice("view", view, VIEWS)
        for view in view_noise or ():
            check_choice("view_noise", view, views)
        if dim % heads or not 0 < mask_rate < 1 or not views:
            raise ValueError("dim must be a multiple of heads, mask_rate inside (0, 1), views not empty")
        self.token, self.grid = token, SIDE // token
        self.views, self.fusion, self.mask_rate = tuple(views), fusion, mask_rate
        count, voxels = self.grid**3, in_channels * token**3
        self.view_noise = dict(view_noise or {})
        self.graph, self.guide, self.clusters = graph, LAYER1[layer1], min(clusters, count)
        self.context = None if graph == "none" else context_encoder(in_channels, (*context, dim), token)
        self.embed = nn.Linear(voxels, dim)
        self._add_positions(positions, dim, heads)
        drops = (drop_path * depth / max(layers - 1, 1) for depth in range(layers))
        self.layers = nn.ModuleList(
            Layer(dim, heads, drop, guided=n == 0 and graph != "none") for n, drop in enumerate(drops)
        )
        levels = min(layers, {"p3da": 1, "unetr": token.bit_length() - 1}.get(decoder, levels))
        self.read = tuple(round(n * layers / levels) for n in range(1, levels + 1))
        self.decoder = self._decoder(decoder, in_channels, dim, out_channels, width, levels, enlarge)
        self.weights = nn.Parameter(torch.ones(len(views))) if fusion == "learned" else None
        self.vsl = ViewReconstruction(dim, len(views), count, voxels) if vsl else None
        self.vsl_apart = vsl_apart
        self._init_weights()
        self.mincut = MinCut(dim, self.clusters) if graph == "mincut" else None

    def _add_positions(self, positions: str, dim: int, heads: int) -> None:
        """Learned tables, sinusoids to add, or angles that rotate queries and keys (fig. 9b)."""
        where = token_positions(self.grid, self.views)
        tables = {"per-view": len(self.views), "learned": 1}.get(positions, 0)
        self.position = nn.Parameter(torch.empty(tables, self.grid**3, dim)) if tables else None
        waves = sinusoidal(where, dim) if positions == "sinusoidal" else None
        turns = rotary(where, dim // heads) if positions == "rotary" else None
        strides = torch.tensor([self.grid**2, self.grid, 1])
        order = (where.long() * strides).sum(-1) if positions == "learned" else None
        for name, value in {"waves": waves, "turns": turns, "order": order}.items():
            self.register_buffer(name, value, persistent=False)

    def _decoder(
        self,
        kind: str,
        in_channels: int,
        dim: int,
        out_channels: int,
        width: int,
        levels: int,
        enlarge: str,
    ) -> LastLevel | MultiLevel | UNETRDecoder:
        sizes: dict[str, Any] = {"width": width, "scale": self.token, "enlarge": enlarge}
        if kind == "p3da":
            return LastLevel(dim, out_channels, grid=self.grid, **sizes)
        if kind == "unetr":
            if 2**levels < self.token:
                needed = self.token.bit_length() - 1
                raise ValueError(f"unetr needs at least {needed} layers for tokens of {self.token} voxels")
            return UNETRDecoder(in_channels, dim, out_channels, width=width, steps=levels)
        return MultiLevel(dim, out_channels, levels=levels, mlp=kind == "mlp", **sizes)

    def _init_weights(self) -> None:
        he_init(self)
        for linear in (m for m in self.modules() if isinstance(m, nn.Linear)):
            nn.init.trunc_normal_(linear.weight, std=linear_std(linear))
            nn.init.zeros_(linear.bias)
        classify = self.decoder.classify
        nn.init.normal_(classify.weight, std=classify.in_channels**-0.5)  # far smaller, and species die
        if self.position is not None:
            nn.init.trunc_normal_(self.position, std=0.02)

    @property
    def names(self) -> list[str]:
        """One name per view; repeated views are numbered."""
        counts = [self.views[: i + 1].count(view) for i, view in enumerate(self.views)]
        return [v if n == 1 else f"{v}{n}" for v, n in zip(self.views, counts, strict=True)]

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Context ``fc`` and last features of each view, (b, c, g, g, g) along (z, y, x)."""
        context = {} if self.context is None else {"fc": self.context(x)}
        return context | self._to_cube(self._tokens(self._patches(x), self._graph(x))[-1])

    def depths(self, x: Tensor) -> dict[str, Tensor]:
        """Features of each view after every layer, ``xy/1`` and so on, (b, c, g, g, g) along (z, y, x)."""
        every = range(1, len(self.layers) + 1)
        features = self._tokens(self._patches(x), self._graph(x), depths=every)
        by_depth = ((n, self._to_cube(tokens)) for n, tokens in zip(every, features, strict=True))
        return {f"{name}/{n}": features for n, views in by_depth for name, features in views.items()}

    def assignment(self, x: Tensor) -> Tensor | None:
        """Node of the graph that each token belongs to, (b, g, g, g) along (z, y, x)."""
        graph = self._graph(x)
        return None if graph is None else to_view(graph.assignment[: x.shape[0]], self.views[0])

    def forward(self, x: Tensor) -> Tensor:
        patches = self._patches(x)
        return self._fuse(self._masks(self._tokens(patches, self._graph(x)), patches))

    def supervise(self, x: Tensor) -> Supervision:
        """All terms of equation 9: a mask per view, their fusion and the reconstruction (VSL)."""
        patches, graph = self._patches(x), self._graph(x)
        extra = {} if graph is None else dict(graph.extra)
        if self.vsl is None:
            tokens = self._tokens(patches, graph)
        else:
            view = int(torch.randint(len(self.views), (), device=x.device))
            hidden = random_token_mask(x.shape[0], self.grid**3, self.mask_rate, x.device)
            masked = self._tokens(patches, graph, view, hidden)
            extra["vsl"] = self._reconstruction(masked[-1], patches, view, hidden)
            tokens = self._tokens(patches, graph) if self.vsl_apart else masked
        masks = self._masks(tokens, patches)
        logits = dict(zip(self.names, masks, strict=True)) | {"fused": self._fuse(masks)}
        return Supervision(logits, extra, self._to_cube(tokens[-1]))

    def _patches(self, x: Tensor) -> Tensor:
        """Cut each view into flattened tokens: (v, b, n, voxels)."""
        if tuple(x.shape[2:]) != 3 * (SIDE,):
            sides = tuple(x.shape[2:])
            raise ValueError(f"sides {sides} do not fit; pad to or cut tiles of {(SIDE, SIDE, SIDE)} voxels")
        views = torch.stack([self._add_noise(to_view(x, view), view) for view in self.views])
        p = self.token
        return rearrange(views, "v b c (z p) (y q) (x r) -> v b (z y x) (c p q r)", p=p, q=p, r=p)

    def _add_noise(self, cube: Tensor, view: str) -> Tensor:
        sigma = 0.0 if self.training else self.view_noise.get(view, 0.0)
        return cube + sigma * torch.randn_like(cube) if sigma else cube

    def _tokens(
        self,
        patches: Tensor,
        graph: Graph | None,
        view: int = 0,
        hidden: Tensor | None = None,
        depths: Collection[int] = (),
    ) -> list[Tensor]:
        """Run the shared encoder over all views at once; features (v * b, n, c) of the depths to read."""
        tokens = self.embed(patches)
        if self.vsl is not None and hidden is not None:
            masked = torch.where(hidden[..., None], self.vsl.hidden.to(tokens.dtype), tokens[view])
            tokens = torch.stack([*tokens[:view], masked, *tokens[view + 1 :]])
        tokens = self._with_positions(tokens).flatten(0, 1)
        turns = None if self.turns is None else self.turns.repeat_interleave(patches.shape[1], 0)
        features = []
        for depth, layer in enumerate(self.layers, start=1):
            guides = (self.guide, graph) if depth == 1 else (None, None)
            tokens = layer(tokens, *guides, turns)
            if depth in (depths or self.read):
                features.append(tokens[:, -(self.grid**3) :])
        return features

    def _with_positions(self, tokens: Tensor) -> Tensor:
        """Add the positions to tokens (v, b, n, c), unless they are rotary."""
        table = self.waves if self.position is None else self.position
        if table is None:
            return tokens
        return tokens + (table if self.order is None else table[0, self.order])[:, None]

    def _graph(self, x: Tensor) -> Graph | None:
        """Build the visual graph (4.1) once and turn its assignment into each view."""
        if self.context is None:
            return None
        features = self.context(x)
        if self.mincut is not None:
            graph = self.mincut(features)
        else:
            cluster = spectral_graph if self.graph == "spectral" else kmeans_graph
            graph = cluster(features, self.clusters)
        turned = torch.cat([to_view(graph.assignment, view) for view in self.views])
        return Graph(graph.nodes.repeat(len(self.views), 1, 1), turned, graph.extra)

    def _maps(self, tokens: Tensor) -> Tensor:
        g = self.grid
        return rearrange(tokens, "b (z y x) c -> b c z y x", z=g, y=g, x=g)

    def _to_cube(self, tokens: Tensor) -> dict[str, Tensor]:
        """Features of each view as maps along the axes of the input."""
        maps = self._maps(tokens).chunk(len(self.views))
        return {n: to_view(m, view) for n, m, view in zip(self.names, maps, self.views, strict=True)}

    def _masks(self, tokens: list[Tensor], patches: Tensor) -> list[Tensor]:
        """Decode and rearrange into the axes of the input: logits (b, k, z, y, x) per view."""
        maps = [self._maps(level) for level in tokens]
        if isinstance(self.decoder, UNETRDecoder):
            sizes = {"z": self.grid, "y": self.grid, "p": self.token, "q": self.token, "r": self.token}
            cut = "v b (z y x) (c p q r) -> (v b) c (z p) (y q) (x r)"
            maps = [rearrange(patches, cut, **sizes), *maps]
        logits = self.decoder(maps).chunk(len(self.views))
        return [to_view(mask, view) for mask, view in zip(logits, self.views, strict=True)]

    def _fuse(self, masks: list[Tensor]) -> Tensor:
        """Add the masks of the views (equation 8), or one of the alternatives of table 9."""
        if self.fusion == "norm-sum":
            return torch.stack(masks).log_softmax(2).logsumexp(0)
        if self.weights is not None:
            return torch.einsum("v,vbkzyx->bkzyx", self.weights, torch.stack(masks))
        return torch.stack(masks).sum(0)

    def _reconstruction(self, tokens: Tensor, patches: Tensor, view: int, hidden: Tensor) -> Tensor:
        """Mean squared error of the hidden voxels of one view, reconstructed from the other views (4.4)."""
        assert self.vsl is not None
        maps = self._maps(tokens).chunk(len(self.views))
        aligned = [to_view(to_view(m, v), self.views[view]) for m, v in zip(maps, self.views, strict=True)]
        own, *others = (m.flatten(2).transpose(1, 2) for m in [aligned.pop(view), *aligned])
        error = (self.vsl(own, others, hidden, view).float() - patches[view]).square().mean(-1)
        return (error * hidden).sum() / hidden.sum()


def linear_std(linear: nn.Linear) -> float:
    """Standard deviation of initial weights; outputs vary as inputs do, at any width (LeCun 1998).

    The 0.02 of ViT belongs to 768 channels and more: at 96 the first updates hardly differ between tokens.
    """
    return linear.in_features**-0.5


def context_encoder(in_channels: int, widths: Sequence[int], token: int) -> nn.Sequential:
    """Three convolution blocks from voxels to one feature per token (4.1)."""
    steps, before = [], in_channels
    for width, stride in zip(widths, STRIDES[token], strict=True):
        steps += conv_block(before, width, stride=stride)
        before = width
    return nn.Sequential(*steps)
