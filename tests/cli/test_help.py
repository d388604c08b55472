import re
import resource
import subprocess
import sys

import pytest

from cryovox.benchmark import SUITES
from cryovox.cli import COMMANDS, main
from cryovox.cli.benchmark import benchmark
from cryovox.cli.screen import Meter, clock, table

LOADED = "import sys; print(sorted({'torch', 'scipy', 'monai'} & set(sys.modules)), file=sys.stderr)"


def loaded(*args: str) -> tuple[int, str]:
    """What a command has imported in the end."""
    code = f"import sys\nfrom cryovox.cli import main\ntry:\n    main({list(args)!r})\n"
    code += f"except SystemExit:\n    pass\n{LOADED}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr.splitlines()[-1]


def busy() -> float:
    """Processor seconds of finished children, which other work on the machine does not change."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_names_every_command_and_imports_nothing_heavy(cli):
    told = cli("--help")
    assert told.code == 0
    for name in COMMANDS:
        assert name.split()[0] in told.out
    assert cli().out == cli("help").out == told.out
    before = busy()
    assert loaded("--help") == (0, "[]")
    assert busy() - before < 1.5


def test_version(cli):
    told = cli("--version").out
    assert told.startswith("cryovox ")
    module = [sys.executable, "-m", "cryovox", "--version"]
    assert subprocess.run(module, capture_output=True, text=True, timeout=60).stdout == told


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(cli, name):
    told = cli(*name.split(), "--help")
    assert told.code == 0
    assert f"cryovox {name}" in told.out


def test_the_help_of_benchmark_names_every_suite():
    assert set(SUITES) <= set(re.findall(r"[\w-]+", benchmark.__doc__))


def test_an_unknown_command_is_answered_with_the_nearest(cli):
    cli("segmnt").refused("segmnt", "segment")
    cli("train", "supervise").refused("no strategy", "supervised")


@pytest.mark.parametrize("family", ["train", "evaluate"])
def test_half_a_command_lists_the_family(cli, family):
    told = cli(family)
    assert told.code == 2
    assert all(name in told.out for name in COMMANDS if name.startswith(family))
    assert cli(family, "--help").code == 0


@pytest.mark.parametrize("name", ["pick", "convert", "denoise", "evaluate particles", "models", "doctor"])
def test_commands_without_a_network_do_not_import_torch(name):
    code, found = loaded(*name.split(), "--help")
    assert code == 0
    assert "torch" not in found
    assert "monai" not in found


def test_work_without_a_network_does_not_import_torch(segmented, tomogram, tmp_path):
    picking = ("pick", str(segmented / "scores"), "--out", str(tmp_path))
    for args in (picking, ("doctor", str(tomogram)), ("models",), ("models", "none.safetensors")):
        assert "torch" not in loaded(*args)[1]


def test_a_bar_on_a_terminal_and_lines_elsewhere(capsys, monkeypatch):
    meter = Meter()
    meter("training", 0.5, "halfway")
    meter("training", 0.6, "too soon for another line")
    meter("training", 1.0, "done")
    assert capsys.readouterr().err.splitlines() == ["training   50 %  halfway", "training  100 %  done"]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    meter("searching", 0.5, "halfway")
    meter("searching", 1.0)
    assert "searching" in capsys.readouterr().err
    Meter(quiet=True)("training", 1.0)
    assert capsys.readouterr().err == ""


def test_durations_and_tables():
    assert [clock(s) for s in (42, 185, 7800)] == ["42 s", "3 min 05 s", "2 h 10 min"]
    assert table(["name", "n"], []).splitlines()[0] == "name  n"
    assert table(["name", "n"], [["a", 0.5], ["bc", 1.0]]).splitlines()[-1] == "bc    1.000"


def test_interruption_is_told_in_a_line(monkeypatch, capsys):
    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cryovox.cli._command", stop)
    assert main(["models"]) == 130
    assert "goes on from here" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-c", "from cryovox.cli import run; run()", "models"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdout.close()
        told = child.stderr.read()
    assert told == b""
    assert child.returncode == 0
