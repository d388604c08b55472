"""`cryovox report`, and `--subset` of the commands that take tomograms."""

import json
import shutil

import numpy as np
import pytest

from cryovox.core.volume import Volume
from cryovox.formats import read_particles, read_volume, write_volume
from cryovox.workflows.subsets import read_subset

NAMES = [f"phantom_{i:02d}" for i in range(4)]


@pytest.fixture(scope="session")
def picked(phantoms, tmp_path_factory):
    """Picks from the label maps of all phantoms."""
    from cryovox.cli import main

    out = tmp_path_factory.mktemp("picked") / "found"
    labels = str(phantoms / "labels")
    assert main(["pick", labels, "--out", str(out), "--dataset", str(phantoms / "dataset.yaml")]) == 0
    return out


@pytest.fixture
def subset(tmp_path):
    path = tmp_path / "subset.txt"
    path.write_text("# two of four\nphantom_01\nfolder/phantom_03.mrc  # as a file\n")
    return path


def rows(cli, tmp_path, *options):
    file = tmp_path / "rows.json"
    answer = cli("report", *options, "--out", tmp_path / "project.html", "--json", file)
    assert answer.code == 0, answer.err
    return answer, json.loads(file.read_text())


def test_the_page_and_the_table_hold_every_tomogram(cli, picked, phantoms, tmp_path):
    answer, table = rows(cli, tmp_path, picked)
    assert [row["tomogram"] for row in table] == NAMES
    for row in table:
        volume = read_volume(phantoms / "tomograms" / f"{row['tomogram']}.mrc")
        picks = read_particles(picked / "particles" / f"{row['tomogram']}.star", tomogram=volume)
        assert row["picks"] == len(picks) == row["capsid"] + row["dumbbell"]
        capsids = picks.named("capsid").positions
        apart = np.linalg.norm(capsids[:, None] - capsids[None], axis=-1) + 1e9 * np.eye(len(capsids))
        assert apart.min() > 0
    assert "next:" in answer.out
    text = (tmp_path / "project.html").read_text(encoding="utf-8")
    assert all(f">{name}<" in text for name in NAMES)


def test_a_folder_of_folders_and_a_missing_tomogram(cli, picked, tmp_path):
    shutil.copytree(picked, tmp_path / "all" / "a")
    shutil.copytree(picked, tmp_path / "all" / "b")
    _, table = rows(cli, tmp_path, tmp_path / "all")
    assert [row["folder"] for row in table] == ["a"] * 4 + ["b"] * 4
    (tmp_path / "all" / "b" / "particles" / "phantom_02.star").unlink()
    answer = cli("report", tmp_path / "all", "--out", tmp_path / "p.html")
    assert answer.code == 1
    assert "phantom_02" in answer.err


def test_metadata_and_membranes_add_columns(cli, picked, phantoms, tmp_path):
    _, table = rows(cli, tmp_path, picked, "--metadata", phantoms / "dataset.yaml")
    assert {row["tilt range (°)"] for row in table} == {120}
    csv = tmp_path / "facts.csv"
    csv.write_text(
        "tomogram,defocus,operator\n" + "".join(f"rec_{n}.mrc,{i}.5,x\n" for i, n in enumerate(NAMES))
    )
    (tmp_path / "membranes").mkdir()
    for name in NAMES:
        volume = read_volume(phantoms / "tomograms" / f"{name}.mrc")
        plane = np.zeros(volume.shape, np.int8)
        plane[0] = 1
        write_volume(tmp_path / "membranes" / f"{name}.mrc", Volume(plane, volume.voxel_size))
    _, table = rows(cli, tmp_path, picked, "--metadata", csv, "--membrane", tmp_path / "membranes")
    assert [row["defocus"] for row in table] == [0.5, 1.5, 2.5, 3.5]
    assert "operator" not in table[0]
    for row in table:
        volume = read_volume(phantoms / "tomograms" / f"{row['tomogram']}.mrc")
        picks = read_particles(picked / "particles" / f"{row['tomogram']}.star", tomogram=volume)
        assert row["to membrane (Å)"] == pytest.approx(np.median(picks.positions[:, 0]), abs=1.0)


def test_what_is_wrong_is_refused(cli, picked, tmp_path):
    cli("report", tmp_path / "none").refused("no such folder")
    (tmp_path / "empty").mkdir()
    cli("report", tmp_path / "empty").refused("holds no picks")
    out = ("--out", tmp_path / "p.html")
    other = tmp_path / "other.csv"
    other.write_text("tomogram,defocus\nTS_99,3\n")
    cli("report", picked, *out, "--metadata", other).refused("names none of the tomograms")
    other.write_text("defocus\n3\n")
    cli("report", picked, *out, "--metadata", other).refused("no column that names tomograms")
    other.write_text("tomogram,operator\nphantom_01,x\n")
    cli("report", picked, *out, "--metadata", other).refused("no column with numbers")
    other.write_text("TS_99\n")
    cli("report", picked, *out, "--subset", other).refused("TS_99", "phantom_00")
    other.write_text("# nothing\n")
    cli("report", picked, *out, "--subset", other).refused("names no tomogram")


def test_a_subset_is_read_by_commands_that_take_tomograms(cli, picked, phantoms, model, subset, tmp_path):
    assert read_subset(subset) == {"phantom_01", "phantom_03"}
    wanted = ["phantom_01", "phantom_03"]
    _, table = rows(cli, tmp_path, picked, "--subset", subset)
    assert [row["tomogram"] for row in table] == wanted
    tomograms, chosen = phantoms / "tomograms", ("--subset", subset)
    out, cpu = tmp_path / "out", ("--device", "cpu", "--quiet")

    def written(kind):
        return sorted(p.stem for p in (out / kind).iterdir() if not p.name.endswith(".json"))

    assert cli("find", tomograms, "--model", model, "--out", out, *cpu, *chosen).code == 0
    assert written("particles") == wanted
    assert cli("denoise", tomograms, "--out", out, *cpu, *chosen).code == 0
    assert written("denoised") == wanted
    out = tmp_path / "out2"
    labels = (phantoms / "labels", "--dataset", phantoms / "dataset.yaml")
    assert cli("pick", *labels, "--out", out, *chosen).code == 0
    assert written("particles") == wanted
    answer = cli("doctor", tomograms, *chosen, "--json", tmp_path / "d.json")
    assert answer.code == 0
    assert len(json.loads((tmp_path / "d.json").read_text())) == 2
    lists = picked / "particles"
    assert (
        cli("particles", "filter", lists, "--tomogram", tomograms, "--out", tmp_path / "f.star", *chosen).code
        == 0
    )
    frames = {name: read_volume(tomograms / f"{name}.mrc") for name in NAMES}
    assert set(read_particles(tmp_path / "f.star", tomogram=frames).tomograms) == set(wanted)


def test_a_training_uses_the_entries_of_a_subset(phantoms, tmp_path):
    from cryovox.workflows.config import TrainConfig
    from cryovox.workflows.training.open_data import open_training_data

    subset = tmp_path / "subset.txt"
    subset.write_text("phantom_00\nphantom_02\n")
    data = open_training_data(phantoms, TrainConfig(), None, subset)
    assert [region.name for region in data.training] == ["phantom_00"]
    assert [region.name for region in data.held] == ["phantom_02"]
