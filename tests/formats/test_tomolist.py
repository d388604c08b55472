"""Lists of tomograms of TOMOMAN: numbers become names. The files are made after public descriptions."""

from __future__ import annotations

import numpy as np
import pytest

from cryovox.cli import main
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import read_particles, write_particles, write_volume
from cryovox.formats.particles import names, tomolist

TEXT = "1 /data/tomos/TS_01_dose-filt.rec\n\n12 /data/tomos/TS_12_dose-filt.rec\n"
STAR = (
    "data_stopgap\n\nloop_\n_tomoman_stack_dir\n_tomoman_tomo_num\n"
    "/data/TS_01_dose-filt/ 1\n/data/TS_12_dose-filt/ 12\n"
)
NAMES = {1: "TS_01_dose-filt", 12: "TS_12_dose-filt"}


@pytest.mark.parametrize(("file", "text"), [("tomolist.txt", TEXT), ("tomolist.star", STAR)])
def test_names_of_numbers(tmp_path, file, text):
    (tmp_path / file).write_text(text)
    assert tomolist.read(tmp_path / file) == NAMES


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("tomolist.mat", "MATLAB 5.0", "a file of MATLAB"),
        ("a.txt", "", "lists no tomograms"),
        ("a.txt", "TS_01 1\n", "where the number"),
        ("a.txt", "1\n", "line 1 has no name"),
        ("a.txt", "1 a.rec\n1 b.rec\n", "two names: a and b"),
        ("a.star", "data_\n\nloop_\n_tomo_num\n1\n", "no block with tomo_num"),
    ],
)
def test_lists_that_are_refused(tmp_path, file, text, message):
    (tmp_path / file).write_text(text)
    with pytest.raises(RequestError, match=message):
        tomolist.read(tmp_path / file)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("ending", [".star", ".em"])
def test_motive_list_with_numbers(tmp_path, ending, count):
    """A list of STOPGAP or TOM is read with tomograms of different voxel sizes, and names them."""
    sizes = {"TS_01_dose-filt": 10.0, "TS_12_dose-filt": 20.0}
    folder, motl = tmp_path / "tomograms", tmp_path / f"allmotl_1{ending}"
    folder.mkdir()
    frames = {name: Volume(np.zeros((20, 30, 40), np.int8), size) for name, size in sizes.items()}
    for name, volume in frames.items():
        write_volume(folder / f"{name}.mrc", volume)
    positions = [[100.0, 150, 200], [200, 300, 400]][:count]
    particles = Particles.of(positions, "a", tomograms=["1", "12"][:count])
    convention = "stopgap" if ending == ".star" else None
    by_number = {str(number): frames[name] for number, name in NAMES.items()}
    write_particles(motl, particles, tomogram=by_number, convention=convention)
    names.beside(motl).unlink(missing_ok=True)
    (tmp_path / "tomolist.txt").write_text(TEXT)
    out = tmp_path / "out.csv"
    arguments = ["convert", str(motl), str(out), "--tomogram", str(folder), "--tomolist"]
    assert main([*arguments, str(tmp_path / "tomolist.txt")]) == 0
    loaded = read_particles(out)
    assert loaded.tomograms.tolist() == list(sizes)[:count]
    np.testing.assert_allclose(loaded.positions, positions, atol=1e-3)


def test_numbers_that_the_list_lacks(tmp_path, capsys):
    motl = tmp_path / "motl.tbl"
    particles = Particles.of([[1.0, 2, 3], [4, 5, 6]], "a", tomograms=["1", "7"])
    write_particles(motl, particles, voxel_size=10.0)
    (tmp_path / "tomolist.txt").write_text(TEXT)
    arguments = ["convert", str(motl), str(tmp_path / "a.csv"), "--tomolist", str(tmp_path / "tomolist.txt")]
    assert main([*arguments, "--voxel-size", "10"]) == 2
    assert "of the tomograms 7, which the tomolist does not name" in capsys.readouterr().err
