"""Run a suite: resumable, several trainings in parallel, one result file per training."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from cryovox.benchmark import SUITES
from cryovox.benchmark.suite import Budget, Job, Plan, Suite, Tier, stored
from cryovox.core.atomic import discard, replacing, writable_folder
from cryovox.core.errors import RequestError
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.manifest import code_hash, locked, versions

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def run_suite(  # noqa: PLR0913 (settings of a run)
    name: str,
    out: Path,
    plan: Plan,
    *,
    tier: Tier = "cpu",
    data: Path | None = None,
    at_once: int = 1,
    device: Device = "auto",
    overwrite: bool = False,
    command: str = "",
    json_file: Path | None = None,
    on_progress: ProgressCallback = no_progress,
) -> dict[str, Any]:
    """Train and score all jobs without a result, and collect the results.

    Parameters
    ----------
    name
        Row of `SUITES`.
    out
        Output folder for ``data/``, ``runs/JOB/`` and ``result.json``.
    plan
        Plan of the suite for this tier, possibly shortened.
    data
        Folder with measured data; simulated stand-ins otherwise.
    at_once
        Number of trainings in parallel; each gets its share of the cores.
    command
        Command line, stored with the result.
    json_file
        File to which the result is written after every job. Jobs that it already contains, with the same
        settings and data, are not run again, so a suite can be continued from a result file alone, for
        instance on another machine. Rows of other methods on the same data stay in it.

    Returns
    -------
    dict
        Settings, one row for each job, and the baselines that need no training.
    """
    suite: Suite = SUITES[name]
    resolved_device = choose_device(device)
    writable_folder(out)
    metadata = _prepare_data(suite, out, tier, data, overwrite)
    if data is not None:
        plan = suite.on_user_data(plan)
    jobs = plan.jobs()
    if json_file is not None and not overwrite:
        _restore(out, jobs, metadata, json_file)
    pending = [job for job in jobs if overwrite or not _is_done(out, job)]
    for job in pending:
        _discard_outdated(out, job, overwrite)
    header = {
        "command": command, "suite": name, "title": suite.title, "source": suite.source,
        "tier": tier, "data": metadata,
        "headlines": suite.headlines, "reference": suite.reference, "compared": suite.compared,
        "groups": suite.groups,
        "shown": suite.shown,
        "plan": stored(plan),
        "versions": {k: v for k, v in versions().items() if k != "machine"}, "cores": os.cpu_count(),
        "at_once": at_once, "device": resolved_device, "references": suite.references(out / "data"),
    }  # fmt: skip
    completed = len(jobs) - len(pending)
    on_progress("trainings", completed / len(jobs))
    for job in _run_jobs(suite, pending, out, at_once, device):
        completed += 1
        if json_file is not None:
            _write_shared(json_file, _collect(header, out, jobs), suite)
        on_progress("trainings", completed / len(jobs), job.name)
    result = _collect(header, out, jobs)
    _write(out / "result.json", result)
    if json_file is not None:
        _write_shared(json_file, result, suite)
    return result


def _collect(header: dict[str, Any], out: Path, jobs: list[Job]) -> dict[str, Any]:
    """The results of all completed jobs, and the number of jobs left."""
    rows = [row for job in jobs if (row := _read_result(out, job)) is not None]
    return {**header, "jobs_left": len(jobs) - len(rows), "runs": rows}


def _restore(out: Path, jobs: list[Job], metadata: dict[str, Any], json_file: Path) -> None:
    """Copy the results of these jobs on these data from an earlier result file."""
    if not json_file.exists():
        return
    earlier = json.loads(json_file.read_text(encoding="utf-8"))
    if earlier["data"] != _as_json(metadata):
        return
    for row in earlier["runs"]:
        for job in jobs:
            if row["settings"] == _as_json(stored(job)) and "failed" not in row and not _is_done(out, job):
                _write(_result_path(out, job), row)


def _write_shared(path: Path, result: dict[str, Any], suite: Suite) -> None:
    """Write a result beside the rows of other methods in the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        _write(path, _with_other_methods(_as_json(result), earlier, suite))


