"""Two views of a labeled patch, and the losses of where their features differ."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cryovox.core.errors import RequestError
from cryovox.data.streams import Batch
from cryovox.filters.config import PriorConfig
from cryovox.filters.prior import randomize_appearance
from cryovox.training.strategies.baselines.augmentation import augment_some
from cryovox.training.strategies.config.vox_zsda import FewTargetConfig, GraphConfig, VoxZSDAConfig
from cryovox.training.strategies.supervised import Supervised
from cryovox.training.strategies.uda.vox_uda import feature_consistency, normalized_weights
from cryovox.training.strategies.zsda.feature_graph import (
    Nodes,
    cluster_nodes,
    foreground_assignment,
    known_voxels,
    pool_tokens,
)
from cryovox.training.strategies.zsda.gradient_balance import GradientBalance
from cryovox.training.strategies.zsda.graph_losses import (
    NeighborContext,
    NodeReconstruction,
    node_contrast,
    projection,
)

RECONSTRUCTION, CONTRAST = GRAPH_LOSSES = ("graph", "graph-contrast")
"""Names of the losses of the graph."""


class TwoViews(nn.Module):
    """Two views of every labeled patch, and losses of their differences.

    Parameters
    ----------
    config
    shapes
        (c, z, y, x) of the features by name, from fine to coarse.
    """

    def __init__(self, config: VoxZSDAConfig | FewTargetConfig, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.config = config
        self.feature_weights = normalized_weights(config.feature_weights, len(shapes))
        self.graph = FeatureGraph(config.graph, shapes)
        share = config.graph.gradient_share
        self.balance = GradientBalance(GRAPH_LOSSES, share) if share else None

    def losses(self, supervised: Supervised, source: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """L_seg of both views, L_con, L_graph and L_dgc; and the images of both views, (2 b, 1, z, y, x)."""
        views = supervised.drop_blocks(two_view_batch(source, self.config.prior, self.config.clean))
        output, features = supervised.forward_features(views.image)
        losses = {name: 2 * loss for name, loss in supervised.compute_losses(output, views).items()}
        first, second = split_views(features)
        graph = self.graph(first, second, source)
        if self.balance is not None:
            graph = self.balance(torch.stack(list(losses.values())).sum(), graph, supervised.student)
        if self.config.consistency:
            losses["consistency"] = feature_consistency(first, second, self.feature_weights)
        return losses | graph, views.image


class FeatureGraph(nn.Module):
    """Losses of a graph over the features of one depth.

    Parameters
    ----------
    config
    shapes
        (c, z, y, x) of the features by name, from fine to coarse.
    """

    def __init__(self, config: GraphConfig, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.config, self.level = config, select_level(shapes, config.tokens)
        width = shapes[self.level][0]
        locations = pool_tokens(torch.empty(1, *shapes[self.level]), config.tokens)[0, 0].numel()
        if config.clusters > locations:
            message = f"{config.clusters} nodes cannot be made of {locations} locations"
            raise RequestError("--clusters", message, "ask for fewer, or for more --tokens or larger patches")
        self.rebuilding, self.project, self.context = None, None, None  # a part that is off has no weights
        if config.graph_learning:
            self.rebuilding = NodeReconstruction(
                width, neighbors=config.neighbors, share=config.node_mask_ratio, rule=config.edges
            )
        if config.graph_contrast:
            self.project = projection(width)
        if config.graph_contrast and config.contrast_edges:
            self.context = NeighborContext(width, neighbors=config.neighbors, rule=config.edges)

    def forward(
        self, first: dict[str, Tensor], second: dict[str, Tensor], source: Batch
    ) -> dict[str, Tensor]:
        config, losses = self.config, dict[str, Tensor]()
        if self.rebuilding is None and self.project is None:
            return losses
        nodes = self.nodes(first[self.level], second[self.level], source)
        if self.rebuilding is not None:
            losses[RECONSTRUCTION] = (
                config.graph_weight * (self.rebuilding(nodes[0]) + self.rebuilding(nodes[1])) / 2
            )
        if self.project is not None:
            compared = nodes if self.context is None else (self.context(nodes[0]), self.context(nodes[1]))
            loss = node_contrast(
                *compared, project=self.project, temperature=config.temperature, positives=config.positives
            )
            losses[CONTRAST] = config.contrast_weight * loss
        return losses

    def nodes(self, first: Tensor, second: Tensor, source: Batch) -> tuple[Nodes, Nodes]:
        """Nodes of both views, with the clusters of the first."""
        config = self.config

        def average(features: Tensor, assignment: Tensor | None) -> Nodes:
            return cluster_nodes(
                features,
                config.clusters,
                assignment=assignment,
                target=source.target,
                valid_mask=source.valid_mask,
                max_tokens=config.tokens,
            )

        nodes_of_first = average(first, self._assignment(first, source))
        return nodes_of_first, average(second, nodes_of_first.assignment)

    def _assignment(self, features: Tensor, source: Batch) -> Tensor | None:
        """Node of each location; None for clusters of the features alone."""
        config = self.config
        if config.nodes == "blocks":
            return block_assignment(features, config.clusters, config.tokens)
        if not config.foreground_nodes and not config.node_position:
            return None
        return foreground_assignment(
            features,
            (source.target > 0) & known_voxels(source.target, source.valid_mask),
            config.clusters,
            share=config.foreground_nodes,
            position=config.node_position,
            max_tokens=config.tokens,
        )


def two_view_batch(source: Batch, prior: PriorConfig, unchanged: float = 0.0) -> Batch:
    """Both views of a batch, one after the other, each with random numbers of its own."""
    both = Batch(*(torch.cat([part, part]) for part in source))
    return both._replace(image=augment_some(both.image, lambda x: randomize_appearance(x, prior), unchanged))


def split_views(features: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Features of the first half of a batch and of the second."""
    pairs = {name: feature.chunk(2) for name, feature in features.items()}
    return {n: pair[0] for n, pair in pairs.items()}, {n: pair[1] for n, pair in pairs.items()}


def select_level(shapes: dict[str, tuple[int, ...]], tokens: int) -> str:
    """Name of the coarsest features with at least *tokens* locations, or of the finest.

    Examples
    --------
    >>> select_level({"fine": (8, 32, 32, 32), "middle": (8, 8, 8, 8), "coarse": (8, 4, 4, 4)}, 512)
    'middle'
    """
    locations = {name: shape[1] * shape[2] * shape[3] for name, shape in shapes.items()}
    enough = {name: number for name, number in locations.items() if number >= tokens}
    return min(enough, key=enough.__getitem__) if enough else max(locations, key=locations.__getitem__)


def block_assignment(features: Tensor, clusters: int, tokens: int) -> Tensor:
    """Node (b, z, y, x) of each location, with blocks as nodes: the largest cube within *clusters*."""
    sides = pool_tokens(features, tokens).shape[2:]
    count = int(clusters ** (1 / 3) + 1e-6)
    index = torch.zeros(sides, dtype=torch.int64, device=features.device)
    for axis, side in enumerate(sides):
        along = torch.arange(side, device=features.device) * count // side
        index = count * index + along.reshape([-1 if a == axis else 1 for a in range(3)])
    return index.expand(len(features), *sides)
