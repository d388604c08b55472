"""`cryovox benchmark`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from cryovox.benchmark import SUITES, SUMMARIES
from cryovox.cli.help import two_columns
from cryovox.cli.screen import Meter, check_json, clock
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
    contestants: tuple[str, ...] = (),
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
        Folder with the true data; simulated stand-ins otherwise.
    contestants
        Rows of the suite, or networks of the table; all rows of the suite by default.
    seeds
        Trainings of each contestant under each budget.
    time
        Time of a training under equal time, such as 90s (the processor's on a CPU, so that other work on the
        machine changes nothing); "no" leaves that budget out.
    steps
        Steps of a training under equal steps; 0 leaves that budget out.
    at_once
        Trainings at a time, each on its share of the cores.
    device
        Device.
    dry_run
        Print the plan with its hours, and run nothing.
    overwrite
        Run finished trainings again.
    quiet
        Suppress progress output.
    json
        Write the result to this file too, after every training. Trainings that the file holds already are not
        repeated.
    """
    from cryovox.benchmark.runner import run_suite
    from cryovox.benchmark.tables import markdown

    check_json(json)

    found = SUITES[suite]
    plan = found.plan(tier)
    if contestants:
        plan = plan.select(contestants, "paper" if tier == "gpu" else "s")
    plan = replace(plan, budgets=_budgets(plan, time, steps))
    if seeds is not None:
        plan = replace(plan, seeds=seeds)
    if not plan.jobs():
        raise RequestError("the plan", "holds no training", "give --time, --steps or --seeds otherwise")
    if dry_run:
        print(_plan_text(found, plan, at_once))
        return 0
    meter = Meter(quiet)
    result = run_suite(
        suite, out, plan, tier=tier, data=data, at_once=at_once, device=device,
        overwrite=overwrite, command=_command(), json_file=json,
        on_progress=meter,
    )  # fmt: skip
    table = markdown(result)
    with replacing(out / "table.md") as beside:
        beside.write_text(f"# {found.title}\n\n{table}\n", encoding="utf-8")
    print(table)
    failed = [row for row in result["runs"] if "failed" in row]
    for row in failed:
        print(f"failed: {row['contestant']} seed {row['seed']}: {row['failed']}", file=sys.stderr)
    return 1 if failed else 0


benchmark.notes = lambda: f"Suites:\n{two_columns(SUMMARIES, every=SUITES)}"  # type: ignore[attr-defined]


def _command() -> str:
    """What was typed, but for where the output lies."""
    words = sys.argv[1:]
    for option in ("--out", "--json"):
        if option in words:
            at = words.index(option)
            words = words[:at] + words[at + 2 :]
    return shlex.join(["cryovox", *words])


def _budgets(plan: Plan, time: str | None, steps: int | None) -> tuple[Budget, ...]:
    """The plan's budgets, or those that were asked for."""
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
        f"about {hours} of training, {at_once} at a time (a step taken as 1 s); scoring comes on top"
    )
