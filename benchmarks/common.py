"""Common functions of the benchmark scripts: parallel commands, and result files with provenance."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cryovox.core.atomic import replacing
from cryovox.workflows.manifest import versions

RESULTS = Path(__file__).parent / "results"
DATA = Path(os.environ.get("CRYOVOX_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def cryovox(*args: object, log: Path) -> float:
    """Run a command of the package on one thread; returns its wall time in seconds."""
    start = time.monotonic()
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with log.open("a", encoding="utf-8") as out:
        process = subprocess.run(
            [sys.executable, "-c", "from cryovox.cli import run; run()", *map(str, args)],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **threads},
            check=False,
        )
    if process.returncode:
        raise RuntimeError(f"cryovox {' '.join(map(str, args))} ended with {process.returncode}, see {log}")
    return time.monotonic() - start


def in_parallel(jobs: list[Any], work: Any, at_once: int) -> list[Any]:
    """Run *at_once* jobs in parallel; returns results in order."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(work, jobs))


def write_result(name: str, result: dict[str, Any]) -> Path:
    """Write `results/NAME.json` with machine, versions and command."""
    words = sys.argv[1:]
    for folder_option in ("--work", "--worlds", "--pytme"):  # folders of runs are not part of the result
        at = words.index(folder_option) if folder_option in words else -1
        if at >= 0 and ("/" in words[at + 1] or folder_option != "--worlds"):  # elsewhere, names of worlds
            words = words[:at] + words[at + 2 :]
    words = [Path(word).name if word.startswith("/") else word for word in words]  # wherever the file lay
    script, folder = Path(sys.argv[0]).resolve(), RESULTS.parent.resolve()
    name_of_script = script.relative_to(folder) if script.is_relative_to(folder) else script.name
    command = shlex.join(["python", f"benchmarks/{name_of_script}", *words])
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "system": platform.system()}
    facts = {k: v for k, v in versions().items() if k != "machine"}
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    head = {"command": command, "written": time.strftime("%Y-%m-%d"), "machine": machine, "versions": facts}
    with replacing(path) as beside:
        beside.write_text(json.dumps({**head, **result}, indent=1) + "\n", encoding="utf-8")
    return path
