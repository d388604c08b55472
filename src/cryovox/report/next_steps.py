"""Next steps of the picking report: commands with the paths, thresholds and settings of the run."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.core.config import current_names
from cryovox.core.particles import Particles
from cryovox.core.volume import ScoreMap
from cryovox.picking.config import PickConfig


@dataclass(frozen=True, slots=True)
class Step:
    """One suggestion: a sentence and an optional command."""

    text: str
    command: str = ""


def threshold_step(
    picks: Sequence[Particles], thresholds: Mapping[str, float], scores: Path | None, run: Mapping[str, Any]
) -> Step | None:
    """Suggestion to pick again with a threshold that keeps the better half; None for fewer than two picks."""
    values = np.concatenate([p.scores for p in picks]) if picks else np.zeros(0)
    if len(values) < 2:
        return None
    half = round_down(float(np.median(values)))
    text = f"The picks shown have scores of at least {_words(thresholds)}. " if thresholds else ""
    text += (
        f"A higher one keeps fewer picks ({half:g} keeps about half of them), a lower one adds weaker ones:"
    )
    return Step(text, pick_command(scores, half, run))


def steps_without_picks(
    score_map: ScoreMap | None,
    thresholds: Mapping[str, float],
    scores: Path | None,
    tomogram: Path | None,
    sign: int,
    run: Mapping[str, Any],
) -> list[Step]:
    """Suggestions for a tomogram without picks, the most likely cause first."""
    steps = [] if score_map is None else _from_scores(score_map, thresholds, scores, run)
    model = run.get("model", {})
    file = model.get("file", "MODEL") if isinstance(model, Mapping) else str(model)
    words = ["cryovox", "doctor", str(tomogram or "TOMOGRAM"), "--model", str(file)]
    steps.append(
        Step(
            "Compare contrast, voxel size and imaging conditions with those of the model:", shlex.join(words)
        )
    )
    used, other = ("bright", "dark") if sign > 0 else ("dark", "bright")
    steps.append(
        Step(f"Particles were taken as {used}. If they are {other}, run find again with --contrast {other}.")
    )
    steps.append(
        Step(
            "Look up what the model was trained on and its held-out score:",
            shlex.join(["cryovox", "models", file]),
        )
    )
    return steps


def _from_scores(
    score_map: ScoreMap, thresholds: Mapping[str, float], scores: Path | None, run: Mapping[str, Any]
) -> list[Step]:
    """Highest scores against the threshold, and a threshold that keeps some candidates."""
    highest = highest_scores(score_map)
    best = max(highest.values(), default=0.0)
    reached = [name for name, value in highest.items() if value >= thresholds.get(name, math.inf)]
    text = f"The highest score is {_words(highest)}; the threshold is {_words(thresholds)}."
    if reached:
        text += " Scores reach the threshold, but mask, border, minimum size or another setting removed every"
        return [Step(f"{text} candidate. Pick again without these settings:", pick_command(scores, None, {}))]
    lower = round_down(0.9 * best)
    if lower < 0.01:
        return [Step(f"{text} The model recognizes nothing in this tomogram; no threshold will help.")]
    return [Step(f"{text} List the strongest candidates and look at them:", pick_command(scores, lower, run))]


def highest_scores(score_map: ScoreMap) -> dict[str, float]:
    """Highest score of each species; the map is read in slabs."""
    planes = range(0, score_map.data.shape[1], 32)
    return {
        species.name: max(float(np.max(score_map.data[k, z : z + 32])) for z in planes)
        for k, species in enumerate(score_map.species)
    }


def pick_command(scores: Path | None, threshold: float | None, run: Mapping[str, Any]) -> str:
    """Command that picks again from the stored scores with the settings of the run."""
    words = ["cryovox", "pick", str(scores or "SCORES")]
    if threshold is not None:
        words += ["--threshold", f"{threshold:g}"]
    defaults = PickConfig().model_dump(mode="json")
    chosen = current_names(PickConfig, run.get("pick", {}))
    for name, value in chosen.items() if isinstance(chosen, Mapping) else ():
        if name in ("threshold", "purpose") or name not in defaults or value == defaults[name]:
            continue
        words += _option(name.replace("_", "-"), value)
    segmenting = run.get("segment", {})
    mask = segmenting.get("mask") if isinstance(segmenting, Mapping) else None
    words += [] if mask is None else ["--mask", str(mask)]
    return shlex.join([*words, "--out", "picks" if threshold is None else f"picks-{threshold:g}"])


def _option(name: str, value: Any) -> list[str]:
    """An option and its value, as typed."""
    if isinstance(value, bool):
        return [f"--{'' if value else 'no-'}{name}"]
    values = value if isinstance(value, list | tuple) else [value]
    return [f"--{name}", *(f"{one:g}" if isinstance(one, float) else str(one) for one in values)]


def round_down(value: float, digits: int = 2) -> float:
    """Round toward 0 to *digits* significant digits, so that the value itself still reaches the result.

    Examples
    --------
    >>> round_down(0.4789)
    0.47
    """
    if value <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - digits + 1)
    return round(math.floor(value / step) * step, 9)


def _words(values: Mapping[str, float]) -> str:
    """One number if all values agree, else one for each species."""
    if len({f"{v:.3g}" for v in values.values()}) == 1:
        return f"{next(iter(values.values())):.3g}"
    return ", ".join(f"{v:.3g} ({name})" for name, v in values.items()) or "unknown"
