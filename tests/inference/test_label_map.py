import numpy as np
import pytest
from scipy import ndimage

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap, Volume
from cryovox.data.targets import ball_labels
from cryovox.formats import mrc, scores
from cryovox.inference import label_map

SHAPE = (40, 33, 51)
SPECIES = (Species(name="a", label=3, radius=70.0), Species(name="b", label=5, radius=45.0))


def frame(shape=SHAPE, voxel_size=10.0) -> Volume:
    return Volume(np.broadcast_to(np.int8(0), shape), voxel_size)


@pytest.mark.parametrize("planes", [1, 7, 64])
def test_balls_do_not_depend_on_the_slabs_in_which_they_are_painted(tmp_path, monkeypatch, planes):
    rng = np.random.default_rng(1)
    monkeypatch.setattr(label_map, "VOXELS", planes * SHAPE[1] * SHAPE[2])
    positions = rng.uniform(-30, 10 * np.array(SHAPE) + 30, (25, 3))
    picks = Particles.of(positions, rng.choice(["a", "b"], 25))
    heatmaps = ScoreMap(np.zeros((2, *SHAPE), np.float32), 10.0, SPECIES, kind="heatmap")
    label_map.write_label_map(heatmaps, frame(), tmp_path / "a.mrc", picks)
    radii = [7.0 if name == "a" else 4.5 for name in picks.species]
    numbers = [3 if name == "a" else 5 for name in picks.species]
    written = np.asarray(mrc.read(tmp_path / "a.mrc").data)
    assert np.array_equal(written, ball_labels(positions / 10, numbers, radii, SHAPE))
    assert {3, 5} <= set(np.unique(written))


def test_the_likeliest_species_wins_and_the_background_is_what_the_species_leave(tmp_path, monkeypatch):
    monkeypatch.setattr(scores, "CHUNK", (1, 16, 10, 51))  # blocks that do not divide the sides
    values = np.random.default_rng(2).dirichlet([1, 1, 1], SHAPE).astype(np.float32)
    values[0, 0, 0] = (0.5, 0.25, 0.25)  # background, a, b: the background wins
    values[0, 0, 1] = (0.2, 0.4, 0.4)  # of equals the first
    maps = ScoreMap(np.moveaxis(values[..., 1:], -1, 0), 10.0, SPECIES)
    mask = np.ones(SHAPE, bool)
    mask[:, :5] = False
    label_map.write_label_map(maps, frame(), tmp_path / "a.mrc", mask=mask)
    written = np.asarray(mrc.read(tmp_path / "a.mrc").data)
    assert not written[:, :5].any()
    expected = np.array([0, 3, 5])[values.argmax(-1)]
    assert (written == expected)[:, 5:].mean() > 0.9999  # a sum may round
    whole = tmp_path / "whole.mrc"
    label_map.write_label_map(maps, frame(), whole)
    assert mrc.read(whole).data[0, 0, :2].tolist() == [0, 3]


def test_masks_are_where_interpolated_scores_reach_their_thresholds(tmp_path, monkeypatch):
    monkeypatch.setattr(scores, "CHUNK", (1, 5, 10, 51))  # blocks of five planes
    kinds = tuple(s.model_copy(update={"extended": True}) for s in SPECIES)
    values = np.random.default_rng(3).random((2, 18, 14, 22)).astype(np.float32)
    maps = ScoreMap(values, 24.0, kinds, 6.0, "mask", {"a": 0.4, "b": 0.7})
    mask = np.ones(SHAPE, bool)
    mask[:3] = False
    files = label_map.write_threshold_masks(maps, frame(), tmp_path, "t", mask)
    assert files == {"mask of a": tmp_path / "a" / "t.mrc", "mask of b": tmp_path / "b" / "t.mrc"}
    places = np.meshgrid(*[(np.arange(n) * 10 - 6) / 24 for n in SHAPE], indexing="ij")
    for number, (file, threshold) in enumerate(zip(files.values(), (0.4, 0.7), strict=True)):
        expected = ndimage.map_coordinates(values[number], places, order=1, mode="nearest")
        written = mrc.read(file)
        assert written.voxel_size == 10.0
        inside = np.asarray(written.data)
        assert not inside[:3].any()
        clear = np.abs(expected - threshold) > 1e-4
        assert np.array_equal(inside[3:][clear[3:]], (expected >= threshold)[3:][clear[3:]])
