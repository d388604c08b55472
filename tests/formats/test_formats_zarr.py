import asyncio
import errno
import time

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from cryovox.cli import main
from cryovox.core.errors import RequestError
from cryovox.core.particles import Species
from cryovox.core.volume import LabelMap, ScoreMap, Volume
from cryovox.formats import (
    ome_zarr,
    read_header,
    read_labels,
    read_mask,
    read_volume,
    scores,
    write_labels,
    write_volume,
)

RIBOSOME = (Species(name="ribosome", label=1, radius=100.0),)


def tomogram(path):
    ome_zarr.write(path, Volume(np.ones((8, 200, 200), np.float32), 10.0))


def score_map(path):
    scores.write(path, ScoreMap(np.ones((1, 8, 200, 200), np.float32), 10.0, RIBOSOME))


@pytest.mark.parametrize("write", [tomogram, score_map])
def test_a_disk_that_fills_while_other_chunks_are_under_way(write, tmp_path, monkeypatch):
    real, chunks = LocalStore.set, []

    async def full(self, key, value):
        if "/c/" in key:
            chunks.append(key)
            if len(chunks) == 2:  # the first is under way
                raise OSError(errno.EFBIG, "File too large")
            await asyncio.sleep(0.2)
        await real(self, key, value)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "set", full)
        with pytest.raises(OSError, match="too large"):
            write(tmp_path / "out.zarr")
        time.sleep(0.4)
    assert len(chunks) > 1
    assert list(tmp_path.iterdir()) == []


def store(path, data, axes, steps, shifts=None, version="0.4"):
    """An image as others write it: axes as dictionaries, transformations in their order."""
    root = zarr.create_group(path, zarr_format=2 if version == "0.4" else 3)
    root.create_array("s0", data=data)
    rows = [{"type": "scale", "scale": steps}]
    rows += [] if shifts is None else [{"type": "translation", "translation": shifts}]
    scales = {"name": "t", "axes": axes, "datasets": [{"path": "s0", "coordinateTransformations": rows}]}
    about = {"multiscales": [scales]}
    root.attrs.update(about if version == "0.4" else {"ome": {"version": "0.5", **about}})
    return path


def axis(name, unit="angstrom"):
    kind = {"t": "time", "c": "channel"}.get(name.lower(), "space")
    return {"name": name, "type": kind} | ({"unit": unit} if unit and kind == "space" else {})


DATA = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
EVEN = [10.0, 10.0, 10.0]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("order", ["zyx", "xyz", "yxz", "tczyx", "czyx", "xyzct", "ZYX"])
def test_axes_go_by_their_names(tmp_path, order, version):
    wanted = order.lower().replace("t", "").replace("c", "")
    stored = DATA.transpose(["zyx".index(name) for name in wanted])
    shape = [DATA.shape["zyx".index(name)] if name in "zyx" else 1 for name in order.lower()]
    shifts = [{"z": 30.0, "y": 20.0, "x": -10.0}.get(name, 0.0) for name in order.lower()]
    steps = [10.0 if name in "zyx" else 1.0 for name in order.lower()]
    axes = [axis(name) for name in order]
    volume = read_volume(store(tmp_path / "a.zarr", stored.reshape(shape), axes, steps, shifts, version))
    assert (volume.voxel_size, volume.origin, volume.shape) == (10.0, (30.0, 20.0, -10.0), DATA.shape)
    np.testing.assert_array_equal(np.asarray(volume.data), DATA)
    np.testing.assert_array_equal(volume.data[1:3, ::2, -1], DATA[1:3, ::2, -1])
    np.testing.assert_array_equal(volume.data[::-1, 4:1:-2, 2:2], DATA[::-1, 4:1:-2, 2:2])
    np.testing.assert_array_equal(volume.data[2], DATA[2])
    np.testing.assert_array_equal(volume.data[[0, 2]], DATA[[0, 2]])
    np.testing.assert_array_equal(volume.data[DATA > 50], DATA[DATA > 50])
    header = read_header(tmp_path / "a.zarr")
    assert (header.shape, header.voxel_size, header.origin) == (DATA.shape, 10.0, (30.0, 20.0, -10.0))


def test_every_axis_has_its_own_unit(tmp_path):
    axes = [axis("z", "nanometer"), axis("y"), axis("x", "micrometer")]
    volume = read_volume(store(tmp_path / "a.zarr", DATA, axes, [1.0, 10.0, 1e-3], [2.0, 5.0, 1e-3]))
    assert volume.voxel_size == 10.0
    assert volume.origin == (20.0, 5.0, 10.0)
    uneven = store(tmp_path / "b.zarr", DATA, [axis("z", "nanometer"), axis("y"), axis("x")], EVEN)
    with pytest.raises(RequestError, match="x 10, y 10, z 100 Å"):
        read_volume(uneven)


