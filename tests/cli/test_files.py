import bz2
import gzip
import json

import mrcfile
import numpy as np
import pytest

from cryovox.formats import read_particles, read_volume, subtomograms


def test_doctor_on_a_real_tomogram(cli, shared_data, tmp_path):
    tomogram = shared_data / "real_tomograms" / "tomo_171_xlow_31.36A.mrc.gz"
    answer = cli("doctor", tomogram, "--json", tmp_path / "findings.json")
    assert answer.code == 0
    assert "dark" in answer.out
    assert "31.36" in answer.out
    findings = json.loads((tmp_path / "findings.json").read_text())[str(tomogram)]
    assert not [f for f in findings if f["level"] == "error"]


def test_doctor_on_broken_files(cli, shared_data):
    edge = shared_data / "mrc_edge"
    for name in ("empty1.map", "header_only.mrc", "test_data_corrupt_header.map"):
        cli("doctor", edge / name).refused(name)
    answer = cli("doctor", edge)
    assert answer.code == 1
    assert "failed: empty1" in answer.err


def test_doctor_names_what_mends_it(cli, make_mrc, noise, model, tmp_path):
    noise[5, 5, 5] = np.nan
    cases = {
        "nan": (make_mrc("nan.mrc", noise), "--fill-nan"),
        "size": (make_mrc("size.mrc", np.zeros_like(noise) + noise[0, 0, 0], 0.0), "voxel"),
        "flat": (make_mrc("flat.mrc", np.zeros_like(noise)), "all voxels have the same value"),
        "odd": (make_mrc("odd.mrc", np.nan_to_num(noise), (14.0, 14.0, 20.0)), "20"),
    }
    for path, words in cases.values():
        answer = cli("doctor", path)
        assert answer.code == 0, path
        assert words in answer.out, answer.out
    answer = cli("doctor", make_mrc("other.mrc", np.nan_to_num(noise), 10.0), "--model", model)
    assert "model" in answer.out
    assert "14" in answer.out
    assert cli("doctor", cases["size"][0], "--voxel-size", 9).code == 0
    cli("doctor", cases["nan"][0], "--model", tmp_path / "none").refused("none")


def test_convert_mends_volumes(cli, make_mrc, noise, tmp_path):
    noise[5, 5, 5:7] = np.nan
    source, target = make_mrc("in.mrc", noise), tmp_path / "new" / "out.mrc.gz"
    cli("convert", source, target, "--resample", 20).refused("NaN", "--fill-nan")
    answer = cli("convert", source, target, "--fill-nan", "--invert", "--verify")
    assert answer.code == 0
    assert all(words in answer.out for words in ("2 values filled", "inverted", "verified", "24 x 32 x 40"))
    volume = read_volume(target)
    expected = -np.where(np.isnan(noise), np.nanmean(noise), noise)
    assert np.allclose(volume.data, expected)
    assert volume.voxel_size == 14
    half = tmp_path / "half.mrc"
    assert cli("convert", target, half, "--resample", 28, "--verify").code == 0
    with mrcfile.open(half) as file:
        assert file.data.shape == (12, 16, 20)
        assert float(file.voxel_size.x) == pytest.approx(28)


def test_convert_gives_a_voxel_size(cli, make_mrc, noise, tmp_path):
    source, target = make_mrc("in.mrc", noise, 0.0), tmp_path / "out.mrc"
    cli("convert", source, target).refused("--voxel-size")
    assert cli("convert", source, target, "--voxel-size", 9.5).code == 0
    assert read_volume(target).voxel_size == 9.5


def test_convert_does_not_overwrite(cli, tomogram, make_mrc, noise, tmp_path):
    target = tmp_path / "out.mrc"
    assert cli("convert", tomogram, target).code == 0
    before = target.read_bytes()
    other = make_mrc("other.mrc", noise)
    cli("convert", other, target).refused("out.mrc", "--overwrite")
    assert target.read_bytes() == before
    assert cli("convert", other, target, "--overwrite").code == 0
    assert target.read_bytes() != before
    cli("convert", target, target, "--overwrite").refused("input itself")
    assert read_volume(target).shape == noise.shape
    cli("convert", tomogram, tmp_path, "--overwrite").refused(tmp_path)


def test_convert_knows_what_cannot_be(cli, tomogram, phantoms, tmp_path):
    cli("convert", tomogram, tmp_path / "out.star").refused("out.star", "known endings")
    cli("convert", tomogram, tmp_path / "out.jpg").refused("out.jpg", ".mrc")
    cli("convert", tmp_path / "none.mrc", tmp_path / "out.mrc").refused("none.mrc", "no such file")
    star = phantoms / "particles" / "phantom_03.star"
    cli("convert", star, tmp_path / "out.csv").refused("--tomogram")
    assert list(tmp_path.iterdir()) == []


