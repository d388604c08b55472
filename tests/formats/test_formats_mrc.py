import bz2
import gzip
import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryovox.core.errors import RequestError
from cryovox.core.particles import Species
from cryovox.core.volume import LabelMap, Volume
from cryovox.formats import (
    ending,
    is_particles,
    is_volume,
    mrc,
    read_labels,
    read_mask,
    read_volume,
    stem,
    write_labels,
    write_volume,
)


def header_of(path: Path) -> np.ndarray:
    return np.frombuffer(path.read_bytes()[:1024], mrcfile.dtypes.HEADER_DTYPE).copy()


def patch(path: Path, **fields) -> None:
    record = header_of(path)
    for name, value in fields.items():
        record[name] = value
    path.write_bytes(record.tobytes() + path.read_bytes()[1024:])


@pytest.fixture
def ramp(tmp_path) -> Path:
    path = tmp_path / "ramp.mrc"
    data = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    mrc.write(path, Volume(data, 8.0, (1.0, 2.0, 3.0)))
    return path


@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f2", "f4"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_mode_in_both_byte_orders(tmp_path, dtype, order):
    data = (np.arange(2 * 3 * 5) % 100).astype(dtype).reshape(2, 3, 5)
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(data)
        file.set_volume()
        file.voxel_size = 7.5
    record = header_of(tmp_path / "a.mrc")
    machst = [0x44, 0x44, 0, 0] if order == "<" else [0x11, 0x11, 0, 0]
    record["machst"] = machst
    body = record.astype(record.dtype.newbyteorder(order)).tobytes() + data.astype(order + dtype).tobytes()
    (tmp_path / "b.mrc").write_bytes(body)
    loaded = read_volume(tmp_path / "b.mrc")
    assert loaded.voxel_size == 7.5
    np.testing.assert_array_equal(loaded.data, data)
    assert mrc.header(tmp_path / "b.mrc").endianness == order


def test_a_false_machine_stamp_is_seen_through(ramp):
    patch(ramp, machst=[0x11, 0x11, 0, 0])
    assert read_volume(ramp).shape == (3, 4, 5)


def test_plain_files_are_mapped_not_read(ramp):
    base = read_volume(ramp).data
    while not isinstance(base, np.memmap):
        base = base.base
    assert base.filename == ramp.resolve()


def test_header_that_we_write_agrees_with_mrcfile(ramp):
    with mrcfile.open(ramp) as file:
        assert mrcfile.validate(ramp)
        assert file.is_volume()
        assert file.voxel_size.x == 8
        assert (file.header.origin.x, file.header.origin.y, file.header.origin.z) == (3, 2, 1)
        assert (file.header.dmin, file.header.dmax, file.header.dmean) == (0, 59, 29.5)
        assert file.header.rms == pytest.approx(np.arange(60).std())
    assert read_volume(ramp).origin == (1, 2, 3)


@pytest.mark.parametrize(
    ("data", "mode"),
    [
        (np.float64([1.5]), 2),
        (np.float16([1.5]), 12),
        (np.int8([-3]), 0),
        (np.uint8([127]), 0),
        (np.uint8([200]), 6),
        (np.int64([-200]), 1),
        (np.uint16([60000]), 6),
        (np.int32([70000]), 2),
        (np.array([True]), 0),
    ],
)
def test_mode_holds_the_values(tmp_path, data, mode):
    path = tmp_path / "a.mrc"
    write_volume(path, Volume(np.resize(data, (2, 2, 2)), 5.0))
    assert mrc.header(path).mode == mode
    np.testing.assert_array_equal(read_volume(path).data, np.resize(data, (2, 2, 2)))


