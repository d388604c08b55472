import builtins

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import LabelMap, Volume
from cryovox.formats import subtomograms
from cryovox.formats.subtomograms import Subtomograms, extract, is_set, read, write

SPECIES = (Species(name="a", label=1, radius=50), Species(name="b", label=2, radius=80))


@pytest.fixture
def volume() -> Volume:
    return Volume(np.arange(20 * 21 * 22, dtype=np.float32).reshape(20, 21, 22), 10.0)


@pytest.fixture
def particles() -> Particles:
    # cubes of 6 voxels: the first two fit, the third does not, the last is far outside
    positions = [[101, 99, 104], [34, 149, 30], [5, 100, 215], [-900, 0, 0]]
    turns = Rotation.random(4, rng=np.random.default_rng(0)).as_matrix()
    return Particles.of(positions, ["b", "a", "b", "a"], [0.5, 0.25, 1, 1], turns, "TS_1")


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
@pytest.mark.parametrize("masked", [True, False])
def test_round_trip(tmp_path, monkeypatch, suffix, masked):
    monkeypatch.setattr(subtomograms, "CHUNK_VOXELS", 200)  # three to a chunk
    rng = np.random.default_rng(0)
    images = rng.normal(size=(7, 4, 4, 4)).astype(np.float32)
    masks = rng.integers(0, 3, images.shape).astype(np.uint8) if masked else None
    picks = Particles.of(rng.normal(size=(7, 3)), ["b", "a"] * 3 + ["a"], rng.random(7))
    write(tmp_path / f"s{suffix}", Subtomograms(images, masks, 12.5, picks, SPECIES))
    loaded = read(tmp_path / f"s{suffix}")
    np.testing.assert_array_equal(np.asarray(loaded.images), images)
    assert (loaded.masks is None) == (not masked)
    if masked:
        np.testing.assert_array_equal(np.asarray(loaded.masks), masks)
    assert (loaded.voxel_size, loaded.species, len(loaded)) == (12.5, SPECIES, 7)
    np.testing.assert_array_equal(loaded.particles.positions, picks.positions)
    np.testing.assert_array_equal(loaded.particles.scores, picks.scores)
    assert loaded.particles.species.tolist() == picks.species.tolist()
    assert loaded.particles.rotations is None
    assert loaded.particles.tomograms is None
    assert loaded.corners is None
    assert [p.name for p in tmp_path.iterdir()] == [f"s{suffix}"]


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_extract_skips_what_does_not_fit(tmp_path, volume, particles, suffix):
    path = tmp_path / f"s{suffix}"
    labels = LabelMap((volume.data % 3).astype(np.uint8), 10.0, SPECIES)
    steps = []
    assert (
        extract(volume, particles, 6, path, masks=labels, on_progress=lambda *step: steps.append(step)) == 2
    )
    assert steps[-1] == ("subtomograms", 1.0, "2 of 2")
    loaded = read(path)
    np.testing.assert_array_equal(loaded.images[0], volume.data[7:13, 7:13, 7:13])
    np.testing.assert_array_equal(loaded.images[1], volume.data[0:6, 12:18, 0:6])
    np.testing.assert_array_equal(np.asarray(loaded.masks), np.asarray(loaded.images) % 3)
    assert loaded.corners.tolist() == [[7, 7, 7], [0, 12, 0]]
    assert loaded.particles.positions.tolist() == particles.positions[:2].tolist()
    assert loaded.particles.tomograms.tolist() == ["TS_1", "TS_1"]
    assert loaded.species == SPECIES
    np.testing.assert_allclose(loaded.particles.rotations, particles.rotations[:2])


def test_positions_stay_true(tmp_path):
    axes = np.meshgrid(*[np.arange(24) * 8.0] * 3, indexing="ij")
    where = np.array([90.7, 101.2, 83.9])
    squared = sum((axis - c) ** 2 for axis, c in zip(axes, where, strict=True))
    volume = Volume(np.exp(-squared / (2 * 12**2)).astype(np.float32), 8.0)
    extract(volume, Particles.of([where], "a"), 12, tmp_path / "s.zarr")
    loaded = read(tmp_path / "s.zarr")
    inside = np.meshgrid(*[np.arange(12) * 8.0] * 3, indexing="ij")
    mean = [np.average(axis, weights=loaded.images[0]) for axis in inside]
    np.testing.assert_allclose(mean, where - loaded.corners[0] * 8, atol=0.05)


