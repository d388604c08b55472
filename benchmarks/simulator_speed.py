"""Time and memory of a simulated tomogram, in total and by stage.

Each preset runs as on the command line, in its own process on all cores: templates, scene, tilt series,
reconstruction with and without noise, and all output files.

    python benchmarks/simulator_speed.py                # toy, shrec2021-slab, czii-phantom
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from common import write_result

LIMITS = {"toy": (15, None), "shrec2021-slab": (900, 6.0)}
"""Limits of seconds and GB."""


def run(preset: str, out: Path) -> dict[str, Any]:
    """Run the command; returns seconds, peak memory of the process, and its log."""
    command = [sys.executable, "-u", "-c", "from cryovox.cli import run; run()", "simulate"]
    start = time.monotonic()
    child = subprocess.Popen(
        [*command, "--preset", preset, "--out", str(out)], stderr=subprocess.PIPE, text=True
    )
    stages: list[tuple[float, str]] = []
    assert child.stderr is not None

    def listen() -> None:
        assert child.stderr is not None
        stages.extend((time.monotonic() - start, line.strip()) for line in child.stderr)

    listener = threading.Thread(target=listen)
    listener.start()
    _, status, usage = os.wait4(child.pid, 0)
    listener.join()
    if status:
        raise RuntimeError(f"{preset} ended with status {status}: {stages[-5:]}")
    return {
        "seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_GB": round(usage.ru_maxrss / 1e6, 2),
        "log": [f"{at:.1f} s  {line}" for at, line in stages],
    }


def stages(preset: str) -> dict[str, float]:
    """Seconds of each stage of one tomogram, in this process and without writing files."""
    from cryovox.simulate.presets import PRESETS
    from cryovox.simulate.tomogram import simulate
    from cryovox.workflows.simulation.templates import templates

    config = PRESETS[preset]
    marks: list[tuple[float, str]] = [(time.monotonic(), "templates")]
    particle_templates = templates(config.species, config.scene.voxel_size)
    simulate(
        particle_templates,
        config,
        (0, 0),
        on_progress=lambda name, *_: marks.append((time.monotonic(), name)),
    )
    marks.append((time.monotonic(), "end"))
    spent: dict[str, float] = {}
    for (start, stage), (end, _) in itertools.pairwise(marks):
        spent[stage] = round(spent.get(stage, 0.0) + end - start, 1)
    return spent


def main() -> None:
    """Run the presets and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", nargs="+", default=["toy", "shrec2021-slab", "czii-phantom"])
    args = parser.parse_args()
    table = {}
    for preset in args.presets:
        with tempfile.TemporaryDirectory() as folder:
            table[preset] = run(preset, Path(folder) / "out")
        table[preset]["stages"] = stages(preset)
        limit = LIMITS.get(preset)
        suffix = f", limit {limit}" if limit else ""
        print(preset, {k: v for k, v in table[preset].items() if k != "log"}, suffix, flush=True)
    print(write_result("simulator_speed", {"load_before": os.getloadavg(), "table": table}))


if __name__ == "__main__":
    main()
