"""`cryovox doctor --particles A`, alone, with tomograms, and against another list."""

import json
import shlex

import numpy as np
import pytest
from scipy import ndimage

from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import write_particles, write_volume

SHAPE = (60, 90, 120)
SIZE = 8.0
LAST = (np.array(SHAPE) - 1) * SIZE


@pytest.fixture
def positions():
    return np.random.default_rng(0).uniform(0.1, 0.9, (30, 3)) * LAST


@pytest.fixture
def compare(cli, positions, tmp_path):
    """Findings by check of a list against the true one."""

    def call(changed, *args):
        write_particles(tmp_path / "b.csv", Particles.of(positions, "a"))
        write_particles(tmp_path / "a.csv", Particles.of(changed, "a"))
        files = ("--particles", tmp_path / "a.csv", "--against", tmp_path / "b.csv")
        answer = cli("doctor", *files, "--json", tmp_path / "f.json", *args)
        assert answer.code == 0, answer.err
        (rows,) = json.loads((tmp_path / "f.json").read_text()).values()
        return {row["what"]: row for row in rows}

    return call


WITH_FRAME = ("--shape", "120,90,60", "--voxel-size", SIZE)


def test_equal_lists(compare, positions):
    findings = compare(positions[::-1], *WITH_FRAME)
    assert {row["level"] for row in findings.values()} == {"ok"}
    assert "30 of them agree" in findings["same particles"]["found"]


@pytest.mark.parametrize("axes", ["x", "y", "z", "xy", "xyz"])
def test_flips_are_named(compare, positions, axes):
    flipped = np.where([axis in axes for axis in "zyx"], LAST - positions, positions)
    findings = compare(flipped, *WITH_FRAME)
    assert findings["flips"]["level"] == "error"
    for axis in "xyz":
        assert (f"--flip-{axis}" in findings["flips"]["remedy"]) == (axis in axes)
    assert ("mirrors the hand" in findings["flips"]["found"]) == (len(axes) % 2 == 1)
    assert findings["constant offset"]["level"] == "ok"


def test_swapped_axes_are_named(compare, positions):
    findings = compare(positions[:, ::-1], *WITH_FRAME)
    assert findings["order of axes"]["level"] == "error"
    assert "x is z of the first, z is x of the first" in findings["order of axes"]["found"]


@pytest.mark.parametrize(("factor", "text"), [(0.5, "binning by 2"), (4.0, "binning by 4"), (0.1, "voxels")])
def test_scales_are_named(compare, positions, factor, text):
    findings = compare(positions * factor, *WITH_FRAME)
    assert findings["scale"]["level"] == "error"
    assert text in findings["scale"]["found"]
    assert f"--voxel-size {1 / factor:g}" in findings["scale"]["remedy"]


@pytest.mark.parametrize(
    ("shift", "text"),
    [(0.5, "half a voxel"), (-0.5, "half a voxel"), (1.0, "one voxel"), (0.3, "a constant shift")],
)
def test_constant_offsets_are_named(compare, positions, shift, text):
    findings = compare(positions - shift * SIZE, *WITH_FRAME)
    row = findings["constant offset"]
    assert row["level"] == "warning"
    assert f"x {shift:+.2f}, y {shift:+.2f}, z {shift:+.2f} voxel" in row["found"]
    assert text in row["found"]
    assert findings["flips"]["level"] == "ok"


def test_a_flip_without_the_shape_asks_for_it(compare, positions):
    findings = compare(LAST - positions)
    assert findings["flips"]["level"] == "error"
    assert "--shape" in findings["constant offset"]["remedy"]


def test_other_particles(compare):
    findings = compare(np.random.default_rng(5).uniform(0, 1, (30, 3)) * LAST)
    assert findings["same particles"]["level"] == "warning"


def test_the_portal_list_of_ts_69_2_against_the_picks_of_the_challenge(cli, shared_data, tmp_path):
    first = shared_data / "formats" / "cryoet_portal" / "pp7_vlp-2.0_point.ndjson"
    second = shared_data / "annotations_czii" / "train_folded_v1.csv"
    options = ("--shape", "630,630,184", "--json", tmp_path / "f.json")
    answer = cli("doctor", "--particles", first, "--against", second, *options)
    assert answer.code == 0, answer.err
    (rows,) = json.loads((tmp_path / "f.json").read_text()).values()
    findings = {row["what"]: row for row in rows}
    assert "TS_69_2" in findings["tomogram"]["found"]
    assert "9 of them agree" in findings["same particles"]["found"]
    assert "3 axes are flipped: x, y and z" in findings["flips"]["found"]
    assert "10.01" in findings["scale"]["found"]
    assert "z +0.58 voxel, at most 0.58 voxel" in findings["constant offset"]["found"]


