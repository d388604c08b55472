"""Slices of volumes in files: those of NumPy, or an error that names the file."""

import os
import pickle
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryovox.core.errors import RunError
from cryovox.formats.file_volume import FileVolume

SHAPE = (5, 6, 7)
DATA = np.arange(210, dtype=">i2").reshape(SHAPE)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("volume") / "a.bin"
    path.write_bytes(b"header" + DATA.tobytes())
    return path


index = st.one_of(st.integers(-8, 8), st.slices(7), st.slices(5))
keys = st.one_of(index, st.tuples(index), st.tuples(index, index), st.tuples(index, index, index))


@given(key=keys, order=st.sampled_from([*permutations(range(3))]))
def test_slices_are_those_of_numpy(file, key, order):
    volume, array = FileVolume.open(file, DATA.dtype, 6, SHAPE, order), DATA.transpose(order)
    assert volume.shape == array.shape
    try:
        expected = array[key]
    except IndexError:
        with pytest.raises(IndexError):
            volume[key]
        return
    np.testing.assert_array_equal(volume[key], expected)
    assert np.asarray(volume[key]).dtype == expected.dtype


@pytest.mark.parametrize("key", [..., None, [0, 2], DATA > 100, (slice(None), [1, 2]), np.array([1])])
def test_other_keys_work_as_well(file, key):
    np.testing.assert_array_equal(FileVolume.open(file, DATA.dtype, 6, SHAPE)[key], DATA[key])


def test_slices_do_not_come_from_the_memory_map(file):
    volume = FileVolume.open(file, DATA.dtype, 6, SHAPE)
    assert not isinstance(volume[1:3], np.memmap)
    assert volume[1:3].flags.writeable  # the map is not
    assert volume.mean() == DATA.mean()
    np.testing.assert_array_equal(volume[1:][::2, 3], DATA[1:][::2, 3])
    np.testing.assert_array_equal(volume.transpose(2, 1, 0)[1:3], DATA.transpose(2, 1, 0)[1:3])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(volume))[1:], DATA[1:])


def test_a_file_that_was_cut_is_named(file, tmp_path):
    path = tmp_path / "cut.bin"
    path.write_bytes(file.read_bytes())
    volume = FileVolume.open(path, DATA.dtype, 6, SHAPE)
    os.truncate(path, 6 + 2 * 42 * 2)
    np.testing.assert_array_equal(volume[:2], DATA[:2])
    for key in (slice(1, 3), (2, slice(0, 1)), (slice(None), slice(2, 3), slice(1, 2))):
        with pytest.raises(RunError, match=r"cut\.bin.*was cut off while it was read: it has 174 bytes"):
            volume[key]


def test_another_file_of_the_same_name_is_not_read(file, tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(file.read_bytes())
    volume = FileVolume.open(path, DATA.dtype, 6, SHAPE)
    (tmp_path / "b.bin").write_bytes(bytes(600))
    os.replace(tmp_path / "b.bin", path)
    np.testing.assert_array_equal(volume[3:], DATA[3:])


def test_files_are_closed(file):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("descriptors are not listed here")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        FileVolume.open(file, DATA.dtype, 6, SHAPE)[1:].sum()
    assert len(os.listdir("/proc/self/fd")) <= before + 1
