import csv
import json

import mrcfile
import numpy as np
import pytest

from cryovox.core.czii import RADII
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import write_particles, write_volume

SHAPES = {"TS_5_4": (20, 30, 40), "TS_6_6": (20, 32, 42)}
VOXEL = 10.012


@pytest.fixture
def found(tmp_path):
    """Tomograms, and particle lists as `cryovox find` leaves them; the second tomogram holds none."""
    rng = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        volume = Volume(np.zeros(shape, np.float32), VOXEL)
        write_volume(tmp_path / "tomograms" / f"{name}.zarr", volume)
        kinds = [*RADII] if name == "TS_5_4" else []
        picks = Particles.of(rng.uniform(0, 200, (len(kinds), 3)), kinds, scores=rng.random(len(kinds)))
        path = tmp_path / "particles" / f"{name}.star"
        write_particles(path, picks, tomogram=volume, tomogram_name=name)
        write_particles(tmp_path / f"{name}.csv", picks, tomogram_name=name)
    return tmp_path


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_folder_of_picks_is_one_submission(cli, found):
    out = found / "submission.csv"
    args = ("convert", found / "particles", out, "--convention", "czii", "--verify")
    cli(*args).refused("--tomogram")
    told = cli(*args, "--tomogram", found / "tomograms")
    assert told.code == 0, told.err
    assert "6 particles, verified" in told.out
    wanted = rows(found / "TS_5_4.csv")
    for number, (row, pick) in enumerate(zip(rows(out), wanted, strict=True)):
        assert row["id"] == str(number)
        assert row["experiment"] == "TS_5_4"
        assert row["particle_type"] == pick["particle_type"]
        assert np.allclose([float(row[a]) for a in "xyz"], [float(pick[a]) for a in "xyz"], atol=2e-3)


def test_a_submission_scores_as_the_picks_do(cli, found):
    out, table = found / "submission.csv", found / "table.json"
    cli("convert", found / "particles", out, "--convention", "czii", "--tomogram", found / "tomograms")
    told = cli(
        "evaluate", "particles", "--rule", "czii", "--picks", out, "--truth", found / "TS_5_4.csv",
        "--json", table,
    )  # fmt: skip
    assert told.code == 0, told.err
    pooled = {r["species"]: r for r in json.loads(table.read_text())["rows"] if r["tomogram"] == "all"}
    assert pooled["mean"]["f4"] == pooled["ribosome"]["f4"] == 1


def test_one_list_takes_the_name_of_its_tomogram(cli, found):
    star, out = found / "particles" / "TS_5_4.star", found / "one.csv"
    tomogram = found / "tomograms" / "TS_5_4.zarr"
    assert cli("convert", star, out, "--convention", "czii", "--tomogram", tomogram).code == 0
    assert {row["experiment"] for row in rows(out)} == {"TS_5_4"}


def test_folders_of_lists_become_other_tables_too(cli, found):
    out = found / "all.csv"
    assert cli("convert", found / "particles", out, "--tomogram", found / "tomograms", "--verify").code == 0
    assert {row["tomogram"] for row in rows(out)} == {"TS_5_4"}
    star = found / "all.star"  # each tomogram has its own center
    assert cli("convert", found / "particles", star, "--tomogram", found / "tomograms", "--verify").code == 0
    back = found / "back.csv"
    assert cli("convert", star, back, "--tomogram", found / "tomograms").code == 0
    assert rows(back) == rows(out)


def test_what_cannot_be_submitted_is_said(cli, found):
    out = found / "submission.csv"
    args = ("convert", found / "particles", out, "--convention", "czii", "--tomogram")
    (found / "tomograms" / "TS_5_4.zarr").rename(found / "TS_5_4.zarr")
    cli(*args, found / "tomograms").refused("TS_5_4", "folder with all of them")
    (found / "dragons.csv").write_text("x,y,z,particle_type\n1,2,3,dragon\n")
    cli("convert", found / "dragons.csv", out, "--convention", "czii").refused("dragon", "ribosome", "Rename")
    assert not out.exists()


def test_frames_of_mrc_files_serve_as_well(cli, found):
    for name, shape in SHAPES.items():
        with mrcfile.new(found / f"{name}.mrc") as file:
            file.set_data(np.zeros(shape, np.int8))
            file.set_volume()
            file.voxel_size = VOXEL
    out = found / "submission.csv"
    told = cli("convert", found / "particles", out, "--convention", "czii", "--tomogram", found / "*.mrc")
    assert told.code == 0, told.err
    assert len(rows(out)) == 6
