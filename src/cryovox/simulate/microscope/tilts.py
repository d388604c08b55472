"""Tilt scheme: angles, order, dose, defocus and alignment errors of a tilt series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.simulate.config.microscope import TiltConfig

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tilts:
    """Parameters of the tilts of a series, sorted by nominal angle.

    Attributes
    ----------
    angles, nominal_angles : (n,)
        True angle in degrees, and the angle used for the reconstruction.
    order : (n,) int
        Order of acquisition, from 0.
    dose, accumulated : (n,)
        Dose of each tilt in e/Å², and the total dose before it.
    shifts : (n, 2)
        Image shift (y, x) in Å.
    defocus, nominal_defocus : (n,)
        True and estimated mean defocus in Å, positive for underfocus.
    astigmatism, astigmatism_angle : (n,)
        Largest minus smallest defocus in Å, and the direction of the largest in degrees, from x toward y;
        assumed to be estimated without error.
    """

    angles: Floats
    nominal_angles: Floats
    order: NDArray[np.int64]
    dose: Floats
    accumulated: Floats
    shifts: Floats
    defocus: Floats
    nominal_defocus: Floats
    astigmatism: Floats
    astigmatism_angle: Floats

    def __len__(self) -> int:
        return len(self.angles)

    def defocus_at(self, i: int, ky: Floats, kx: Floats, *, nominal: bool = False) -> Floats:
        """Defocus of tilt *i* in Å in the direction of each frequency (Mindell and Grigorieff 2003)."""
        mean = (self.nominal_defocus if nominal else self.defocus)[i]
        angle = np.arctan2(ky, kx) - np.deg2rad(self.astigmatism_angle[i])
        return np.asarray(mean + 0.5 * self.astigmatism[i] * np.cos(2 * angle))

    def subset(self, which: slice | NDArray[Any]) -> Tilts:
        """Select tilts; order and accumulated dose remain those of the whole series."""
        return Tilts(**{name: value[which] for name, value in vars(self).items()})

    def as_dict(self) -> dict[str, Any]:
        """As plain lists, for JSON."""
        return {name: value.tolist() for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, lists: dict[str, Any]) -> Tilts:
        """The reverse of `as_dict`."""
        return cls(**{name: np.asarray(value) for name, value in lists.items()})


def tilt_scheme(config: TiltConfig, rng: np.random.Generator) -> Tilts:
    """Draw the parameters of a tilt series.

    The same random numbers are drawn for all standard deviations, so that changing one setting changes
    nothing else. Dose and astigmatism come from a jumped generator, which leaves *rng* in the same state.
    """
    angles = _sequence(config)
    n = len(angles)
    mean = rng.uniform(*config.defocus)
    spread, error, angle_error = rng.standard_normal((3, n))
    shifts = rng.standard_normal((n, 2)) * config.shift
    defocus = mean + config.defocus_spread * spread
    if config.measured_defocus:
        defocus = _measured_defocus(config)
    dose, astigmatism, direction = _draw_from_jumped(config, rng)
    tilt_dose = np.full(n, dose / n)
    series = Tilts(
        angles=angles + config.angle_error * angle_error,
        nominal_angles=angles,
        order=np.arange(n),
        dose=tilt_dose,
        accumulated=np.cumsum(tilt_dose) - tilt_dose,
        shifts=shifts,
        defocus=1e4 * defocus,
        nominal_defocus=1e4 * (defocus + config.defocus_error * error),
        astigmatism=np.full(n, 1e4 * astigmatism),
        astigmatism_angle=np.full(n, direction),
    )
    return series.subset(np.argsort(angles, kind="stable"))


def _draw_from_jumped(config: TiltConfig, rng: np.random.Generator) -> tuple[float, float, float]:
    """Total dose, astigmatism in µm and its direction in degrees; the state of *rng* is unchanged."""
    bits: Any = rng.bit_generator
    jumped = np.random.Generator(bits.jumped())
    names = ("total_dose", "astigmatism", "astigmatism_angle")
    dose, astigmatism, direction = (float(jumped.uniform(*config.bounds(name))) for name in names)
    return dose, astigmatism, direction


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
    """0, +1, -1, -2, +2, +3, -3, ... (Hagen, Wan and Briggs 2017); a finished side is skipped."""
    sides = up[1:], down
    angles = [up[0]]
    for rank in range(max(map(len, sides))):
        for side in sides if rank % 2 == 0 else sides[::-1]:
            angles.extend(side[rank : rank + 1])
    return np.array(angles)


def _steps(low: float, high: float, step: float) -> Floats:
    count = int((high - low) / step + 1e-6) + 1
    return np.asarray(low + step * np.arange(count), np.float64)


def _measured_defocus(config: TiltConfig) -> Floats:
    if config.scheme != "list" or len(config.measured_defocus) != len(config.angles):
        raise RequestError(
            "tilts.measured_defocus",
            f"{len(config.measured_defocus)} values, {len(config.angles)} angles, scheme {config.scheme}",
            "give scheme list with as many defocus values as angles",
        )
    return np.array(config.measured_defocus)
