"""Settings of `cryovox.training.strategies.zsda.vox_zsda`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from cryovox.core.config import Config
from cryovox.filters.config import PriorConfig
from cryovox.training.strategies.config.vox_uda import VoxUDAConfig

Positives = Literal["both", "matched", "labels"]
"""Which nodes belong together."""


class GraphConfig(Config):
    """Feature graph; each part can be switched off."""

    basic: ClassVar[tuple[str, ...] | None] = ()
    renamed: ClassVar[dict[str, str]] = {"neighbours": "neighbors", "masked_nodes": "node_mask_ratio"}

    graph_learning: bool = True
    """Self-supervised graph learning: reconstruct masked nodes from their neighbors."""
    graph_contrast: bool = True
    """Dynamic graph contrastive learning between two views."""
    clusters: int = Field(16, ge=2)
    """Nodes per patch."""
    nodes: Literal["kmeans", "blocks"] = "kmeans"
    """Nodes: clusters of the features, or blocks of the patch."""
    foreground_nodes: float = Field(0.0, ge=0, lt=1)
    """Fraction of the clusters that start in the foreground of the source mask and stay in it; 0 ignores the
    mask."""
    node_position: float = Field(0.0, ge=0)
    """Weight of the position beside the features in the clusters."""
    tokens: int = Field(512, ge=8)
    """Minimum number of locations of the features that carry the graph; finer features are averaged to as
    many."""
    neighbors: int = Field(4, ge=1)
    """Edges per node."""
    edges: Literal["dynamic", "static"] = "dynamic"
    """`dynamic`: edges to the most similar nodes, computed in every layer; `static`: to the nearest nodes
    in space."""
    node_mask_ratio: float = Field(0.5, gt=0, lt=1)
    """Fraction of the nodes that is masked for graph learning."""
    temperature: float = Field(0.1, gt=0)
    """Temperature of the contrastive loss."""
    positives: Positives = "both"
    """Positive pairs: the same node in the other view (matched), nodes of the same label (labels), or
    both."""
    contrast_edges: bool = False
    """Contrast nodes together with what their edges bring from their neighbors."""
    gradient_share: float = Field(0.0, ge=0)
    """Gradient of each graph loss on the encoder relative to that of the segmentation loss, held by running
    weights; 0 uses the fixed weights below."""
    graph_weight: float = Field(0.1, ge=0)
    """Weight of the reconstruction loss."""
    contrast_weight: float = Field(0.1, ge=0)
    """Weight of the contrastive loss."""


class VoxZSDAConfig(Config):
    """Vox-ZSDA; each part can be switched off."""

    basic: ClassVar[tuple[str, ...] | None] = ()
    renamed: ClassVar[dict[str, str]] = {"taps": "feature_weights"}

    prior: PriorConfig = PriorConfig()
    graph: GraphConfig = GraphConfig()
    clean: float = Field(0.5, ge=0, le=1)
    """Fraction of views that stay unchanged."""
    consistency: bool = True
    """Consistency loss between features of the two views, as in Vox-UDA."""
    feature_weights: tuple[float, ...] = (0.2, 0.2, 0.3, 0.3)
    """Weights of the features in the consistency loss, from fine to coarse; equal weights for a network with
    another number of features."""


class FewTargetConfig(VoxUDAConfig):
    """Vox-ZSDA combined with Vox-UDA."""

    renamed: ClassVar[dict[str, str]] = {**VoxUDAConfig.renamed, "lean": "target_weight"}

    prior: PriorConfig = PriorConfig()
    graph: GraphConfig = GraphConfig()
    clean: float = Field(0.5, ge=0, le=1)
    """Fraction of views that stay unchanged."""
    target_weight: float = Field(0.5, ge=0, le=1)
    """Weight of the target: 0 is Vox-ZSDA, which ignores it, 1 is Vox-UDA."""