def test_wrong_requests_are_refused(cli, tmp_path):
    cli("doctor").refused("names no file")
    cli("doctor", "--against", tmp_path / "b.csv").refused("--particles")
    (tmp_path / "a.csv").write_text("x,y,z\n1,2,3\n")
    two = ("--particles", tmp_path / "a.csv", "--against", tmp_path / "a.csv")
    for shape in ("630", "1,2,x", "0,5,5"):
        cli("doctor", *two, "--shape", shape).refused("--shape")
    cli("doctor", "--particles", tmp_path / "none.csv").refused("none.csv")


@pytest.fixture
def balls(tmp_path, positions):
    """A tomogram with dark balls at the positions."""
    points = np.zeros(SHAPE)
    points[tuple(np.rint(positions / SIZE).astype(int).T)] = 1
    data = ndimage.gaussian_filter(points, 3.0)
    noise = np.random.default_rng(1).normal(scale=0.3, size=SHAPE)
    path = tmp_path / "TS_01.mrc"
    write_volume(path, Volume((noise - data / data.max()).astype(np.float32), SIZE))
    return path


def test_picks_on_and_off_density(cli, balls, positions, tmp_path):
    for name, where, level in (
        ("on", positions, "ok"),
        ("flipped", positions * [1, 1, -1] + LAST * [0, 0, 1], "error"),
    ):
        path = tmp_path / f"{name}.csv"
        write_particles(path, Particles.of(where, "a"))
        assert cli("doctor", balls, "--particles", path, "--json", tmp_path / "f.json").code == 0
        rows = json.loads((tmp_path / "f.json").read_text())[str(path)]
        (row,) = [row for row in rows if row["what"] == "picks on density"]
        assert row["level"] == level, row
        assert ("--flip-x" in row["remedy"]) == (name == "flipped")


def test_the_advised_command_corrects_scale_and_flips(cli, balls, positions, tmp_path):
    """A list in voxels with x flipped: one command mends both, since a flip needs Å."""
    first, second, again = (tmp_path / f"{name}.csv" for name in ("voxels", "truth", "again"))
    write_particles(first, Particles.of((positions * [1, 1, -1] + LAST * [0, 0, 1]) / SIZE, "a"))
    write_particles(second, Particles.of(positions, "a"))
    options = ("--against", second, "--shape", "120,90,60", "--json", tmp_path / "f.json")
    assert cli("doctor", "--particles", first, *options).code == 0
    (rows,) = json.loads((tmp_path / "f.json").read_text()).values()
    commands = {row["remedy"] for row in rows if row["what"] in ("flips", "scale")}
    assert len(commands) == 1
    places = {"OUT.csv": again, "TOMOGRAM": balls}
    command = [places.get(word, word) for word in shlex.split(commands.pop())]
    assert cli(*command[1:]).code == 0
    assert cli("doctor", "--particles", again, *options, *WITH_FRAME[2:]).code == 0
    (rows,) = json.loads((tmp_path / "f.json").read_text()).values()
    assert {row["level"] for row in rows} == {"ok"}


def test_a_star_file_with_absurd_defocus_and_another_name(cli, balls, positions, tmp_path):
    header = ("rlnTomoName", "rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ", "rlnDefocusU")
    rows = [f"TS_7 {x} {y} {z} 1e-10" for z, y, x in positions / SIZE]
    text = (
        "data_particles\n\nloop_\n" + "\n".join(f"_{tag}" for tag in header) + "\n" + "\n".join(rows) + "\n"
    )
    path = tmp_path / "p.star"
    path.write_text(text)
    answer = cli("doctor", "--particles", path, "--json", tmp_path / "f.json")
    assert answer.code == 0, answer.err
    (rows,) = json.loads((tmp_path / "f.json").read_text()).values()
    assert any(row["what"] == "CTF and pixel sizes" and row["level"] == "error" for row in rows)
    assert "1e-10" in answer.out
