from pathlib import Path

import numpy as np
import pytest
import yaml

from cryovox.core.dataset import Box, Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import Volume
from cryovox.formats import dataset, write_particles, write_volume

SPECIES = (Species(name="a", label=1, radius=50), Species(name="b", label=2, radius=80))


@pytest.fixture
def folder(tmp_path) -> Path:
    data = np.random.default_rng(0).normal(size=(10, 20, 30)).astype(np.float32)
    labels = np.zeros(data.shape, np.uint8)
    labels[3, 4, 5] = 2
    write_volume(tmp_path / "tomograms" / "one.mrc", Volume(data, 10.0))
    write_volume(tmp_path / "labels" / "one.mrc", Volume(labels, 10.0))
    write_volume(tmp_path / "masks" / "one.mrc", Volume(labels > 0, 10.0))
    picks = Particles.of([[30, 40, 50], [-5, 195, 295]], ["a", "b"])
    write_particles(tmp_path / "particles" / "one.star", picks, tomogram=Volume(data, 10.0))
    original = Dataset(
        voxel_size=10.0,
        species=SPECIES,
        entries=(
            Entry(
                name="one",
                tomogram=tmp_path / "tomograms" / "one.mrc",
                labels=tmp_path / "labels" / "one.mrc",
                particles=tmp_path / "particles" / "one.star",
                mask=tmp_path / "masks" / "one.mrc",
                box=Box(x=(0, 15)),
                exhaustive={"a": False},
            ),
        ),
    )
    dataset.write(tmp_path, original)
    return tmp_path


def change(folder: Path, **entry) -> None:
    loaded = yaml.safe_load((folder / "dataset.yaml").read_text())
    loaded["entries"][0] |= entry
    (folder / "dataset.yaml").write_text(yaml.safe_dump(loaded))


def annotations(folder: Path):
    loaded = dataset.read(folder)
    return dataset.load_annotations(loaded.entries[0], loaded)


def test_round_trip_with_relative_paths(folder):
    text = (folder / "dataset.yaml").read_text()
    assert "tomogram: tomograms/one.mrc" in text
    loaded = dataset.read(folder)
    assert loaded.species == SPECIES
    entry = loaded.entries[0]
    assert (entry.box.x, entry.exhaustive) == ((0, 15), {"a": False})
    assert entry.tomogram == folder / "tomograms" / "one.mrc"
    assert dataset.read(folder / "dataset.yaml") == loaded
    dataset.write(folder, loaded)
    assert (folder / "dataset.yaml").read_text() == text


def test_a_moved_folder_still_reads(folder):
    moved = folder.rename(folder.with_name("moved"))
    assert len(dataset.read(moved).entries) == 1


def test_everything_loads(folder):
    loaded = dataset.read(folder)
    labels, picks = dataset.load_annotations(loaded.entries[0], loaded)
    assert labels.data.dtype == np.uint8
    assert labels.data[3, 4, 5] == 2
    np.testing.assert_allclose(picks.positions, [[30, 40, 50], [-5, 195, 295]], atol=1e-3)
    mask = dataset.load_mask(loaded.entries[0])
    assert mask.dtype == bool
    assert mask.sum() == 1
    assert dataset.load_tomogram(loaded.entries[0], loaded).shape == (10, 20, 30)
    bare = loaded.entries[0].model_copy(update={"labels": None, "particles": None, "mask": None})
    assert dataset.load_annotations(bare, loaded) == (None, None)
    assert dataset.load_mask(bare) is None


def test_missing_files_name_the_entry(folder):
    change(folder, labels="labels/two.mrc")
    with pytest.raises(RequestError, match=r"entry one: labels: there is no file .*two\.mrc"):
        dataset.read(folder)
    with pytest.raises(RequestError, match="holds no dataset"):
        dataset.read(folder / "labels")
    with pytest.raises(RequestError, match="no such file"):
        dataset.read(folder / "gone.yaml")


def test_unknown_keys_and_endings(folder):
    change(folder, labels="dataset.yaml")
    with pytest.raises(RequestError, match="ending"):
        dataset.read(folder)
    change(folder, labels="labels/one.mrc", color="red")
    with pytest.raises(RequestError, match="color"):
        dataset.read(folder)


