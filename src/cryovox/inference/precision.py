"""Whether a network gains by bfloat16 on this machine, measured in about two seconds."""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn

from cryovox.core.cache import recall, remember
from cryovox.inference.stream import TilePlan, score
from cryovox.models.memory_format import infer_channels_last

SECONDS = 2.0
MIN_GAIN = 1.2
"""Speed relative to float32 from which bfloat16 is chosen ..."""
MAX_DIFFERENCE = 0.02
"""... if no score of a tile differs by more."""


@dataclass(frozen=True)
class Comparison:
    """bfloat16 beside float32.

    Attributes
    ----------
    gain
        Time in float32 over time in bfloat16.
    difference
        Largest difference between two scores.
    """

    gain: float
    difference: float

    @property
    def bf16(self) -> bool:
        """Whether bfloat16 is the better choice."""
        return self.gain >= MIN_GAIN and self.difference <= MAX_DIFFERENCE


def compare(network: nn.Module, tiles: TilePlan, seconds: float = SECONDS) -> Comparison:
    """Score a tile of noise in both precisions, in turn, for about that many seconds.

    On a CPU, processor time is compared, so that other work on the machine does not matter.
    """
    device = next(network.parameters()).device
    half = copy.deepcopy(network)
    infer_channels_last(half, device)
    sides = ((network, replace(tiles, bf16=False)), (half, replace(tiles, bf16=True)))
    noise = np.random.default_rng(0).standard_normal((1, 1, *(tiles.tile,) * 3)).astype(np.float32)
    images = torch.from_numpy(noise)
    full, rounded = (score(side[0], images, side[1]) for side in sides)  # the first pass also chooses kernels
    works = [partial(score, network_, images, plan) for network_, plan in sides]
    gain = speed_ratio(works[0], works[1], device, seconds)
    return Comparison(gain, round(float(np.abs(full - rounded).max()), 5))


def speed_ratio(
    first: Callable[[], object], second: Callable[[], object], device: torch.device, seconds: float
) -> float:
    """Time of the first call over that of the second: the median of calls in turn, for so many seconds."""
    clock = time.process_time if device.type == "cpu" else _synchronized
    end, gains = time.monotonic() + seconds, list[float]()
    while not gains or (time.monotonic() < end and len(gains) < 9):
        times = [_seconds(work, clock) for work in (first, second)]
        gains.append(times[0] / max(times[1], 1e-9))
    return round(median(gains), 3)


def cached_comparison(network: nn.Module, tiles: TilePlan, model: str) -> Comparison:
    """The same, remembered for this machine and model.

    Parameters
    ----------
    model
        Hash of the model file.
    """
    key = "|".join([model, machine_name(next(network.parameters()).device), str(tiles.tile)])
    return remembered(key, lambda: compare(network, tiles))


def remembered(key: str, measure: Callable[[], Comparison]) -> Comparison:
    """A comparison of before, or a new one."""
    known = recall("precision", key)
    if isinstance(known, dict) and known.keys() == {"gain", "difference"}:
        return Comparison(**known)
    result = measure()
    remember("precision", key, asdict(result))
    return result


def machine_name(device: torch.device) -> str:
    """Processor or GPU, threads and version of torch."""
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif (info := Path("/proc/cpuinfo")).exists():
        lines = info.read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{device.type} {name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _synchronized() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _seconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start
