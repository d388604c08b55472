"""HDF5, TIFF, EM and NumPy: what is written comes back, others read it, and what others write is read."""

import h5py
import numpy as np
import pytest

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import (
    em,
    is_particles,
    is_volume,
    read_header,
    read_volume,
    subtomograms,
    write_particles,
    write_volume,
)
from cryovox.formats.stored import StoredVolume

SIZE = 7.84
SHAPE = (7, 10, 13)
ENDINGS = (".h5", ".tif", ".em", ".npy")


@pytest.fixture
def volume():
    rng = np.random.default_rng(0)
    return Volume(rng.standard_normal(SHAPE).astype(np.float32), SIZE)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("dtype", ["f4", "i1", "u1", "i2", "u2", "f2", "f8"])
def test_round_trip(tmp_path, volume, ending, dtype):
    path, data = tmp_path / f"a{ending}", np.abs(20 * np.asarray(volume.data)).astype(dtype)
    write_volume(path, Volume(data, SIZE))
    size = SIZE if ending == ".npy" else None
    loaded = read_volume(path, size)
    assert loaded.voxel_size == SIZE
    np.testing.assert_allclose(loaded.data[:], data, rtol=1e-6)
    np.testing.assert_allclose(loaded.data[2:5, 1, ::2], data[2:5, 1, ::2], rtol=1e-6)
    assert read_header(path).shape == SHAPE
    assert read_header(path).voxel_size == (None if ending == ".npy" else SIZE)


WIDE = {  # data type, largest value -> extensions that store it exactly
    ("i8", 1 << 20): (".mrc", ".em", ".tif", ".h5", ".npy", ".zarr"),
    ("u4", 3_000_000_001): (".tif", ".h5", ".npy", ".zarr"),
    ("i4", (1 << 24) + 1): (".em", ".tif", ".h5", ".npy", ".zarr"),
    ("i8", 1 << 40): (".h5", ".npy", ".zarr"),
    ("u8", (1 << 40) + 1): (".h5", ".npy", ".zarr"),
    ("f8", 1e39): (".h5", ".npy", ".zarr"),
}


@pytest.mark.parametrize(("kind", "largest"), WIDE)
@pytest.mark.parametrize("ending", [".mrc", ".em", ".tif", ".h5", ".npy", ".zarr"])
def test_values_are_stored_exactly_or_refused(tmp_path, kind, largest, ending):
    path, data = tmp_path / f"a{ending}", np.arange(910).reshape(SHAPE).astype(kind)
    data[3, 4, 5] = largest
    if ending not in WIDE[kind, largest]:
        with pytest.raises(RequestError, match=r"cannot store .*|beyond single precision"):
            write_volume(path, Volume(data, SIZE))
        assert not path.exists()
        return
    write_volume(path, Volume(data, SIZE))
    stored = np.asarray(read_volume(path, SIZE).data)
    assert [int(value) for value in stored.ravel()] == [int(value) for value in data.ravel()]


@pytest.mark.parametrize("ending", ENDINGS)
def test_voxels_are_read_on_access(tmp_path, volume, ending):
    write_volume(tmp_path / f"a{ending}", volume)
    data = read_volume(tmp_path / f"a{ending}", SIZE).data
    base = data
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, (np.memmap, StoredVolume))


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_no_such_file_is_refused(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    for content in (
        b"",
        b"text",
        b"\x93NUMPY\x01\0",
        b"II*\0" + bytes(40),
        b"\x89HDF\r\n\x1a\n" + bytes(40),
        bytes(600),
    ):
        path.write_bytes(content)
        with pytest.raises(RequestError) as refusal:
            read_volume(path, 10.0)
        assert refusal.value.where == str(path)
    with pytest.raises(RequestError, match="gunzip"):
        write_volume(tmp_path / f"a{ending}.gz", Volume(np.zeros((2, 2, 2), np.float32), 10.0))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_arrays_that_are_no_volumes(tmp_path):
    for shape in ((4, 5), (2, 3, 4, 5)):
        np.save(tmp_path / "a.npy", np.zeros(shape))
        with pytest.raises(RequestError, match="shape"):
            read_volume(tmp_path / "a.npy", 10.0)
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5), complex))
    with pytest.raises(RequestError, match="real numbers"):
        read_volume(tmp_path / "a.npy", 10.0)
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(RequestError, match="no array of NumPy"):
        read_volume(tmp_path / "a.npy", 10.0)
    np.save(tmp_path / "a.npy", np.asfortranarray(np.arange(60.0).reshape(1, 3, 4, 5)[0])[None])
    np.testing.assert_array_equal(
        read_volume(tmp_path / "a.npy", 10.0).data, np.arange(60.0).reshape(3, 4, 5)
    )


