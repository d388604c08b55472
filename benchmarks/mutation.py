"""Mutation score of a sample: how many small errors in formats, geometry and metrics their tests notice.

Each error is one that cosmic-ray makes, such as another operator or another number; those in annotations are left out. Modules
and tests are copied, and each mutant is tested in a process of its own, with the libraries loaded once. It needs cosmic-ray.

    pip install cosmic-ray
    python benchmarks/mutation.py --count 10     # of each module; minutes
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TARGETS = {
    "formats/file_volume": "formats/test_file_volume",
    "formats/tomogram_names": "formats/test_tomogram_names",
    "formats/unfinished_scores": "formats/test_unfinished_scores",
    "formats/resample": "formats/test_formats_resample",
    "core/placement": "core/test_placement",
    "metrics/matching": "metrics/test_matching",
    "metrics/detection": "metrics/test_detection",
    "metrics/segmentation": "metrics/test_segmentation",
    "metrics/czii": "metrics/test_czii",
}
"""Module -> its tests; `resample` and `placement` are geometry."""
LIBRARIES = ("numpy", "scipy.ndimage", "scipy.spatial", "scipy.optimize", "scipy.stats", "pydantic", "yaml", "mrcfile",
             "zarr", "pytest", "hypothesis", "hypothesis.extra.numpy", "pandas")  # fmt: skip
OPTIONS = (
    "-q",
    "-x",
    "-p",
    "no:cacheprovider",
    "-m",
    "not slow",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
)
"""Of pytest."""
LIMIT = 60.0
"""Seconds after which a mutant that runs forever counts as noticed."""


def mutants(file: Path, count: int, rng: random.Random) -> list[Any]:
    """A sample of the errors that cosmic-ray makes in a module."""
    from cosmic_ray.commands.init import init
    from cosmic_ray.work_db import WorkDB, use_db

    with tempfile.TemporaryDirectory() as folder, use_db(str(Path(folder) / "db"), WorkDB.Mode.create) as db:
        init([file], db, {})
        found = [item.mutations[0] for item in db.work_items]
    # `|` stands in annotations, which are not evaluated
    found = [
        one
        for one in found
        if "BitOr" not in one.operator_name and one.operator_name != "core/RemoveDecorator"
    ]
    return rng.sample(found, min(count, len(found)))


def is_noticed(tests: Path, source: Path) -> bool:
    """Run the tests of a copy in a process of its own."""
    child = os.fork()
    if not child:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        os.setsid()
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(source))
        os.chdir(source.parent)
        import pytest

        os._exit(int(pytest.main([*OPTIONS, str(tests)])))
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status != 0
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def examine(copy: Path, module: str, count: int, rng: random.Random) -> tuple[int, list[str]]:
    """Number of mutants of a module, and those that its tests do not notice."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    file, tests = copy / "src" / "cryovox" / f"{module}.py", copy / "tests" / f"{TARGETS[module]}.py"
    original = file.read_text(encoding="utf-8")
    if is_noticed(tests, copy / "src"):
        raise SystemExit(f"{tests} fails without any error")
    file.write_text("raise RuntimeError", encoding="utf-8")
    if not is_noticed(tests, copy / "src"):
        raise SystemExit(f"{tests} does not import the copy of {module}")
    file.write_text(original, encoding="utf-8")
    chosen, survivors = mutants(file, count, rng), []
    for one in chosen:
        operator = get_operator(one.operator_name)(**one.operator_args)
        file.write_text(mutate_code(original, operator, one.occurrence), encoding="utf-8")
        if not is_noticed(tests, copy / "src"):
            line = original.splitlines()[one.start_pos[0] - 1].strip()
            survivors.append(
                f"{module}.py:{one.start_pos[0]} {one.operator_name.removeprefix('core/')}: {line}"
            )
            print(survivors[-1], flush=True)
    file.write_text(original, encoding="utf-8")
    return len(chosen), survivors


def main() -> None:
    """Examine all modules."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10, help="mutants of each module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modules", nargs="*", default=list(TARGETS), choices=list(TARGETS))
    options = parser.parse_args()
    for library in LIBRARIES:
        importlib.import_module(library)
    sizes, survived, rng = Counter[str](), {}, random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("src", "tests", "pyproject.toml"):
            copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copied(ROOT / name, Path(folder) / name)
        for module in options.modules:
            sizes[module], survived[module] = examine(Path(folder), module, options.count, rng)
            print(f"{module}: {sizes[module] - len(survived[module])} of {sizes[module]} noticed", flush=True)
    from common import write_result  # imports the package itself, which the mutants must not find loaded

    noticed = sizes.total() - sum(map(len, survived.values()))
    print(f"{noticed} of {sizes.total()} noticed: {100 * noticed / sizes.total():.0f} %")
    write_result("mutation", {
        "noticed": noticed, "mutants": sizes.total(), "count": options.count, "seed": options.seed,
        "modules": {m: {"noticed": n - len(survived[m]), "mutants": n, "survivors": survived[m]}
                    for m, n in sizes.items()},
    })  # fmt: skip


if __name__ == "__main__":
    main()
