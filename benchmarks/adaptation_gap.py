"""Which difference between source and target costs a network what, and how much labels of the target would give.

VoxResNet in size xs learns from the source of the suites `uda` and `zsda`; it is scored on worlds that differ
from the source in one thing each, and on the target of those suites, for which a second network that
learns from labels of the target says what is to be had.

    OMP_NUM_THREADS=1 python benchmarks/adaptation_gap.py --work WORK      # 3 seeds, 90 s of the processor each
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import write_result
from cryovox.benchmark import adaptation_cubes as cubes
from cryovox.benchmark.adaptation import NETWORK, SOURCE_ONLY, SUPERVISED, Adapter
from cryovox.benchmark.subtomograms import masks, scores, simulated
from cryovox.benchmark.suite import Budget, Job
from cryovox.formats import subtomograms as files
from cryovox.formats.subtomograms import Subtomograms
from cryovox.workflows.segment import label_set

EACH = 16
SOURCE = cubes.SOURCE
CHANGED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "SNR 0.01": {"snr": 0.01},
    "SNR 0.2": {"snr": 0.2},
    "defocus 2 µm": {"defocus": 2.0},
    "defocus 10 µm": {"defocus": 10.0},
    "tilts to 40°": {"tilt": 40.0},
    "envelope at Nyquist": {"envelope": 1.0},
    "resolution 20 Å": {"resolution": 20.0},
    "envelope at Nyquist, resolution 20 Å": {"envelope": 1.0, "resolution": 20.0},
    "no neighbours": {"neighbours": 0},
    "ten neighbours": {"neighbours": 10},
}


def worlds(folder: Path) -> dict[str, Subtomograms]:
    """Sets that differ from the source in one thing each, and in all that the target differs in."""

    def made(name: str, species: tuple[str, ...], **changed: Any) -> Subtomograms:
        path = folder / f"{name.replace(' ', '-').replace('/', '-')}.zarr"
        if path.exists():
            return cubes.targets(files.read(path))
        return simulated(path, species, SOURCE.model_copy(update=changed), EACH, 1000)

    found = {name: made(name, cubes.SEEN, **changed) for name, changed in CHANGED.items()}
    found["the target's structures"] = made("unseen", cubes.UNSEEN)
    elsewhere = {k: getattr(cubes.ELSEWHERE, k) for k in cubes.ELSEWHERE.model_fields_set}
    found["the target's microscope"] = made("microscope", cubes.SEEN, **elsewhere)
    return found


def trained(data: Path, out: Path, strategy: str, seed: int, time: str) -> dict[str, Any]:
    """Train as the suite does; scores on the held-out part of the target."""
    row = Adapter(strategy, NETWORK, "xs", strategy=strategy)
    return cubes.ABLATIONS.run(Job(row, Budget(time=time), seed), data, out, "cpu")["chosen"]


def main() -> None:
    """Train, score, print, store."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--work", type=Path, required=True, help="folder of data and runs")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--time", default="90s", help="of the processor, for each training")
    chosen = options.parse_args()
    data = chosen.work / "data"
    if not (data / "target.zarr").exists():
        cubes.ABLATIONS.prepare(data, "cpu", None)
    sets = worlds(chosen.work / "worlds")
    table: dict[str, list[dict[str, float]]] = {}
    for seed in range(chosen.seeds):
        for strategy in (SOURCE_ONLY, SUPERVISED):
            out = chosen.work / f"{strategy}-{seed}"
            table.setdefault(f"{strategy}, target", []).append(
                trained(data, out, strategy, seed, chosen.time)
            )
        model = chosen.work / f"{SOURCE_ONLY}-{seed}" / "run" / "model.safetensors"
        for name, found in sets.items():
            labels = label_set(model, replace(found, masks=None), "cpu")
            table.setdefault(name, []).append(scores(labels, masks(found)))
    for name, runs in table.items():
        print(f"{name:40s}", " ".join(f"{run['iou']:.3f}" for run in runs))
    settings = {"time": chosen.time, "each": EACH, "seen": cubes.SEEN, "unseen": cubes.UNSEEN}
    write_result("adaptation_gap", {**settings, "worlds": table})


if __name__ == "__main__":
    main()
