import numpy as np
import pytest

from cryovox.core.dataset import Box, Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.particles import Species
from cryovox.core.volume import Volume
from cryovox.data.regions import load_regions
from cryovox.data.targets import ball_labels
from cryovox.formats import mrc

VOXEL = 10.0
A, B = Species(name="a", label=3, radius=40.0), Species(name="b", label=7, radius=40.0)
CENTERS = np.array([[8.0, 10, 12], [8.0, 26, 40]])


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    labels = ball_labels(CENTERS, [3, 7], [4.0, 4.0], (16, 40, 56))
    data = (rng.normal(size=labels.shape) + 4 * (labels > 0)).astype(np.float32)
    mrc.write(tmp_path / "t.mrc", Volume(data, VOXEL))
    mrc.write(tmp_path / "l.mrc", Volume(labels, VOXEL))
    rows = [f"{x * VOXEL},{y * VOXEL},{z * VOXEL},{n}" for (z, y, x), n in zip(CENTERS, "ab", strict=True)]
    (tmp_path / "p.csv").write_text("\n".join(["x,y,z,species", *rows]))
    return tmp_path


def load(folder, species=(A, B), **more):
    entry = Entry(name="t", tomogram=folder / "t.mrc", **more)
    return load_regions(Dataset(voxel_size=VOXEL, species=species, entries=(entry,)), [entry])[0]


def test_label_maps_without_picks_give_positions(folder):
    found = load(folder, labels=folder / "l.mrc")
    order = np.argsort(found.channels)
    assert found.channels[order].tolist() == [0, 1]
    assert np.allclose(found.positions[order], CENTERS, atol=0.05)
    assert set(np.unique(found.labels)) == {0, 1, 2}  # channels + 1, not the labels 3 and 7
    assert found.labels[8, 26, 40] == 2


def test_picks_are_in_voxels_and_truth_in_angstrom(folder):
    found = load(folder, particles=folder / "p.csv", contrast="bright")
    assert np.allclose(found.positions, CENTERS)
    assert found.labels is None
    assert np.allclose(found.truth().positions, CENTERS * VOXEL)
    assert found.truth().species.tolist() == ["a", "b"]
    image = found.normalize(found.data)
    assert (image.mean(), image.std()) == pytest.approx((0, 1), abs=1e-4)
    assert image[8, 10, 12] > 0


def test_the_box_bounds_the_truth(folder):
    found = load(folder, particles=folder / "p.csv", box=Box(x=(0, 30)))
    assert found.bounds == ((0, 16), (0, 40), (0, 30))
    assert found.truth().species.tolist() == ["a"]


def test_the_sign_comes_from_the_entry_else_from_the_image(folder):
    picks = folder / "p.csv"
    assert load(folder, particles=picks, contrast="dark").normalize.sign == -1
    assert load(folder, particles=picks).normalize.sign == 1


def test_exhaustive_goes_by_species(folder):
    found = load(folder, particles=folder / "p.csv", exhaustive={"b": False})
    assert found.exhaustive.tolist() == [True, False]


@pytest.mark.parametrize("box", [Box(x=(60, 80)), Box(y=(9, 9)), Box(z=(5, 2))])
def test_an_empty_box_is_refused(folder, box):
    with pytest.raises(RequestError, match="holds no voxel"):
        load(folder, particles=folder / "p.csv", box=box)


def test_what_teaches_nothing_is_refused(folder):
    with pytest.raises(RequestError, match="neither labels nor particles"):
        load(folder)
    with pytest.raises(RequestError, match="names no species"):
        load(folder, species=(), particles=folder / "p.csv")


@pytest.mark.parametrize(("value", "told"), [(np.nan, "1 values that are NaN"), (None, "is constant")])
def test_broken_tomograms_are_refused(folder, value, told):
    data = np.random.default_rng(0).normal(size=(16, 40, 56)).astype(np.float32)
    if value is None:
        data[:] = 2
    else:
        data[1, 2, 3] = value
    mrc.write(folder / "t.mrc", Volume(data, VOXEL))
    with pytest.raises(RequestError, match=told):
        load(folder, particles=folder / "p.csv")


def test_a_sign_that_cannot_be_seen_is_asked_for(folder, monkeypatch):
    monkeypatch.setattr("cryovox.data.regions.detect_contrast", lambda volume: ("dark", 1.2))
    with pytest.raises(RequestError, match=r"unclear.*1\.2") as caught:
        load(folder, particles=folder / "p.csv")
    assert "contrast: dark" in caught.value.remedy
    assert load(folder, particles=folder / "p.csv", contrast="bright").normalize.sign == 1