@pytest.mark.parametrize(
    ("axes", "steps", "message"),
    [
        ([axis(n, None) for n in "zyx"], [1.0] * 3, "no unit"),
        ([axis(n, None) for n in "zyx"], EVEN, "no unit"),
        (["z", "y", "x"], EVEN, "no unit"),
        (None, EVEN, "no unit"),
        ([axis("z", None), axis("y"), axis("x")], EVEN, "no unit"),
        ([axis(n, "furlong") for n in "zyx"], EVEN, "furlong"),
        ([axis(n) for n in "zyx"], [0.0, 10.0, 10.0], "does not say"),
    ],
)
def test_a_scale_that_says_nothing_asks_for_the_voxel_size(tmp_path, axes, steps, message):
    path = store(tmp_path / "a.zarr", DATA, axes, steps)
    with pytest.raises(RequestError, match=message) as caught:
        read_volume(path)
    assert "--voxel-size" in caught.value.remedy
    assert read_header(path).voxel_size is None
    assert read_header(path).problems
    assert read_volume(path, 7.5).voxel_size == 7.5


def test_one_angstrom_is_believed_of_small_stores_only(tmp_path):
    axes = [axis(n) for n in "zyx"]
    assert read_volume(store(tmp_path / "a.zarr", DATA, axes, [1.0] * 3)).voxel_size == 1
    long = store(tmp_path / "b.zarr", np.zeros((2, 2, 65), np.int8), axes, [1.0] * 3)
    with pytest.raises(RequestError, match=r"1\.0 Å"):
        read_volume(long)


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((2, 4, 5, 6), "czyx", "2 entries along the axis 'c'"),
        ((3, 4, 5, 6), "tzyx", "3 entries along the axis 't'"),
        ((4, 5, 6), "tyx", "has the axes t, y, x"),
        ((4, 5, 6), "abc", "has the axes a, b, c"),
        ((4, 5, 6), "zzyx", "names 4 axes of an array of 3"),
        ((5, 6), "yx", "has the axes y, x"),
    ],
)
def test_what_is_no_tomogram_is_refused(tmp_path, shape, axes, message):
    path = store(tmp_path / "a.zarr", np.ones(shape, np.int8), [axis(n) for n in axes], [1.0] * len(axes))
    with pytest.raises(RequestError, match=message):
        read_volume(path)


def test_score_maps_and_sets_say_what_they_are(tmp_path):
    score_map(tmp_path / "scores.zarr")
    with pytest.raises(RequestError, match="is a score map"):
        read_volume(tmp_path / "scores.zarr")
    assert scores.is_scores(tmp_path / "scores.zarr")
    tomogram(tmp_path / "tomogram.zarr")
    assert not scores.is_scores(tmp_path / "tomogram.zarr")
    assert not scores.is_scores(tmp_path / "gone.zarr")


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "f4", ">f4"])
def test_labels_and_masks_of_any_type(tmp_path, dtype):
    labels = (DATA % 3).astype(dtype)
    path = store(tmp_path / "a.zarr", labels, [axis(n) for n in "zyx"], EVEN)
    loaded = read_labels(path)
    assert loaded.data.dtype == np.uint8
    np.testing.assert_array_equal(loaded.data, DATA % 3)
    mask = read_mask(path)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, DATA % 3 > 0)


@pytest.mark.parametrize("name", ["a.mrc", "a.mrc.gz", "a.zarr"])
def test_origin_and_start_come_back(tmp_path, name):
    volume = Volume(DATA, 10.0, (1.0, 2.0, 3.0), (-4, 5, 6))
    write_volume(tmp_path / name, volume)
    again = read_volume(tmp_path / name)
    assert (again.origin, again.nstart) == (volume.origin, volume.nstart)
    header = read_header(tmp_path / name)
    assert (header.origin, header.nstart) == (volume.origin, volume.nstart)
    labels = LabelMap(DATA.astype(np.uint8), 10.0, (), volume.origin, volume.nstart)
    write_labels(tmp_path / f"labels_{name}", labels)
    assert read_labels(tmp_path / f"labels_{name}").nstart == (-4, 5, 6)