def _with_other_methods(result: dict[str, Any], earlier: dict[str, Any], suite: Suite) -> dict[str, Any]:
    """The result, and the rows of methods that it lacks from an earlier one on the same data."""
    same = ("suite", "tier", "data")
    if any(earlier.get(key) != result[key] for key in same):
        return result
    plan, own = result["plan"], {method["name"] for method in result["plan"]["contestants"]}
    budgets = {Budget(**budget).name for budget in plan["budgets"]}
    others = [r for r in earlier["runs"] if r["contestant"] not in own and r["budget"] in budgets]
    names = {run["contestant"] for run in others}
    added = [m for m in earlier["plan"]["contestants"] if m["name"] in names]
    order = [method.name for method in suite.plan(result["tier"]).methods]
    methods = sorted(
        [*plan["contestants"], *added],
        key=lambda m: order.index(m["name"]) if m["name"] in order else len(order),
    )
    missing = len(added) * len(plan["budgets"]) * plan["seeds"] - len(others)
    return {
        **result,
        "plan": {**plan, "contestants": methods},
        "jobs_left": result["jobs_left"] + missing,
        "runs": [*result["runs"], *others],
    }


def _prepare_data(suite: Suite, out: Path, tier: Tier, data: Path | None, overwrite: bool) -> dict[str, Any]:
    """Prepare the data once for one tier; returns their metadata."""
    path = out / "data.json"
    request = {"suite": suite.name, "tier": tier, "folder": None if data is None else data.name}
    if path.exists() and not overwrite:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if earlier["asked"] != request:
            message = f"holds runs of {earlier['asked']}, not of {request}"
            raise RequestError(out, message, "name another folder, or add --overwrite")
        return dict(earlier["facts"])
    discard(out / "data")
    metadata = suite.prepare(out / "data", tier, data)
    _write(path, {"asked": request, "facts": metadata})
    return metadata


def _run_jobs(suite: Suite, jobs: list[Job], out: Path, at_once: int, device: Device) -> Iterator[Job]:
    """Run the jobs in this process or in *at_once* others; yields each job when it has finished."""
    if at_once == 1:
        for job in jobs:
            _run_job(suite, job, out, device)
            yield job
        return
    with (
        _threads(max(1, (os.cpu_count() or 1) // at_once)),
        ProcessPoolExecutor(at_once, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool,
    ):
        running = {pool.submit(_run_job, suite, job, out, device): job for job in jobs}
        for future in as_completed(running):
            future.result()
            yield running[future]


def _read_result(out: Path, job: Job) -> dict[str, Any] | None:
    path = _result_path(out, job)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _is_done(out: Path, job: Job) -> bool:
    """Whether a result of this job with the same settings exists; failed jobs are run again."""
    result = _read_result(out, job)
    return result is not None and "failed" not in result and result["settings"] == _as_json(stored(job))


def _discard_outdated(out: Path, job: Job, overwrite: bool) -> None:
    """Discard a finished run with other settings; an interrupted run is continued."""
    if overwrite or _read_result(out, job) is not None:
        discard(_result_path(out, job).parent)


def _as_json(value: Any) -> Any:
    """The value after a round trip through JSON."""
    return json.loads(json.dumps(value))


def _run_job(suite: Suite, job: Job, out: Path, device: Device) -> None:
    """Train and score one job, and write its result; a failure is stored as a result too."""
    folder = _result_path(out, job).parent
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    row: dict[str, Any] = {
        "contestant": job.method.name, "budget": job.budget.name, "seed": job.seed,
        "settings": stored(job), "code": code_hash(),
    }  # fmt: skip
    try:
        row["scores"] = suite.run(job, out / "data", folder, device)
        row |= _training_cost(folder)
    except Exception as error:
        row["failed"] = f"{type(error).__name__}: {error}"
        with replacing(folder / "failure.txt") as beside:
            beside.write_text(traceback.format_exc(), encoding="utf-8")
    _write(_result_path(out, job), row | {"seconds": round(time.monotonic() - start, 1)})


def _training_cost(folder: Path) -> dict[str, Any]:
    """Steps and seconds of all training stages; a source model that jobs share is not counted."""
    paths = [folder / "run" / stage / "manifest.json" for stage in ("", "source", "adapted")]
    manifests = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
    stages = [manifest for manifest in manifests if "steps" in manifest]
    if not stages:
        return {}
    return {"steps": sum(s["steps"] for s in stages), "train_seconds": sum(s["seconds"] for s in stages)}


def _result_path(out: Path, job: Job) -> Path:
    return out / "runs" / job.name / "result.json"


def _write(path: Path, result: dict[str, Any]) -> None:
    with replacing(path) as beside:
        beside.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _threads(each: int) -> Iterator[None]:
    """Limit the threads of processes that start in this context."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, str(each)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
