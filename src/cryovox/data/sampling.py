"""How patches are sampled: the one record that every stream of batches takes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cryovox.data.config import AugmentConfig, PatchConfig
from cryovox.data.patches import TargetSpec


@dataclass(frozen=True)
class SamplingConfig:
    """How batches of patches are drawn.

    Attributes
    ----------
    spec
        Kind and stride of the targets.
    patch_size
        Edge of a patch in voxels.
    batch_size
        Patches per batch.
    patches
        Where patches are cut.
    augment
        Augmentation of each patch.
    seed
        Batch n depends on this and on n alone.
    rank, world
        Number of this process, and of all processes, which take the batches in turn: together they see what
        one process would see. Simulated batches are drawn from another seed in each process instead, because
        several batches come from one simulated box.
    device
        Device of the simulator; batches are on the CPU.
    """

    spec: TargetSpec
    patch_size: int
    batch_size: int
    patches: PatchConfig = field(default_factory=PatchConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seed: tuple[int, ...] = (0, 0)
    device: str = "cpu"
    rank: int = 0
    world: int = 1

    def for_unlabeled(self) -> SamplingConfig:
        """Draw patches anywhere, with flips as the only augmentation."""
        flips_only = AugmentConfig(contrast=0.0, brightness=0.0, noise=0.0, blur=0.0, cut=0.0)
        return replace(self, patches=PatchConfig(foreground=0.0), augment=flips_only)
