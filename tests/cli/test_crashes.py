"""Runs that are killed, on disks that are full or lost, with inputs that break; by real means."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryovox.workflows.manifest import sha256

VOLUMES = 6
KILLS = 20
DRIVER = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from cryovox.cli import main
import cryovox.workflows.find, cryovox.models.checkpoint, cryovox.report.html
from cryovox.inference import stream

out, log, kills, command = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
real = stream.score_on_device

def slow(network, images, tiles):
    counter = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(counter, b"t" * len(images))
    os.close(counter)
    time.sleep(0.004)
    return real(network, images, tiles)

stream.score_on_device = slow

def state():
    "Name of a tomogram -> planes that are complete."
    found = {}
    for journal in out.glob("scores/.*.unfinished/planes-*.json"):
        low, high = json.loads(journal.read_text())["planes"]
        name = journal.parent.name[1:].removesuffix(".unfinished")
        found[name] = found.get(name, 0) + high - low
    manifest = out / "manifest.json"
    entries = json.loads(manifest.read_text()).get("entries", {}) if manifest.exists() else {}
    return found | {name: 10**6 for name in entries}

def size():
    return os.path.getsize(log) if os.path.exists(log) else 0

def run():
    process = os.fork()
    if not process:
        os._exit(main(command))
    return process

history, random_ = [], random.Random(7)
for number in range(kills):
    before, process = size(), run()
    tiles, until = random_.randint(1, 70), time.monotonic() + 30
    while size() < before + tiles and time.monotonic() < until and os.waitid(
        os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT
    ) is None:
        time.sleep(0.002)
    time.sleep(random_.uniform(0, 0.02))
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    history.append([os.WIFSIGNALED(status), state()])
_, status = os.waitpid(run(), 0)
print(json.dumps({"code": os.waitstatus_to_exitcode(status), "history": history}))
"""


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "CRYOVOX_MALLOC": "0"}


def drive(folder, out, kills, command):
    log = folder / f"{out.name}.log"
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(out), str(log), str(kills), json.dumps(command)],
        capture_output=True, text=True, timeout=1500, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), log.stat().st_size


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes")
    for number in range(VOLUMES):
        with mrcfile.new(folder / f"TS_{number}.mrc") as file:
            file.set_data(np.random.default_rng(number).normal(size=(64, 40, 40)).astype(np.float32))
            file.set_volume()
            file.voxel_size = 14.0
    return folder


def find(volumes, model, out):
    return ["find", str(volumes), "--model", str(model), "--out", str(out), "--device", "cpu", "--quiet"]


def outputs(out: Path) -> dict[str, str]:
    kinds = ("scores", "labels", "particles", "noise", "masks")
    return {str(p.relative_to(out)): sha256(p) for kind in kinds for p in sorted((out / kind).glob("*"))}


def strays(out: Path) -> list[str]:
    """Files that no finished run leaves."""
    hidden = [p for p in out.rglob(".*") if p.name not in (".locks",) and ".locks" not in p.parts]
    return sorted(str(p.relative_to(out)) for p in [*hidden, *out.rglob("*.partial")])


@pytest.mark.slow
def test_kills_at_random_moments_lose_at_most_a_slab_each(volumes, model, tmp_path):
    whole, tiles = drive(tmp_path, tmp_path / "whole", 0, find(volumes, model, tmp_path / "whole"))
    killed, again = drive(tmp_path, tmp_path / "killed", KILLS, find(volumes, model, tmp_path / "killed"))
    assert (whole["code"], killed["code"]) == (0, 0)
    hit = [state for was_killed, state in killed["history"] if was_killed]
    assert len(hit) == KILLS, "the volumes were done before"
    assert 0 < sum(len(state) for state in hit) and again > tiles, "no kill came while tiles were scored"
    for before, after in pairwise(hit):  # no complete plane is ever lost
        assert all(after.get(name, 0) >= planes for name, planes in before.items()), (before, after)
    # what is scored again: tiles of the slab in progress, and those of the row before that overlap it
    row = (tiles / VOLUMES) / 8
    each = (again - tiles) / len(hit)
    sys.stdout.write(
        f"{tiles} tiles; {each:.1f} scored again after each of {len(hit)} kills; a row has {row:g}\n"
    )
    assert again - tiles <= len(hit) * 2 * row
    assert outputs(tmp_path / "killed") == outputs(tmp_path / "whole")
    assert len(outputs(tmp_path / "whole")) >= 3 * VOLUMES
    assert strays(tmp_path / "killed") == []