def test_extract_pads_with_the_mean(tmp_path, volume, particles):
    labels = LabelMap(np.ones(volume.shape, np.uint8), 10.0)
    assert extract(volume, particles, 6, tmp_path / "s.zarr", masks=labels, border="pad") == 3
    loaded = read(tmp_path / "s.zarr")
    cube = np.full((6, 6, 6), volume.data.mean(), np.float32)
    cube[3:, :, :3] = volume.data[:3, 7:13, 19:22]
    assert loaded.corners[2].tolist() == [-3, 7, 19]
    np.testing.assert_allclose(loaded.images[2], cube)
    assert int(np.asarray(loaded.masks[2]).sum()) == 3 * 6 * 3


def test_requests_that_cannot_be_met(tmp_path, volume, particles):
    with pytest.raises(RequestError, match="none of 4 cubes of 40 voxels"):
        extract(volume, particles, 40, tmp_path / "s.zarr")
    with pytest.raises(RequestError, match="--box"):
        extract(volume, particles, 0, tmp_path / "s.zarr")
    with pytest.raises(RequestError, match="label map of shape"):
        extract(
            volume, particles, 6, tmp_path / "s.zarr", masks=LabelMap(np.zeros((2, 2, 2), np.uint8), 10.0)
        )
    assert not list(tmp_path.iterdir())
    with pytest.raises(RequestError, match="no such file"):
        read(tmp_path / "gone.zarr")
    (tmp_path / "text.h5").write_text("text")
    (tmp_path / "empty.zarr").mkdir()
    for name in ("text.h5", "empty.zarr"):
        with pytest.raises(RequestError, match="not a set of subtomograms"):
            read(tmp_path / name)


def test_a_missing_h5py_is_told(tmp_path, monkeypatch, volume, particles):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "h5py":
            raise ImportError
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RequestError, match=r"cryovox\[hdf5\]"):
        extract(volume, particles, 6, tmp_path / "s.h5")
    assert not list(tmp_path.iterdir())


def test_shapes_are_checked():
    none = Particles.of(np.zeros((0, 3)), [])
    with pytest.raises(ValueError, match="0 particles"):
        Subtomograms(np.zeros((1, 2, 2, 2)), None, 10.0, none)
    one = Particles.of(np.zeros((1, 3)), "a")
    with pytest.raises(ValueError, match="masks of shape"):
        Subtomograms(np.zeros((1, 2, 2, 2)), np.zeros((1, 2, 2, 3)), 10.0, one)
    with pytest.raises(ValueError, match="corners"):
        Subtomograms(np.zeros((1, 2, 2, 2)), None, 10.0, one, corners=np.zeros(3, np.intp))


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_a_set_of_labels_alone(tmp_path, suffix):
    masks = np.arange(16, dtype=np.uint8).reshape(2, 2, 2, 2)
    original = Subtomograms(None, masks, 10.0, Particles.of(np.zeros((2, 3)), "a"), SPECIES, contrast="dark")
    path = tmp_path / f"labels{suffix}"
    write(path, original)
    loaded = read(path)
    assert loaded.images is None
    assert (loaded.contrast, loaded.shape) == ("dark", (2, 2, 2))
    np.testing.assert_array_equal(np.asarray(loaded.masks), masks)
    assert is_set(path)
    with pytest.raises(ValueError, match="images, masks or both"):
        Subtomograms(None, None, 10.0, Particles.of(np.zeros((2, 3)), "a"))


def test_what_is_no_set(tmp_path):
    assert not is_set(tmp_path / "none.zarr")
    (tmp_path / "empty.zarr").mkdir()
    assert not is_set(tmp_path / "empty.zarr")
    (tmp_path / "empty.zarr" / "zarr.json").write_text('{"attributes": {"cryovox": {"kind": "mask"}}}')
    assert not is_set(tmp_path / "empty.zarr")
    assert not is_set(tmp_path / "a.mrc")


@pytest.mark.parametrize("sign", [1, -1])
def test_a_contrast_that_is_clearly_seen_is_recorded(tmp_path, sign):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(48, 48, 48)).astype(np.float32)
    centers = rng.integers(8, 40, (12, 3))
    for center in centers:
        low = center - 4
        data[low[0] : low[0] + 8, low[1] : low[1] + 8, low[2] : low[2] + 8] += sign * 4
    extract(Volume(data, 10.0), Particles.of(centers * 10.0, "a"), 16, tmp_path / "s.zarr", border="pad")
    assert read(tmp_path / "s.zarr").contrast == ("bright" if sign > 0 else "dark")
    extract(Volume(data, 10.0), Particles.of(centers * 10.0, "a"), 16, tmp_path / "t.zarr", contrast="dark")
    assert read(tmp_path / "t.zarr").contrast == "dark"
