"""Which channels of a score map are picked, and under which names: some species, or particles of one size.

A detector of particles of any species has one channel per range of sizes. A particle near the limit of two
ranges scores in both, so the channels around a size are joined into one before peaks are sought. Particles of
one size among others are ranked by the odds of their size against the other sizes (:class:`SizeOdds`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from cryovox.core.errors import RequestError
from cryovox.core.on_access import VoxelsOnAccess
from cryovox.core.particles import Species
from cryovox.core.volume import ScoreMap
from cryovox.picking.config import THRESHOLDS, PickConfig
from cryovox.picking.contrast import BlobContrast

FARTHEST = 2.0
"""Largest ratio of a radius to that of the nearest channel."""
NEARLY_AS_NEAR = 1.35
"""A channel is joined if its ratio is at most this many times that of the nearest."""
CLIP = 1e-4
"""Scores are kept this far from 0 and 1."""
WEIGHT, USUAL, MOST = 2.0, 2.5, 4.0
"""How contrast counts in :class:`DenseOdds`."""
NEUTRAL = 0.5
"""Threshold where contrast takes part."""


def select(
    scores: ScoreMap, wanted: Sequence[str], contrasts: Mapping[float, BlobContrast] | None = None
) -> ScoreMap:
    """Restrict a score map to species.

    Parameters
    ----------
    scores
    wanted
        Names of species of the map, or NAME=RADIUS with a radius in Å: the highest score of all channels
        whose particles have about this radius, under this name. All channels where empty. Where the species
        of the map are ranges of diameters, see :class:`SizeOdds`.
    contrasts
        Contrast of the tomogram for each of the radii, which then takes part: see :class:`DenseOdds`.
        Nothing is calibrated for such scores.

    Returns
    -------
    ScoreMap
        One channel per entry, read lazily.

    Raises
    ------
    RequestError
        A name that the map does not have, a radius that no channel has, or a name given twice.
    """
    if not wanted:
        return scores
    chosen = channels_of(scores.species, wanted)
    species = tuple(
        Species(name=one.name, label=label, radius=one.radius) for label, one in enumerate(chosen, 1)
    )
    nearest = {one.name: scores.species[one.channels[0]].name for one in chosen}
    groups = tuple(one.channels for one in chosen)
    known, limits, data = scores.calibration, scores.thresholds, Joined(scores.data, groups)
    if contrasts is not None:
        fields = tuple(contrasts[one.radius].at(scores) for one in chosen)
        data = DenseOdds(scores.data, groups, fields)
        known, limits = None, {species.name: NEUTRAL for species in scores.species}
    elif by_size(scores.species):
        data = SizeOdds(scores.data, groups)
        known, limits = _of_sizes(known)
    return replace(
        scores,
        data=data,
        species=species,
        thresholds=_renamed(limits, nearest),
        calibration=None if known is None else {**known, "species": _renamed(known["species"], nearest)},
    )


def by_size(species: Sequence[Species]) -> bool:
    """Whether particles are named by their size; those of one size are then scored by :class:`SizeOdds`."""
    return all(one.diameters for one in species)


def lacks_sizes(
    species: Sequence[Species], calibration: Mapping[str, Any] | None, config: PickConfig
) -> bool:
    """Whether sizes are selected for which a model has neither threshold nor calibration."""
    stored = (calibration or {}).get("sizes") and not config.by_contrast
    return bool(config.species) and by_size(species) and not stored


def check_by_contrast(species: Sequence[Species], config: PickConfig) -> None:
    """Refuse the contrast where no particles of one size are sought."""
    if not config.by_contrast:
        return
    if not by_size(species):
        message = "is for detectors of particles of any size, and this model was trained on named species"
        raise RequestError("--by-contrast", message, "leave it out")
    if not config.species:
        message = "needs the size of the particles"
        raise RequestError("--by-contrast", message, "give their radius in Å: --species ribosome=125")


def size_notes(scores: ScoreMap, config: PickConfig, fdr: float | None = None) -> list[str]:
    """Say that the default threshold is used for selected sizes, where the model stores none.

    Parameters
    ----------
    scores
        Before :func:`select`.
    config, fdr
        May set the threshold, or the rate of false picks from which it follows.
    """
    is_set = config.threshold is not None or config.purpose is not None or fdr is not None
    if is_set or not lacks_sizes(scores.species, scores.calibration, config):
        return []
    if config.by_contrast:
        return [
            f"no threshold is calibrated for --by-contrast, so {NEUTRAL:g} is used; look at the picks, "
            "and set --threshold or --fdr"
        ]
    used = f"{THRESHOLDS[scores.kind]:g} is the threshold"
    return [
        f"the model stores no threshold for particles of one size, so {used}; set --threshold, or train it "
        "again, which stores one where all particles of the held-out data are known"
    ]


def _of_sizes(calibration: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, dict[str, float]]:
    """Calibration and thresholds of particles of one size among others."""
    sizes = (calibration or {}).get("sizes") or {}
    if calibration is None or not sizes:
        return None, {}
    known = {**calibration, "sizes": {}, "species": {name: own["scores"] for name, own in sizes.items()}}
    return known, {name: own["threshold"] for name, own in sizes.items()}


def _renamed(values: Mapping[str, Any], nearest: Mapping[str, str]) -> dict[str, Any]:
    """Values of the channel of the nearest size, under each name."""
    return {name: values[of] for name, of in nearest.items() if of in values}


@dataclass(frozen=True)
class Channels:
    """Channels that show the particles of one name, that of the nearest size first."""

    name: str
    radius: float
    channels: tuple[int, ...]


def channels_of(species: Sequence[Species], wanted: Sequence[str]) -> list[Channels]:
    """Channels of each name or NAME=RADIUS; raises the errors of :func:`select`."""
    chosen = [_sized(species, text) if "=" in text else _named(species, text) for text in wanted]
    names = [one.name for one in chosen]
    if twice := [name for name in names if names.count(name) > 1]:
        raise RequestError("--species", f"has {twice[0]} twice", "give each name once")
    return chosen


def _named(species: Sequence[Species], name: str) -> Channels:
    names = [one.name for one in species]
    if name not in names:
        message = f"{name!r} is not among the species of the model"
        remedy = f"choose from {', '.join(names)}, or give a radius in Å: {name}=120"
        raise RequestError("--species", message, remedy)
    at = names.index(name)
    if species[at].extended:
        message = f"{name} is extended (a membrane, a filament), which is segmented and not picked"
        raise RequestError("--species", message, "leave it out; `cryovox segment` writes its mask")
    return Channels(name, species[at].radius, (at,))


def _sized(species: Sequence[Species], text: str) -> Channels:
    name, _, number = text.partition("=")
    radius = _radius(text, number)
    if not name:
        raise RequestError("--species", f"{text!r} has no name", "write NAME=RADIUS, such as ribosome=125")
    ratios = [np.inf if one.extended else _ratio(radius, one.radius) for one in species]
    if min(ratios) > FARTHEST:
        radii = ", ".join(f"{one.radius:g}" for one in species if not one.extended)
        message = f"{radius:g} Å is far from every size that the model detects (radii {radii} Å)"
        raise RequestError("--species", message, "choose a radius near one of these, or train a model")
    limit = NEARLY_AS_NEAR * min(ratios)
    near = sorted((at for at, ratio in enumerate(ratios) if ratio <= limit), key=ratios.__getitem__)
    return Channels(name, radius, tuple(near))


def _radius(text: str, number: str) -> float:
    try:
        radius = float(number)
    except ValueError:
        radius = np.nan
    if not (np.isfinite(radius) and radius > 0):
        message = f"{text!r} does not end in a radius"
        raise RequestError("--species", message, "write NAME=RADIUS with a radius in Å, such as ribosome=125")
    return radius


def _ratio(a: float, b: float) -> float:
    return max(a, b) / min(a, b)


@dataclass(frozen=True, eq=False)
class Joined:
    """Lazily read (k, z, y, x) scores, each channel the maximum over some channels of another array."""

    data: Any
    groups: tuple[tuple[int, ...], ...]

    dtype = np.dtype(np.float32)
    ndim = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        _, z, y, x = self.data.shape
        return len(self.groups), z, y, x

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        first, *rest = key if isinstance(key, tuple) else (key,)
        every = range(len(self.groups))
        if isinstance(first, (int, np.integer)):
            return self._scores(every[int(first)], rest)
        chosen: slice = slice(None) if first is Ellipsis else first
        return np.stack([self._scores(at, [] if first is Ellipsis else rest) for at in every[chosen]])

    def _scores(self, at: int, rest: list[Any]) -> NDArray[np.float32]:
        """Part of an output channel."""
        return self._channel(self.groups[at], rest)

    def _channel(self, group: tuple[int, ...], rest: list[Any]) -> NDArray[np.float32]:
        values = np.asarray(self.data[(group[0], *rest)], np.float32)
        for channel in group[1:]:
            values = np.maximum(values, self.data[(channel, *rest)])
        return values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("joined scores are always copied")
        return self[...].astype(dtype or np.float32, copy=False)


@dataclass(frozen=True, eq=False)
class SizeOdds(Joined):
    """Scores of particles of one size among others: a product of two odds, as a probability.

    The odds are those of a particle of the size, and those of the size against the most likely other one:
    with scores p of the size and q of the other, the logit is ``logit(p) + (logit(p) - logit(q))``. For
    particles of any size, the sum of all channels is better (:func:`cryovox.picking.any_size.pick_sizes`),
    but it ranks all sizes alike.
    """

    def _scores(self, at: int, rest: list[Any]) -> NDArray[np.float32]:
        return np.asarray(expit(self._logits(at, rest)), np.float32)

    def _logits(self, at: int, rest: list[Any]) -> NDArray[np.float32]:
        group = self.groups[at]
        own = _log_odds(self._channel(group, rest))
        others = tuple(other for other in range(self.data.shape[0]) if other not in group)
        return 2 * own - _log_odds(self._channel(others, rest)) if others else own


@dataclass(frozen=True, eq=False)
class DenseOdds(SizeOdds):
    """The odds of a size times those of a dense particle, for particles such as ribosomes.

    A place that is `USUAL` standard deviations denser than its surroundings keeps its odds. The logit rises
    by `WEIGHT` with every further one, up to `MOST`: gold is denser still.
    """

    contrasts: tuple[VoxelsOnAccess, ...]

    def _logits(self, at: int, rest: list[Any]) -> NDArray[np.float32]:
        denser = np.clip(self.contrasts[at][tuple(rest)], -MOST, MOST) - USUAL
        return np.asarray(super()._logits(at, rest) + WEIGHT * denser, np.float32)


def _log_odds(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(logit(np.clip(scores, CLIP, 1 - CLIP)), np.float32)
