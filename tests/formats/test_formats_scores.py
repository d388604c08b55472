import json
import shutil

import numpy as np
import pytest
import zarr

from cryovox.core.errors import RequestError, RunError
from cryovox.core.particles import Species
from cryovox.core.volume import ScoreMap
from cryovox.formats import scores

SPECIES = (Species(name="ribosome", label=1, radius=140), Species(name="proteasome", label=2, radius=90))


@pytest.fixture
def original() -> ScoreMap:
    data = np.random.default_rng(0).random((2, 70, 9, 130), dtype=np.float32)
    return ScoreMap(
        data, 20.0, SPECIES, 5.0, "heatmap", {"ribosome": 0.4}, (1.0, 2.0, 3.0), (140, 18, 259), 10.0
    )


def test_round_trip_within_half_a_level(tmp_path, original):
    scores.write(tmp_path / "a.zarr", original)
    loaded = scores.read(tmp_path / "a.zarr")
    for name in (
        "voxel_size",
        "species",
        "offset",
        "kind",
        "thresholds",
        "origin",
        "tomogram_shape",
        "tomogram_voxel_size",
    ):
        assert getattr(loaded, name) == getattr(original, name)
    assert np.abs(np.asarray(loaded.data) - original.data).max() <= 0.5 / 65535 + 1e-7
    assert loaded.data.dtype == np.float32
    assert loaded.data.shape == original.data.shape
    assert (len(loaded.data), loaded.data.ndim) == (2, 4)
    part = loaded.data[1, 60:66, ::2, -3:]
    assert part.dtype == np.float32
    np.testing.assert_allclose(part, original.data[1, 60:66, ::2, -3:], atol=1e-5)
    assert loaded.data[0, 0, 0, 0] == pytest.approx(original.data[0, 0, 0, 0], abs=1e-5)


def test_writing_what_was_read_changes_nothing(tmp_path, original):
    scores.write(tmp_path / "a.zarr", original)
    scores.write(tmp_path / "b.zarr", scores.read(tmp_path / "a.zarr"))
    first, second = (np.asarray(scores.read(tmp_path / n).data) for n in ("a.zarr", "b.zarr"))
    np.testing.assert_array_equal(first, second)
    scores.write(tmp_path / "a.zarr", scores.read(tmp_path / "a.zarr"))
    np.testing.assert_array_equal(np.asarray(scores.read(tmp_path / "a.zarr").data), first)


def test_blocks_in_any_order_and_size(tmp_path, original):
    path = tmp_path / "a.zarr"
    with scores.create(path, original.data.shape, 20.0, SPECIES) as out:
        for z0, z1 in ((33, 70), (0, 7), (7, 33)):
            out.write(z0, original.data[:, z0:z1] * 3 - 1)
        assert not path.exists()
    wanted = np.clip(original.data * 3 - 1, 0, 1)
    np.testing.assert_allclose(np.asarray(scores.read(path).data), wanted, atol=1e-5)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_ends_of_the_scale_are_exact(tmp_path):
    data = np.array([0, 1], np.float32).reshape(1, 1, 1, 2)
    scores.write(tmp_path / "a.zarr", ScoreMap(data, 10.0, SPECIES[:1]))
    np.testing.assert_array_equal(np.asarray(scores.read(tmp_path / "a.zarr").data), data)


def test_nan_is_told_and_leaves_nothing(tmp_path):
    data = np.full((1, 2, 2, 2), np.nan, np.float32)
    with pytest.raises(RunError, match="NaN"):
        scores.write(tmp_path / "a.zarr", ScoreMap(data, 10.0, SPECIES[:1]))
    assert not list(tmp_path.iterdir())


def test_metadata_is_that_of_ome_zarr(tmp_path, original):
    scores.write(tmp_path / "a.zarr", original)
    attributes = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())["attributes"]
    image = attributes["ome"]["multiscales"][0]
    assert attributes["ome"]["version"] == "0.5"
    assert [axis["name"] for axis in image["axes"]] == ["c", "z", "y", "x"]
    scale, shift = image["datasets"][0]["coordinateTransformations"]
    assert scale == {"type": "scale", "scale": [1, 20, 20, 20]}
    assert shift == {"type": "translation", "translation": [0, 6, 7, 8]}
    names = [channel["label"] for channel in attributes["ome"]["omero"]["channels"]]
    assert names == ["ribosome", "proteasome"]
    stored = json.loads((tmp_path / "a.zarr" / "0" / "zarr.json").read_text())
    assert stored["dimension_names"] == ["c", "z", "y", "x"]
    assert stored["data_type"] == "uint16"


def test_what_is_no_score_map_is_refused(tmp_path):
    with pytest.raises(RequestError, match="no such file"):
        scores.read(tmp_path / "gone.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(RequestError, match="not a score map"):
        scores.read(tmp_path / "empty.zarr")
    zarr.create_group(tmp_path / "other.zarr", zarr_format=3)
    with pytest.raises(RequestError, match="not a score map"):
        scores.read(tmp_path / "other.zarr")
    (tmp_path / "file.zarr").write_text("text")
    with pytest.raises(RequestError, match="not a score map"):
        scores.read(tmp_path / "file.zarr")


def test_a_small_map_is_read_once_and_a_large_one_stays_on_disk(tmp_path, monkeypatch):
    values = np.random.default_rng(0).random((2, 5, 6, 7)).astype(np.float32)
    species = [Species(name=name, label=i + 1, radius=50.0) for i, name in enumerate("ab")]
    with scores.create(tmp_path / "a.zarr", values.shape, 10.0, species) as writer:
        writer.write(0, values)
    stored = scores.read(tmp_path / "a.zarr")
    held = scores.in_memory(stored)
    shutil.rmtree(tmp_path / "a.zarr")
    np.testing.assert_allclose(held.data[...], values, atol=1e-5)
    np.testing.assert_array_equal(held.data[1, 2:4, :, 3], held.data[...][1, 2:4, :, 3])
    assert held.species == stored.species
    monkeypatch.setattr(scores, "MOST_HELD", 2 * values.size - 1)
    assert scores.in_memory(stored).data is stored.data
