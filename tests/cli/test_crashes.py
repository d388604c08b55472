"""Runs that are killed, on disks that are full or lost, with inputs that break; by real means."""

import errno
import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryovox.core.atomic import replacing
from cryovox.core.errors import FolderLostError
from cryovox.workflows.batch import Job, Result, run_batch
from cryovox.workflows.manifest import Manifest, sha256

VOLUMES = 6
KILLS = 20
BEGINNING = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from cryovox.cli import main

out, log, kills, command = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])

def count(number):
    counter = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(counter, b"t" * number)
    os.close(counter)
    time.sleep(0.004)
"""
TILES = """
import cryovox.workflows.find, cryovox.models.checkpoint, cryovox.report.html
from cryovox.inference import stream

real = stream.score_on_device

def slow(network, images, tiles):
    count(len(images))
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
"""
PARTS = """
import cryovox.workflows.denoise, cryovox.workflows.match, cryovox.workflows.simulation.dataset
import cryovox.inference.matching as matching
from cryovox.core.unfinished import UnfinishedParts

matching.STORE_SECONDS = 0
matching.BATCH_VOXELS = {"cpu": 1 << 18}
store = UnfinishedParts.store

def slow(self, name, arrays):
    count(self.folder is not None)
    store(self, name, arrays)

UnfinishedParts.store = slow

def state():
    return {}
"""
LOOP = """
def size():
    return os.path.getsize(log) if os.path.exists(log) else 0

def run():
    process = os.fork()
    if not process:
        os._exit(main(command))
    return process

history, random_, most = [], random.Random(7), int(sys.argv[5])
for number in range(kills):
    before, process = size(), run()
    tiles, until = random_.randint(1, most), time.monotonic() + 30
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


