"""Vox-ZSDA: noise from a prior, and a graph of the features that has to hold under it; no target.

International Journal of Computer Vision (2026), 10.1007/s11263-026-02802-6. Only the abstract is public: it
names a self-supervised graph learning that does without target data, and a dynamic graph contrastive
learning. How either is done is our reconstruction; ``docs/methods/vox-zsda.md`` says so element by element.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cryovox.core.config import Config
from cryovox.core.errors import RequestError
from cryovox.data.streams import Batch
from cryovox.filters.config import PriorConfig
from cryovox.filters.prior import randomize_appearance
from cryovox.models.card import Card
from cryovox.models.features import feature_shapes
from cryovox.training.strategies import Task
from cryovox.training.strategies.baselines.augmentation import mostly
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.config.vox_zsda import FewTargetConfig, GraphConfig, VoxZSDAConfig
from cryovox.training.strategies.domain_adaptation import (
    Batches,
    DomainAdaptation,
    Seen,
    require_mask_network,
)
from cryovox.training.strategies.uda.vox_uda import VoxUDA, consistency, normalized_weights
from cryovox.training.strategies.zsda.feature_graph import Nodes, averaged, nodes_of
from cryovox.training.strategies.zsda.graph_losses import NodeReconstruction, node_contrast, projection


class VoxZSDA(DomainAdaptation):
    """Vox-ZSDA on any network with features and a mask."""

    Config: type[Config] = VoxZSDAConfig
    task: Task = "domain generalization"
    required_streams: tuple[str, ...] = ("labelled",)
    uses_features = True

    def resolve_config(self, network: nn.Module, name: str, supervised: SupervisedConfig) -> SupervisedConfig:
        require_mask_network(network, name)
        return supervised

    def setup(self, card: Card) -> None:
        self.views = TwoViews(self, card.patch)

    def losses(self, batch: Batches, progress: float) -> dict[str, Tensor]:
        return self.views.losses(batch["labelled"])

    def terms(self, source: Seen, batch: Batches, progress: float) -> dict[str, Tensor]:
        return {}


class FewTarget(VoxUDA):
    """Vox-ZSDA that leans on few unlabelled tomograms, as far as it is told, and so turns into Vox-UDA."""

    Config = FewTargetConfig

    def resolve_config(self, network: nn.Module, name: str, supervised: SupervisedConfig) -> SupervisedConfig:
        found, target_weight = super().resolve_config(network, name, supervised), self.config.target_weight
        return found.model_copy(
            update={"ema": (1 - target_weight) * supervised.ema + target_weight * found.ema}
        )

    def build_modules(self, network: nn.Module) -> None:
        super().build_modules(network)
        if not self.config.target_weight:
            self.discriminator = None

    def setup(self, card: Card) -> None:
        if self.config.target_weight < 1:
            self.views = TwoViews(self, card.patch)

    def losses(self, batch: Batches, progress: float) -> dict[str, Tensor]:
        target_weight: float = self.config.target_weight
        found: dict[str, Tensor] = {}
        if target_weight > 0:
            found |= {name: target_weight * term for name, term in super().losses(batch, progress).items()}
        if target_weight < 1:
            blind, twice = self.views.seen(batch["labelled"])
            found |= {f"views-{name}": (1 - target_weight) * term for name, term in blind.items()}
            if target_weight and self.updates_bn_on_target and torch.rand(()) >= target_weight:
                self._counted = twice
        return found


class TwoViews(nn.Module):
    """Two views of every labelled patch, and what is lost where they differ.

    Parameters
    ----------
    owner
        Asked for the student's answers; not a part of this module.
    side
        Of the patches.
    """

    def __init__(self, owner: VoxZSDA | FewTarget, side: int) -> None:
        super().__init__()
        self._owner, self.config = [owner], owner.config
        shapes = feature_shapes(owner.student, side)
        self.taps = normalized_weights(self.config.taps, len(shapes))
        self.graph = FeatureGraph(self.config.graph, shapes)

    def losses(self, source: Batch) -> dict[str, Tensor]:
        """L_seg of both views, L_con, L_graph and L_dgc."""
        return self.seen(source)[0]

    def seen(self, source: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """The losses, and both views one after the other."""
        owner, twice = self._owner[0], seen_twice(source, self.config.prior, self.config.clean)
        twice = owner.supervised.shown(twice)
        answer, features = owner.forward_features(twice.image)
        found = {name: 2 * term for name, term in owner.supervised.compute_losses(answer, twice).items()}
        first, second = halves(features)
        if self.config.consistency:
            found["consistency"] = consistency(first, second, self.taps)
        return found | self.graph(first, second, source), twice.image


class FeatureGraph(nn.Module):
    """Losses of the graph on one depth of the features.

    Parameters
    ----------
    config
    shapes
        (c, z, y, x) of the features by name, from fine to coarse.
    """

    def __init__(self, config: GraphConfig, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.config, self.at = config, bearing(shapes, config.tokens)
        width = shapes[self.at][0]
        places = averaged(torch.empty(1, *shapes[self.at]), config.tokens)[0, 0].numel()
        if config.clusters > places:
            told = f"{config.clusters} nodes cannot be made of {places} places"
            raise RequestError("--clusters", told, "ask for fewer, or for more --tokens or larger patches")
        self.rebuilding, self.project = None, None  # what is off has no weights
        if config.graph_learning:
            self.rebuilding = NodeReconstruction(
                width, neighbours=config.neighbours, share=config.masked_nodes, rule=config.edges
            )
        if config.graph_contrast:
            self.project = projection(width)

    def forward(
        self, first: dict[str, Tensor], second: dict[str, Tensor], source: Batch
    ) -> dict[str, Tensor]:
        config, found = self.config, dict[str, Tensor]()
        if self.rebuilding is None and self.project is None:
            return found
        one, other = self._nodes(first[self.at], second[self.at], source)
        if self.rebuilding is not None:
            found["graph"] = config.graph_weight * (self.rebuilding(one) + self.rebuilding(other)) / 2
        if self.project is not None:
            alike = node_contrast(
                one, other, project=self.project, temperature=config.temperature, positives=config.positives
            )
            found["graph-contrast"] = config.contrast_weight * alike
        return found

    def _nodes(self, first: Tensor, second: Tensor, source: Batch) -> tuple[Nodes, Nodes]:
        """Nodes of both views by the clusters of the first."""
        config = self.config

        def nodes(features: Tensor, whose: Tensor | None) -> Nodes:
            return nodes_of(
                features,
                config.clusters,
                assignment=whose,
                target=source.target,
                valid_mask=source.valid_mask,
                most=config.tokens,
            )

        one = nodes(
            first, None if config.nodes == "kmeans" else blocks(first, config.clusters, config.tokens)
        )
        return one, nodes(second, one.assignment)


def seen_twice(source: Batch, prior: PriorConfig, clean: float = 0.0) -> Batch:
    """Both views of a batch, one after the other, each with a draw of its own."""
    twice = Batch(*(torch.cat([part, part]) for part in source))
    return twice._replace(image=mostly(twice.image, lambda x: randomize_appearance(x, prior), clean))


def halves(features: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Features of the first half of a batch and of the second."""
    pairs = {name: feature.chunk(2) for name, feature in features.items()}
    return {n: pair[0] for n, pair in pairs.items()}, {n: pair[1] for n, pair in pairs.items()}


def bearing(shapes: dict[str, tuple[int, ...]], tokens: int) -> str:
    """Name of the coarsest features with so many places, or of the finest.

    Examples
    --------
    >>> bearing({"fine": (8, 32, 32, 32), "middle": (8, 8, 8, 8), "coarse": (8, 4, 4, 4)}, 512)
    'middle'
    """
    places = {name: shape[1] * shape[2] * shape[3] for name, shape in shapes.items()}
    enough = [name for name, number in places.items() if number >= tokens]
    return (
        min(enough, key=lambda name: places[name]) if enough else max(places, key=lambda name: places[name])
    )


def blocks(features: Tensor, clusters: int, tokens: int) -> Tensor:
    """Nodes (b, z, y, x) that are blocks: as many as the largest third power within *clusters*."""
    sides = averaged(features, tokens).shape[2:]
    count = int(clusters ** (1 / 3) + 1e-6)
    index = torch.zeros(sides, dtype=torch.int64, device=features.device)
    for axis, side in enumerate(sides):
        along = torch.arange(side, device=features.device) * count // side
        index = count * index + along.reshape([-1 if a == axis else 1 for a in range(3)])
    return index.expand(len(features), *sides)
