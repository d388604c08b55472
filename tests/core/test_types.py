import numpy as np
import pytest
from pydantic import ValidationError

from cryovox.core.dataset import Box, Dataset, Entry
from cryovox.core.particles import Particles, Species, concatenate
from cryovox.core.volume import LabelMap, ScoreMap, Volume

A, B = Species(name="a", label=1, radius=50.0), Species(name="b", label=2, radius=80.0)


def some(n: int, species: str = "a", **more) -> Particles:
    return Particles.of(np.arange(3.0 * n).reshape(n, 3), species, **more)


def test_one_name_serves_all_and_scores_default_to_one():
    particles = some(3)
    assert particles.species.tolist() == ["a"] * 3
    assert particles.scores.tolist() == [1, 1, 1]
    assert particles.scores.dtype == np.float32
    assert len(Particles.of([], "a")) == 0


def test_a_single_position_is_a_list_of_one():
    assert Particles.of([1.0, 2.0, 3.0], "a").positions.tolist() == [[1.0, 2.0, 3.0]]


def test_positions_in_a_plane_are_not_reshuffled_into_space():
    with pytest.raises(ValueError, match=r"\(n, 3\)"):
        Particles.of(np.zeros((3, 2)), "a")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"species": ["a"]}, "2 positions but 1 species"),
        ({"scores": [1.0]}, "1 scores"),
        ({"rotations": np.eye(3)[None]}, "1 rotations|reshape"),
        ({"tomograms": ["t"] * 3}, "3 tomograms"),
    ],
)
def test_columns_of_other_lengths_are_refused(changed, message):
    fields = {"positions": np.zeros((2, 3)), "species": "a"} | changed
    with pytest.raises(ValueError, match=message):
        Particles.of(**fields)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_positions_are_finite(bad):
    with pytest.raises(ValueError, match="finite"):
        Particles.of([[0, 0, bad]], "a")


def test_take_by_mask_and_by_index_moves_all_columns():
    turns = np.stack([np.eye(3) * (i + 1) for i in range(3)])
    particles = some(3, scores=[0.1, 0.2, 0.3], rotations=turns, tomograms=["x", "y", "z"])
    by_mask = particles.take([True, False, True])
    assert by_mask.positions[:, 0].tolist() == [0, 6]
    backwards = particles.take([2, 0])
    assert backwards.tomograms.tolist() == ["z", "x"]
    assert backwards.rotations[:, 0, 0].tolist() == [3, 1]
    assert backwards.scores.tolist() == pytest.approx([0.3, 0.1])
    assert len(particles.take([])) == 0


def test_sorted_is_best_first_and_stable():
    particles = some(4, scores=[0.5, 0.9, 0.5, 0.1]).sorted()
    assert particles.positions[:, 0].tolist() == [3, 0, 6, 9]


def test_named_and_within():
    particles = Particles.of(np.zeros((3, 3)), ["a", "b", "a"], tomograms=["x", "x", "y"])
    assert len(particles.named("a")) == 2
    assert len(particles.within("x")) == 2
    assert len(some(2).within("anything")) == 2


def test_concatenate_keeps_what_all_have():
    whole = Particles(
        np.zeros((1, 3)),
        np.array(["long name"]),
        np.ones(1, np.float32),
        rotations=np.eye(3)[None],
        tomograms=np.array(["t"]),
        extra={"group": np.array([1]), "only": np.array([2])},
    )
    other = Particles(
        np.ones((2, 3)),
        np.array(["b", "c"]),
        np.ones(2, np.float32),
        tomograms=np.array(["u", "v"]),
        extra={"group": np.array([5, 6])},
    )
    joined = concatenate([whole, other])
    assert joined.species.tolist() == ["long name", "b", "c"]
    assert joined.tomograms.tolist() == ["t", "u", "v"]
    assert joined.rotations is None
    assert {k: v.tolist() for k, v in joined.extra.items()} == {"group": [1, 5, 6]}
    assert len(concatenate([])) == 0
    assert len(concatenate([some(0), some(2)])) == 2


@pytest.mark.parametrize("bad", [{"label": 0}, {"label": 256}, {"radius": 0}, {"name": ""}, {"color": "red"}])
def test_species_are_checked(bad):
    with pytest.raises(ValidationError):
        Species(**({"name": "a", "label": 1, "radius": 10.0} | bad))


@pytest.mark.parametrize("size", [0, -1, np.nan, np.inf])
def test_voxel_sizes_are_lengths(size):
    for make in (Volume, LabelMap):
        with pytest.raises(ValueError, match="voxel size"):
            make(np.zeros((2, 2, 2), np.uint8), size)
    with pytest.raises(ValueError, match="voxel size"):
        ScoreMap(np.zeros((1, 2, 2, 2)), size, (A,))


def test_volumes_have_three_axes():
    assert Volume(np.zeros((2, 3, 4)), 1.0).shape == (2, 3, 4)
    for make in (Volume, LabelMap):
        with pytest.raises(ValueError, match=r"\(z, y, x\)"):
            make(np.zeros((2, 2)), 1.0)


def test_score_maps_have_a_channel_per_species():
    assert ScoreMap(np.zeros((2, 3, 3, 3)), 1.0, (A, B)).kind == "mask"
    with pytest.raises(ValueError, match="k = 2"):
        ScoreMap(np.zeros((1, 3, 3, 3)), 1.0, (A, B))
    with pytest.raises(ValueError, match="'heatmap' or a 'mask'"):
        ScoreMap(np.zeros((1, 3, 3, 3)), 1.0, (A,), kind="hot")


def test_boxes_are_clipped_and_open_where_nothing_is_said():
    assert Box(y=(-3, 4), x=(2, 99)).bounds((5, 6, 7)) == ((0, 5), (0, 4), (2, 7))


def entry(name: str, **more) -> Entry:
    return Entry(name=name, tomogram=f"{name}.mrc", **more)


def test_exhaustive_by_species():
    mixed = entry("t", exhaustive={"a": False})
    assert not mixed.is_exhaustive("a")
    assert mixed.is_exhaustive("b")
    assert not entry("t", exhaustive=False).is_exhaustive("b")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"species": (A, Species(name="a", label=2, radius=1.0))}, "duplicate species name: a"),
        ({"species": (A, Species(name="c", label=1, radius=1.0))}, "duplicate species label: 1"),
        ({"entries": (entry("t"), entry("t"))}, "duplicate entry name: t"),
        ({"voxel_size": 0}, "greater than 0"),
    ],
)
def test_datasets_are_checked(fields, message):
    with pytest.raises(ValidationError, match=message):
        Dataset(**({"voxel_size": 10.0} | fields))


def test_split_gives_the_entries_of_it():
    dataset = Dataset(voxel_size=1.0, entries=(entry("t"), entry("v", split="val")))
    assert [e.name for e in dataset.split("val")] == ["v"]
