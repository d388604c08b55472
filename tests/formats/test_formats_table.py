import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.formats import read_particles, write_particles


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 6),
    seed=st.integers(0, 2**32 - 1),
    name=st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), include_characters=" ,;\t\"'")),
    suffix=st.sampled_from([".csv", ".tsv", ".csv.gz", ".tsv.bz2"]),
    posed=st.booleans(),
)
def test_round_trip(tmp_path_factory, n, seed, name, suffix, posed):
    path = tmp_path_factory.mktemp("table") / f"a{suffix}"
    rng = np.random.default_rng(seed)
    original = Particles.of(
        rng.uniform(-1e4, 1e4, (n, 3)),
        name.strip() or "a",
        scores=rng.normal(size=n),
        rotations=Rotation.random(n, rng=rng).as_matrix() if posed and n else None,
        tomograms="TS_1" if seed % 2 else None,
    )
    write_particles(path, original)
    loaded = read_particles(path)
    np.testing.assert_allclose(loaded.positions, original.positions, atol=5.01e-4)
    np.testing.assert_array_equal(loaded.scores, original.scores)
    assert loaded.species.tolist() == original.species.tolist()
    assert (loaded.tomograms is None) == (original.tomograms is None)
    if original.rotations is not None:
        np.testing.assert_allclose(loaded.rotations, original.rotations, atol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "x,y,z\n1,2,3\n",
        "x;y;z\n1;2;3\n",
        "X\tY\tZ\n1\t2\t3\n",
        "x y z\n1 2 3\n",
        "1,2,3\n",
        "1\t2\t3",
        "  1   2   3  \n\n",
        "# picks\n\nz,y,x\n3,2,1\n",
        '\ufeff"x","y","z"\r\n"1","2","3"\r\n',
    ],
)
def test_ways_to_write_one_point(tmp_path, text):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    loaded = read_particles(tmp_path / "a.csv")
    assert loaded.positions.tolist() == [[3, 2, 1]]
    assert loaded.species.tolist() == ["particle"]
    assert loaded.scores.tolist() == [1]


def test_known_and_unknown_columns(tmp_path):
    (tmp_path / "a.csv").write_text("id,experiment,particle_type,x,y,z,confidence\n7,TS_1,virus,1,2,3,0.5\n")
    loaded = read_particles(tmp_path / "a.csv", species="ignored")
    assert loaded.species.tolist() == ["virus"]
    assert loaded.tomograms.tolist() == ["TS_1"]
    assert loaded.scores.tolist() == [0.5]
    assert {name: column.tolist() for name, column in loaded.extra.items()} == {"id": ["7"]}
    write_particles(tmp_path / "b.tsv", loaded)
    again = read_particles(tmp_path / "b.tsv")
    assert again.extra["id"].tolist() == ["7"]
    assert again.tomograms.tolist() == ["TS_1"]


def test_class_before_x(shared_data, tmp_path):
    path = shared_data / "field_bugs" / "column-before-x" / "class.coords"
    picks = read_particles(path, voxel_size=10.0)
    assert picks.positions[:, ::-1].tolist() == [[400, 300, 200], [100, 120, 140]]
    assert picks.species.tolist() == ["class1", "class2"]
    assert read_particles(path, voxel_size=10.0, species="a").species.tolist() == ["a", "a"]
    three = tmp_path / "a.coords"  # crYOLO
    three.write_text("40 30 20\n")
    assert read_particles(three, voxel_size=2.0).positions.tolist() == [[40, 60, 80]]
    with pytest.raises(RequestError, match="counts in voxels"):
        read_particles(three)
    for text in (path.read_text(), "7 1.5 2.5 3.5 0.9\n"):
        (tmp_path / "a.txt").write_text(text)
        with pytest.raises(RequestError, match="may be x, a class or an index"):
            read_particles(tmp_path / "a.txt")
    for text in ("40 30 20 0.9\n", "40.5 30 20 7.5\n"):
        (tmp_path / "a.txt").write_text(text)
        assert read_particles(tmp_path / "a.txt").positions[0, :2].tolist() == [20, 30]


def test_fourth_number_is_the_score_and_units_can_be_voxels(tmp_path):
    (tmp_path / "a.txt").write_text("1 2 3 0.25\n4 5 6 0.5\n")
    loaded = read_particles(tmp_path / "a.txt", voxel_size=10.0, species="s")
    assert loaded.scores.tolist() == [0.25, 0.5]
    assert loaded.positions.tolist() == [[30, 20, 10], [60, 50, 40]]
    assert loaded.species.tolist() == ["s", "s"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("x,y\n1,2\n", "no column z"),
        ("x,y,z\n1,2,3\n\n1,b,3\n", "line 4, column y: 'b'"),
        ("x,y,z\n1,2,nan\n", "line 2, column z"),
        ("x,y,z\n1,2\n", "line 2 has 2 cells, not 3"),
        ("x,y,z,x\n1,2,3,4\n", "two columns 'x'"),
        ("1,2\n", "no column z"),
        ('x,y,z\n1,2,"3\n', "line 2"),
        ("x,y,z,score\n1,2,3,high\n", "column score: 'high'"),
        ("\0\0\0", "is not a table"),
    ],
)
def test_errors_name_line_and_column(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(RequestError, match=message):
        read_particles(tmp_path / "a.csv")


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(RequestError, match="not a text file"):
        read_particles(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["points.csv", "points_tab_delim.csv", "points_with_header.csv"])
def test_portal_points(shared_data, name):
    loaded = read_particles(shared_data / "formats" / "cryoet_portal" / name)
    wanted = [[3, 2, 1], [2, 2, 2], [0, 3, 0]]
    assert loaded.positions.tolist() == wanted[: len(loaded)]
    assert len(loaded) >= 2


def test_picks_of_the_real_tomogram(shared_data):
    loaded = read_particles(shared_data / "real_tomograms" / "tomo_171_xlow_80S_angstrom.csv")
    assert len(loaded) == 128
    assert set(loaded.species) == {"80S_ribosome"}
    np.testing.assert_allclose(loaded.positions[0], [2503.8, 964.593, 451.775])


def test_settings_of_other_formats_are_refused(tmp_path):
    original = Particles.of([[0, 0, 0]], "a")
    with pytest.raises(RequestError, match=r"--convention: \.csv files have none"):
        write_particles(tmp_path / "a.csv", original, convention="relion5")
    write_particles(tmp_path / "a.csv", original, tomogram_name="TS_1")
    with pytest.raises(RequestError, match="center"):
        read_particles(tmp_path / "a.csv", center="half")
    assert read_particles(tmp_path / "a.csv").tomograms.tolist() == ["TS_1"]
