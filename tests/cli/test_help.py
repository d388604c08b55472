import re
import resource
import subprocess
import sys
import warnings

import pytest
import tyro

from cryovox.benchmark import SUITES, SUMMARIES
from cryovox.cli import COMMANDS, command_of, main
from cryovox.cli.interface.help import options_of
from cryovox.cli.interface.parse import _style
from cryovox.cli.interface.screen import Meter, clock, table
from cryovox.training.strategies import FACTS, STRATEGIES, config_of, facts

HEAVY = {"torch", "scipy", "monai", "lightning_fabric", "zarr", "mrcfile", "gemmi", "matplotlib"}
LOADED = f"import sys; print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
EVERY = [*COMMANDS, *(f"train {name}" for name in STRATEGIES if name != "supervised")]
SCREENS = 80  # lines of two screens


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


def test_the_help_of_benchmark_has_a_line_on_every_suite(cli):
    shown = cli("benchmark", "--help").out
    assert set(SUMMARIES) == set(SUITES)
    for name, summary in SUMMARIES.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", shown, re.M), name


def test_an_unknown_command_is_answered_with_the_nearest(cli):
    cli("segmnt").refused("segmnt", "segment")
    cli("train", "supervise").refused("no strategy", "supervised")


@pytest.mark.parametrize("family", ["train", "evaluate"])
def test_half_a_command_lists_the_family(cli, family):
    told = cli(family)
    assert told.code == 2
    assert all(name.split()[1] in told.out for name in COMMANDS if name.startswith(family))
    assert cli(family, "--help").code == 0


@pytest.mark.parametrize("name", EVERY)
def test_help_tells_what_every_option_does(cli, name):
    """On every Python: 3.13 takes the indentation out of docstrings, which once emptied the help."""
    shown = cli(*name.split(), "--help-all")
    assert shown.code == 0
    words = " ".join(shown.out.split())
    for option in options_of(command_of(name)):
        assert len(option.text) > 5, option
        assert option.name in words, option
        assert option.text in words, option


@pytest.mark.parametrize("name", [*EVERY, "simulate --preset subtomogram-50"])
def test_help_lists_the_options_that_are_accepted(name):
    command = command_of(name.split(" --")[0])
    if name.endswith("subtomogram-50"):
        command = command.preset("subtomogram-50")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        parser = tyro.extras.get_parser(command, config=_style(command))
    accepted = {o for action in parser._actions for o in action.option_strings} - {"-h", "--help"}
    shown = {option.name.replace("[no-]", "") for option in options_of(command) if option.name}
    assert shown <= accepted
    assert {o for o in accepted if not re.search(r"(^--|\.)no-", o)} == shown


@pytest.mark.parametrize("name", [*EVERY, "train", "models"])
def test_help_fits_two_screens_and_is_free_of_jargon(cli, name):
    shown = cli(*name.split(), "--help").out
    assert len(shown.splitlines()) <= SCREENS
    for text in (shown, cli(*name.split(), "--help-all").out):
        for jargon in ("(default", "[default: ]", "{None}", "config.own", "None|", "Teach ", "Settings."):
            assert jargon not in text, jargon


def test_basic_options_come_first_and_the_rest_on_request(cli):
    basic, every = (cli("train", "vox-uda", option).out for option in ("--help", "--help-all"))
    for option in ("--source", "--target", "--out", "--model", "--max-time", "--lr"):
        assert f"  {option} " in basic
    for option in ("--sigma-d", "--accumulate", "--jitter"):
        assert option not in basic
        assert f"  {option} " in every
    assert "--help-all shows all" in basic
    assert "--help-all shows all" not in every


def test_strategies_are_listed_in_groups(cli):
    shown = cli("train", "--help").out
    headings = ["Supervised", "Semi-supervised", "Domain adaptation", "Domain generalization"]
    places = [shown.index(f"\n{heading}") for heading in headings]
    assert places == sorted(places)
    for name in STRATEGIES:
        assert re.search(rf"^  {name} +{re.escape(facts(name).summary)}$", shown, re.M), name
    assert places[2] < shown.index("  vox-uda ") < shown.index("  dann ") < places[3]


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_the_table_of_strategies_says_what_the_classes_say(name):
    kind = STRATEGIES[name]
    assert FACTS[name].task == kind.task
    assert issubclass(config_of(name), kind.Config)


def test_help_imports_nothing_heavy():
    code = f"""import sys
from cryovox.cli import main
for name in {EVERY!r}:
    try:
        main([*name.split(), "--help"])
    except SystemExit:
        pass
    if heavy := sorted({HEAVY!r} & set(sys.modules)):
        sys.exit(f"{{name}}: {{heavy}}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


WRONG = {
    "unknown option": ("train", "supervised", "--data", "none", "--out", "run", "--nonsense", "3"),
    "bad value": ("train", "supervised", "--data", "none", "--out", "run", "--batch", "x"),
    "missing file": ("train", "supervised", "--data", "none", "--out", "run"),
    "missing source": ("train", "vox-uda", "--source", "none", "--target", "none", "--out", "run"),
    "unknown strategy": ("train", "vox-uba", "--source", "none", "--out", "run"),
    "unknown network": ("train", "supervised", "--data", "none", "--out", "run", "--model", "voxresnett"),
    "unknown size": ("train", "supervised", "--data", "none", "--out", "run", "--size", "huge"),
    "missing start": ("train", "supervised", "--data", "none", "--out", "run", "--start", "none"),
}


@pytest.mark.parametrize("mistake", list(WRONG))
def test_mistakes_are_reported_before_torch_is_imported(mistake):
    before = busy()
    _, found = loaded(*WRONG[mistake])
    assert not {"torch", "monai", "lightning_fabric"} & set(re.findall(r"\w+", found))
    assert busy() - before < 4  # a second; with torch a dozen on the same busy machine


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
    assert "no output was changed" in capsys.readouterr().err
    assert main(["find"]) == 130
    assert "the same command continues from there" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-c", "from cryovox.cli import run; run()", "models"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdout.close()
        told = child.stderr.read()
    assert told == b""
    assert child.returncode == 0
