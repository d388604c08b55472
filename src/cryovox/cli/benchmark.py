"""`cryovox benchmark`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from cryovox.benchmark import SUITES, SUMMARIES
from cryovox.cli.interface.help import two_columns
from cryovox.cli.interface.screen import Meter, check_json, clock
from cryovox.core.atomic import replacing
from cryovox.core.durations import seconds
from cryovox.core.errors import RequestError
from cryovox.workflows.devices import Device

if TYPE_CHECKING:
    from cryovox.benchmark.suite import Budget, Plan, Suite


def benchmark(  # noqa: PLR0913 (the options of a command)
    suite: Annotated[str, tyro.conf.Positional],
    *,
    out: Path,
    tier: Literal["smoke", "cpu", "gpu"] = "cpu",
    data: Path | None = None,
    methods: tuple[str, ...] = (),
    seeds: int | None = None,
    time: str | None = None,
    steps: int | None = None,
    at_once: int = 1,
    device: Device = "auto",
    dry_run: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    json: Path | None = None,
) -> int:
    """Compare networks on a benchmark suite. Run the same command again to continue after an interruption.

    Parameters
    ----------
    suite
        Name of the suite.
    out
        Output folder for data, runs, result.json and table.md.
    tier
        Size of the benchmark: smoke takes seconds, cpu hours on two cores, gpu one large GPU.
    data
        Folder with the dataset of the paper; otherwise simulated data are used.
    methods
        Methods to compare: rows of the suite, or networks; by default all rows of the suite.
    seeds
        Number of trainings (seeds) per method and budget.
    time
        Duration of each training in the comparison at equal time, such as 90s; "no" skips this comparison. On
        a CPU it is processor time, which other work on the machine does not change.
    steps
        Steps of each training in the comparison at equal steps; 0 skips this comparison.
    at_once
        Number of trainings in parallel; the cores are divided among them.
    device
        Device.
    dry_run
        Print the plan and its estimated duration, and stop.
    overwrite
        Run finished trainings again.
    quiet
        Suppress progress output.
    json
        Also write the result to this JSON file, after every training. Trainings in an existing file are not
        repeated, and rows of other contestants on the same data stay in it.
    """
    from cryovox.benchmark.runner import run_suite
    from cryovox.benchmark.tables import markdown

    check_json(json)

    rows = SUITES[suite]
    plan = rows.plan(tier)
    if methods:
        plan = plan.select(methods, "paper" if tier == "gpu" else "s")
    plan = replace(plan, budgets=_budgets(plan, time, steps))
    if seeds is not None:
        plan = replace(plan, seeds=seeds)
    if not plan.jobs():
        raise RequestError("the plan", "contains no training", "change --time, --steps or --seeds")
    if dry_run:
        print(_plan_text(rows, plan, at_once))
        return 0
    meter = Meter(quiet)
    result = run_suite(
        suite, out, plan, tier=tier, data=data, at_once=at_once, device=device,
        overwrite=overwrite, command=_command(), json_file=json,
        on_progress=meter,
    )  # fmt: skip
    table = markdown(result)
    with replacing(out / "table.md") as beside:
        beside.write_text(f"# {rows.title}\n\n{table}\n", encoding="utf-8")
    print(table)
    failed = [row for row in result["runs"] if "failed" in row]
    for row in failed:
        print(f"failed: {row['contestant']} seed {row['seed']}: {row['failed']}", file=sys.stderr)
    return 1 if failed else 0


benchmark.notes = lambda: f"Suites:\n{two_columns(SUMMARIES, every=SUITES)}"  # type: ignore[attr-defined]


def _command() -> str:
    """Return the command line without the output paths."""
    words = sys.argv[1:]
    for option in ("--out", "--json"):
        if option in words:
            at = words.index(option)
            words = words[:at] + words[at + 2 :]
    return shlex.join(["cryovox", *words])


def _budgets(plan: Plan, time: str | None, steps: int | None) -> tuple[Budget, ...]:
    """Return the budgets of the plan, or those of the options."""
    if time not in (None, "no"):
        try:
            seconds(time)
        except ValueError as error:
            raise RequestError("--time", str(error), "such as --time 90s") from None
    from cryovox.benchmark.suite import Budget

    by_time = tuple(b for b in plan.budgets if b.time) if time is None else (Budget(time=time),)
    by_step = tuple(b for b in plan.budgets if b.steps) if steps is None else (Budget(steps=steps),)
    return (() if time == "no" else by_time) + (() if steps == 0 else by_step)


def _plan_text(suite: Suite, plan: Plan, at_once: int) -> str:
    rows = "\n".join(f"    {c.name}" for c in plan.methods)
    budgets = ", ".join(b.name for b in plan.budgets)
    hours = clock(3600 * plan.hours(at_once))
    return (
        f"{suite.title}\nafter {suite.source}\n{rows}\n"
        f"budgets: {budgets}; {plan.seeds} seeds; {plan.models_per_job * len(plan.jobs())} trainings\n"
        f"about {hours} of training, {at_once} in parallel (assuming 1 s per step), plus evaluation"
    )
