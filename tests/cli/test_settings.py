import functools

import pytest
import yaml

from cryovox.simulate.phantom import PhantomConfig

TAUGHT = ("--steps", 7, "--lr", 0.02, "--model", "deepfinder", "--no-flips", "--seed", 3)


def test_settings_of_a_training_there_and_back(cli, tmp_path):
    told = cli("train", "supervised", "--print-config", *TAUGHT)
    found = yaml.safe_load(told.out)
    assert found["loop"]["steps"] == 7
    assert found["network"]["model"] == "deepfinder"
    assert found["augment"]["flips"] is False
    file = tmp_path / "s.yaml"
    file.write_text(told.out)
    assert cli("train", "supervised", "--config", file, "--print-config").out == told.out
    assert cli("train", "supervised", f"--config={file}", "--print-config").out == told.out
    over = cli("train", "supervised", "--config", file, "--print-config", "--steps", 9).out
    assert yaml.safe_load(over) == {**found, "loop": {**found["loop"], "steps": 9}}


@pytest.mark.parametrize(
    ("command", "kinds"),
    [("find", {"segment", "pick", "control", "posing", "output"}), ("pick", {"config", "output"})],
)
def test_settings_of_several_kinds(cli, tmp_path, command, kinds):
    told = cli(command, "--print-config", "--max-count", 4, "--convention", "relion4")
    found = yaml.safe_load(told.out)
    assert set(found) == kinds
    assert found["output"]["convention"] == "relion4"
    file = tmp_path / "s.yaml"
    file.write_text(told.out)
    assert cli(command, "--config", file, "--print-config").out == told.out
    assert "max_count: 5" in cli(command, "--config", file, "--max-count", 5, "--print-config").out
    file.write_text("output: {convention: relion3}\n")
    assert "max_count: null" in cli(command, "--config", file, "--print-config").out


def test_settings_are_used_and_options_win(cli, segmented, tmp_path):
    def count(*args):
        assert cli("pick", segmented / "scores", "--out", tmp_path, "--json", tmp_path / "n", *args).code == 0
        return sum(row["particles"] for row in yaml.safe_load((tmp_path / "n").read_text()))

    file = tmp_path / "s.yaml"
    file.write_text("config: {max_count: 2, threshold: 0.05}\n")
    few = count("--config", file)
    assert 0 < few <= 4
    assert count("--config", file, "--max-count", 6) > few
    assert count("--config", file, "--threshold", 1) == 0


def test_commands_without_settings_say_so(cli):
    cli("models", "--print-config").refused("--print-config", "no settings")


def test_demonstration(cli, tmp_path, monkeypatch):
    small = functools.partial(PhantomConfig, shape=(24, 48, 48), count=4, snr=2.0)
    monkeypatch.setattr("cryovox.workflows.demo.PhantomConfig", small)
    args = ("demo", "--out", tmp_path / "demo", "--device", "cpu", "--quiet")
    answer = cli(*args, "--train", "--steps", 4)
    assert answer.code == 0, answer.err
    assert "capsid" in answer.out
    assert "report.html" in answer.out
    page = (tmp_path / "demo" / "found" / "report.html").read_text()
    assert "not used for training" in page
    cli(*args, "--train", "--steps", 5).refused("other settings", "--overwrite")
