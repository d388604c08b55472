"""`cryovox view`: files for ChimeraX and IMOD, and the program that is opened."""

import re

import numpy as np
import pytest

from cryovox.cli import main
from cryovox.formats import read_particles, read_volume
from cryovox.workflows import view


@pytest.fixture(scope="session")
def labeled(phantoms, tmp_path_factory):
    out = tmp_path_factory.mktemp("labeled") / "found"
    labels = [str(phantoms / "labels" / f"phantom_0{i}.mrc") for i in (0, 1)]
    assert main(["pick", *labels, "--out", str(out), "--dataset", str(phantoms / "dataset.yaml")]) == 0
    return out


@pytest.fixture(autouse=True)
def started(monkeypatch):
    """Command lines that would have been started."""
    lines = []
    monkeypatch.setattr("subprocess.Popen", lambda line, **_: lines.append(line))
    monkeypatch.setenv("DISPLAY", ":7")
    return lines


def only(monkeypatch, *names):
    monkeypatch.setattr(view.installed, "__defaults__", (lambda n: f"/bin/{n}" if n in names else None,))


def test_scripts_and_models_hold_the_picks(cli, labeled, monkeypatch, started):
    only(monkeypatch)
    answer = cli("view", labeled)
    assert answer.code == 0, answer.err
    assert not started
    assert "chimerax" in answer.out
    text = (labeled / "view" / "phantom_01.cxc").read_text()
    (markers,) = re.findall(r'open "(.*-picks\.cxc)"', text)
    assert "originIndex 0,0,0" in text
    volume = read_volume(_input(labeled, "phantom_01"))
    picks = read_particles(labeled / "particles" / "phantom_01.star", tomogram=volume)
    assert np.allclose(read_particles(markers).positions, picks.positions, atol=1e-3)
    pytest.importorskip("imodmodel")  # the reader
    model = read_particles(labeled / "view" / "phantom_01.mod", tomogram=volume)
    ordered = [one.positions[np.lexsort(one.positions.round().T)] for one in (model, picks)]
    assert np.allclose(*ordered, atol=0.1)


def _input(folder, name):
    from cryovox.workflows.project.results import results

    return next(one.input for one in results(folder) if one.name == name)


@pytest.mark.parametrize("command", ["find", "match"])
def test_results_have_a_script_and_a_model_beside_them(cli, phantoms, model, tmp_path, command):
    """They are in the manifest, and `explain` knows them."""
    imodmodel = pytest.importorskip("imodmodel")
    tomogram, out = phantoms / "tomograms" / "phantom_00.mrc", tmp_path / "out"
    own = ["--model", model, "--threshold", "0.001", "--max-count", "5", "--border", "0", "--no-lamella"]
    if command == "match":
        own = [
            "--angle",
            "60",
            "--max-count",
            "5",
            "--threshold",
            "0.01",
            "--contrast",
            "dark",
            "--no-lamella",
        ]
    where = [tomogram] if command == "find" else ["apoferritin", tomogram]
    answer = cli(command, *where, "--out", out, "--noise-control", 0, "--device", "cpu", "--quiet", *own)
    assert answer.code == 0, answer.err
    volume = read_volume(tomogram)
    picks = read_particles(out / "particles" / "phantom_00.star", tomogram=volume)
    assert len(picks)
    points = imodmodel.read(out / "view" / "phantom_00.mod")[["z", "y", "x"]].to_numpy()
    expected = picks.positions / volume.voxel_size + [0.0, 0.5, 0.5]
    assert np.allclose(*(rows[np.lexsort(rows.round(2).T)] for rows in (points, expected)), atol=1e-3)
    assert str(tomogram.resolve()) in (out / "view" / "phantom_00.cxc").read_text()
    for kind, file in (("ChimeraX script", "phantom_00.cxc"), ("IMOD model", "phantom_00.mod")):
        answer = cli("explain", out / "view" / file)
        assert answer.code == 0
        assert kind in answer.out
        assert file in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("there", "options", "first", "last"),
    [
        (("3dmod", "chimerax"), (), "/bin/chimerax", "phantom_00.cxc"),
        (("napari", "chimerax"), ("--tomogram", "phantom_01"), "/bin/napari", "phantom_01.star"),
        (("3dmod", "chimerax"), ("--with", "3dmod"), "/bin/3dmod", "phantom_00.mod"),
    ],
)
def test_the_program_that_is_installed_is_opened(
    cli, labeled, monkeypatch, started, there, options, first, last
):
    only(monkeypatch, *there)
    assert cli("view", labeled, *options).code == 0
    (line,) = started
    assert line[0] == first
    assert line[-1].endswith(last)


def test_without_a_display_the_command_is_printed(cli, labeled, monkeypatch, started):
    only(monkeypatch, "chimerax")
    monkeypatch.delenv("DISPLAY")
    answer = cli("view", labeled)
    assert "no display" in answer.out
    assert not started


def test_what_is_not_there_is_refused(cli, labeled, monkeypatch):
    only(monkeypatch, "chimerax")
    cli("view", labeled, "--with", "napari").refused("not installed")
    cli("view", labeled, "--tomogram", "TS_99").refused("TS_99", "phantom_00")