def test_voxel_sizes_are_compared(folder):
    data = np.zeros((10, 20, 30), np.float32)
    write_volume(folder / "tomograms" / "one.mrc", Volume(data, 10.4))
    assert dataset.read(folder).voxel_size == 10
    write_volume(folder / "tomograms" / "one.mrc", Volume(data, 10.6))
    with pytest.raises(RequestError, match=r"10\.6 Å, the dataset says 10 Å"):
        dataset.read(folder)
    write_volume(folder / "tomograms" / "one.mrc", Volume(data, 10.0))
    write_volume(folder / "labels" / "one.mrc", Volume(data.astype(np.int8), 1.0))
    dataset.read(folder)


def test_label_without_species(folder):
    data = np.full((10, 20, 30), 7, np.uint8)
    write_volume(folder / "labels" / "one.mrc", Volume(data, 10.0))
    with pytest.raises(RequestError, match="label 7"):
        annotations(folder)


def test_shapes_must_agree(folder):
    write_volume(folder / "labels" / "one.mrc", Volume(np.zeros((10, 20, 29), np.uint8), 10.0))
    with pytest.raises(RequestError, match=r"\(10, 20, 29\).*\(10, 20, 30\)"):
        annotations(folder)


def picks(folder, rows: str, **entry) -> None:
    (folder / "particles" / "one.csv").write_text("x,y,z,particle_type,tomogram\n" + rows)
    change(folder, particles="particles/one.csv", **entry)


def test_picks_outside_are_told_with_extents(folder):
    picks(folder, "10,10,10,a,one\n600,10,10,a,one\n10,10,900,b,one\n299,10,10,a,one\n")
    with pytest.raises(RequestError, match="2 of 4 picks") as caught:
        annotations(folder)
    assert "x 10.0, y 10.0, z 900.0 Å" in caught.value.message
    assert "x 295.0, y 195.0, z 95.0 Å" in caught.value.message
    assert "pixels" in caught.value.remedy


def test_species_of_picks_must_be_known(folder):
    picks(folder, "10,10,10,c,one\n")
    with pytest.raises(RequestError, match=r"'c'.*a, b"):
        annotations(folder)


def test_empty_lists_teach_only_where_exhaustive(folder):
    picks(folder, "", exhaustive=True)
    assert len(annotations(folder)[1]) == 0
    picks(folder, "", exhaustive={"a": False})
    with pytest.raises(RequestError, match="contains no information"):
        annotations(folder)


def test_lists_over_several_tomograms_are_cut(folder):
    picks(folder, "10,10,10,a,one\n20,10,10,a,one.tomostar\n900,10,10,b,two\n")
    assert annotations(folder)[1].positions[:, 2].tolist() == [10, 20]
    picks(folder, "10,10,10,a,three\n900,10,10,b,two\n")
    with pytest.raises(RequestError, match="three, two"):
        annotations(folder)


def test_paths_stay_relative_behind_a_link(tmp_path):
    there = tmp_path / "there"
    write_volume(there / "tomograms" / "a.mrc", Volume(np.ones((4, 5, 6), np.float32), 10.0))
    (tmp_path / "elsewhere.mrc").write_bytes((there / "tomograms" / "a.mrc").read_bytes())
    (there / "tomograms" / "b.mrc").symlink_to(tmp_path / "elsewhere.mrc")
    link = tmp_path / "link"
    link.symlink_to(there)
    for folder in (link, there):
        files = [Entry(name=n, tomogram=link / "tomograms" / f"{n}.mrc") for n in "ab"]
        text = dataset.write(folder, Dataset(voxel_size=10.0, entries=tuple(files))).read_text()
        assert "tomogram: tomograms/a.mrc" in text
        assert "tomogram: tomograms/b.mrc" in text


def test_voxels_read_as_angstrom_and_radii_in_voxels(folder):
    picks(folder, "5,10,4,a,one\n6,12,7,b,one\n20,3,9,a,one\n")
    with pytest.raises(RequestError, match="look like voxels") as caught:
        annotations(folder)
    assert "--voxel-size 10" in caught.value.remedy
    text = (folder / "dataset.yaml").read_text()
    (folder / "dataset.yaml").write_text(text.replace("radius: 50", "radius: 5"))
    with pytest.raises(RequestError, match="radius of a is 5 Å, less than a voxel of 10 Å"):
        dataset.read(folder)
