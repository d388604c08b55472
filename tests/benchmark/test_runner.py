"""A suite goes on where it stopped, shows what failed, and refuses to mix."""

import json
import pickle
from dataclasses import replace

import pytest
import torch

from cryovox.benchmark import SUITES, runner
from cryovox.benchmark.runner import run_suite
from cryovox.benchmark.suite import Budget, Job, Method, Plan, Suite
from cryovox.benchmark.training import job_settings
from cryovox.core.errors import RequestError
from cryovox.models import build, options


class Counting(Suite):
    """Scores a job by its seed; method "bad" breaks."""

    name, title, source, headlines, reference = "counting", "Counting", "nowhere", ("n",), "good"

    def __init__(self):
        self.ran, self.prepared = [], 0

    def plan(self, tier):
        rows = (Method("good", "voxresnet"), Method("bad", "voxresnet"))
        return Plan(rows, (Budget(steps=1),), seeds=2)

    def prepare(self, folder, tier, data):
        self.prepared += 1
        return {"tier": tier}

    def run(self, job, folder, out, device):
        self.ran.append(job.name)
        if job.method.name == "bad":
            raise RuntimeError("no memory")
        return {"all": {"n": float(job.seed)}}


@pytest.fixture
def suite(monkeypatch):
    counting = Counting()
    monkeypatch.setattr(runner, "SUITES", {"counting": counting})
    return counting


def test_all_jobs_are_run_once_and_failures_are_rows(suite, tmp_path):
    plan = suite.plan("smoke")
    result = run_suite("counting", tmp_path, plan, tier="smoke")
    assert len(suite.ran) == 4
    assert [r.get("scores", {}).get("all", {}).get("n") for r in result["runs"]] == [0.0, None, 1.0, None]
    assert result["runs"][1]["failed"] == "RuntimeError: no memory"
    assert json.loads((tmp_path / "result.json").read_text())["runs"] == result["runs"]


def test_a_second_run_does_nothing_that_is_done(suite, tmp_path):
    plan = suite.plan("smoke")
    run_suite("counting", tmp_path, plan, tier="smoke")
    suite.ran.clear()
    (tmp_path / "runs" / "good_1-steps_seed1" / "result.json").unlink()
    run_suite("counting", tmp_path, plan, tier="smoke")
    assert [name for name in suite.ran if name.startswith("good")] == ["good_1-steps_seed1"]
    assert suite.prepared == 1


def test_what_failed_is_tried_again(suite, tmp_path):
    plan = suite.plan("smoke")
    run_suite("counting", tmp_path, plan, tier="smoke")
    suite.ran.clear()
    run_suite("counting", tmp_path, plan, tier="smoke")
    assert suite.ran == ["bad_1-steps_seed0", "bad_1-steps_seed1"]


def test_a_job_with_other_settings_is_another_job(suite, tmp_path):
    plan = replace(suite.plan("smoke"), methods=(Method("good", "voxresnet"),))
    run_suite("counting", tmp_path, plan, tier="smoke")
    left = tmp_path / "runs" / "good_1-steps_seed0" / "run"
    left.mkdir()
    changed = replace(plan, methods=(Method("good", "voxresnet", options={"widths": [4, 8]}),))
    suite.ran.clear()
    run_suite("counting", tmp_path, changed, tier="smoke")
    assert suite.ran == ["good_1-steps_seed0", "good_1-steps_seed1"]
    assert not left.exists()


def test_overwrite_runs_everything_anew(suite, tmp_path):
    plan = suite.plan("smoke")
    run_suite("counting", tmp_path, plan, tier="smoke")
    left = tmp_path / "runs" / "good_1-steps_seed0" / "run"
    left.mkdir()
    run_suite("counting", tmp_path, plan, tier="smoke", overwrite=True)
    assert (len(suite.ran), suite.prepared, left.exists()) == (8, 2, False)


def test_true_data_have_no_rows_without_noise(suite, tmp_path):
    plan = replace(
        suite.plan("smoke"),
        methods=(Method("o", "voxresnet", data="clean"), Method("good", "voxresnet")),
    )
    run_suite("counting", tmp_path / "out", plan, tier="smoke", data=tmp_path)
    assert suite.ran == ["good_1-steps_seed0", "good_1-steps_seed1"]


def test_a_folder_holds_one_tier(suite, tmp_path):
    run_suite("counting", tmp_path, suite.plan("smoke"), tier="smoke")
    with pytest.raises(RequestError, match="another folder"):
        run_suite("counting", tmp_path, suite.plan("cpu"), tier="cpu")


