import numpy as np
import pytest

from cryovox.core.errors import RequestError
from cryovox.core.volume import Volume
from cryovox.formats import dataset
from cryovox.formats.tomogram_names import plain_name, rows_of, volume_of


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("TS_01", "TS_01"),
        ("rec_TS_01.mrc", "TS_01"),
        ("TS_01.mrc.tomostar", "TS_01"),
        ("/data/warp/TS_01_10.73Apx.mrc.gz", "TS_01"),
        ("pos_1.2", "pos_1.2"),
        ("pos_1.2.mrc", "pos_1.2"),
        ("00255", "00255"),
    ],
)
def test_only_what_programs_add_is_taken_off(name, plain):
    assert plain_name(name) == plain


def test_rows_of_one_tomogram():
    names = ["pos_1", "pos_1.2", "rec_pos_1.mrc"]
    assert rows_of("a.csv", names, ["pos_1"]).tolist() == [True, False, True]
    assert rows_of("a.csv", ["TS_1", "TS_1.tomostar"], ["TS_1"]) is None
    assert rows_of("a.csv", None, ["TS_1"]) is None
    assert rows_of("a.csv", ["", ""], ["TS_1"]) is None
    assert rows_of("a.csv", names, []) is None
    with pytest.raises(RequestError, match=r"a\.csv: is a list of pos_1, pos_1\.2.*not of pos_1\.3"):
        rows_of("a.csv", names, ["pos_1.3"])


def test_the_volume_that_a_name_means():
    one, two = (Volume(np.zeros((1, 1, 1)), size) for size in (1.0, 2.0))
    assert volume_of("a", "TS_1.tomostar", {"rec_TS_1": one, "TS_2": two}) is one
    assert volume_of("a", "rec_TS_1", {"rec_TS_1": one, "TS_1": two}) is one
    with pytest.raises(RequestError, match="matches"):
        volume_of("a", "TS_1", {"rec_TS_1": one, "TS_1.mrc": two})
    with pytest.raises(RequestError, match="TS_3"):
        volume_of("a", "TS_3", {"TS_1": one, "TS_2": two})


def loaded(folder, name):
    loaded = dataset.read(folder)
    entry = next(entry for entry in loaded.entries if entry.name == name)
    return dataset.load_annotations(entry, loaded)[1].positions[:, ::-1].tolist()


def test_lists_of_several_tomograms_are_cut_by_name(shared_data):
    folder = shared_data / "field_bugs"
    assert loaded(folder / "dots-in-names", "pos_1") == [[200, 150, 100]]
    assert loaded(folder / "dots-in-names", "pos_1.2") == [[250, 100, 50]]
    assert loaded(folder / "several-tomograms", "TS_01") == [[200, 150, 100]]
    assert loaded(folder / "several-tomograms", "TS_02") == [[300, 100, 50]]


def test_the_list_of_another_tomogram_is_refused(shared_data):
    with pytest.raises(RequestError, match="is a list of TS_01, not of TS_02"):
        loaded(shared_data / "field_bugs" / "wrong-list", "TS_02")
