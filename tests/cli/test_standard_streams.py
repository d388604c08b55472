import os
import subprocess
import sys

import pytest

from cryovox.core.volume import Volume
from cryovox.formats import write_volume


@pytest.fixture
def run(monkeypatch):
    """The command line in a process whose terminal has an encoding."""

    def call(encoding, *args):
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        command = [sys.executable, "-m", "cryovox", *map(str, args)]
        done = subprocess.run(command, capture_output=True, timeout=120, env=environment)
        return done.returncode, done.stdout.decode(encoding), done.stderr.decode(encoding)

    return call


@pytest.mark.parametrize("encoding", ["ascii", "gbk"])
def test_a_terminal_that_does_not_know_angstroms(run, encoding, noise, tmp_path):
    tomogram = tmp_path / "TS.mrc"
    write_volume(tomogram, Volume(noise, 10.0))
    code, out, _ = run(encoding, "convert", tomogram, tmp_path / "o.mrc")
    assert code == 0
    assert "voxels (z, y, x) of 10 A" in out
    code, out, _ = run(encoding, "doctor", tomogram)
    assert code == 0
    assert "10 A" in out
    code, out, _ = run(encoding, "convert", "--help")
    assert code == 0
    assert "Voxel size of the input in A;" in out.replace("\n", " ")
    code, _, err = run(encoding, "doctor", tmp_path / "none-\u00c5.mrc")
    assert code == 2
    assert "none-A.mrc" in err


def test_utf_8_stays_as_it_is(run, noise, tmp_path):
    write_volume(tmp_path / "TS.mrc", Volume(noise, 10.0))
    assert "10 \u00c5" in run("utf-8", "convert", tmp_path / "TS.mrc", tmp_path / "o.mrc")[1]


def test_commands_that_are_quick_for_one_file_draw_a_bar_on_a_terminal_only(monkeypatch):
    import sys

    from cryovox.cli.interface.screen import terminal_meter

    assert terminal_meter().quiet
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert not terminal_meter().quiet


def test_several_files_are_counted():
    from cryovox.workflows.batch import for_each

    seen = []
    for_each(["a", "b"], str.upper, on_progress=lambda name, fraction, note="": seen.append((fraction, note)))
    assert seen == [(0.5, "1 of 2"), (1.0, "2 of 2")]
    for_each(["a"], str.upper, on_progress=lambda *_: seen.append("one"))
    assert "one" not in seen


def test_a_simulated_set_reports_progress_and_the_next_command(cli, tmp_path):
    out = tmp_path / "set.zarr"
    few = ("--preset", "subtomogram-50", "--species", "groel", "--count", 4, "--out", out)
    answer = cli("simulate", *few)
    assert answer.code == 0, answer.err
    assert "4 of 4" in answer.err
    assert f"next: cryovox train supervised --data {out}" in answer.out


def test_a_command_ends_without_a_search_for_cycles():
    code = (
        "import atexit, gc, sys;"
        "atexit.register(lambda: print(gc.get_freeze_count(), gc.get_threshold()[0]));"
        "sys.argv = ['cryovox', '--version']; from cryovox.cli import run; run()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    frozen, threshold = map(int, done.stdout.split()[-2:])
    assert frozen > 1000  # what is frozen is not searched
    assert threshold == 5000