def test_jobs_go_seed_by_seed(suite):
    assert [(j.seed, j.method.name) for j in suite.plan("cpu").jobs()] == [
        (0, "good"), (0, "bad"), (1, "good"), (1, "bad"),
    ]  # fmt: skip


def test_a_network_that_is_no_row_becomes_one(suite):
    plan = suite.plan("cpu").select(["good", "deepfinder"], "s")
    assert [(c.name, c.network, c.size) for c in plan.methods] == [
        ("good", "voxresnet", "s"), ("deepfinder", "deepfinder", "s"),
    ]  # fmt: skip
    with pytest.raises(RequestError, match="deepfindr"):
        suite.plan("cpu").select(["deepfindr"], "s")


@pytest.mark.parametrize("name", [n for n in SUITES if n != "cost"])
@pytest.mark.parametrize("tier", ["smoke", "cpu", "gpu"])
def test_every_row_of_every_suite_can_be_built_and_trained_with_its_settings(name, tier):
    plan = SUITES[name].plan(tier)
    assert len({job.name for job in plan.jobs()}) == len(plan.jobs())
    for method in plan.methods:
        config = job_settings(Job(method, plan.budgets[0], 0))
        chosen = options(method.network, method.size, **method.options)
        with torch.device("meta"):
            build(config.network.model, chosen, 1, 2)


@pytest.mark.parametrize("name", list(SUITES))
def test_a_suite_can_go_to_other_processes(name):
    pickle.dumps(SUITES[name])


def test_a_result_file_alone_is_enough_to_continue(suite, tmp_path):
    plan = suite.plan("smoke")
    file = tmp_path / "result.json"
    run_suite("counting", tmp_path / "here", replace(plan, seeds=1), tier="smoke", json_file=file)
    suite.ran.clear()
    result = run_suite("counting", tmp_path / "elsewhere", plan, tier="smoke", json_file=file)
    assert suite.ran == ["bad_1-steps_seed0", "good_1-steps_seed1", "bad_1-steps_seed1"]
    assert [run["seed"] for run in result["runs"]] == [0, 0, 1, 1]
    assert json.loads(file.read_text())["runs"] == result["runs"]


def test_a_result_file_of_other_data_or_settings_is_not_taken_over(suite, tmp_path):
    plan = suite.plan("smoke")
    file = tmp_path / "result.json"
    result = run_suite("counting", tmp_path / "a", plan, tier="smoke", json_file=file)
    suite.ran.clear()
    file.write_text(json.dumps({**result, "data": {"tier": "other"}}))
    run_suite("counting", tmp_path / "b", plan, tier="smoke", json_file=file)
    assert len(suite.ran) == 4
    suite.ran.clear()
    run_suite(
        "counting", tmp_path / "c", replace(plan, budgets=(Budget(steps=2),)), tier="smoke", json_file=file
    )
    assert len(suite.ran) == 4


def test_the_result_file_grows_with_every_job_and_says_what_is_left(suite, tmp_path):
    plan, file = suite.plan("smoke"), tmp_path / "result.json"
    progress = []

    def look(name, fraction, note=""):
        if file.exists():
            result = json.loads(file.read_text())
            progress.append((len(result["runs"]), result["jobs_left"]))

    run_suite("counting", tmp_path / "out", plan, tier="smoke", json_file=file, on_progress=look)
    assert progress == [(1, 3), (2, 2), (3, 1), (4, 0)]
    assert {run["code"] for run in json.loads(file.read_text())["runs"]} == {runner.code_hash()}


def test_runs_of_other_methods_share_a_result_file(suite, tmp_path):
    plan, file = suite.plan("smoke"), tmp_path / "result.json"
    second, first = (plan.select((name,), "s") for name in ("bad", "good"))
    run_suite("counting", tmp_path / "a", second, tier="smoke", json_file=file)
    run_suite("counting", tmp_path / "b", first, tier="smoke", json_file=file)
    result = json.loads(file.read_text())
    assert [m["name"] for m in result["plan"]["contestants"]] == ["good", "bad"]  # the order of the suite
    assert sorted((r["contestant"], r["seed"]) for r in result["runs"]) == [
        ("bad", 0), ("bad", 1), ("good", 0), ("good", 1),
    ]  # fmt: skip
    assert result["jobs_left"] == 0
    one = replace(plan.select(("good",), "s"), budgets=(Budget(steps=2),))
    run_suite("counting", tmp_path / "c", one, tier="smoke", json_file=file)
    assert {r["contestant"] for r in json.loads(file.read_text())["runs"]} == {"good"}  # another budget
