import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryovox.core.czii import RADII
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.formats import read_particles, write_particles
from cryovox.formats.particles import czii

TYPES = list(RADII)
NAME = (
    st.text("abcTS_0123456789.-, \"'µ", min_size=1)
    .map(str.strip)
    .filter(lambda name: name and not name.startswith("#"))
)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from(TYPES), NAME), max_size=8),
    seed=st.integers(0, 2**32 - 1),
)
def test_round_trip(tmp_path_factory, rows, seed):
    path = tmp_path_factory.mktemp("czii") / "submission.csv"
    places = np.random.default_rng(seed).uniform(-1e4, 1e4, (len(rows), 3))
    original = Particles.of(places, [kind for kind, _ in rows], tomograms=[name for _, name in rows])
    czii.FORMAT.write(path, original)
    loaded = czii.read(path)
    np.testing.assert_allclose(loaded.positions, original.positions, atol=5.01e-4)
    assert loaded.species.tolist() == original.species.tolist()
    assert loaded.tomograms.tolist() == original.tomograms.tolist()
    assert not loaded.extra


def test_what_is_in_the_file(tmp_path):
    path = tmp_path / "submission.csv"
    original = Particles.of([[3, 2, 1], [30, 20, 10.12345]], ["vlp", "ribosome-80s"], scores=[0.5, 0.25])
    write_particles(path, original, convention="czii", tomogram_name="TS_5_4")
    rows = list(csv.reader(path.read_text().splitlines()))
    assert rows[0] == ["id", "experiment", "particle_type", "x", "y", "z"]
    assert rows[1] == ["0", "TS_5_4", "virus-like-particle", "1.000", "2.000", "3.000"]
    assert rows[2] == ["1", "TS_5_4", "ribosome", "10.123", "20.000", "30.000"]
    assert len(rows) == 3


@pytest.mark.parametrize("name", TYPES)
def test_official_names_and_ways_to_write_them(name):
    for written in (name, name.upper(), f" {name} ", name.replace("-", "_"), name.replace("-", " ")):
        assert czii.official(written) == name


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Apoferritin", "apo-ferritin"),
        ("β-amylase", "beta-amylase"),
        ("β galactosidase", "beta-galactosidase"),
        ("80S", "ribosome"),
        ("ribosome_80s", "ribosome"),
        ("VLP", "virus-like-particle"),
    ],
)
def test_other_names(name, wanted):
    assert czii.official(name) == wanted


def test_other_names_mean_types_of_the_challenge():
    assert set(czii.ALIASES.values()) < set(RADII)
    assert not set(czii.ALIASES) & set(RADII)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("proteasome-20s", "Rename"),
        ("tyroglobulin", "did you mean 'thyroglobulin'"),
        ("ribosome-70s", "Rename"),
    ],
)
def test_unknown_types_are_refused(tmp_path, name, message):
    path = tmp_path / "submission.csv"
    with pytest.raises(RequestError) as caught:
        czii.FORMAT.write(path, Particles.of([[1, 2, 3]], name, tomograms="TS"))
    assert caught.value.where == name
    assert "virus-like-particle" in caught.value.message
    assert message in caught.value.remedy
    assert not path.exists()


def test_a_submission_names_tomograms_and_counts_in_angstrom(tmp_path):
    original = Particles.of([[1, 2, 3]], "ribosome")
    with pytest.raises(RequestError, match="name the tomogram"):
        czii.FORMAT.write(tmp_path / "a.csv", original)
    with pytest.raises(RequestError, match="counts in Å"):
        czii.FORMAT.write(tmp_path / "a.csv", original, tomogram_name="TS", voxel_size=10.0)
    (tmp_path / "b.csv").write_text("x,y,z,particle_type\n1,2,3,ribosome\n")
    with pytest.raises(RequestError, match=r"b\.csv.*name the tomogram"):
        czii.read(tmp_path / "b.csv")


def test_only_csv_is_a_submission(tmp_path):
    original = Particles.of([[1, 2, 3]], "ribosome", tomograms="TS")
    for name in ("a.star", "a.tsv"):
        with pytest.raises(RequestError, match="--convention"):
            write_particles(tmp_path / name, original, convention="czii")


@pytest.mark.parametrize("case", ["submission_perfect", "submission_drop30", "solution"])
def test_golden_files_there_and_back(shared_data, tmp_path, case):
    path = shared_data / "golden_czii" / f"{case}.csv"
    loaded = czii.read(path)
    assert loaded.species.tolist() == read_particles(path).species.tolist()
    czii.FORMAT.write(tmp_path / "again.csv", loaded)
    again = czii.read(tmp_path / "again.csv")
    np.testing.assert_allclose(again.positions, loaded.positions, atol=5.01e-4)
    assert again.tomograms.tolist() == loaded.tomograms.tolist()
    assert len(loaded) > 500