def test_imod_flag_and_maximum_say_which_bytes_are_unsigned(tmp_path):
    path = tmp_path / "a.mrc"
    mrc.write(path, Volume(np.full((2, 2, 2), -1, np.int8), 5.0))
    assert read_volume(path).data.max() == -1
    raw = bytearray(path.read_bytes())
    raw[152:160] = np.array([mrc.IMOD_STAMP, 0], "<i4").tobytes()
    path.write_bytes(raw)
    assert read_volume(path).data.max() == 255
    raw[156] = 1
    path.write_bytes(raw)
    assert read_volume(path).data.max() == -1
    raw[152:160] = bytes(8)
    path.write_bytes(raw)
    patch(path, dmin=0, dmax=255)
    assert read_volume(path).data.max() == 255


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(2, 5)] * 3),
    axes=st.permutations([1, 2, 3]),
    extended=st.integers(0, 40),
)
def test_axis_order_is_undone(tmp_path_factory, shape, axes, extended):
    path = tmp_path_factory.mktemp("axes") / "a.mrc"
    wanted = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    # file axes are sections, rows, columns; axis 3 is z, the first of wanted
    stored = wanted.transpose([3 - axis for axis in reversed(axes)])
    mrc.write(path, Volume(np.ascontiguousarray(stored), 5.0))
    z, y, x = shape
    record = header_of(path)
    record["mapc"], record["mapr"], record["maps"] = axes
    record["mx"], record["my"], record["mz"] = x, y, z
    record["cella"] = (5.0 * x, 5.02 * y, 4.98 * z)
    record["nsymbt"] = extended
    path.write_bytes(record.tobytes() + bytes(extended) + stored.tobytes())
    loaded = read_volume(path)
    np.testing.assert_array_equal(loaded.data, wanted)
    assert loaded.voxel_size == pytest.approx(5.0, abs=1e-4)
    assert mrc.header(path).voxel_sizes == pytest.approx((4.98, 5.02, 5.0))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ((0, 0, 0), "does not say"),
        ((np.nan, 40, 30), "does not say"),
        ((0.05 * 5, 0.05 * 4, 0.05 * 3), "cannot be"),
        ((5000 * 5, 5000 * 4, 5000 * 3), "cannot be"),
        ((8 * 5, 8 * 4, 8.2 * 3), "not cubes"),
    ],
)
def test_wrong_voxel_sizes_are_refused_with_the_option(ramp, cell, message):
    patch(ramp, cella=cell)
    with pytest.raises(RequestError, match=message) as caught:
        read_volume(ramp)
    assert "--voxel-size" in caught.value.remedy
    assert str(ramp) == caught.value.where
    assert mrc.header(ramp).problems
    assert mrc.header(ramp).voxel_size is None
    assert read_volume(ramp, voxel_size=9.0).voxel_size == 9


def test_one_angstrom_is_believed_of_small_maps_only(tmp_path):
    mrc.write(tmp_path / "small.mrc", Volume(np.zeros((4, 4, 64), np.int8), 1.0))
    mrc.write(tmp_path / "large.mrc", Volume(np.zeros((4, 4, 65), np.int8), 1.0))
    assert read_volume(tmp_path / "small.mrc").voxel_size == 1
    with pytest.raises(RequestError, match=r"1\.0 Å"):
        read_volume(tmp_path / "large.mrc")
    assert read_volume(tmp_path / "large.mrc", 1.0).voxel_size == 1


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan")])
def test_a_voxel_size_that_cannot_be_is_refused(ramp, size):
    with pytest.raises(RequestError, match="--voxel-size"):
        read_volume(ramp, size)


def test_stack_of_images_is_read_as_tomogram(ramp):
    patch(ramp, ispg=0, mz=1, cella=(40, 32, 24))
    assert read_volume(ramp).voxel_size == 8


def test_four_bit_rows_are_unpacked(ramp):
    values = np.random.default_rng(0).integers(0, 16, (3, 4, 5)).astype(np.uint8)
    padded = np.pad(values, ((0, 0), (0, 0), (0, 1)))
    packed = padded[..., ::2] | padded[..., 1::2] << 4
    patch(ramp, mode=101)
    ramp.write_bytes(ramp.read_bytes()[:1024] + packed.tobytes())
    np.testing.assert_array_equal(read_volume(ramp).data, values)


