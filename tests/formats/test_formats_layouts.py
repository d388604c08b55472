"""Folders laid out as their authors lay them out, made by hand."""

import csv
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import zarr

from cryovox.core.dataset import Box
from cryovox.core.errors import RequestError
from cryovox.core.volume import Volume
from cryovox.data.regions import load_regions
from cryovox.formats import dataset, layouts, mrc, ome_zarr, read_volume, subtomograms, write_volume
from cryovox.formats.layouts import czii, empiar10499, folder, shrec2021, xulab
from cryovox.formats.layouts.split import split_by_volume
from cryovox.formats.particles import copick as copick_files
from cryovox.metrics import czii as czii_metric
from cryovox.metrics import shrec as shrec_metric

RNG = np.random.default_rng(0)


def noise(shape, size, path: Path) -> np.ndarray:
    data = RNG.normal(size=shape).astype(np.float32)
    write_volume(path, Volume(data, size))
    return data


def store(path: Path, data: np.ndarray, size: float, unit: str | None = "angstrom") -> None:
    """A multiscale image of the older kind, as Kaggle gives it."""
    root = zarr.create_group(path, zarr_format=2)
    for level in (0, 1):
        step = 2**level
        root.create_array(str(level), data=data[::step, ::step, ::step])
    axes = [{"name": n, "type": "space"} | ({"unit": unit} if unit else {}) for n in "zyx"]
    datasets = [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": [size * 2**i] * 3}]}
        for i in (0, 1)
    ]
    root.attrs["multiscales"] = [{"version": "0.4", "name": "/", "axes": axes, "datasets": datasets}]


def blob(shape, center, radius) -> np.ndarray:
    grid = np.indices(shape) - np.reshape(center, (3, 1, 1, 1))
    return (grid**2).sum(axis=0) <= radius**2


# --- SHREC 2021 ------------------------------------------------------------------------------------


