"""Several processes write into one folder, as the tasks of a job array do."""

import json
import shutil
import subprocess
import sys

import mrcfile
import pytest

from cryovox.formats import dataset as dataset_files

TASKS = 3
FEW = (
    "--scene.shape", 16, 32, 32, "--scene.voxel-size", 14, "--tilts.step", 30, "--species", "groel",
    "--scene.counts", "groel", 1,
)  # fmt: skip
START = """
import json, os, sys, time
from pathlib import Path
from cryovox.cli import main
import cryovox.workflows.denoise as denoising
import cryovox.workflows.find, cryovox.workflows.simulation.dataset, cryovox.models.checkpoint

barrier, task, commands = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
real = denoising.denoise_into

def counted(*args, **options):
    with open(barrier / "denoised.log", "a") as log:
        log.write("one\\n")
    return real(*args, **options)

denoising.denoise_into = counted
codes = []
for number, command in enumerate(commands):
    (barrier / f"{number}-{task}").touch()
    until = time.monotonic() + 300
    while len(list(barrier.glob(f"{number}-*"))) < 3 and time.monotonic() < until:
        time.sleep(0.002)
    codes.append(main([str(word) for word in command]))
print(codes)
sys.exit(any(codes))
"""


def at_once(folder, commands):
    """Run a list of commands in each process; number n of all of them begins when all are there."""
    barrier = folder / "barrier"
    barrier.mkdir()
    tasks = [
        subprocess.Popen(
            [sys.executable, "-c", START, str(barrier), str(n), json.dumps(own, default=str)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for n, own in enumerate(commands)
    ]  # fmt: skip
    for task in tasks:
        out, err = task.communicate(timeout=500)
        assert task.returncode == 0, (out, err)
    return barrier


@pytest.fixture(scope="module")
def tomograms(tomogram, tmp_path_factory):
    """Three that differ."""
    folder = tmp_path_factory.mktemp("three")
    for number in range(TASKS):
        path = folder / f"TS_0{number}.mrc"
        shutil.copy(tomogram, path)
        with mrcfile.open(path, mode="r+") as file:
            file.data[0, 0, 0] += number
    return folder


@pytest.fixture(scope="module")
def done(tomograms, model, tmp_path_factory):
    """A folder with what three processes wrote into its folders at once, and the commands of each."""
    place = tmp_path_factory.mktemp("parallel")
    quick = ("--device", "cpu", "--quiet")
    make = ("simulate", *FEW, *quick)
    commands = []
    for number in range(TASKS):
        one = tomograms / f"TS_0{number}.mrc"
        commands.append([
            ["find", one, "--model", model, "--out", place / "find", *quick],
            ["segment", one, "--model", model, "--out", place / "segment", *quick],
            ["denoise", one, "--method", "ngm", "--out", place / "denoise", *quick],
            [*make, "--name", f"part{number}", "--seed", number, "--out", place / "simulate"],
            ["denoise", tomograms, "--method", "ngm", "--out", place / "same", *quick],
            [*make, "--count", 3, "--out", place / "batch"],
        ])  # fmt: skip
    barrier = at_once(place, commands)
    return place, commands, (barrier / "denoised.log").read_text().splitlines()


def times(folder):
    """When everything was written but what `find` draws anew from the scores in every run."""
    kinds = ("scores", "denoised", "tomograms", "truth", *(["labels"] if folder.name != "find" else []))
    files = [p for kind in kinds for p in (folder / kind).rglob("*") if p.is_file()]
    assert files
    return {str(p): p.stat().st_mtime_ns for p in files}


@pytest.mark.parametrize("verb", ["find", "segment", "denoise", "simulate"])
def test_all_entries_are_kept_and_none_is_redone(cli, done, verb):
    place, commands, _ = done
    out = place / verb
    noted = json.loads((out / "manifest.json").read_text())
    if verb == "simulate":
        wanted = {f"part{n}_000" for n in range(TASKS)}
        assert {e.name for e in dataset_files.read(out).entries} == wanted
        assert {
            n for key, part in noted.items() if key.startswith("simulate ") for n in part["entries"]
        } == wanted
    else:
        entries = (noted if verb != "denoise" else noted["denoise"])["entries"]
        assert sorted(entries) == ["TS_00", "TS_01", "TS_02"]
    if verb == "find":
        assert all(entry["particles"]["count"] >= 0 for entry in noted["entries"].values())
        assert len(list((out / "particles").glob("*.star"))) == TASKS
        page = (out / "report.html").read_text()
        assert all(f">TS_0{n}<" in page for n in range(TASKS))
    before = times(out)
    for own in commands:
        (command,) = [c for c in own if c[0] == verb and out in c]
        assert cli(*command).code == 0
    assert times(out) == before


def test_processes_share_the_same_list_of_tomograms(done):
    place, _, log = done
    assert len(log) == TASKS + TASKS  # of one tomogram each, and of three between them
    noted = json.loads((place / "same" / "manifest.json").read_text())
    assert sorted(noted["denoise"]["entries"]) == ["TS_00", "TS_01", "TS_02"]


def test_processes_share_a_batch_of_simulations(done):
    place, _, _ = done
    names = [entry.name for entry in dataset_files.read(place / "batch").entries]
    assert names == ["sim_000", "sim_001", "sim_002"]
    assert not list(place.rglob(".cryovox-*"))
