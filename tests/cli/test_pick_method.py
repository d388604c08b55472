import json


def test_mean_shift_on_masks(cli, phantoms, tmp_path):
    labels, out, counts = phantoms / "labels" / "phantom_03.mrc", tmp_path / "out", tmp_path / "n.json"
    args = ("pick", labels, "--out", out, "--method", "mean-shift", "--json", counts)
    cli(*args).refused("--method", "--dataset")
    assert cli(*args, "--dataset", phantoms).code == 0
    assert {row["species"]: row["particles"] for row in json.loads(counts.read_text())}.keys() == {
        "capsid",
        "dumbbell",
    }
    truth = phantoms / "particles" / "phantom_03.star"
    table = tmp_path / "table.json"
    told = cli(
        "evaluate", "particles", "--picks", out / "particles", "--truth", truth, "--dataset", phantoms,
        "--tomogram", phantoms / "tomograms" / "phantom_03.mrc", "--json", table,
    )  # fmt: skip
    assert told.code == 0, told.err
    f1 = [r["f1"] for r in json.loads(table.read_text())["rows"] if r["species"] == "any"]
    assert min(f1) >= 0.7


def test_find_with_mean_shift(cli, tomogram, tiny, tmp_path):
    out = tmp_path / "out"
    args = ("find", tomogram, "--out", out, "--method", "mean-shift", "--device", "cpu", "--quiet")
    cli(*args, "--model", tiny("heatmap-unet")).refused("--method", "heatmaps")
    assert not out.exists()  # refused before anything was computed
    assert cli(*args, "--model", tiny("voxresnet")).code == 0
    noted = json.loads((out / "manifest.json").read_text())
    assert noted["pick"]["method"] == "mean-shift"
    assert (out / "particles" / "phantom_03.star").exists()


def test_species_by_name_and_by_size(cli, phantoms, tomogram, model, tmp_path):
    out, counts = tmp_path / "out", tmp_path / "n.json"
    args = ("find", tomogram, "--model", model, "--out", out, "--device", "cpu", "--quiet", "--json", counts)
    cli(*args, "--species", "virus").refused("--species", "capsid, dumbbell")
    cli(*args, "--species", "virus=900").refused("--species", "radii")
    assert not out.exists()  # refused before anything was computed
    assert cli(*args, "--species", "capsid").code == 0
    by_name = json.loads(counts.read_text())
    assert {row["species"] for row in by_name} <= {"capsid", "none"}
    page = (out / "report.html").read_text()
    assert ">capsid<" in page
    assert ">dumbbell<" not in page
    maps = out / "scores" / "phantom_03.zarr"
    assert cli("pick", maps, "--out", tmp_path / "picks", "--species", "shell=80", "--json", counts).code == 0
    assert {row["species"] for row in json.loads(counts.read_text())} <= {"shell", "none"}
    labels = phantoms / "labels" / "phantom_03.mrc"
    args = ("pick", labels, "--out", tmp_path / "labels", "--dataset", phantoms, "--json", counts)
    cli(*args, "--species", "capsid=90").refused("--species", "capsid, dumbbell")
    assert cli(*args, "--species", "dumbbell").code == 0
    assert {row["species"] for row in json.loads(counts.read_text())} == {"dumbbell"}