def test_scores_keep_origin_and_start(tmp_path):
    data = np.ones((1, 4, 5, 6), np.float32)
    scores.write(
        tmp_path / "s.zarr", ScoreMap(data, 10.0, RIBOSOME, origin=(1.0, 2.0, 3.0), nstart=(-4, 5, 6))
    )
    again = scores.read(tmp_path / "s.zarr")
    assert (again.origin, again.nstart) == ((1.0, 2.0, 3.0), (-4, 5, 6))
    about = zarr.open_group(tmp_path / "s.zarr", mode="r").attrs["ome"]["multiscales"][0]["datasets"][0]
    assert about["coordinateTransformations"][1]["translation"] == [0, 1.0, 2.0, 3.0]


def pyramid_of_others(path, unit="angstrom"):
    """Resolutions of 20, 10 and 40 Å in this order; the coarser ones start half a voxel later."""
    root = zarr.create_group(path, zarr_format=2)
    rows = []
    for name, size in (("b", 20.0), ("a", 10.0), ("c", 40.0)):
        shape = tuple(int(80 // size * n) for n in (1, 2, 3))
        root.create_array(name, data=np.full(shape, size, np.float32))
        steps = [
            {"type": "scale", "scale": [size] * 3},
            {"type": "translation", "translation": [(size - 10) / 2] * 3},
        ]
        rows.append({"path": name, "coordinateTransformations": steps})
    axes = [axis(name, unit) for name in "zyx"]
    root.attrs.update({"multiscales": [{"version": "0.4", "axes": axes, "datasets": rows}]})
    return path


def test_the_finest_resolution_is_read_and_others_by_their_voxel_size(tmp_path):
    path = pyramid_of_others(tmp_path / "a.zarr")
    volume = read_volume(path)
    assert (volume.voxel_size, volume.shape, volume.origin) == (10.0, (8, 16, 24), (0, 0, 0))
    assert set(np.asarray(volume.data).ravel().tolist()) == {10.0}
    assert ome_zarr.voxel_sizes(path) == [10.0, 20.0, 40.0]
    coarse = read_volume(path, stored_voxel_size=20.01)
    assert (coarse.voxel_size, coarse.shape, coarse.origin) == (20.0, (4, 8, 12), (5, 5, 5))
    with pytest.raises(RequestError, match=r"no resolution with voxels of 15 Å, only of 10, 20, 40 Å"):
        read_volume(path, stored_voxel_size=15)
    with pytest.raises(RequestError, match="no unit"):
        read_volume(pyramid_of_others(tmp_path / "b.zarr", None), stored_voxel_size=20)
    write_volume(tmp_path / "a.mrc", volume)
    with pytest.raises(RequestError, match="holds one resolution"):
        read_volume(tmp_path / "a.mrc", stored_voxel_size=20)


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_coarser_resolutions_are_means_of_blocks(tmp_path, dtype):
    rng = np.random.default_rng(0)
    data = (100 * rng.standard_normal((5, 131, 270))).astype(dtype)
    write_volume(tmp_path / "a.zarr", Volume(data, 7.84, (3.0, 0.0, -2.0), (0, 0, 4)))
    assert ome_zarr.voxel_sizes(tmp_path / "a.zarr") == pytest.approx([7.84, 15.68, 31.36])
    for level, (size, shape) in enumerate([(7.84, data.shape), (15.68, (2, 65, 135)), (31.36, (1, 32, 67))]):
        volume = read_volume(tmp_path / "a.zarr", stored_voxel_size=size)
        assert (volume.shape, volume.data.dtype) == (shape, dtype)
        n = 2**level
        cut = data[: n * shape[0], : n * shape[1], : n * shape[2]].astype(float)
        means = cut.reshape(shape[0], n, shape[1], n, shape[2], n).mean(axis=(1, 3, 5))
        np.testing.assert_allclose(volume.data[:], means, atol=1.0 if dtype == np.int16 else 1e-3)
        middle = np.array([3.0, 0.0, -2.0]) + 7.84 * (n - 1) / 2  # of the first block
        np.testing.assert_allclose(volume.origin, middle)
        assert volume.nstart == ((0, 0, 4) if level == 0 else (0, 0, 0))
    assert len(ome_zarr.voxel_sizes(tmp_path / "a.zarr")) == 3


def test_labels_have_no_means(tmp_path):
    write_volume(tmp_path / "a.zarr", Volume(np.full((4, 4, 300), 7, np.uint8), 10.0))
    assert ome_zarr.voxel_sizes(tmp_path / "a.zarr") == [10.0]


def test_a_resolution_is_converted(tmp_path, capsys):
    path, out = pyramid_of_others(tmp_path / "a.zarr"), tmp_path / "b.mrc"
    assert main(["convert", str(path), str(out), "--stored-voxel-size", "40", "--verify"]) == 0
    assert "the first of which is x 15, y 15, z 15 Å from" in capsys.readouterr().out
    assert read_volume(out).voxel_size == 40.0
