"""Loss of a source-only network for each difference between source and target, and the gain from target labels.

VoxResNet in size xs is trained on the source of the suites `uda` and `zsda`. It is tested in domains that differ
from the source in one setting each, and on the target of those suites, where a second network, trained on target
labels, is the upper bound.

    OMP_NUM_THREADS=1 python benchmarks/adaptation_gap.py --work WORK      # 3 seeds, 90 s of the processor each
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import write_result
from cryovox.benchmark.adaptation import cubes
from cryovox.benchmark.adaptation.suite import NETWORK, SOURCE_ONLY, SUPERVISED, AdaptationMethod
from cryovox.benchmark.subtomograms import as_targets, masks, scores, simulate_set
from cryovox.benchmark.suite import Budget, Job
from cryovox.formats import subtomograms as files
from cryovox.formats.subtomograms import Subtomograms
from cryovox.workflows.label_sets import label_set

EACH = 16
SOURCE = cubes.SOURCE
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "SNR 0.01": {"snr": 0.01},
    "SNR 0.2": {"snr": 0.2},
    "defocus 2 µm": {"defocus": 2.0},
    "defocus 10 µm": {"defocus": 10.0},
    "tilts to 40°": {"tilt": 40.0},
    "envelope at Nyquist": {"envelope": 1.0},
    "resolution 20 Å": {"resolution": 20.0},
    "envelope at Nyquist, resolution 20 Å": {"envelope": 1.0, "resolution": 20.0},
    "no neighbors": {"neighbors": 0},
    "ten neighbors": {"neighbors": 10},
}


def domains(folder: Path) -> dict[str, Subtomograms]:
    """Sets that differ from the source in one setting each, in their species, or in the whole microscope."""

    def simulate(name: str, species: tuple[str, ...], **changes: Any) -> Subtomograms:
        path = folder / f"{name.replace(' ', '-').replace('/', '-')}.zarr"
        if path.exists():
            return as_targets(files.read(path))
        return simulate_set(path, species, SOURCE.model_copy(update=changes), EACH, 1000)

    sets = {name: simulate(name, cubes.SEEN, **changes) for name, changes in CHANGES.items()}
    sets["the target's structures"] = simulate("unseen", cubes.UNSEEN)
    microscope = {k: getattr(cubes.OTHER_MICROSCOPE, k) for k in cubes.OTHER_MICROSCOPE.model_fields_set}
    sets["the target's microscope"] = simulate("microscope", cubes.SEEN, **microscope)
    return sets


def train(data: Path, out: Path, strategy: str, seed: int, time: str) -> dict[str, Any]:
    """Train as the suite does; returns the scores on the held-out part of the target."""
    method = AdaptationMethod(strategy, NETWORK, "xs", strategy=strategy)
    return cubes.ABLATIONS.run(Job(method, Budget(time=time), seed), data, out, "cpu")["chosen"]


def main() -> None:
    """Train, score, print, store."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--time", default="90s", help="processor time of each training")
    args = options.parse_args()
    data = args.work / "data"
    if not (data / "target.zarr").exists():
        cubes.ABLATIONS.prepare(data, "cpu", None)
    sets = domains(args.work / "worlds")
    table: dict[str, list[dict[str, float]]] = {}
    for seed in range(args.seeds):
        for strategy in (SOURCE_ONLY, SUPERVISED):
            out = args.work / f"{strategy}-{seed}"
            scores_on_target = train(data, out, strategy, seed, args.time)
            table.setdefault(f"{strategy}, target", []).append(scores_on_target)
        model = args.work / f"{SOURCE_ONLY}-{seed}" / "run" / "model.safetensors"
        for name, test_set in sets.items():
            labels = label_set(model, replace(test_set, masks=None), "cpu")
            table.setdefault(name, []).append(scores(labels, masks(test_set)))
    for name, runs in table.items():
        print(f"{name:40s}", " ".join(f"{run['iou']:.3f}" for run in runs))
    settings = {"time": args.time, "each": EACH, "seen": cubes.SEEN, "unseen": cubes.UNSEEN}
    write_result("adaptation_gap", {**settings, "worlds": table})


if __name__ == "__main__":
    main()