def drive(folder, out, kills, command, counted=TILES, most=70):
    """Run a command that is killed, each time after at most so many units; returns units in all, too."""
    log = folder / f"{out.name}.log"
    code = BEGINNING + counted + LOOP
    done = subprocess.run(
        [sys.executable, "-c", code, str(out), str(log), str(kills), json.dumps(command), str(most)],
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
    kinds = ["scores", "labels", "particles", "noise", "masks", "denoised", "rotations", "tomograms"]
    kinds += ["halves", "truth"]
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
    assert any(hit), "no kill came while tiles were scored"
    assert again > tiles, "no kill came while tiles were scored"
    for before, after in pairwise(hit):  # no complete plane is ever lost
        assert all(after.get(name, 0) >= planes for name, planes in before.items()), (before, after)
    row = (tiles / VOLUMES) / 8
    each = (again - tiles) / len(hit)
    sys.stdout.write(
        f"{tiles} tiles; {each:.1f} scored again after each of {len(hit)} kills; a row has {row:g}\n"
    )
    assert again - tiles <= len(hit) * row  # the slab in progress
    assert outputs(tmp_path / "killed") == outputs(tmp_path / "whole")
    assert len(outputs(tmp_path / "whole")) >= 3 * VOLUMES
    assert strays(tmp_path / "killed") == []


SCENE = ("--scene.shape", "24", "40", "40", "--scene.voxel-size", "20", "--tilts.step", "12")
OTHERS = {
    "bilateral": ("denoise", "IN", "--method", "ibf", "--sigma-d", "2", "--slab", "8"),
    "low-pass": ("denoise", "IN", "--method", "ngm", "--slab", "8"),
    "match": ("match", "ribosome", "IN", "--angle", "40", "--block-voxels", "80000", "--fdr", "0.5"),
    "simulate": ("simulate", "--preset", "toy", "--count", "6", *SCENE, "--halves", "tilts"),
    "multislice": ("simulate", "--preset", "toy", "--count", "6", *SCENE, "--optics.model", "multislice"),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", OTHERS)
def test_other_commands_lose_at_most_a_part_at_each_kill(volumes, tmp_path, command):
    asked = [str(volumes) if word == "IN" else word for word in OTHERS[command]]
    asked += ["--device", "cpu", "--quiet", "--out"]
    whole, parts = drive(tmp_path, tmp_path / "whole", 0, [*asked, str(tmp_path / "whole")], PARTS)
    most = max(1, parts // (KILLS // 2))  # half of that on average: the kills are spread over the run
    asked[-1:] = ["--out", str(tmp_path / "killed")]
    killed, again = drive(tmp_path, tmp_path / "killed", KILLS, asked, PARTS, most)
    assert (whole["code"], killed["code"]) == (0, 0)
    hit = sum(was_killed for was_killed, _ in killed["history"])
    sys.stdout.write(f"{command}: {parts} parts; {again - parts} computed again after {hit} kills\n")
    assert hit > KILLS / 2
    assert 0 <= again - parts <= hit
    assert outputs(tmp_path / "killed") == outputs(tmp_path / "whole")
    assert len(outputs(tmp_path / "whole")) >= VOLUMES
    assert strays(tmp_path / "killed") == []


@pytest.fixture
def mount(tmp_path):
    """Mounts small file systems in memory."""
    mounted = []

    def call(name: str, size: str) -> Path:
        place = tmp_path / name
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("file systems cannot be mounted here")
        mounted.append(place)
        return place

    yield call
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], capture_output=True)


def test_a_full_disk_is_named_and_what_was_done_is_kept(cli, volumes, model, mount, tmp_path):
    out = mount("small", "600k") / "out"
    quick = ("--model", model, "--device", "cpu", "--quiet")
    answer = cli("segment", volumes, *quick, "--out", out)
    assert answer.code == 1
    assert "Traceback" not in answer.err
    failed = [line for line in answer.err.splitlines() if line.startswith("failed: ")]
    assert 0 < len(failed) < VOLUMES
    assert all("the disk is full" in line for line in failed)
    done = {str(p): p.stat().st_mtime_ns for p in (out / "labels").iterdir()}
    assert len(done) == VOLUMES - len(failed)
    subprocess.run(["mount", "-o", "remount,size=64m", str(out.parent)], check=True)
    assert cli("segment", volumes, *quick, "--out", out).code == 0
    assert cli("segment", volumes, *quick, "--out", tmp_path / "whole").code == 0
    assert outputs(out) == outputs(tmp_path / "whole")
    assert strays(out) == []
    assert all(Path(file).stat().st_mtime_ns == when for file, when in done.items())


class Unmounting(Job):
    """Loses the share of the outputs, or of the inputs, while the second input is processed."""

    def __init__(self, share: Path, out: Path) -> None:
        self.share, self.out, self.begun = share, out, []

    def key(self, name):
        return {}

    def process(self, name, loaded, on_progress):
        self.begun.append(name)
        data = loaded.read_bytes()
        if len(self.begun) == 2:
            subprocess.run(["umount", "-l", str(self.share)], check=True)
        target = self.out / f"{name}.txt"
        with replacing(target) as beside:
            beside.write_bytes(data)
        return Result({"text": target})


@pytest.fixture
def texts(tmp_path):
    def write(folder: Path) -> dict[str, Path]:
        folder.mkdir(exist_ok=True)
        for name in "abcd":
            (folder / f"{name}.in").write_text(name)
        return {name: folder / f"{name}.in" for name in "abcd"}

    return write


def test_a_lost_share_of_outputs_ends_the_run(mount, texts, tmp_path):
    share = mount("share", "1m")
    inputs, job = texts(tmp_path / "inputs"), Unmounting(share, share)
    with pytest.raises(FolderLostError, match="share is lost") as caught:
        run_batch(job, inputs, Manifest(share, {"command": "test"}))
    assert caught.value.where == str(share)
    assert job.begun == ["a", "b"]
    assert not (share / "manifest.json").exists()  # nothing is recorded on the disk below


def test_a_lost_share_of_inputs_fails_them_by_name(mount, texts, tmp_path):
    share = mount("share", "1m")
    inputs, job = texts(share), Unmounting(share, tmp_path / "out")
    entries, failures = run_batch(job, inputs, Manifest(tmp_path / "out", {"command": "test"}))
    assert sorted(entries) == ["a"]  # b was read, but its hash was not
    assert sorted(failures) == ["b", "c", "d"]
    assert all("No such file" in str(error) for error in failures.values())


CUT = """
import os, sys
from cryovox.cli import main
from cryovox.inference import stream
from cryovox.filters import bilateral as filters

def cutting(function):
    def call(*args, **options):
        if os.path.getsize(sys.argv[1]) > 9000:
            os.truncate(sys.argv[1], 9000)
        return function(*args, **options)
    return call

stream.score_on_device = cutting(stream.score_on_device)
filters.bilateral = cutting(filters.bilateral)
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("command", ["find", "denoise"])
def test_a_tomogram_that_is_cut_while_it_is_read_fails_by_name(volumes, model, tmp_path, command):
    """The memory map of a file that was cut would end the process."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("TS_0", "TS_1"):
        shutil.copy(volumes / f"{name}.mrc", folder)
    cut, more = folder / "TS_0.mrc", {"find": ["--model", model], "denoise": ["--method", "ibf", "--slab", 8]}
    asked = [command, folder, *more[command], "--device", "cpu", "--quiet", "--out", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-c", CUT, *map(str, (cut, *asked))],
        capture_output=True, text=True, timeout=600, env=environment(),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    (failed,) = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert failed.startswith("failed: TS_0: was cut off while it was read")
    kind = {"find": "particles/TS_1.star", "denoise": "denoised/TS_1.mrc"}[command]
    assert (tmp_path / "out" / kind).exists()
    shutil.copy(volumes / "TS_0.mrc", folder)
    again = subprocess.run(
        [sys.executable, "-m", "cryovox", *map(str, asked)],
        capture_output=True, text=True, timeout=600, env=environment(),
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out" / kind.replace("TS_1", "TS_0")).exists()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_disk_that_stops_answering_is_named(cli, monkeypatch, tomogram, tmp_path, number):
    reading, real = [], os.preadv

    def fail(*args):
        reading.append(args)
        if len(reading) > 2:
            raise OSError(number, os.strerror(number))
        return real(*args)

    monkeypatch.setattr("os.preadv", fail)
    answer = cli("denoise", tomogram, "--method", "ibf", "--slab", 8, "--out", tmp_path / "out")
    answer.refused(tomogram, "no longer answers", "run the same command again", code=1)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOSPC])
def test_errors_of_disks_are_told_in_words(cli, monkeypatch, tomogram, tmp_path, number):
    def refuse(*args, **options):
        raise OSError(number, os.strerror(number), "/data/TS_01.mrc")

    monkeypatch.setattr("cryovox.workflows.denoise.read_volume", refuse)
    answer = cli("denoise", tomogram, "--out", tmp_path / "out")
    words = "the disk is full" if number == errno.ENOSPC else "no longer answers"
    answer.refused("/data/TS_01.mrc", words, "run the same command again", code=1)


def test_files_of_a_lost_machine_are_removed_under_the_lock(texts, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    lost = [out / ".cryovox-00000000-12345-a.txt", out / ".cryovox-00000000-12345-zz.txt"]
    for path in lost:
        path.touch()
    job = Unmounting(tmp_path, out)
    job.begun = ["started before"] * 5
    run_batch(job, texts(tmp_path / "inputs"), Manifest(out, {"command": "test"}))
    assert [path.exists() for path in lost] == [False, True]  # no input has the name of the second
