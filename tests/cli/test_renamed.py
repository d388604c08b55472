"""Former names of options work for one version, with one note."""

from typing import ClassVar

import pytest
import yaml

from cryovox.cli import main
from cryovox.cli.interface.help import options_of
from cryovox.cli.interface.renamed import with_current_names
from cryovox.core.config import Config
from cryovox.core.errors import RequestError

NOTE = "note: {} is now called {}; the old name will go in the next version"


class Section(Config):
    """Section."""

    renamed: ClassVar[dict[str, str]] = {"steepness": "slope", "flip": "flips"}
    renamed_values: ClassVar[dict[str, dict[str, str]]] = {"kind": {"grey": "gray"}}

    kind: str = "gray"
    slope: float = 1.0
    flips: bool = True


class Settings(Config):
    """Settings."""

    nested: ClassVar[bool] = True

    scene: Section = Section()


def notes(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("note:")]


@pytest.mark.parametrize(
    "args", [("--flavour", "relion4"), ("--flavour=relion4",), ("--star-version", "relion4")]
)
def test_an_option_that_is_a_field_of_settings(cli, args):
    answer = cli("pick", "--print-config", *args)
    assert yaml.safe_load(answer.out)["output"]["convention"] == "relion4"
    assert notes(answer.err) == [NOTE.format(args[0].split("=")[0], "--convention")]


def test_an_option_of_a_command(cli, tmp_path):
    picks = tmp_path / "picks.csv"
    picks.write_text("species,x,y,z\na,1,2,3\n")
    answer = cli("evaluate", "particles", "--truth", picks, "--found", picks, "--radius", 5)
    assert answer.code == 0, answer.err
    assert notes(answer.err) == [NOTE.format("--found", "--picks")]


def test_settings_in_yaml(cli, tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text("output: {flavour: relion3}\n")
    answer = cli("pick", "--config", file, "--print-config")
    assert "convention: relion3" in answer.out
    assert notes(answer.err) == [NOTE.format("flavour", "convention")]
    file.write_text("flavour: relion3\n")
    assert "convention: relion3" in cli("convert", "--config", file, "--print-config").out


def test_both_names_are_refused(cli, tmp_path):
    args = ("pick", "--print-config", "--flavour", "relion4", "--convention", "relion4")
    cli(*args).refused("--flavour", "--convention", "both")
    file = tmp_path / "s.yaml"
    file.write_text("output: {flavour: relion3, convention: relion3}\n")
    cli("pick", "--config", file, "--print-config").refused(file, "'flavour'", "'convention'")


def test_help_shows_current_names_only(cli):
    for command in (("pick",), ("evaluate", "particles")):
        text = cli(*command, "--help-all").out
        assert "--flavour" not in text
        assert "--found" not in text


@pytest.mark.parametrize(
    ("typed", "current"),
    [
        ("--scene.steepness", "--scene.slope"),
        ("--scene.steepness=2", "--scene.slope=2"),
        ("--scene.no-flip", "--scene.no-flips"),
        ("--scene.slope", "--scene.slope"),
        ("--steepness", "--steepness"),
        ("steepness", "steepness"),
    ],
)
@pytest.mark.filterwarnings("ignore::cryovox.core.errors.RenamedWarning")
def test_options_by_the_whole_path_and_flags(typed, current):
    assert with_current_names([typed, "3"], "simulate", [Settings()]) == [current, "3"]


@pytest.mark.parametrize(
    ("typed", "current"),
    [
        (["--scene.kind", "grey"], ["--scene.kind", "gray"]),
        (["--scene.kind=grey"], ["--scene.kind=gray"]),
        (["--scene.kind", "gray"], ["--scene.kind", "gray"]),
        (["--kind", "grey"], ["--kind", "grey"]),
        (["--scene.kind"], ["--scene.kind"]),
    ],
)
@pytest.mark.filterwarnings("ignore::cryovox.core.errors.RenamedWarning")
def test_former_values_of_an_option(typed, current):
    assert with_current_names(typed, "simulate", [Settings()]) == current


def test_former_values_in_yaml():
    with pytest.warns(match="kind: grey is now called gray"):
        assert Section(kind="grey").kind == "gray"


def test_options_with_underscores():
    with pytest.warns(match="--scene.steepness is now"):
        assert with_current_names(["--scene.steepness"], "simulate", [Settings()]) == ["--scene.slope"]
    with pytest.raises(RequestError, match="both"):
        with_current_names(["--scene.steepness=1", "--scene.slope=2"], "simulate", [Settings()])


@pytest.mark.parametrize("command", ["find", "pick", "convert"])
def test_former_names_are_no_longer_options(command):
    from cryovox.cli import COMMANDS

    assert "--flavour" not in {option.name for option in options_of(COMMANDS[command])}


def test_a_run_of_an_earlier_version_goes_on(tmp_path):
    from cryovox.workflows.training.run_folder import check_settings

    out = tmp_path / "run"
    out.mkdir()
    (out / "config.yaml").write_text("scene:\n  kind: grey\n  steepness: 3.0\n  flip: true\n")
    check_settings(out, Settings(scene=Section(slope=3.0)))
    with pytest.raises(RequestError, match="other settings"):
        check_settings(out, Settings())
    (out / "config.yaml").write_text("scene: [")
    with pytest.raises(RequestError, match="other settings"):
        check_settings(out, Settings())


def test_a_training_goes_on_with_the_former_name(phantoms, tmp_path, monkeypatch, capsys):
    from cryovox.data.config import PatchConfig

    out = tmp_path / "run"
    args = ["train", "supervised", "--data", phantoms, "--out", out, "--steps", 1, "--batch", 2]
    args += ["--options", "{widths: [4, 8], blocks: [0, 0]}", "--device", "cpu", "--quiet"]
    assert main([str(a) for a in (*args, "--patch", 16)]) == 0
    file = out / "config.yaml"
    text = file.read_text()
    assert "\n  patch: 16\n" in text
    file.write_text(text.replace("\n  patch: 16\n", "\n  cube_edge: 16\n"))
    monkeypatch.setattr(PatchConfig, "renamed", {"cube_edge": "patch"})
    capsys.readouterr()
    assert main([str(a) for a in (*args, "--cube-edge", 16)]) == 0
    assert NOTE.format("--cube-edge", "--patch") in capsys.readouterr().err
