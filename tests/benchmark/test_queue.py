"""The queue of long runs: in order, on every core, through kills and pauses."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

QUEUE = Path(__file__).parents[2] / "benchmarks" / "queue.py"
STEPS = """
import json, pathlib, sys, time
runs, result = map(pathlib.Path, sys.argv[1:3])
steps, pause = int(sys.argv[3]), float(sys.argv[4])
runs.mkdir(parents=True, exist_ok=True)
state = runs / "state"
done = int(state.read_text()) if state.exists() else 0
with (runs / "starts").open("a") as file:
    file.write(f"{done}\\n")
while done < steps:
    time.sleep(pause)
    done += 1
    beside = runs / "state.part"
    beside.write_text(str(done))
    beside.replace(state)
result.write_text(json.dumps({"steps": done}))
"""
"""Counts to a number, and continues from where it stopped."""


def entry(name, steps=2, pause=0.02):
    command = f"python steps.py {{runs}} {{result}} {steps} {pause}"
    return {"name": name, "command": command, "shows": "how far", "prediction": "all", "hours": 1}


class Desk:
    """A list of entries, and the folders that a queue uses."""

    def __init__(self, folder, *entries):
        self.folder, self.results = folder, folder / "results"
        self.results.mkdir()
        (folder / "steps.py").write_text(STEPS)
        for one in entries:
            one["command"] = one["command"].replace("steps.py", str(folder / "steps.py"))
        (folder / "queue.yaml").write_text(yaml.safe_dump({"entries": list(entries)}))

    def call(self, action, *more):
        return [
            sys.executable, str(QUEUE), action, "--list", str(self.folder / "queue.yaml"),
            "--runs", str(self.folder / "runs"), "--results", str(self.results), *more,
        ]  # fmt: skip

    def run(self, action="run", *more):
        return subprocess.run(self.call(action, *more), capture_output=True, text=True, timeout=120)

    def start(self):
        return subprocess.Popen(self.call("run", "--workers", "2"), stdout=subprocess.PIPE, text=True)

    def ledger(self):
        return json.loads((self.results / "queue.json").read_text())

    def starts(self, name):
        return [int(n) for n in (self.folder / "runs" / name / "work" / "starts").read_text().split()]

    def state(self, name):
        path = self.folder / "runs" / name / "work" / "state"
        return int(path.read_text()) if path.exists() else 0


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def test_all_entries_are_run_in_order_and_once(tmp_path):
    desk = Desk(tmp_path, entry("b"), entry("a"))
    ended = desk.run("run", "--workers", "1")
    assert ended.returncode == 0, ended.stderr
    assert list(desk.ledger()) == ["b", "a"]
    assert json.loads((desk.results / "a.json").read_text()) == {"steps": 2}
    assert desk.run().returncode == 0
    assert desk.starts("a") == [0]


def test_a_changed_command_is_run_again_and_a_finished_one_is_not(tmp_path):
    desk = Desk(tmp_path, entry("a"), entry("b"))
    desk.run()
    listed = yaml.safe_load((tmp_path / "queue.yaml").read_text())
    listed["entries"][0]["command"] = listed["entries"][0]["command"].replace(" 2 ", " 3 ")
    (tmp_path / "queue.yaml").write_text(yaml.safe_dump(listed))
    assert desk.run().returncode == 0
    assert (desk.starts("a"), desk.starts("b")) == ([0, 2], [0])


def test_a_terminated_queue_ends_its_runs_and_continues_from_their_state(tmp_path):
    desk = Desk(tmp_path, entry("a", 100, 0.1), entry("b", 100, 0.1))
    queue = desk.start()
    wait_until(lambda: desk.state("a") > 2 and desk.state("b") > 2)
    queue.send_signal(signal.SIGTERM)
    queue.communicate(timeout=30)
    stopped = desk.state("a")
    assert 2 < stopped < 100
    assert "begun" in desk.run("status").stdout
    assert desk.run().returncode == 0
    first, again = desk.starts("a")
    assert (first, again) == (0, stopped)
    assert set(desk.ledger()) == {"a", "b"}


def test_a_killed_queue_leaves_its_runs_alone_and_the_next_one_waits_for_them(tmp_path):
    desk = Desk(tmp_path, entry("a", 30, 0.1), entry("b", 1))
    queue = desk.start()
    wait_until(lambda: desk.state("a") > 2)
    queue.kill()
    queue.communicate()
    assert "running" in desk.run("status").stdout
    assert desk.run().returncode == 0
    assert desk.starts("a") == [0, 30]  # ran on by itself, was never doubled, and is looked at once more
    assert set(desk.ledger()) == {"a", "b"}


def test_paused_runs_stand_still_until_they_are_resumed(tmp_path):
    desk = Desk(tmp_path, entry("a", 20, 0.1))
    queue = desk.start()
    wait_until(lambda: desk.state("a") > 1)
    assert desk.run("pause").stdout.split() == ["paused:", "a"]
    time.sleep(0.3)
    halted = desk.state("a")
    time.sleep(0.6)
    assert desk.state("a") == halted
    desk.run("resume")
    queue.communicate(timeout=60)
    assert queue.returncode == 0
    assert desk.starts("a") == [0]


def test_stop_ends_the_queue_and_its_runs(tmp_path):
    desk = Desk(tmp_path, entry("a", 200, 0.1))
    queue = desk.start()
    wait_until(lambda: desk.state("a") > 1)
    desk.run("stop")
    queue.communicate(timeout=60)
    assert "running" not in desk.run("status").stdout
    assert desk.state("a") < 200


def test_one_queue_at_a_time(tmp_path):
    desk = Desk(tmp_path, entry("a", 200, 0.1))
    queue = desk.start()
    wait_until(lambda: desk.state("a") > 0)
    second = desk.run()
    desk.run("stop")
    queue.communicate(timeout=60)
    assert second.returncode == 2
    assert "another queue runs" in second.stderr


def test_a_failure_is_named_and_the_others_go_on(tmp_path):
    bad = {**entry("bad"), "command": "python -c 1/0"}
    desk = Desk(tmp_path, bad, entry("good"))
    ended = desk.run("run", "--workers", "1")
    assert ended.returncode == 1
    assert "failed bad (exit code 1)" in ended.stdout
    assert "ZeroDivisionError" in (tmp_path / "runs" / "bad" / "log.txt").read_text()
    assert list(desk.ledger()) == ["good"]


def test_a_command_that_leaves_no_result_has_failed(tmp_path):
    desk = Desk(tmp_path, {**entry("a"), "command": "python -c 0"})
    assert desk.run().returncode == 1
    assert not (desk.results / "queue.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hours": -1}, "hours"),
        ({"name": "../up"}, "name"),
        ({"minutes": 3}, "minutes"),
    ],
)
def test_a_wrong_list_is_refused_by_name(tmp_path, change, message):
    desk = Desk(tmp_path, {**entry("a"), **change})
    ended = desk.run("status")
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_runs_use_one_thread_and_the_lowest_priority(tmp_path):
    script = tmp_path / "ask.py"
    script.write_text(
        "import json, os, pathlib, sys\n"
        "session = pathlib.Path('/proc/self/autogroup')\n"
        "group = session.read_text().split()[-1] if session.exists() else '19'\n"
        "facts = [os.nice(0), int(group), os.environ['OMP_NUM_THREADS'], os.environ['PYTHONPATH']]\n"
        "pathlib.Path(sys.argv[1]).write_text(json.dumps(facts))\n"
    )
    desk = Desk(tmp_path, {**entry("a"), "command": f"python {script} {{result}}"})
    assert desk.run().returncode == 0
    nice, group, threads, path = json.loads((desk.results / "a.json").read_text())
    assert (nice, group, threads) == (19, 19, "1")
    assert (Path(path) / "cryovox" / "__init__.py").exists()
    assert Path(path).parent.parent == tmp_path / "runs"


def test_the_list_in_the_repository_can_be_read():
    ended = subprocess.run([sys.executable, str(QUEUE), "status"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "processor hours left" in ended.stdout