def test_refusals_name_what_was_found(tmp_path, ramp):
    whole = ramp.read_bytes()
    cases = {
        "gone.mrc": (None, "no such file"),
        "empty.mrc": (b"", "is empty"),
        "short.mrc": (whole[:500], "500 bytes"),
        "cut.mrc": (whole[:-1], "need 1264 bytes, the file has 1263"),
        "text.mrc": (b"hello" * 1000, "not an MRC file"),
        "cut.mrc.gz": (gzip.compress(whole)[:-10], "cannot be read"),
    }
    for name, (content, message) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(RequestError, match=message):
            read_volume(tmp_path / name)
    (tmp_path / "long.mrc").write_bytes(whole + b"more")
    assert read_volume(tmp_path / "long.mrc").shape == (3, 4, 5)
    patch(ramp, mode=4)
    with pytest.raises(RequestError, match="complex"):
        read_volume(ramp)
    with pytest.raises(RequestError, match="known extensions"):
        read_volume(__file__)
    (tmp_path / "folder.mrc").mkdir()
    with pytest.raises(RequestError, match="folder"):
        read_volume(tmp_path / "folder.mrc")


def test_single_images_are_refused_but_slabs_of_one_plane_are_not(tmp_path):
    with mrcfile.new(tmp_path / "image.mrc") as file:
        file.set_data(np.zeros((6, 7), np.float32))
        file.voxel_size = 5.0
    with pytest.raises(RequestError, match="one image of 6 x 7"):
        read_volume(tmp_path / "image.mrc")
    mrc.write(tmp_path / "plane.mrc", Volume(np.zeros((1, 6, 7), np.float32), 5.0))
    assert read_volume(tmp_path / "plane.mrc").shape == (1, 6, 7)


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2"])
def test_create_fills_in_any_order_and_appears_at_the_end(tmp_path, suffix):
    path = tmp_path / "sub" / f"a.mrc{suffix}"
    data = np.random.default_rng(0).integers(0, 99, (4, 3, 2))
    with mrc.create(path, (4, 3, 2), np.int8, 6.0, (9.0, 0.0, 0.0)) as out:
        out[2:] = data[2:]
        out[:2] = data[:2]
        assert not path.exists()
    loaded = read_volume(path)
    assert (loaded.voxel_size, loaded.origin) == (6.0, (9.0, 0.0, 0.0))
    np.testing.assert_array_equal(loaded.data, data)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_failed_write_leaves_the_old_file(ramp):
    before = ramp.read_bytes()

    def interrupted() -> None:
        with mrc.create(ramp, (4, 3, 2), np.float32, 6.0) as out:
            out[0] = 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert ramp.read_bytes() == before
    assert [p.name for p in ramp.parent.iterdir()] == [ramp.name]


def test_a_volume_can_be_written_over_the_file_it_was_read_from(ramp):
    write_volume(ramp, read_volume(ramp))
    np.testing.assert_array_equal(read_volume(ramp).data.ravel(), np.arange(60))


def test_labels_round_trip_and_refuse_strangers(tmp_path):
    species = (Species(name="a", label=1, radius=50), Species(name="b", label=200, radius=50))
    data = np.zeros((3, 3, 3), np.uint8)
    data[1, 1, 1], data[0, 0, 0] = 200, 1
    write_labels(tmp_path / "l.mrc", LabelMap(data, 10.0, species, (1.0, 0.0, 0.0)))
    loaded = read_labels(tmp_path / "l.mrc", species)
    assert loaded.data.dtype == np.uint8
    assert (loaded.origin, loaded.species) == ((1.0, 0.0, 0.0), species)
    np.testing.assert_array_equal(loaded.data, data)
    with pytest.raises(RequestError, match="label 200"):
        read_labels(tmp_path / "l.mrc", species[:1])
    write_volume(tmp_path / "real.mrc", Volume(np.full((2, 2, 2), 0.5, np.float32), 10.0))
    with pytest.raises(RequestError, match=r"0\.5"):
        read_labels(tmp_path / "real.mrc")
    write_volume(tmp_path / "negative.mrc", Volume(np.full((2, 2, 2), -1, np.int8), 10.0))
    with pytest.raises(RequestError, match="-1"):
        read_labels(tmp_path / "negative.mrc")


def signed_bytes(path: Path, data: np.ndarray) -> Path:
    """Bytes as IMOD writes them by default: 0 is stored as -128."""
    mrc.write(path, Volume((data.astype(np.int16) - 128).astype(np.int8), 10.0))
    raw = bytearray(path.read_bytes())
    raw[152:160] = np.array([mrc.IMOD_STAMP, 1], "<i4").tobytes()
    path.write_bytes(raw)
    return path


