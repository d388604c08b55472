"""Runs a suite: resumable, several trainings at a time, one result file for each."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from cryovox.benchmark import SUITES
from cryovox.benchmark.suite import Job, Plan, Suite, Tier
from cryovox.core.atomic import discard, replacing, writable_folder
from cryovox.core.errors import RequestError
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.manifest import code_hash, versions

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def run_suite(  # noqa: PLR0913 (what a run is)
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
    """Train and score whatever has not been, and gather the result.

    Parameters
    ----------
    name
        Row of `SUITES`.
    out
        ``data/``, ``runs/JOB/`` and ``result.json`` go there.
    plan
        As the suite gives it for the tier, or shortened.
    data
        Folder of the true data; simulated stand-ins otherwise.
    at_once
        Trainings at a time, each on its share of the cores.
    command
        How it was asked for, to be kept with the result.
    json_file
        Receives the result after every job. Jobs that it holds already, with the same settings and data, are
        not run again, so a suite continues from a result file alone, for instance on another machine.

    Returns
    -------
    dict
        Settings, one row for each job, and the rows that need no training.
    """
    suite: Suite = SUITES[name]
    used = choose_device(device)
    writable_folder(out)
    facts = _prepared(suite, out, tier, data, overwrite)
    if data is not None:
        plan = suite.given(plan)
    jobs = plan.jobs()
    if json_file is not None and not overwrite:
        _restore(out, jobs, facts, json_file)
    waiting = [job for job in jobs if overwrite or not _is_done(out, job)]
    for job in waiting:
        _make_way(out, job, overwrite)
    head = {
        "command": command, "suite": name, "title": suite.title, "source": suite.source,
        "tier": tier, "data": facts,
        "headlines": suite.headlines, "reference": suite.reference, "compared": suite.compared,
        "groups": suite.groups,
        "shown": suite.shown,
        "plan": plan.to_dict(),
        "versions": {k: v for k, v in versions().items() if k != "machine"}, "cores": os.cpu_count(),
        "at_once": at_once, "device": used, "references": suite.references(out / "data"),
    }  # fmt: skip
    on_progress("trainings", (len(jobs) - len(waiting)) / len(jobs))
    for done, job in enumerate(_done(suite, waiting, out, at_once, device), len(jobs) - len(waiting) + 1):
        if json_file is not None:
            _write(json_file, _gathered(head, out, jobs))
        on_progress("trainings", done / len(jobs), job.name)
    result = _gathered(head, out, jobs)
    for path in (out / "result.json", json_file):
        if path is not None:
            _write(path, result)
    return result


def _gathered(head: dict[str, Any], out: Path, jobs: list[Job]) -> dict[str, Any]:
    """The result of all jobs that have been run, and how many have not."""
    rows = [row for job in jobs if (row := _known(out, job)) is not None]
    return {**head, "jobs_left": len(jobs) - len(rows), "runs": rows}


def _restore(out: Path, jobs: list[Job], facts: dict[str, Any], json_file: Path) -> None:
    """Take over what an earlier result file holds of these jobs on these data."""
    if not json_file.exists():
        return
    earlier = json.loads(json_file.read_text(encoding="utf-8"))
    if earlier["data"] != _plain(facts):
        return
    for row in earlier["runs"]:
        for job in jobs:
            if row["settings"] == _plain(asdict(job)) and "failed" not in row and not _is_done(out, job):
                _write(_result(out, job), row)


def _prepared(suite: Suite, out: Path, tier: Tier, data: Path | None, overwrite: bool) -> dict[str, Any]:
    """Facts of the data, which are made once and belong to one tier."""
    noted = out / "data.json"
    asked = {"suite": suite.name, "tier": tier, "folder": None if data is None else data.name}
    if noted.exists() and not overwrite:
        known = json.loads(noted.read_text(encoding="utf-8"))
        if known["asked"] != asked:
            told = f"holds runs of {known['asked']}, not of {asked}"
            raise RequestError(out, told, "name another folder, or add --overwrite")
        return dict(known["facts"])
    discard(out / "data")
    facts = suite.prepare(out / "data", tier, data)
    _write(noted, {"asked": asked, "facts": facts})
    return facts


def _done(suite: Suite, jobs: list[Job], out: Path, at_once: int, device: Device) -> Iterator[Job]:
    """Do the jobs, here or in so many processes; gives each when it is done."""
    if at_once == 1:
        for job in jobs:
            _one(suite, job, out, device)
            yield job
        return
    with (
        _threads(max(1, (os.cpu_count() or 1) // at_once)),
        ProcessPoolExecutor(at_once, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool,
    ):
        running = {pool.submit(_one, suite, job, out, device): job for job in jobs}
        for future in as_completed(running):
            future.result()
            yield running[future]


def _known(out: Path, job: Job) -> dict[str, Any] | None:
    path = _result(out, job)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _is_done(out: Path, job: Job) -> bool:
    """Whether there is a result of this very job; what failed is tried again."""
    known = _known(out, job)
    return known is not None and "failed" not in known and known["settings"] == _plain(asdict(job))


def _make_way(out: Path, job: Job, overwrite: bool) -> None:
    """Drop the run of a job that is no longer what is asked for; an interrupted one goes on."""
    known = _known(out, job)
    if overwrite or known is not None:
        discard(_result(out, job).parent)


def _plain(found: Any) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(found))


def _one(suite: Suite, job: Job, out: Path, device: Device) -> None:
    """Train and score; a failure is a result too."""
    folder = _result(out, job).parent
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    row: dict[str, Any] = {
        "contestant": job.contestant.name, "budget": job.budget.name, "seed": job.seed,
        "settings": asdict(job), "code": code_hash(),
    }  # fmt: skip
    try:
        row["scores"] = suite.run(job, out / "data", folder, device)
        row |= _training(folder)
    except Exception as error:
        row["failed"] = f"{type(error).__name__}: {error}"
        with replacing(folder / "failure.txt") as beside:
            beside.write_text(traceback.format_exc(), encoding="utf-8")
    _write(_result(out, job), row | {"seconds": round(time.monotonic() - began, 1)})


def _training(folder: Path) -> dict[str, Any]:
    """Steps and seconds of the training, as its run folders tell; of a source model that jobs share, none."""
    noted = [folder / "run" / stage / "manifest.json" for stage in ("", "source", "adapted")]
    known = [json.loads(path.read_text(encoding="utf-8")) for path in noted if path.exists()]
    stages = [stage for stage in known if "steps" in stage]
    if not stages:
        return {}
    return {"steps": sum(s["steps"] for s in stages), "train_seconds": sum(s["seconds"] for s in stages)}


def _result(out: Path, job: Job) -> Path:
    return out / "runs" / job.name / "result.json"


def _write(path: Path, found: dict[str, Any]) -> None:
    with replacing(path) as beside:
        beside.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _threads(each: int) -> Iterator[None]:
    """Give processes that start in here so many threads."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, str(each)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
