"""`cryovox particles filter`, `particles stats` and `merge`."""

import csv
import json

import numpy as np
import pytest

from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import read_mask, read_particles, write_particles, write_volume

SHAPE, SIZE = (20, 31, 42), 10.0


@pytest.fixture
def scene(tmp_path):
    """A list over two tomograms, which have a mask each."""
    rng = np.random.default_rng(0)
    (tmp_path / "tomos").mkdir()
    (tmp_path / "masks").mkdir()
    for i, name in enumerate(("TS_1", "TS_2")):
        write_volume(tmp_path / "tomos" / f"{name}.mrc", Volume(rng.normal(size=SHAPE).astype("f4"), SIZE))
        mask = np.zeros(SHAPE, np.int8)
        mask[5:15, :, : 20 + 10 * i] = 1
        write_volume(tmp_path / "masks" / f"{name}.mrc", Volume(mask, SIZE))
    picks = Particles.of(
        [[100, 150, 100], [100, 150, 250], [100, 150, 104], [100, 150, 250], [20, 10, 50]],
        ["a", "a", "b", "a", "b"],
        [0.9, 0.8, 0.7, 0.6, 0.5],
        tomograms=["TS_1", "TS_1", "TS_1", "TS_2", "TS_2"],
    )
    write_particles(tmp_path / "all.csv", picks)
    return tmp_path


def kept(cli, scene, *options, code=0):
    """Scores of the particles that a filter keeps, times ten, and the columns of the output."""
    out = scene / "out.csv"
    answer = cli("particles", "filter", scene / "all.csv", "--out", out, "--overwrite", *options)
    assert answer.code == code, answer.err
    picks = read_particles(out)
    return [round(10 * score) for score in picks.scores.tolist()], picks


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--min-score", 0.65), [9, 8, 7]),
        (("--max-score", 0.65, "--species", "b"), [5]),
        (("--only", "TS_2"), [6, 5]),
        (("--only", "*_1"), [9, 8, 7]),
        (("--max-count", 1), [9, 7, 6, 5]),
        (("--duplicates", 5), [9, 8, 7, 6, 5]),
        (("--duplicates", 5, "--any-species"), [9, 8, 6, 5]),
        (("--neighbor-distance", 200, "--min-neighbors", 1), [9, 8]),
        (("--neighbor-distance", 200, "--max-neighbors", 0), [7, 6, 5]),
    ],
)
def test_filters(cli, scene, options, expected):
    assert kept(cli, scene, *options)[0] == expected


def test_tomograms_without_membranes_keep_all_that_is_far_from_one(cli, scene):
    tomograms = ("--tomogram", scene / "tomos")
    write_volume(scene / "masks" / "TS_2.mrc", Volume(np.zeros(SHAPE, np.int8), SIZE))  # no membrane at all
    far = ("--membrane", scene / "masks", "--membrane-distance", "50", "inf", *tomograms)
    scores, picks = kept(cli, scene, *far)
    assert scores == [8, 6, 5]
    assert [float(v) for v in picks.extra["distance_to_membrane"]] == [60, np.inf, np.inf]


def test_masks_and_surfaces_of_each_tomogram(cli, scene):
    tomograms = ("--tomogram", scene / "tomos")
    scores, picks = kept(cli, scene, "--mask", scene / "masks", *tomograms)
    assert scores == [9, 7, 6]
    assert [float(v) for v in picks.extra["distance_to_mask"]] == [-50, -50.16, -50]
    scores, picks = kept(
        cli, scene, "--membrane", scene / "masks", "--membrane-distance", "0", "61", *tomograms
    )
    assert scores == [8, 5]
    assert [float(v) for v in picks.extra["distance_to_membrane"]] == [60, 30]
    scores, picks = kept(cli, scene, "--lamella", scene / "masks", "--min-depth", 45, *tomograms)
    assert scores == [9, 7, 6]
    assert [float(v) for v in picks.extra["lamella_depth"]] == [45, 45, 45]
    assert kept(cli, scene, "--border", 30, *tomograms)[0] == [9, 8, 7, 6]
    cli("particles", "filter", scene / "all.csv", "--out", scene / "x.csv", "--border", 30).refused(
        "--border", "--tomogram"
    )
    cli("particles", "filter", scene / "all.csv", "--out", scene / "x.csv", "--min-depth", 3).refused(
        "--min-depth", "--lamella"
    )