def test_masks_and_labels_in_signed_bytes_of_imod(tmp_path):
    data = np.zeros((3, 4, 5), np.uint8)
    data[1], data[2, 0, 0] = 3, 200
    path = signed_bytes(tmp_path / "a.mrc", data)
    np.testing.assert_array_equal(read_mask(path), data > 0)
    np.testing.assert_array_equal(read_labels(path).data, data)
    plain = np.zeros((3, 4, 5), np.int8)
    plain[1], plain[2] = -128, -1  # 128 and 255, wrapped
    mrc.write(tmp_path / "b.mrc", Volume(plain, 10.0))
    np.testing.assert_array_equal(read_mask(tmp_path / "b.mrc"), plain != 0)
    with pytest.raises(RequestError, match="-128"):
        read_labels(tmp_path / "b.mrc")
    mrc.write(tmp_path / "c.mrc", Volume(np.full((3, 4, 5), np.nan, np.float32), 10.0))
    with pytest.raises(RequestError, match="NaN"):
        read_mask(tmp_path / "c.mrc")


def test_mask_of_imod_in_the_field(shared_data):
    folder = shared_data / "field_bugs" / "signed-byte-mask"
    signed, plain = (read_mask(folder / f"mask_{kind}.mrc") for kind in ("signed", "plain"))
    np.testing.assert_array_equal(signed, plain)
    assert 0 < plain.mean() < 1


def as_stack(path: Path, **fields) -> Path:
    mrc.write(path, Volume(np.zeros((6, 4, 4), np.float32), 10.0))
    extended = fields.pop("extended", b"")
    patch(path, nsymbt=len(extended), **fields)
    raw = path.read_bytes()
    path.write_bytes(raw[:1024] + extended + raw[1024:])
    return path


def fei(angles, kind: bytes = b"FEI1") -> bytes:
    table = np.zeros(6, mrcfile.dtypes.get_ext_header_dtype(kind, "<"))
    table["Alpha tilt"] = angles
    return table.tobytes()


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("a.mrc", {"ispg": 401, "mz": 2}, "3 volumes of 2 planes"),
        ("a.rec", {"ispg": 401, "mz": 3}, "2 volumes of 3 planes"),
        ("a.st", {"ispg": 0}, "6 images"),
        ("a.st", {"ispg": 1}, "6 images"),
        ("a.ali", {"ispg": 0}, "6 images"),
        ("a.mrcs", {"ispg": 0}, "6 images"),
        ("a.mrc", {"ispg": 0, "exttyp": b"SERI", "extended": bytes(192)}, "6 images"),
        ("a.mrc", {"ispg": 0, "exttyp": b"FEI1", "extended": fei(np.arange(6.0))}, "6 images"),
        ("a.mrc", {"ispg": 0, "exttyp": b"FEI2", "extended": fei(np.arange(6.0), b"FEI2")}, "6 images"),
    ],
)
def test_stacks_are_no_tomograms(tmp_path, name, fields, message):
    path = as_stack(tmp_path / name, **fields)
    for packed in (path, path.with_name(f"{name}.gz")):
        if packed != path:
            packed.write_bytes(gzip.compress(path.read_bytes()))
        for look in (read_volume, mrc.header):
            with pytest.raises(RequestError, match=message):
                look(packed)
    if "images" in message:
        assert mrc.read(path, images=True).shape == (6, 4, 4)
        assert mrc.header(path, images=True).shape == (6, 4, 4)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("a.mrc", {"ispg": 401, "mz": 6}),
        ("a.mrc", {"ispg": 0}),
        ("a.mrc", {"ispg": 1, "mz": 12}),
        ("a.rec", {"ispg": 0, "exttyp": b"SERI", "extended": bytes(192)}),
        ("a.mrc", {"ispg": 1, "exttyp": b"SERI", "extended": bytes(192)}),
        ("a.mrc", {"ispg": 0, "exttyp": b"FEI1", "extended": fei(np.zeros(6))}),
        ("a.mrc", {"ispg": 0, "exttyp": b"FEI1", "extended": bytes(4)}),
    ],
)
def test_volumes_that_look_like_stacks(tmp_path, name, fields):
    assert read_volume(as_stack(tmp_path / name, **fields), 10.0).shape == (6, 4, 4)


