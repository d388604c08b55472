"""What a template scores where there is no particle: in noise, and as a decoy in the tomogram itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

from cryovox.core.intensity import Normalization
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap, Volume, Voxels
from cryovox.inference.matching import SearchTemplate, phase_randomized
from cryovox.inference.poses import PoseSearch
from cryovox.inference.rotation_grid import rotation_grid
from cryovox.picking import PickConfig, pick_counted
from cryovox.picking.decoys import Background, decoy_wins
from cryovox.workflows.matching.target import Target

Scores = Callable[[Voxels, Normalization, SearchTemplate], NDArray[np.float32]]
"""Score map of a volume that is searched with a template."""

AS_IS = Normalization(0.0, 1.0)
MAX_LIKENESS = 0.9
"""Highest correlation coefficient of a template and its mirror image at which that is a decoy."""
LIKENESS_STEP = 21.1
"""Angular step of their comparison in degrees."""


@dataclass(frozen=True, eq=False)
class Controls:
    """Backgrounds of a search, by their names.

    Attributes
    ----------
    backgrounds
        "noise": the template in the tomogram with random phases. "decoy": places where the mirrored
        template scores higher.
    best
        Highest score of the template in noise, and of its mirror image.
    """

    backgrounds: dict[str, Background]
    best: dict[str, float]

    @property
    def main(self) -> Background:
        """The decoy, which sees all that is in the tomogram; noise where there is no decoy."""
        return self.backgrounds.get("decoy", self.backgrounds["noise"])


def controls(
    target: Target, values: NDArray[np.float32], scores: Scores, with_decoy: bool, seed: int
) -> Controls:
    """Search the control piece with random phases, and with a decoy.

    Parameters
    ----------
    values : (z, y, x)
        Score map of the tomogram.
    scores
        Searches a volume.
    with_decoy
        Whether to search with the mirror image of the template.
    """
    piece, radius = target.piece, target.radius
    inside = None if target.inside is None else target.inside[piece]
    picking = target.config.picking(0.0).model_copy(update={"max_count": None})
    # near the faces of the piece, scores lack what lies beyond
    margin = min(radius, 0.3 * min(target.control.shape))
    inner = picking.model_copy(update={"border": margin * target.volume.voxel_size})
    border = target.species.radius / 2 if picking.border is None else picking.border
    searched = max(1, room(target.volume.shape, border / target.volume.voxel_size, target.inside))

    noise = scores(phase_randomized(target.control, np.random.default_rng(seed)), AS_IS, target.search)
    peaks = _peaks(noise, target, inner)
    share = room(target.control.shape, margin) / searched
    backgrounds = {"noise": Background(peaks.scores, share)}
    best = {"noise": float(peaks.scores.max(initial=0.0))}
    if with_decoy:
        other = scores(target.control, AS_IS, mirrored(target.search))
        decoys = _peaks(other, target, inner, inside)
        rivals = _peaks(values[piece], target, picking.model_copy(update={"border": 0.0}))
        wins = decoy_wins(
            decoys.positions, decoys.scores, rivals.positions, rivals.scores, target.species.radius
        )
        share = max(1, room(target.control.shape, margin, inside)) / searched
        backgrounds["decoy"] = Background(wins, share)
        best["decoy"] = float(decoys.scores.max(initial=0.0))
    return Controls(backgrounds, best)


def mirrored(template: SearchTemplate) -> SearchTemplate:
    """The other hand of a template."""
    return replace(template, density=np.ascontiguousarray(template.density[:, :, ::-1]))


def mirror_likeness(template: SearchTemplate, symmetry: str) -> float:
    """Highest correlation coefficient of a template with its mirror image, over all rotations."""
    kernel = template.rotated(np.eye(3)[None])[0].numpy() / np.maximum(template.mask, 1e-9)
    image = np.pad(kernel, template.margin)
    middle = np.array([[n // 2 for n in image.shape]])
    plain = replace(mirrored(template), whitening=None)
    search = PoseSearch(image / image.std(), AS_IS, plain)
    return float(search.locate(middle, rotation_grid(LIKENESS_STEP, symmetry), LIKENESS_STEP).scores[0])


def room(shape: tuple[int, ...], border: float, inside: NDArray[np.bool_] | None = None) -> int:
    """Number of voxels where particles are picked: in the mask, and not near the faces."""
    cut = max(0, ceil(border - 0.5))
    if inside is None:
        return prod(max(0, n - 2 * cut) for n in shape)
    return int(inside[tuple(slice(cut, max(cut, n - cut)) for n in shape)].sum())


def score_map(values: NDArray[np.float32], volume: Volume, species: Species, threshold: float) -> ScoreMap:
    """Scores of a tomogram as a heatmap of one species."""
    return ScoreMap(
        values[None], volume.voxel_size, (species,), kind="heatmap",
        thresholds={species.name: threshold}, origin=volume.origin, nstart=volume.nstart,
        tomogram_shape=volume.shape, tomogram_voxel_size=volume.voxel_size,
    )  # fmt: skip


def _peaks(
    values: NDArray[np.float32], target: Target, config: PickConfig, inside: NDArray[np.bool_] | None = None
) -> Particles:
    volume = Volume(values, target.volume.voxel_size)
    return pick_counted(score_map(values, volume, target.species, 0.0), config, inside)[0]