def test_particles_there_and_back(cli, phantoms, tomogram, make_mrc, noise, tmp_path):
    star, table, back = phantoms / "particles/phantom_03.star", tmp_path / "a.csv", tmp_path / "b.star"
    more = ("--tomogram", tomogram, "--verify")
    assert "verified" in cli("convert", star, table, *more).out
    assert "16 particles" in cli("convert", table, back, *more).out
    volume = read_volume(tomogram)
    first, last = (read_particles(p, tomogram=volume) for p in (star, back))
    assert np.allclose(first.positions, last.positions, atol=2e-3)
    assert first.species.tolist() == last.species.tolist()
    assert np.allclose(first.rotations, last.rotations, atol=1e-5)
    old = tmp_path / "c.star"
    assert cli("convert", table, old, *more, "--convention", "relion3", "--out-voxel-size", 7).code == 0
    assert np.allclose(read_particles(old).positions, first.positions, atol=2e-3)
    assert cli("convert", table, tmp_path / "d.star", "--convention", "relion9").code == 2
    lost = make_mrc("lost.mrc", noise, 0.0)
    cli("convert", star, tmp_path / "e.csv", "--tomogram", lost).refused("lost.mrc", "--voxel-size")


@pytest.mark.parametrize("name", ["set.zarr", "set.h5"])
def test_extract(cli, phantoms, tomogram, tmp_path, name):
    if name.endswith("h5"):
        pytest.importorskip("h5py")
    particles, out = phantoms / "particles" / "phantom_03.star", tmp_path / name
    labels = ("--labels", phantoms / "labels" / "phantom_03.mrc")
    answer = cli("extract", particles, tomogram, "--box", 16, "--out", out, *labels)
    assert answer.code == 0
    subvolumes = subtomograms.read(out)
    assert f"{len(subvolumes)} subtomograms" in answer.out
    assert f"{16 - len(subvolumes)} boxes beyond" in answer.out
    assert subvolumes.images.shape[1:] == subvolumes.masks.shape[1:] == (16, 16, 16)
    z, y, x = subvolumes.corners[0]
    volume = read_volume(tomogram)
    assert np.array_equal(subvolumes.images[0], volume.data[z : z + 16, y : y + 16, x : x + 16])
    cli("extract", particles, tomogram, "--box", 8, "--out", out).refused(name, "--overwrite")
    again = ("--box", 16, "--pad", "--overwrite")
    assert cli("extract", particles, tomogram, "--out", out, *again).code == 0
    assert len(subtomograms.read(out)) == 16


def test_extract_refuses(cli, phantoms, tomogram, tmp_path):
    particles = phantoms / "particles" / "phantom_03.star"
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "precious").write_text("words")

    def extract(out, box=8, *args):
        return cli("extract", particles, tomogram, "--box", box, "--out", tmp_path / out, *args)

    extract("results").refused("results", "already")
    extract("results", 8, "--overwrite").refused("results", ".zarr")
    assert (tmp_path / "results" / "precious").read_text() == "words"
    extract("a.zarr", 0).refused("--box")
    extract("a.zarr", 500).refused("--box", "500")
    far = tmp_path / "far.csv"
    far.write_text("x,y,z\n9000,9000,9000\n")
    cli("extract", far, tomogram, "--box", 8, "--out", tmp_path / "a.zarr").refused(
        "far.csv", "1 of 1 picks lie outside"
    )
    assert not (tmp_path / "a.zarr").exists()


def test_pick_reads_label_maps_whose_header_says_nothing(cli, phantoms, make_mrc, tmp_path):
    with mrcfile.open(phantoms / "labels" / "phantom_03.mrc") as file:
        labels = make_mrc("lost.mrc", file.data, 0.0)
    args = ("pick", labels, "--out", tmp_path, "--dataset", phantoms)
    cli(*args).refused("--voxel-size")
    assert cli(*args, "--voxel-size", 14, "--json", tmp_path / "n.json").code == 0
    whole = sum(row["particles"] for row in json.loads((tmp_path / "n.json").read_text()))
    mask = np.zeros((32, 64, 64), np.int8)
    mask[:, :, :32] = 1
    half = make_mrc("mask.mrc", mask, 0.0)
    assert cli(*args, "--voxel-size", 14, "--mask", half, "--json", tmp_path / "n.json").code == 0
    assert 0 < sum(row["particles"] for row in json.loads((tmp_path / "n.json").read_text())) < whole
    cli(*args, "--voxel-size", 14, "--mask", make_mrc("m2.mrc", mask[:9], 14.0)).refused("--mask", "shape")