def test_hdf5_of_others(tmp_path, volume):
    data, path = np.asarray(volume.data), tmp_path / "a.hdf"
    with h5py.File(path, "w") as file:
        file["MDF/images/0/image"] = data
        file["MDF/images/0"].attrs.update({f"EMAN.apix_{axis}": 5.4 for axis in "xyz"})
    assert read_volume(path).voxel_size == 5.4
    with h5py.File(path, "w") as file:
        file["Chimera/image1/data_zyx"] = data
        file["Chimera/image1/data_zyx_2"] = data[::2, ::2, ::2]
        file["Chimera/image1"].attrs["step"] = (5.4, 5.4, 5.4)
    assert read_volume(path).voxel_size == 5.4
    assert read_volume(path).shape == SHAPE
    with h5py.File(path, "w") as file:
        file["data"] = data[None]
        file["data"].attrs["element_size_um"] = (1e-3, 1e-3, 1e-3)
    assert read_volume(path).voxel_size == 10
    np.testing.assert_array_equal(read_volume(path).data[1:3], data[1:3])
    with h5py.File(path, "w") as file:
        file["data"] = data
    with pytest.raises(RequestError, match="voxel size"):
        read_volume(path)
    with h5py.File(path, "a") as file:
        file["other"] = data
    with pytest.raises(RequestError, match="several arrays: data, other"):
        read_volume(path, 5.0)


def test_sets_of_subtomograms_are_no_volumes(tmp_path, volume):
    particles = Particles.of([[20, 30, 40]], "a")
    subtomograms.extract(volume, particles, 4, tmp_path / "set.h5")
    write_volume(tmp_path / "volume.h5", volume)
    assert [is_volume(tmp_path / f"{name}.h5") for name in ("set", "volume")] == [False, True]
    assert [subtomograms.is_set(tmp_path / f"{name}.h5") for name in ("set", "volume")] == [True, False]


def test_motive_lists_are_no_volumes(tmp_path, volume):
    write_particles(tmp_path / "list.em", Particles.of([[20, 30, 40]], "a"), voxel_size=1.0)
    write_volume(tmp_path / "volume.em", volume)
    assert [is_volume(tmp_path / f"{name}.em") for name in ("list", "volume")] == [False, True]
    assert [is_particles(tmp_path / f"{name}.em") for name in ("list", "volume")] == [True, False]


def test_emfile_agrees(tmp_path, volume):
    emfile = pytest.importorskip("emfile")
    write_volume(tmp_path / "a.em", volume)
    header, data = emfile.read(tmp_path / "a.em")
    np.testing.assert_array_equal(data, volume.data)
    assert header["OBJ"] == 784
    emfile.write(tmp_path / "b.em", np.asarray(volume.data))
    np.testing.assert_array_equal(read_volume(tmp_path / "b.em", SIZE).data, volume.data)
    with pytest.raises(RequestError, match="--voxel-size"):
        read_volume(tmp_path / "b.em")
    write_volume(tmp_path / "c.em", Volume(volume.data, 7.8415))  # would be rounded
    assert em.header(tmp_path / "c.em").voxel_size is None
    (tmp_path / "d.em").write_bytes((tmp_path / "a.em").read_bytes()[:-4])
    with pytest.raises(RequestError, match="cut off"):
        read_volume(tmp_path / "d.em")


def test_tifffile_agrees(tmp_path, volume):
    tifffile = pytest.importorskip("tifffile")
    data = np.asarray(volume.data)
    write_volume(tmp_path / "a.tif", volume)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), data)
    metadata = {"spacing": 0.784, "unit": "nm", "axes": "ZYX"}
    kind = {"imagej": True, "resolution": (1 / 0.784, 1 / 0.784), "metadata": metadata}
    tifffile.imwrite(tmp_path / "b.tif", data, **kind)  # as ImageJ does
    assert read_volume(tmp_path / "b.tif").voxel_size == pytest.approx(SIZE, rel=1e-5)
    tifffile.imwrite(tmp_path / "c.tif", data, photometric="minisblack")
    with pytest.raises(RequestError, match="--voxel-size"):
        read_volume(tmp_path / "c.tif")
    packed = {"compression": "zlib", "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "d.tif", data, **packed, resolution=(300, 300))
    loaded = read_volume(tmp_path / "d.tif", SIZE)
    assert isinstance(loaded.data, StoredVolume)
    np.testing.assert_array_equal(loaded.data[2:4, 1:5], data[2:4, 1:5])
    np.testing.assert_array_equal(loaded.data, data)
    with pytest.raises(RequestError, match="--voxel-size"):
        read_volume(tmp_path / "d.tif")
    for written in (data[:1], data[0]):
        tifffile.imwrite(tmp_path / "e.tif", written, photometric="minisblack")
        with pytest.raises(RequestError):
            read_volume(tmp_path / "e.tif", SIZE)


@pytest.mark.parametrize("ending", [".h5", ".tif"])
def test_without_the_library(tmp_path, volume, ending, monkeypatch):
    write_volume(tmp_path / f"a{ending}", volume)
    monkeypatch.setitem(__import__("sys").modules, {".h5": "h5py", ".tif": "tifffile"}[ending], None)
    with pytest.raises(RequestError) as refusal:
        read_volume(tmp_path / f"a{ending}")
    assert "pip install 'cryovox[" in refusal.value.remedy