def test_start_goes_with_its_axis(ramp):
    patch(ramp, nxstart=1, nystart=2, nzstart=3)
    assert read_volume(ramp).nstart == (3, 2, 1)
    # columns run along z, rows along x, sections along y
    patch(ramp, mapc=3, mapr=1, maps=2, mx=4, my=3, mz=5)
    assert mrc.header(ramp).nstart == (1, 3, 2)
    patch(ramp, nxstart=1 << 30)
    assert mrc.header(ramp).nstart == (0, 3, 2)


def test_start_of_maps_in_the_field(shared_data):
    loaded = mrc.header(shared_data / "membrane_chlamy" / "T1S2M15_membrane_mask.mrc.gz")
    assert loaded.nstart == (200, 537, 244)
    volume = Volume(np.zeros((2, 2, 2)), 10.0, nstart=(1, 2, 3))
    assert volume.place == (10.0, 20.0, 30.0)
    assert Volume(np.zeros((2, 2, 2)), 10.0, (5.0, 0.0, 0.0), (1, 2, 3)).place == (5.0, 0.0, 0.0)


@pytest.mark.parametrize("pack", [gzip, bz2])
def test_headers_of_packed_files_are_read_without_the_rest(tmp_path, ramp, pack):
    noise = np.random.default_rng(0).integers(0, 255, 1 << 22, np.uint8).tobytes()
    path = tmp_path / "a.mrc.packed.mrc"
    path.write_bytes(pack.compress(ramp.read_bytes() + noise)[: 1 << 21])  # the rest is not even there
    assert mrc.header(path).shape == (3, 4, 5)
    with pytest.raises(RequestError, match="cannot be read"):
        read_volume(path)


def test_endings_and_stems():
    assert stem("a/TS_01.ome.zarr") == "TS_01"
    assert ending("a/B.MRC.gz") == ".mrc"
    assert is_volume("x.rec")
    assert not is_volume("x.star")
    assert is_particles("x.star.gz")
    assert stem("a/TS_01.v2.mrc.gz") == "TS_01.v2"


REFUSED = {
    "EMD-3001.map.bz2": "not cubes",
    "empty1.map": "is empty",
    "header_only.mrc": "cut off",
    "test_data_corrupt_header.map": "301 x 401 x 71",
}


def test_third_party_files_are_right_or_refused(shared_data):
    paths = [p for p in sorted((shared_data / "mrc_edge").iterdir()) if is_volume(p)]
    paths += sorted((shared_data / "sim_deepfinder").glob("*.mrc*"))
    paths += sorted((shared_data / "formats" / "cryoet_portal").glob("*.mrc"))
    assert len(paths) > 20
    for path in paths:
        if path.name in REFUSED:
            with pytest.raises(RequestError, match=REFUSED[path.name]):
                read_volume(path)
            continue
        size = None if mrc.header(path).voxel_size else 10.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with mrcfile.open(path, permissive=True) as file:
                kept = np.array(file.data)
        loaded = read_volume(path, size)
        assert loaded.shape == kept.shape
        np.testing.assert_array_equal(np.asarray(loaded.data).astype(np.int64) & 255, kept.astype(int) & 255)


def test_axes_of_a_crystal_map(shared_data):
    path = shared_data / "mrc_edge" / "EMD-3001.map.bz2"
    with mrcfile.open(path) as file:
        stored = np.array(file.data)
    loaded = read_volume(path, 0.45)
    assert mrc.header(path).axes == (3, 1, 2)
    np.testing.assert_array_equal(loaded.data, stored.transpose(2, 0, 1))


def test_old_file_without_stamp_has_unsigned_bytes(shared_data):
    loaded = read_volume(shared_data / "mrc_edge" / "mrc3D.mrc")
    assert loaded.data.dtype == np.uint8
    assert loaded.voxel_size == pytest.approx(23.2, abs=1e-3)
    assert 141 <= loaded.data.min() <= loaded.data.max() <= 163


def test_real_tomogram(shared_data):
    loaded = read_volume(shared_data / "real_tomograms" / "tomo_171_xlow_31.36A.mrc.gz")
    assert (loaded.shape, loaded.voxel_size) == ((128, 256, 128), 31.36)