def test_pick_refuses_a_tomogram(cli, tomogram, tmp_path):
    cli("pick", tomogram, "--out", tmp_path / "out").refused("phantom_03.mrc", "is this a tomogram")


def test_packed_volumes(cli, tomogram, tmp_path):
    for name, module in (("a.mrc.gz", gzip), ("a.mrc.bz2", bz2)):
        assert cli("convert", tomogram, tmp_path / name, "--verify").code == 0
        assert module.decompress((tmp_path / name).read_bytes())[208:211] == b"MAP"


def test_extract_cuts_only_what_belongs_to_the_tomogram(cli, shared_data, tmp_path):
    folder, out = shared_data / "field_bugs" / "several-tomograms", tmp_path / "e.zarr"
    args = ("--out", out, "--box", 8)
    assert cli("extract", folder / "particles.star", folder / "TS_01.mrc", *args).code == 0
    cut = subtomograms.read(out)
    assert len(cut) == 1
    assert cut.particles.positions[0, ::-1].tolist() == [200, 150, 100]
    wrong = shared_data / "field_bugs" / "wrong-list"
    args = (wrong / "TS_01.star", wrong / "TS_02.mrc", "--box", 8, "--out", tmp_path / "f.zarr")
    cli("extract", *args).refused("TS_01.star", "is a list of TS_01, not of TS_02")
    assert cli("extract", *args, "--tomogram-name", "TS_01").code == 0


def test_convert_splits_lists_by_tomogram(cli, shared_data, tmp_path):
    folder, out = shared_data / "field_bugs" / "several-tomograms", tmp_path / "o.csv"
    star = folder / "particles.star"
    cli("convert", star, out, "--tomogram", folder / "TS_01.mrc").refused("TS_01, TS_02", "--tomogram FOLDER")
    assert cli("convert", star, out, "--tomogram", folder / "tomos").code == 0
    picks = read_particles(out)
    assert picks.positions[:, ::-1].tolist() == [[200, 150, 100], [300, 100, 50]]
    assert picks.tomograms.tolist() == ["TS_01", "TS_02"]
    back = tmp_path / "back.star"
    assert cli("convert", out, back, "--tomogram", folder / "tomos", "--verify").code == 0
    same = tmp_path / "same.star"  # the center plays no part here
    assert cli("convert", star, same).code == 0
    assert "40.000000  -10.000000  0.000000" in same.read_text()
    assert "100.000000  -20.000000  -25.000000" in same.read_text()


def test_a_list_named_otherwise_is_taken_with_a_warning(cli, shared_data, tmp_path):
    folder = shared_data / "field_bugs" / "wrong-list"
    message = cli("convert", folder / "TS_01.star", tmp_path / "o.csv", "--tomogram", folder / "TS_02.mrc")
    assert message.code == 0
    assert "warning: " in message.err
    assert "is a list of TS_01, read as one of TS_02" in message.err


def test_coordinates_are_compared_with_the_tomogram(cli, tomogram, tmp_path):
    voxels, out = tmp_path / "v.csv", tmp_path / "o.csv"
    voxels.write_text("x,y,z\n10,20,5\n30,15,12\n21,40,20\n")
    args = ("convert", voxels, out, "--tomogram", tomogram)
    cli(*args).refused("v.csv", "look like voxels", "--voxel-size 14")
    assert cli(*args, "--voxel-size", 14).code == 0
    assert read_particles(out).positions[0].tolist() == [70, 280, 140]
    args = (
        "evaluate",
        "particles",
        "--truth",
        voxels,
        "--picks",
        out,
        "--radius",
        50,
        "--tomogram",
        tomogram,
    )
    cli(*args).refused("v.csv", "look like voxels")
    swapped = tmp_path / "s.csv"
    swapped.write_text("x,y,z\n70,280,840\n168,210,820\n")
    cli("convert", swapped, tmp_path / "p.csv", "--tomogram", tomogram).refused(
        "2 of 2", "x and z look swapped"
    )
    swapped.write_text("x,y,z\n70,280,70\n168,210,168\n30,40,25038\n")
    message = cli("convert", swapped, tmp_path / "p.csv", "--tomogram", tomogram)
    assert message.code == 0
    assert "1 of 3 picks lie outside" in message.err
    assert "z 25038.0" in message.err


def test_true_particles_of_two_sizes_lie_on_density(cli, phantoms, tomogram, tmp_path):
    args = (phantoms / "particles" / "phantom_03.star", tomogram, "--out", tmp_path / "a.zarr", "--pad")
    for box in (8, 16, 32):
        message = cli("extract", *args, "--box", box, "--overwrite")
        assert message.code == 0
        assert "warning" not in message.err
