"""Settings of `cryovox.training.strategies.vox_zsda`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cryovox.core.config import Config
from cryovox.filters.config import PriorConfig
from cryovox.training.strategies.config.vox_uda import VoxUDAConfig

Positives = Literal["both", "matched", "labels"]
"""Which nodes belong together."""


class GraphConfig(Config):
    """The graph of the features, and what is learned from it; each part can be switched off."""

    graph_learning: bool = True
    """Self-supervised graph learning: masked nodes are told from their neighbours."""
    graph_contrast: bool = True
    """Dynamic graph contrastive learning: nodes of both views that belong together are alike."""
    clusters: int = Field(16, ge=2)
    """Nodes of a patch."""
    nodes: Literal["kmeans", "blocks"] = "kmeans"
    """What a node is: a cluster of the features, or a block of the patch."""
    tokens: int = Field(512, ge=8)
    """The coarsest features with at least so many places bear the graph, averaged to as many."""
    neighbours: int = Field(4, ge=1)
    """Edges from every node."""
    edges: Literal["dynamic", "static"] = "dynamic"
    """To the nodes with the most similar features, found anew in every layer and pass, or to the nearest."""
    masked_nodes: float = Field(0.5, gt=0, lt=1)
    """Share of the nodes that are masked."""
    temperature: float = Field(0.1, gt=0)
    """Of the contrast."""
    positives: Positives = "both"
    """Nodes that belong together: the same one in the other view, those with the same label, or both."""
    graph_weight: float = Field(0.1, ge=0)
    """Weight of the reconstruction."""
    contrast_weight: float = Field(0.1, ge=0)
    """Weight of the contrast."""


class VoxZSDAConfig(Config):
    """The parts of Vox-ZSDA, each of which can be switched off."""

    prior: PriorConfig = PriorConfig()
    graph: GraphConfig = GraphConfig()
    clean: float = Field(0.5, ge=0, le=1)
    """Share of views that stay as they are: the simulation, too, is to be learned."""
    consistency: bool = True
    """Features of both views are to agree, as in Vox-UDA."""
    taps: tuple[float, ...] = (0.2, 0.2, 0.3, 0.3)
    """Weights of the features, from fine to coarse; all alike in a network with another number of them."""


class FewTargetConfig(VoxUDAConfig):
    """Vox-ZSDA and Vox-UDA at once."""

    prior: PriorConfig = PriorConfig()
    graph: GraphConfig = GraphConfig()
    clean: float = Field(0.5, ge=0, le=1)
    """Share of views that stay as they are."""
    lean: float = Field(0.5, ge=0, le=1)
    """How far the target is trusted: losses, the decay of the average and what its batch norms count go over
    from Vox-ZSDA, which does not look at it (0), to Vox-UDA (1)."""
