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
from cryovox.inference.membranes import AxisCone
from cryovox.inference.phase_noise import phase_randomized
from cryovox.inference.poses import PoseSearch
from cryovox.inference.rotation_grid import rotation_grid
from cryovox.inference.search_template import SearchTemplate, spherical_mask
from cryovox.picking import PickConfig, pick_counted
from cryovox.picking.decoys import DECOY_TAIL, Background, decoy_wins
from cryovox.workflows.matching.target import Target

Scores = Callable[
    [str, Voxels, Normalization, SearchTemplate, NDArray[np.bool_] | None, AxisCone | None],
    NDArray[np.float32],
]
"""Score map of a volume that is searched with a template, in a mask and with a cone; searches have names."""

FIRST_NOISE, SECOND_NOISE, DECOY = STEPS = ("noise", "noise-erased", "decoy")
"""Names of the searches."""
AS_IS = Normalization(0.0, 1.0)
ERASED = 1.2
"""Radius of what is erased around a particle, over that of the particle."""
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
    """Search the control piece with random phases, and for a decoy in the tomogram.

    Parameters
    ----------
    values : (z, y, x)
        Score map of the tomogram.
    scores
        Searches a volume.
    with_decoy
        Whether to search for the mirror image of the template.
    """
    noise = _noise(target, values, scores, seed)
    backgrounds, best = {"noise": noise}, {"noise": float(noise.scores.max(initial=0.0))}
    if with_decoy:
        backgrounds["decoy"], best["decoy"] = _decoy(target, values, scores)
    return Controls(backgrounds, best)


def _noise(target: Target, values: NDArray[np.float32], scores: Scores, seed: int) -> Background:
    """Peaks in the control piece with random phases.

    Particles raise the spectrum of the piece, and so the scores in noise of that spectrum. Those that stand
    out are therefore erased, and the piece is searched again.
    """
    # the piece is cut as the tomogram is, and scores near the faces of both lack what lies beyond
    config, margin = _uncapped(target), _border(target)
    # a mask only limits the search, but beside a membrane each voxel has its own directions
    cone = None if target.cone is None else target.cone.within(target.piece)
    inside = None if cone is None else cone.inside
    share = max(1, room(target.control.shape, margin, inside)) / _searched(target)

    def background(name: str, data: NDArray[np.float32]) -> Background:
        noise = phase_randomized(data, np.random.default_rng(seed))
        values = scores(name, noise, AS_IS, target.search, None, cone)
        return Background(_peaks(values, target, config, inside).scores, share)

    first = background(FIRST_NOISE, target.control)
    picks = _peaks(values[target.piece], target, _uncapped(target).model_copy(update={"border": 0.0}))
    strong = picks.positions[picks.scores >= first.threshold(1.0)] / target.volume.voxel_size
    if not len(strong):
        return first
    return background(SECOND_NOISE, erased(target.control, strong, ERASED * target.radius))


def erased(data: NDArray[np.float32], positions: NDArray[np.float64], radius: float) -> NDArray[np.float32]:
    """Gray values with their mean in balls around positions in voxels, scaled to the power of the rest."""
    keep, ball = np.ones(data.shape, np.float32), spherical_mask(radius)
    half = ball.shape[0] // 2
    for place in np.rint(positions).astype(int):
        low, high = np.maximum(place - half, 0), np.minimum(place + half + 1, data.shape)
        if (high <= low).any():
            continue
        inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        keep[inside] *= (
            1 - ball[tuple(slice(a, b) for a, b in zip(low - place + half, high - place + half, strict=True))]
        )
    if not keep.any():
        return data
    mean = np.average(data, weights=keep)
    return ((data - mean) * keep / np.sqrt(np.square(keep).mean())).astype(np.float32)


def _decoy(target: Target, values: NDArray[np.float32], scores: Scores) -> tuple[Background, float]:
    """Places where the mirror image of the template wins, and its highest score.

    It is searched for in the whole tomogram where the number of false positives decides what is kept: a few
    structures that look like the template are then counted, not missed. Else the piece has to do.
    """
    config = _uncapped(target)
    piece, margin, inside = (slice(None),) * 3, _border(target), target.inside
    cone = target.cone
    data, normalize = target.volume.data, target.normalize
    if not target.counts_everywhere:
        piece, data, normalize = target.piece, target.control, AS_IS
        inside = None if inside is None else inside[piece]
        cone = None if cone is None else cone.within(piece)
        config, margin = _inner(target)
    other = scores(DECOY, data, normalize, mirrored(target.search), inside, cone)
    decoys = _peaks(other, target, config, inside)
    rivals = _peaks(values[piece], target, config.model_copy(update={"border": 0.0}))
    radius = target.species.radius
    wins = decoy_wins(decoys.positions, decoys.scores, rivals.positions, rivals.scores, radius)
    share = max(1, room(other.shape, margin, inside)) / _searched(target)
    return Background(wins, share, DECOY_TAIL), float(decoys.scores.max(initial=0.0))


def _uncapped(target: Target) -> PickConfig:
    return target.config.picking(0.0).model_copy(update={"max_count": None})


def _inner(target: Target) -> tuple[PickConfig, float]:
    """Picking within the control piece, and its margin: near the faces, scores lack what lies beyond."""
    margin = min(target.radius, 0.3 * min(target.control.shape))
    return _uncapped(target).model_copy(update={"border": margin * target.volume.voxel_size}), margin


def _border(target: Target) -> float:
    """Width in voxels of the edge of the tomogram in which nothing is picked."""
    border = target.config.border
    return (target.species.radius / 2 if border is None else border) / target.volume.voxel_size


def _searched(target: Target) -> int:
    return max(1, room(target.volume.shape, _border(target), target.inside))


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


def score_map(
    values: NDArray[np.float32],
    volume: Volume,
    species: Species,
    threshold: float,
    tomogram: Volume | None = None,
) -> ScoreMap:
    """Scores as a heatmap of one species.

    Parameters
    ----------
    volume
        The tomogram on the grid of the scores.
    tomogram
        The tomogram itself, where that is another one.
    """
    tomogram = tomogram or volume
    return ScoreMap(
        values[None], volume.voxel_size, (species,), kind="heatmap",
        thresholds={species.name: threshold}, origin=tomogram.origin, nstart=tomogram.nstart,
        tomogram_shape=tomogram.shape, tomogram_voxel_size=tomogram.voxel_size,
    )  # fmt: skip


def _peaks(
    values: NDArray[np.float32], target: Target, config: PickConfig, inside: NDArray[np.bool_] | None = None
) -> Particles:
    volume = Volume(values, target.volume.voxel_size)
    return pick_counted(score_map(values, volume, target.species, 0.0), config, inside)[0]
