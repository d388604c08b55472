"""What `--dry-run` predicts, beside what runs take."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cryovox.cli import main
from cryovox.core.volume import Volume
from cryovox.formats import write_volume
from cryovox.workflows.dry_run import prediction

SCENE = ("--scene.shape", "48", "96", "128", "--scene.voxel-size", "15", "--tilts.step", "6")
COMMANDS = {
    "ibf": ("denoise", "IN", "--method", "ibf"),
    "bf": ("denoise", "IN", "--method", "bf", "--slab", "20"),
    "ngm": ("denoise", "IN", "--method", "ngm"),
    "match": ("match", "ribosome-80s", "IN", "--angle", "20", "--no-lamella", "--no-refine"),
    "simulate": ("simulate", *SCENE, "--halves", "tilts", "--keep", "clean", "series"),
}
VOLUMES = ("denoised", "rotations", "masks", "tomograms", "labels", "halves", "clean", "series")
MOST = 2.5
"""Factor within which time and memory are predicted."""


@pytest.fixture
def tomogram(tmp_path):
    data = np.random.default_rng(0).normal(size=(60, 110, 130)).astype(np.float32)
    write_volume(tmp_path / "TS_01.mrc", Volume(data, 20.0))
    return tmp_path / "TS_01.mrc"


def asked(command, tomogram, out):
    words = [str(tomogram) if word == "IN" else word for word in COMMANDS[command]]
    return [*words, "--device", "cpu", "--quiet", "--out", str(out)]


def predicted(command, tomogram, folder):
    file = folder / "plan.json"
    assert main([*asked(command, tomogram, folder / "plan"), "--dry-run", "--json", str(file)]) == 0
    assert not (folder / "plan").exists()
    (row,) = json.loads(file.read_text())
    return row


def written(out: Path, kinds) -> int:
    return sum(p.stat().st_size for kind in kinds for p in (out / kind).rglob("*") if p.is_file())


@pytest.mark.parametrize("command", COMMANDS)
def test_time_and_output_are_those_of_a_run(command, tomogram, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(prediction, "now", time.process_time)  # other processes do not count
    row = predicted(command, tomogram, tmp_path)
    start = time.process_time()
    assert main(asked(command, tomogram, tmp_path / "out")) == 0
    taken = time.process_time() - start
    sys.stdout.write(f"{command}: {row['seconds']:.1f} s predicted, {taken:.1f} s taken\n")
    assert taken / MOST - 1 < row["seconds"] < MOST * taken + 1, (row["seconds"], taken)
    volumes = written(tmp_path / "out", VOLUMES)
    if command == "match":  # scores are compressed, and angles are a table
        volumes -= (tmp_path / "out" / "rotations" / "TS_01.csv").stat().st_size
        volumes += 2 * int(np.prod(row["shape"]))
        assert written(tmp_path / "out", ["scores"]) < 2 * np.prod(row["shape"]) + 20_000
    assert row["output"] == volumes


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_memory_is_that_of_a_run(command, tomogram, tmp_path):
    torch.set_num_threads(1)
    # the peak of this process; ru_maxrss would also count that of the one that started it
    code = "import sys; from cryovox.cli import main; code = main(sys.argv[1:])\n"
    code += "print(code, *[line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line])"
    words = asked(command, tomogram, tmp_path / "out")
    run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    plan = subprocess.run(
        [sys.executable, "-c", code, *words, "--dry-run", "--json", str(tmp_path / "plan.json")],
        capture_output=True, check=True,
    )  # fmt: skip
    assert plan.returncode == 0
    code, peak = map(int, run.stdout.split()[-2:])
    (row,) = json.loads((tmp_path / "plan.json").read_text())
    sys.stdout.write(f"{command}: {row['ram'] / 1e6:.0f} MB predicted, {1.024e-3 * peak:.0f} MB taken\n")
    assert code == 0
    assert 1024 * peak / 1.5 < row["ram"] < 1024 * peak * 1.5


def test_a_plan_of_poses_at_particles_is_refused(tomogram, tmp_path, capsys):
    words = asked("match", tomogram, tmp_path / "out")
    assert main([*words, "--dry-run", "--at", str(tmp_path / "picks.star")]) == 2
    assert "--dry-run" in capsys.readouterr().err
