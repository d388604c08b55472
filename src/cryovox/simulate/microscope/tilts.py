"""At which angles, in which order, with which dose and how well a tilt series is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from cryovox.core.config import Config
from cryovox.core.errors import RequestError

Floats = NDArray[np.float64]


class TiltConfig(Config):
    """How the sample is tilted, exposed and followed."""

    scheme: Literal["dose-symmetric", "continuous", "bidirectional", "list"] = "dose-symmetric"
    """Order of the tilts: outwards from the start with the sides taking turns, from the lowest angle to
    the highest, from the start up and then from the start down, or as the list has it."""
    range: tuple[float, float] = (-60.0, 60.0)
    """Lowest and highest angle in degrees."""
    step: float = Field(2.0, gt=0)
    """Degrees between tilts."""
    start: float = 0.0
    """Angle of the first tilt of the dose-symmetric and bidirectional schemes."""
    angles: tuple[float, ...] = ()
    """Scheme `list`: the angles in degrees, in the order in which they were taken."""
    measured_defocus: tuple[float, ...] = ()
    """Scheme `list`: defocus of each tilt in µm instead of a random one."""
    total_dose: float = Field(120.0, gt=0)
    """Electrons per Å² over the whole series, the same for every tilt."""
    defocus: tuple[float, float] = (2.0, 5.0)
    """The series' mean defocus is drawn between these, in µm, positive for underfocus."""
    defocus_spread: float = Field(0.0, ge=0)
    """Standard deviation of a tilt's defocus around the mean, in µm."""
    defocus_error: float = Field(0.0, ge=0)
    """Standard deviation in µm of what the defocus estimate of a tilt is wrong by."""
    shift: float = Field(0.0, ge=0)
    """Standard deviation on each axis of what the alignment leaves, in Å."""
    angle_error: float = Field(0.0, ge=0)
    """Standard deviation in degrees of the true angle around the nominal one."""

    @model_validator(mode="after")
    def _consistent(self) -> TiltConfig:
        low, high = self.range
        if not -90 < low <= high < 90:
            raise ValueError("range runs from low to high within -90 to 90 degrees")
        if not low <= self.start <= high:
            raise ValueError("start lies outside range")
        if self.defocus[0] > self.defocus[1]:
            raise ValueError("defocus runs from low to high")
        if any(not -90 < a < 90 for a in self.angles):
            raise ValueError("angles lie within -90 to 90 degrees")
        return self


@dataclass(frozen=True, eq=False)
class Tilts:
    """What was drawn for a series; tilts are sorted by nominal angle.

    Attributes
    ----------
    angles, nominal_angles : (n,)
        True angle in degrees, and what the reconstruction is told.
    order : (n,) int
        When each tilt was taken; 0 is the first.
    dose, accumulated : (n,)
        e/Å² of each tilt, and what the sample had received before it.
    shifts : (n, 2)
        By how much the image is displaced along y and x, in Å.
    defocus, nominal_defocus : (n,)
        True defocus in Å, positive for underfocus, and its estimate.
    """

    angles: Floats
    nominal_angles: Floats
    order: NDArray[np.int64]
    dose: Floats
    accumulated: Floats
    shifts: Floats
    defocus: Floats
    nominal_defocus: Floats

    def __len__(self) -> int:
        return len(self.angles)

    def subset(self, which: slice | NDArray[Any]) -> Tilts:
        """Some of the tilts; order and accumulated dose stay those of the whole series."""
        return Tilts(**{name: value[which] for name, value in vars(self).items()})

    def as_dict(self) -> dict[str, Any]:
        """As plain lists, for JSON."""
        return {name: value.tolist() for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Tilts:
        """Back from `as_dict`."""
        return cls(**{name: np.asarray(value) for name, value in found.items()})


def tilt_scheme(config: TiltConfig, rng: np.random.Generator) -> Tilts:
    """Draw a series: its defocus, and what is wrong with each tilt.

    The same numbers are drawn whatever the standard deviations, so that two configs that differ in one of
    them differ in nothing else.
    """
    taken = _sequence(config)
    n = len(taken)
    mean = rng.uniform(*config.defocus)
    spread, error, angle_error = rng.standard_normal((3, n))
    shifts = rng.standard_normal((n, 2)) * config.shift
    defocus = mean + config.defocus_spread * spread
    if config.measured_defocus:
        defocus = _measured(config)
    dose = np.full(n, config.total_dose / n)
    series = Tilts(
        angles=taken + config.angle_error * angle_error,
        nominal_angles=taken,
        order=np.arange(n),
        dose=dose,
        accumulated=np.cumsum(dose) - dose,
        shifts=shifts,
        defocus=1e4 * defocus,
        nominal_defocus=1e4 * (defocus + config.defocus_error * error),
    )
    return series.subset(np.argsort(taken, kind="stable"))


def _sequence(config: TiltConfig) -> Floats:
    """Nominal angles in the order of acquisition."""
    if config.scheme == "list":
        if not config.angles:
            raise RequestError(
                "tilts.angles", "scheme list without angles", "give the angles, or another scheme"
            )
        return np.array(config.angles)
    low, high = config.range
    if config.scheme == "continuous":
        return _steps(low, high, config.step)
    up = _steps(config.start, high, config.step)
    down = -_steps(-config.start, -low, config.step)[1:]
    if config.scheme == "bidirectional":
        return np.concatenate([up, down])
    return _symmetric(up, down)


def _symmetric(up: Floats, down: Floats) -> Floats:
    """0, +1, -1, -2, +2, +3, -3, ... (Hagen, Wan and Briggs 2017); a side that has run out is left out."""
    sides = up[1:], down
    taken = [up[0]]
    for rank in range(max(map(len, sides))):
        for side in sides if rank % 2 == 0 else sides[::-1]:
            taken.extend(side[rank : rank + 1])
    return np.array(taken)


def _steps(low: float, high: float, step: float) -> Floats:
    count = int((high - low) / step + 1e-6) + 1
    return np.asarray(low + step * np.arange(count), np.float64)


def _measured(config: TiltConfig) -> Floats:
    if config.scheme != "list" or len(config.measured_defocus) != len(config.angles):
        raise RequestError(
            "tilts.measured_defocus",
            f"{len(config.measured_defocus)} values, {len(config.angles)} angles, scheme {config.scheme}",
            "give scheme list with as many defocus values as angles",
        )
    return np.array(config.measured_defocus)
