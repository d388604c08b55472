"""MVGFormer: a transformer that reads a cube along three views, guided by a graph of its context.

H. Li et al., Knowledge-Based Systems 331 (2025) 114810. Equations and sections below are those of
the paper; ``docs/methods/mvgformer.md`` lists every element, what the paper leaves open and what
was decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from cryovox.models.graph import Graph, kmeans_graph
from cryovox.models.layers import he_init
from cryovox.models.p3da import P3DA
from cryovox.models.supervision import Supervision
from cryovox.models.transformer import LAYER1, Layer

SIDE = 32  # voxels along the cube; the position tables belong to it
# Axes of a view, as (depth, row, column) out of (z, y, x): xy = (H, W, D), yz = (H, D, W) and
# xz = (D, W, H) of section 4.2 with H = y, W = x, D = z. Each is its own inverse.
VIEWS = {"xy": (0, 1, 2), "yz": (2, 1, 0), "xz": (1, 0, 2)}
STRIDES = {2: (2, 1, 1), 4: (2, 2, 1), 8: (2, 2, 2), 16: (4, 2, 2)}  # of the context, per token side


def turn(x: Tensor, view: str) -> Tensor:
    """Transpose the last three axes into a view, or back out of it."""
    lead = x.ndim - 3
    return x.permute(*range(lead), *(lead + axis for axis in VIEWS[view]))


class MVGFormer(nn.Module):
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
        Nodes K of the visual graph; ``"kmeans"``, or ``"none"`` for plain self-attention.
    context
        Channels of the first two context blocks; the third has *dim*.
    layer1
        How the graph guides layer 1: ``"readout"``, ``"cross"`` or ``"prepend"``.
    decoder, width
        ``"p3da"``, ``"mf"`` or ``"mlp"``, and the channels inside it.
    levels
        Encoder depths that ``"mf"`` and ``"mlp"`` read.
    fusion
        ``"sum"`` of the views' logits, ``"norm-sum"`` of their probabilities, or ``"learned"`` weights.
    views
        Names from `VIEWS`; a name may come more than once.
    mask_rate, vsl
        Share of the tokens hidden in one view, and whether that view is reconstructed in training.
    drop_path
        Chance that the last layer is skipped for a sample; earlier layers in proportion.
    """

    stride = SIDE
    output_stride = 1
    activation = "softmax"
    kind = "mask"
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
        decoder: str = "p3da",
        width: int = 128,
        levels: int = 4,
        fusion: str = "sum",
        views: Sequence[str] = ("xy", "yz", "xz"),
        mask_rate: float = 0.5,
        vsl: bool = True,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        choose("token", token, STRIDES)
        choose("graph", graph, ("kmeans", "none"))
        choose("layer1", layer1, LAYER1)
        choose("decoder", decoder, ("p3da", "mf", "mlp"))
        choose("fusion", fusion, ("sum", "norm-sum", "learned"))
        for view in views:
            choose("view", view, VIEWS)
        if dim % heads or not 0 < mask_rate < 1 or not views:
            raise ValueError("dim must be a multiple of heads, mask_rate inside (0, 1), views not empty")
        self.token, self.grid = token, SIDE // token
        self.clusters = min(clusters, self.grid**3)
        self.views, self.fusion, self.mask_rate = tuple(views), fusion, mask_rate
        count, voxels = self.grid**3, in_channels * token**3
        self.context = context_encoder(in_channels, (*context, dim), token) if graph == "kmeans" else None
        self.guide = LAYER1[layer1]
        self.embed = nn.Linear(voxels, dim)
        self.position = nn.Parameter(torch.empty(len(views), count, dim))
        drops = (drop_path * depth / max(layers - 1, 1) for depth in range(layers))
        self.layers = nn.ModuleList(Layer(dim, heads, drop) for drop in drops)
        levels = 1 if decoder == "p3da" else min(levels, layers)
        self.read = tuple(round(n * layers / levels) for n in range(1, levels + 1))
        self.decoder: LastLevel | MultiLevel = (
            LastLevel(dim, out_channels, width=width, grid=self.grid, scale=token)
            if decoder == "p3da"
            else MultiLevel(dim, out_channels, width=width, levels=levels, scale=token, mlp=decoder == "mlp")
        )
        self.weights = nn.Parameter(torch.ones(len(views))) if fusion == "learned" else None
        self.vsl = ViewReconstruction(dim, len(views), count, voxels) if vsl else None
        he_init(self)
        for linear in (m for m in self.modules() if isinstance(m, nn.Linear)):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        classify = self.decoder.classify
        nn.init.normal_(classify.weight, std=classify.in_channels**-0.5)  # far smaller, and species die
        nn.init.trunc_normal_(self.position, std=0.02)

    @property
    def names(self) -> list[str]:
        """One name per view; repeated views are numbered."""
        seen = [self.views[: i + 1].count(view) for i, view in enumerate(self.views)]
        return [v if n == 1 else f"{v}{n}" for v, n in zip(self.views, seen, strict=True)]

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Context ``fc`` and last features of each view, (b, c, g, g, g) along (z, y, x)."""
        maps = self._maps(self._tokens(self._patches(x), x)[-1]).chunk(len(self.views))
        found = {} if self.context is None else {"fc": self.context(x)}
        turned = (turn(m, view) for m, view in zip(maps, self.views, strict=True))
        return found | dict(zip(self.names, turned, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        return self._fuse(self._masks(self._tokens(self._patches(x), x)))

    def supervise(self, x: Tensor) -> Supervision:
        """Offer all terms of equation 9: a mask per view, their fusion and the reconstruction (VSL)."""
        patches = self._patches(x)
        if self.vsl is None:
            tokens, extra = self._tokens(patches, x), {}
        else:
            view = int(torch.randint(len(self.views), (), device=x.device))
            hidden = hide(x.shape[0], self.grid**3, self.mask_rate, x.device)
            tokens = self._tokens(patches, x, view, hidden)
            extra = {"vsl": self._reconstruction(tokens[-1], patches, view, hidden)}
        masks = self._masks(tokens)
        return Supervision(dict(zip(self.names, masks, strict=True)) | {"fused": self._fuse(masks)}, extra)

    def _patches(self, x: Tensor) -> Tensor:
        """Cut each view into flattened tokens: (v, b, n, voxels)."""
        if tuple(x.shape[2:]) != 3 * (SIDE,):
            sides = tuple(x.shape[2:])
            raise ValueError(f"sides {sides} do not fit; pad to or cut tiles of {(SIDE, SIDE, SIDE)} voxels")
        views = torch.stack([turn(x, view) for view in self.views])
        p = self.token
        return rearrange(views, "v b c (z p) (y q) (x r) -> v b (z y x) (c p q r)", p=p, q=p, r=p)

    def _tokens(
        self, patches: Tensor, x: Tensor, view: int = 0, hidden: Tensor | None = None
    ) -> list[Tensor]:
        """Run the shared encoder over all views at once; features (v * b, n, c) of the depths to read."""
        tokens = self.embed(patches)
        if self.vsl is not None and hidden is not None:
            masked = torch.where(hidden[..., None], self.vsl.hidden.to(tokens.dtype), tokens[view])
            tokens = torch.stack([*tokens[:view], masked, *tokens[view + 1 :]])
        tokens = (tokens + self.position[:, None]).flatten(0, 1)
        graph = self._graph(x)
        found = []
        for depth, layer in enumerate(self.layers, start=1):
            tokens = layer(tokens, self.guide, graph) if depth == 1 else layer(tokens)
            if depth in self.read:
                found.append(tokens[:, -(self.grid**3) :])
        return found

    def _graph(self, x: Tensor) -> Graph | None:
        """Build the visual graph (4.1) once and turn its assignment into each view."""
        if self.context is None:
            return None
        graph = kmeans_graph(self.context(x), self.clusters)
        turned = torch.cat([turn(graph.assignment, view) for view in self.views])
        return Graph(graph.nodes.repeat(len(self.views), 1, 1), turned)

    def _maps(self, tokens: Tensor) -> Tensor:
        g = self.grid
        return rearrange(tokens, "b (z y x) c -> b c z y x", z=g, y=g, x=g)

    def _masks(self, tokens: list[Tensor]) -> list[Tensor]:
        """Decode and rearrange into the axes of the input: logits (b, k, z, y, x) per view."""
        logits = self.decoder([self._maps(level) for level in tokens]).chunk(len(self.views))
        return [turn(mask, view) for mask, view in zip(logits, self.views, strict=True)]

    def _fuse(self, masks: list[Tensor]) -> Tensor:
        """Add the masks of the views (equation 8), or one of the alternatives of table 9."""
        if self.fusion == "norm-sum":
            return torch.stack(masks).log_softmax(2).logsumexp(0)
        if self.weights is not None:
            return torch.einsum("v,vbkzyx->bkzyx", self.weights, torch.stack(masks))
        return torch.stack(masks).sum(0)

    def _reconstruction(self, tokens: Tensor, patches: Tensor, view: int, hidden: Tensor) -> Tensor:
        """Mean squared error of the hidden voxels of one view, seen from the other views (4.4)."""
        assert self.vsl is not None
        maps = self._maps(tokens).chunk(len(self.views))
        aligned = [turn(turn(m, v), self.views[view]) for m, v in zip(maps, self.views, strict=True)]
        own, *others = (m.flatten(2).transpose(1, 2) for m in [aligned.pop(view), *aligned])
        error = (self.vsl(own, others, hidden, view).float() - patches[view]).square().mean(-1)
        return (error * hidden).sum() / hidden.sum()


class ViewReconstruction(nn.Module):
    """The light decoder of view-masked self-supervision (4.4): hidden tokens from the other views."""

    def __init__(
        self, dim: int, views: int, count: int, voxels: int, width: int = 128, layers: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        self.hidden = nn.Parameter(torch.zeros(dim))  # stands for a hidden token in the encoder
        self.blank = nn.Parameter(torch.zeros(width))  # and here
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


class LastLevel(P3DA):
    """P3DA on the deepest features."""

    def forward(self, features: list[Tensor]) -> Tensor:  # type: ignore[override]
        return super().forward(features[-1])


class MultiLevel(nn.Module):
    """Decoders ``mf`` (4.3.1) and ``mlp``: one block per encoder depth, concatenated, classified.

    The classifier mixes channels only, so it stands before the enlargement, which gives the same.
    """

    def __init__(
        self, dim: int, out_channels: int, *, width: int, levels: int, scale: int, mlp: bool = False
    ) -> None:
        super().__init__()
        self.scale = scale
        blocks = [
            nn.Conv3d(dim, width, kernel_size=1)
            if mlp
            else nn.Sequential(*conv_block(dim, width), *conv_block(width, width))
            for _ in range(levels)
        ]
        self.blocks = nn.ModuleList(blocks)
        self.mix = nn.Sequential(*conv_block(levels * width, width, kernel=1)) if mlp else nn.Identity()
        self.classify = nn.Conv3d(width if mlp else levels * width, out_channels, kernel_size=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """From maps (b, c, n, n, n) of each depth to logits (b, k, side, side, side)."""
        levels = [block(f) for block, f in zip(self.blocks, features, strict=True)]
        logits = self.classify(self.mix(torch.cat(levels, 1)))
        return F.interpolate(logits, scale_factor=self.scale, mode="trilinear", align_corners=False)


def context_encoder(in_channels: int, widths: Sequence[int], token: int) -> nn.Sequential:
    """Three convolution blocks from voxels to one feature per token (4.1)."""
    steps, before = [], in_channels
    for width, stride in zip(widths, STRIDES[token], strict=True):
        steps += conv_block(before, width, stride=stride)
        before = width
    return nn.Sequential(*steps)


def conv_block(before: int, after: int, *, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """Convolution, batch normalisation, ReLU."""
    conv = nn.Conv3d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm3d(after), nn.ReLU(inplace=True)]


def hide(batch: int, tokens: int, rate: float, device: torch.device) -> Tensor:
    """Choose the tokens to hide: (b, n) bool, the same number in each sample."""
    order = torch.rand(batch, tokens, device=device).argsort(1)
    return order < max(round(rate * tokens), 1)


def choose(what: str, found: object, known: Collection[object]) -> None:
    """Refuse a value that is not in the list."""
    if found not in known:
        raise ValueError(f"{what} {found!r} is none of {', '.join(map(str, known))}")