@pytest.fixture
def shrec(tmp_path) -> Path:
    root = tmp_path / "full_dataset"
    for i in range(10):
        model = root / f"model_{i}"
        tomogram = RNG.normal(size=(12, 20, 24)).astype(np.float32)
        mask = np.zeros(tomogram.shape, np.float32)
        mask[5, 6, 7], mask[2, 3, 4], mask[8, 10, 11] = 4, 15, 14
        tomogram[mask == 4] -= 50
        write_volume(model / "reconstruction.mrc", Volume(tomogram, 1.0))
        write_volume(model / "class_mask.mrc", Volume(mask, 1.0))
        lines = ["1BXN 7 6 5 10.5 20.25 -30", "vesicle 11 10 8 NaN NaN NaN", "fiducial 4 3 2 nan nan nan"]
        (model / "particle_locations.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def unsized(path: Path) -> None:
    """Make the header say nothing of the voxel size."""
    with path.open("r+b") as file:
        file.seek(40)
        file.write(np.zeros(3, "<f4").tobytes())


def test_shrec_splits_boxes_and_species(shrec):
    loaded = dataset.read(shrec)
    assert loaded == shrec2021.read(shrec) == dataset.read(shrec / "full_dataset")
    assert loaded.voxel_size == 10
    assert [e.split for e in loaded.entries] == ["train"] * 8 + ["val", "test"]
    assert {e.box for e in loaded.entries} == {Box(z=(165, 345))}
    assert tuple(s.name for s in loaded.species) == shrec_metric.CLASSES[1:]
    assert [s.label for s in loaded.species] == list(range(1, 16))
    assert [s.name for s in loaded.species if s.structure is None] == ["vesicle", "fiducial"]
    radius = {s.name: s.radius for s in loaded.species}
    # 4/3 pi r^3 = 1.21 Å^3/Da x mass
    assert 4 / 3 * np.pi * radius["4CR2"] ** 3 == pytest.approx(1.21 * 1309e3, rel=0.01)


def test_shrec_as_the_papers_compared(shrec):
    loaded = shrec2021.read(shrec, "paper")
    assert [e.split for e in loaded.entries] == ["train"] * 9 + ["test"]
    assert {e.box for e in loaded.entries} == {Box()}
    with pytest.raises(RequestError, match="clean, paper"):
        shrec2021.read(shrec, "mine")


def test_shrec_annotations_lie_on_their_labels(shrec):
    unsized(shrec / "full_dataset" / "model_0" / "reconstruction.mrc")
    loaded = dataset.read(shrec)
    labels, picks = dataset.load_annotations(loaded.entries[0], loaded)
    assert picks.species.tolist() == ["1BXN", "vesicle", "fiducial"]
    by_name = {s.name: s.label for s in loaded.species}
    z, y, x = (picks.positions / 10).astype(int).T
    assert labels.data[z, y, x].tolist() == [by_name[n] for n in picks.species]
    assert dataset.load_tomogram(loaded.entries[0], loaded).voxel_size == 10
    assert isinstance(dataset.load_tomogram(loaded.entries[1], loaded).data.base, np.memmap | np.ndarray)
    assert [picks.extra[f"angle{i}"][0] for i in (1, 2, 3)] == [10.5, 20.25, -30]
    assert picks.rotations is None


def test_shrec_can_be_kept_as_a_dataset_of_ones_own(shrec, tmp_path):
    dataset.write(tmp_path / "mine", shrec2021.read(shrec, "paper"))
    loaded = dataset.read(tmp_path / "mine")
    assert [e.split for e in loaded.entries].count("train") == 9
    assert len(dataset.load_annotations(loaded.entries[3], loaded)[1]) == 3


def test_shrec_that_lacks_files(shrec):
    model = shrec / "full_dataset" / "model_9"
    (model / "class_mask.mrc").unlink()
    (model / "particle_locations.txt").unlink()
    assert dataset.read(shrec).entries[9].labels is None
    (shrec / "full_dataset" / "model_2" / "class_mask.mrc").unlink()
    with pytest.raises(RequestError, match=r"model_2.class_mask\.mrc: there is no such file"):
        dataset.read(shrec)
    with pytest.raises(RequestError, match="holds no model_0"):
        shrec2021.read(shrec / "gone")


@pytest.mark.parametrize("line", ["1BXN 1 2", "9ZZZ 1 2 3", "1BXN a 2 3", "1BXN nan 2 3"])
def test_shrec_lines_that_are_none(tmp_path, line):
    (tmp_path / "particle_locations.txt").write_text(f"1bxn 1 2 3\n{line}\n")
    with pytest.raises(RequestError, match="line 2"):
        shrec2021.read_picks(tmp_path / "particle_locations.txt")


def test_shrec_picks_read_as_the_metric_reads_them(shared_data):
    path = shared_data / "golden_shrec" / "model__particle_locations.txt"
    ours, theirs = shrec2021.read_picks(path), shrec_metric.read_objects(path)
    np.testing.assert_array_equal(ours.positions, theirs.positions)
    assert ours.species.tolist() == theirs.species.tolist()
    packed = shared_data / "golden_shrec" / "model__occupancy_mask.mrc.gz"
    occupancy = np.asarray(mrc.read(packed, 10.0).data)
    hit = occupancy[tuple((ours.positions / 10).astype(int).T)]
    seen = hit > 0  # the middle of a hollow particle is empty
    assert seen.mean() > 0.8
    np.testing.assert_array_equal(hit[seen], np.arange(1, len(ours) + 1)[seen])


# --- CZII ------------------------------------------------------------------------------------------

RUNS = ("TS_5_4", "TS_6_6", "TS_99_9")


def czii_picks(places) -> dict:
    points = [
        {"location": dict(zip("zyx", place, strict=True)), "transformation_": np.eye(4).tolist()}
        for place in places
    ]
    return {"user_id": "curation", "session_id": "0", "run_name": "", "unit": "angstrom", "points": points}


@pytest.fixture
def kaggle(tmp_path) -> Path:
    for run in RUNS:
        data = RNG.normal(size=(20, 24, 28)).astype(np.float32)
        place = tmp_path / "train" / "static" / "ExperimentRuns" / run / "VoxelSpacing10.000"
        store(place / "denoised.zarr", data, 10.012, unit=None)
        picks = tmp_path / "train" / "overlay" / "ExperimentRuns" / run / "Picks"
        picks.mkdir(parents=True)
        for name, places in {"ribosome": [(50, 60, 70), (90.5, 80, 10)], "apo-ferritin": []}.items():
            content = {"pickable_object_name": name} | czii_picks(places)
            (picks / f"{name}.json").write_text(json.dumps(content))
    static = Path("static") / "ExperimentRuns" / "TS_0_0" / "VoxelSpacing10.000" / "denoised.zarr"
    store(tmp_path / "test" / static, np.ones((4, 4, 4), np.float32), 10.012)
    return tmp_path


def test_czii_entries_and_folds(kaggle):
    loaded = dataset.read(kaggle)
    assert {e.name: e.split for e in loaded.entries} == {
        "TS_5_4": "train", "TS_6_6": "val", "TS_99_9": "train", "TS_0_0": "test",
    }  # fmt: skip
    assert loaded.voxel_size == pytest.approx(10.012)
    assert {s.name: s.radius for s in loaded.species} == dict(czii_metric.RADII)
    other = czii.read(kaggle / "train", fold=0)
    assert {e.name: e.split for e in other.entries}["TS_5_4"] == "val"
    with pytest.raises(RequestError, match="0 to 6"):
        czii.read(kaggle, fold=7)


def test_czii_reads_picks_and_parts_of_tomograms(kaggle):
    loaded = dataset.read(kaggle)
    labels, picks = dataset.load_annotations(loaded.entries[0], loaded)
    assert labels is None
    np.testing.assert_array_equal(picks.positions, [[50, 60, 70], [90.5, 80, 10]])
    assert picks.species.tolist() == ["ribosome"] * 2
    volume = dataset.load_tomogram(loaded.entries[0], loaded)
    assert isinstance(volume.data, ome_zarr.StoredVolume)
    assert volume.data[2:5, 3, :4].shape == (3, 4)


def test_czii_serves_the_training(kaggle):
    loaded = dataset.read(kaggle)
    entry = loaded.entries[0].model_copy(update={"contrast": "dark"})
    (source,) = load_regions(loaded, [entry])
    assert len(source.truth()) == 2
    assert source.bounds == ((0, 20), (0, 24), (0, 28))


def test_czii_written_down_and_read_again(kaggle, tmp_path):
    dataset.write(tmp_path / "mine", czii.read(kaggle))
    loaded = dataset.read(tmp_path / "mine")
    assert len(dataset.load_annotations(loaded.entries[0], loaded)[1]) == 2


def test_czii_that_lacks_files(kaggle):
    with pytest.raises(RequestError, match=r"isonetcorrected\.zarr: there is no such store"):
        czii.read(kaggle, tomogram="isonetcorrected")
    for path in (kaggle / "train" / "overlay" / "ExperimentRuns" / "TS_5_4" / "Picks").iterdir():
        path.unlink()
    loaded = dataset.read(kaggle)
    with pytest.raises(RequestError, match="holds no picks"):
        dataset.load_annotations(loaded.entries[0], loaded)
    with pytest.raises(RequestError, match="holds no static"):
        czii.read(kaggle / "gone")


def test_the_true_picks_of_czii(shared_data, tmp_path):
    with (shared_data / "annotations_czii" / "train_folded_v1.csv").open() as file:
        rows = list(csv.DictReader(file))
    folds = {row["experiment"]: int(row["fold"]) for row in rows}
    assert tuple(sorted(folds, key=folds.__getitem__)) == czii.FOLDS
    assert {row["particle_type"] for row in rows} == set(czii.RADII)
    picks = tmp_path / "overlay" / "ExperimentRuns" / "TS_5_4" / "Picks"
    picks.mkdir(parents=True)
    mine = [row for row in rows if row["experiment"] == "TS_5_4"]
    for name in czii.RADII:
        places = [[float(r[a]) for a in "zyx"] for r in mine if r["particle_type"] == name]
        content = {"pickable_object_name": name} | czii_picks(places)
        (picks / f"{name}.json").write_text(json.dumps(content))
    assert len(copick_files.read_picks(picks)) == 140


@pytest.mark.parametrize("name", ["cryoet_portal/copick.json", "copick/CCDC147C_001_microtubule.json.gz"])
def test_picks_of_others(shared_data, name):
    path = shared_data / "formats" / name
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    content = json.loads(raw)
    loaded = copick_files.read_picks(path)
    assert len(loaded) == len(content["points"])
    first = content["points"][0]["location"]
    np.testing.assert_allclose(loaded.positions[0], [first["z"], first["y"], first["x"]])
    assert set(loaded.species.tolist()) == {content["pickable_object_name"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no picks of copick"),
        ("[]", "no picks of copick"),
        ('{"pickable_object_name": "a", "points": [{"location": {"x": 1}}]}', "no picks of copick"),
        ('{"pickable_object_name": "a", "unit": "pixel", "points": []}', "counts in pixel"),
    ],
    ids=["broken", "list", "no y", "pixels"],
)
def test_files_that_are_no_picks(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(RequestError, match=message):
        copick_files.read_picks(tmp_path / "a.json")


# --- OME-Zarr --------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["angstrom", "nanometer"])
def test_stores_of_the_older_kind(tmp_path, unit):
    data = RNG.normal(size=(6, 7, 8)).astype(np.float32)
    store(tmp_path / "t.zarr", data, 1.5, unit)
    loaded = read_volume(tmp_path / "t.zarr")
    assert loaded.voxel_size == pytest.approx(15 if unit == "nanometer" else 1.5)
    np.testing.assert_array_equal(np.asarray(loaded.data), data)
    np.testing.assert_array_equal(loaded.data[1:3, ::2, -1], data[1:3, ::2, -1])
    assert (len(loaded.data), loaded.shape, loaded.data.dtype) == (6, data.shape, np.float32)
    assert read_volume(tmp_path / "t.zarr", 4.0).voxel_size == 4


def test_stores_of_our_own(tmp_path):
    data = RNG.integers(-9, 9, (70, 5, 6)).astype(np.int16)
    write_volume(tmp_path / "t.zarr", Volume(data, 7.84))
    loaded = read_volume(tmp_path / "t.zarr")
    assert (loaded.voxel_size, loaded.data.dtype) == (7.84, np.int16)
    np.testing.assert_array_equal(loaded.data[:], data)


def test_stores_that_are_no_tomogram(tmp_path):
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(RequestError, match="not an OME-Zarr image"):
        read_volume(tmp_path / "empty.zarr")
    store(tmp_path / "odd.zarr", np.ones((2, 2, 2), np.float32), 2.0, "parsec")
    with pytest.raises(RequestError, match="2 parsec"):
        read_volume(tmp_path / "odd.zarr")
    root = zarr.create_group(tmp_path / "scores.zarr", zarr_format=3)
    root.create_array("0", data=np.ones((3, 2, 2, 2), np.uint16))
    root.attrs["ome"] = {"multiscales": [{"datasets": [{"path": "0"}]}]}
    with pytest.raises(RequestError, match="3 entries along the axis 'c'"):
        read_volume(tmp_path / "scores.zarr")


# --- EMPIAR-10499 ----------------------------------------------------------------------------------


def ribosomes(path: Path, rows: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    columns = ["MicrographName", "CoordinateX", "CoordinateY", "CoordinateZ", "PixelSize"]
    lines = ["data_", "", "loop_", *(f"_rln{c} #{i}" for i, c in enumerate(columns, 1)), *rows, ""]
    path.write_text("\n".join(lines))


def test_empiar_with_one_list_of_all(tmp_path):
    for i in range(5):
        noise((10, 20, 30), 10.0, tmp_path / "tomograms" / f"TS_{i:02}_10.00Apx.mrc")
    names = ["TS_00.tomostar", "TS_01.mrc.tomostar", *(f"TS_{i:02}.tomostar" for i in (2, 3, 4))]
    rows = [f"{n} {10 + i} 12 5 10" for i, n in enumerate(names)]
    ribosomes(tmp_path / "particles" / "all.star", rows)
    loaded = dataset.read(tmp_path)
    assert [e.name for e in loaded.entries] == [f"TS_{i:02}" for i in range(5)]
    assert sorted(e.split for e in loaded.entries) == ["test"] + ["train"] * 4
    assert not loaded.entries[0].is_exhaustive("ribosome")
    for i, entry in enumerate(loaded.entries):
        picks = dataset.load_annotations(entry, loaded)[1]
        np.testing.assert_allclose(picks.positions, [[50, 120, 100 + 10 * i]])
    assert loaded.species[0].radius == 150
    assert empiar10499.read(tmp_path, radius=120).species[0].radius == 120


def test_empiar_with_one_list_each(tmp_path):
    for name in ("a", "b"):
        noise((10, 20, 30), 10.0, tmp_path / "tomograms" / f"{name}.mrc")
    (tmp_path / "coordinates").mkdir()
    (tmp_path / "coordinates" / "a.txt").write_text("100 120 50\n")
    with pytest.raises(RequestError, match=r"b\.star: there is no such list"):
        empiar10499.read(tmp_path)
    (tmp_path / "coordinates" / "b.csv").write_text("x,y,z\n10,20,30\n")
    loaded = dataset.read(tmp_path)
    assert dataset.load_annotations(loaded.entries[1], loaded)[1].positions.tolist() == [[30, 20, 10]]
    with pytest.raises(RequestError, match="holds no folders"):
        empiar10499.read(tmp_path / "gone")


# --- volumes with masks ----------------------------------------------------------------------------


def pair(root: Path, name: str, shape, *, folders: bool, radius: float = 6.0) -> np.ndarray:
    mask = blob(shape, np.array(shape) / 2, radius)
    image, masks = ("images/{}", "masks/{}") if folders else ("{}_image", "{}_mask")
    data = noise(shape, 10.0, root / f"{image.format(name)}.mrc")
    write_volume(root / f"{masks.format(name)}.mrc", Volume(mask.astype(np.int8) * 3, 10.0))
    return data


@pytest.mark.parametrize("folders", [True, False], ids=["folders", "pairs"])
@pytest.mark.parametrize(
    ("shape", "patches"), [((60, 60, 60), 1), ((84, 72, 80), 8), ((100, 64, 70), 12)], ids=str
)
def test_volumes_are_cut_as_the_papers_count(tmp_path, folders, shape, patches):
    data = pair(tmp_path, "v", shape, folders=folders)
    loaded = folder.read_patches(tmp_path)
    assert loaded.images.shape == loaded.masks.shape == (patches, 32, 32, 32)
    cubes, masks = np.asarray(loaded.images), loaded.masks[:]
    assert (cubes.dtype, masks.dtype) == (np.float32, np.uint8)
    assert set(np.unique(masks)) <= {0, 1}
    np.testing.assert_array_equal(cubes[-1], loaded.images[patches - 1])
    np.testing.assert_array_equal(cubes[:, 3], loaded.images[:, 3])
    if max(shape) > 96:  # 100, 64, 70 lose 2 and 3 voxels of rim
        np.testing.assert_array_equal(cubes[0], data[2:34, :32, 3:35])
        assert loaded.voxel_size == 10
    else:
        assert loaded.voxel_size == pytest.approx(10 * shape[0] / (shape[0] // 32 * 32))


def test_mycoplasma_gives_216_patches(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        with mrc.create(tmp_path / part / "a.mrc", (192, 192, 192), np.int8, 10.0) as out:
            out[96:] = 1
    loaded = folder.read_patches(tmp_path)
    assert loaded.images.shape[0] == 216
    assert loaded.masks[107].max() == 0
    assert loaded.masks[108].min() == 1
    assert loaded.corners[[0, 1, 6, 36]].tolist() == [[0, 0, 0], [0, 0, 32], [0, 32, 0], [32, 0, 0]]


def test_volumes_are_shared_out_and_never_patches(tmp_path):
    for i in range(10):
        pair(tmp_path, f"v{i}", (72, 72, 72), folders=True)
    loaded = folder.read_patches(tmp_path)
    assert len(loaded) == 80
    split = dict(
        zip(loaded.particles.tomograms.tolist(), loaded.particles.extra["split"].tolist(), strict=True)
    )
    for name, part in split.items():
        assert set(loaded.particles.extra["split"][loaded.particles.tomograms == name]) == {part}
    assert sorted(split.values()) == ["test"] * 2 + ["train"] * 8
    assert {e.name: e.split for e in dataset.read(tmp_path).entries} == split


def test_masks_serve_as_labels(tmp_path):
    for name in ("a", "b"):
        path = tmp_path / "masks" / f"{name}.mrc"
        noise((20, 20, 20), 10.0, tmp_path / "images" / f"{name}.mrc")
        write_volume(path, Volume(blob((20, 20, 20), (10, 10, 10), 5).astype(np.int8), 10.0))
    loaded = dataset.read(tmp_path)
    labels, picks = dataset.load_annotations(loaded.entries[0], loaded)
    assert picks is None
    assert labels.data[10, 10, 10] == 1
    assert loaded.species[0].radius == pytest.approx(50, abs=2)


def test_sets_of_patches_are_written_like_others(tmp_path):
    pair(tmp_path / "in", "v", (64, 64, 64), folders=True)
    original = folder.read_patches(tmp_path / "in")
    subtomograms.write(tmp_path / "set.zarr", original)
    back = subtomograms.read(tmp_path / "set.zarr")
    np.testing.assert_array_equal(back.images[:], original.images[:])
    np.testing.assert_array_equal(back.corners, original.corners)


def test_volumes_that_lack_masks(tmp_path):
    pair(tmp_path, "a", (32, 32, 32), folders=True)
    noise((32, 32, 32), 10.0, tmp_path / "images" / "b.mrc")
    with pytest.raises(RequestError, match=r"masks.b\.mrc: there is no such file"):
        folder.read(tmp_path)
    write_volume(tmp_path / "masks" / "b.mrc", Volume(np.zeros((3, 4, 5), np.int8), 10.0))
    with pytest.raises(RequestError, match=r"has shape \(3, 4, 5\)"):
        folder.read(tmp_path)
    with pytest.raises(RequestError, match="NAME_mask"):
        folder.read(tmp_path / "gone")


def test_shares_do_not_depend_on_order():
    names = [f"v{i}" for i in range(1033)]
    loaded = split_by_volume(names, 0.15)
    assert loaded == split_by_volume(reversed(names), 0.15)
    assert list(loaded.values()).count("test") == 155
    assert split_by_volume(["one"], 0.15) == {"one": "train"}


# --- subtomograms of the Xu lab --------------------------------------------------------------------


def write_h5(path: Path, image, label) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["image"], file["label"] = image, label


def test_xulab_names_sizes_and_labels(tmp_path):
    edge = np.arange(68, dtype=np.float32)
    ramp = np.broadcast_to(edge[:, None, None], (68, 68, 68))
    ball = blob((68, 68, 68), (33.5, 33.5, 33.5), 20).astype(np.uint8)
    for name in ("snrSNR005_prot2ane_381", "snrSNR003_prot1c5u_386", "snrSNRinfinity_prot1c5u_2"):
        write_h5(tmp_path / f"{name}.h5", ramp, ball)
    (tmp_path / "readme.txt").write_text("no subtomogram")
    assert xulab.is_here(tmp_path)
    loaded = xulab.read(tmp_path)
    assert loaded.particles.species.tolist() == ["1c5u", "2ane", "1c5u"]
    assert loaded.particles.extra["snr"].tolist() == [0.03, 0.05, np.inf]
    assert [(s.name, s.label) for s in loaded.species] == [("1c5u", 1), ("2ane", 2)]
    assert loaded.species[0].radius == pytest.approx(200, rel=0.01)
    assert loaded.voxel_size == pytest.approx(21.25)
    assert loaded.images.shape == (3, 32, 32, 32)
    # output voxel j is centered at 2.125 (j + 1/2) - 1/2
    inner = slice(1, -1)
    wanted = (2.125 * (np.arange(32) + 0.5) - 0.5)[inner]
    np.testing.assert_allclose(loaded.images[0][inner, 5, 5], wanted, atol=1e-3)
    masks = loaded.masks[:2]
    assert [set(np.unique(m)) for m in masks] == [{0, 1}, {0, 2}]
    assert (masks[0] > 0).mean() == pytest.approx(ball.mean(), rel=0.02)


def test_xulab_reads_only_what_is_asked_for(tmp_path):
    for i in (1, 2):
        write_h5(tmp_path / f"snrSNR003_prot1c5u_{i}.h5", np.ones((8,) * 3), np.ones((8,) * 3, np.uint8))
    loaded = xulab.read(tmp_path, size=4)
    os.replace(tmp_path / "snrSNR003_prot1c5u_2.h5", tmp_path / "gone")
    assert loaded.images[0].shape == (4, 4, 4)
    with pytest.raises(RequestError, match="cannot be read"):
        loaded.images[1]


@pytest.mark.parametrize("label", [None, (4, 4, 5)], ids=["no label", "other shape"])
def test_xulab_files_that_are_broken(tmp_path, label):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "snrSNR003_prot1c5u_1.h5", "w") as file:
        file["image"] = np.ones((4, 4, 4))
        if label is not None:
            file["label"] = np.ones(label)
    with pytest.raises(RequestError, match=r"1c5u_1\.h5"):
        xulab.read(tmp_path)


def test_a_folder_of_nothing_known_is_told(tmp_path):
    assert not xulab.is_here(tmp_path)
    assert layouts.find(tmp_path) is None
    with pytest.raises(RequestError, match="holds no file like"):
        xulab.read(tmp_path)
    with pytest.raises(RequestError, match=r"holds no dataset\.yaml, and has none of the layouts czii"):
        dataset.read(tmp_path)