def test_columns_survive_in_star_and_lists_are_filtered_one_by_one(cli, scene):
    tomograms = ("--tomogram", scene / "tomos")
    args = ("--neighbor-distance", 200, *tomograms, "--json", scene / "j.json")
    answer = cli("particles", "filter", scene / "all.csv", "--out", scene / "o" / "{name}.star", *args)
    assert answer.code == 0, answer.err
    picks = read_particles(
        scene / "o" / "all.star",
        tomogram={name: Volume(np.broadcast_to(np.int8(0), SHAPE), SIZE) for name in ("TS_1", "TS_2")},
    )
    assert picks.extra["neighbors"].tolist() == ["1", "1", "0", "0", "0"]
    assert json.loads((scene / "j.json").read_text()) == {"all": {"kept": 5, "removed": {"neighbors": 0}}}
    # RELION 5 needs the tomogram only where positions are compared with a volume
    star = scene / "o" / "all.star"
    again = ("particles", "filter", star, "--out", scene / "b.star")
    assert cli(*again, "--min-score", 0.65).code == 0
    cli(*again, "--overwrite", "--mask", scene / "masks").refused("--tomogram")


def test_stats(cli, scene):
    answer = cli("particles", "stats", scene / "all.csv", "--json", scene / "s.json")
    assert answer.code == 0
    rows = json.loads((scene / "s.json").read_text())["rows"]
    counts = {(row["tomogram"], row["species"]): row["count"] for row in rows}
    assert counts == {
        ("TS_1", "a"): 2, ("TS_1", "b"): 1, ("TS_2", "a"): 1, ("TS_2", "b"): 1,
        ("all", "a"): 3, ("all", "b"): 2,
    }  # fmt: skip
    first = next(row for row in rows if row["tomogram"] == "TS_1" and row["species"] == "a")
    assert first["median (Å)"] == 150
    assert first["score"] == pytest.approx(0.85)
    assert "150.000" in answer.out


@pytest.mark.parametrize("command", [("particles", "merge"), ("merge",)])
def test_merge(cli, scene, command):
    other = read_particles(scene / "all.csv")
    moved = Particles.of(
        other.positions + np.array([0, 0, 6]), other.species, tomograms=other.tomograms
    ).take([0, 1])
    write_particles(scene / "b.csv", moved)
    lists = (scene / "all.csv", scene / "b.csv")
    answer = cli(*command, *lists, "--out", scene / "m.csv", "--distance", 10)
    assert answer.code == 0, answer.err
    assert "5 particles (2 in 2, 3 in 1 lists)" in answer.out
    with (scene / "m.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["agreement"] for row in rows] == ["2", "2", "1", "1", "1"]
    answer = cli(
        *command, *lists, "--out", scene / "m.csv", "--distance", 10, "--min-agreement", 2, "--overwrite"
    )
    assert "2 particles" in answer.out
    answer = cli(
        *command, *lists, "--out", scene / "r.csv", "--distance", 10, "--calibrate", "--species", "c"
    )
    assert answer.code == 0, answer.err
    with (scene / "r.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["particle_type"] for row in rows} == {"c"}
    assert all(0 <= float(row["score"]) <= 1 for row in rows)
    cli(*command, lists[0], "--out", scene / "n.csv", "--distance", 10).refused("two lists")
    answer = cli(*command, scene / "r.csv", lists[1], "--out", scene / "n.csv", "--distance", 10)
    assert "no species is in two lists (c, a)" in answer.err
    assert "no species" not in cli(*command, *lists, "--out", scene / "o.csv", "--distance", 10).err
    cli(*command, *lists, "--out", lists[0], "--distance", 10, "--overwrite").refused("input itself")
    cli(*command, *lists, "--out", scene / "n.csv", "--distance", 10, "--min-agreement", 3).refused("1 to 2")


@pytest.mark.parametrize("name", ["T1S2M15", "T1S4M8"])
def test_proteins_lie_on_their_membrane_after_three_formats(cli, shared_data, tmp_path, name):
    """Within 1.7 voxels of the mask, whatever the format."""
    folder = shared_data / "membrane_chlamy"
    with (folder / f"{name}_proteins.csv").open() as file:
        voxels = np.array(
            [[float(row[f"{axis}_vox_crop"]) for axis in "zyx"] for row in csv.DictReader(file)]
        )
    size = 13.680044
    mask = read_mask(folder / f"{name}_membrane_mask.mrc.gz")
    write_volume(tmp_path / "T.mrc", Volume(mask.astype(np.int8), size))
    write_particles(tmp_path / "0.csv", Particles.of(voxels * size, "protein"))
    tomogram = ("--tomogram", tmp_path / "T.mrc")
    for before, after in (("0.csv", "1.tbl"), ("1.tbl", "2.star"), ("2.star", "3.em"), ("3.em", "4.csv")):
        assert cli("convert", tmp_path / before, tmp_path / after, *tomogram, "--verify").code == 0
    out = tmp_path / "on.csv"
    args = (*tomogram, "--membrane", tmp_path / "T.mrc", "--membrane-distance", "-1000", str(1.7 * size))
    answer = cli("particles", "filter", tmp_path / "4.csv", "--out", out, *args)
    assert answer.code == 0, answer.err
    assert len(read_particles(out)) == len(voxels)
