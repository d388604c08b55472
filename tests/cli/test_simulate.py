import pytest
import yaml

from cryovox.formats import dataset as dataset_files
from cryovox.formats import subtomograms
from cryovox.simulate.presets import PRESETS

FEW = (
    "--scene.shape", 24, 40, 40, "--scene.voxel-size", 14, "--tilts.step", 15, "--species", "groel",
    "--scene.counts", "groel", 2, "--device", "cpu",
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_gives_the_defaults_and_options_change_them(cli, tmp_path, name):
    answer = cli("simulate", "--preset", name, "--print-config")
    config = yaml.safe_load(answer.out)
    assert tuple(config["scene"]["shape"]) == PRESETS[name].scene.shape
    other = yaml.safe_load(cli("simulate", f"--preset={name}", "--print-config", "--tilts.step", 4).out)
    assert other == {**config, "tilts": {**config["tilts"], "step": 4}}
    file = tmp_path / "s.yaml"
    file.write_text(answer.out)
    assert cli("simulate", "--config", file, "--print-config").out == answer.out


def test_a_tomogram_from_the_command_line(cli, tmp_path):
    answer = cli("simulate", "--out", tmp_path / "a", *FEW)
    assert answer.code == 0, answer.err
    assert "sim_000" in answer.out
    assert "cryovox train supervised" in answer.out
    dataset = dataset_files.read(tmp_path / "a")
    assert dataset.species[0].name == "groel"
    again = cli("simulate", "--out", tmp_path / "a", "--quiet", *FEW)
    assert (again.code, again.out) == (0, "")


def test_the_subtomogram_recipe_is_a_preset(cli, tmp_path):
    answer = cli(
        "simulate",
        "--preset",
        "subtomogram-50",
        "--out",
        tmp_path / "s.zarr",
        "--species",
        "groel",
        "hsp90",
        "--count",
        3,
        "--snr",
        0.1,
    )
    assert answer.code == 0, answer.err
    assert "3 subtomograms" in answer.out
    subvolumes = subtomograms.read(tmp_path / "s.zarr")
    assert list(subvolumes.particles.species) == ["groel", "groel", "hsp90"]
    few = ("--out", tmp_path / "t.zarr", "--species", "groel", "hsp90", "--count", 1)
    cli("simulate", "--preset", "subtomogram-50", *few).refused("--count", "2 species")
    assert "snr: 0.05" in cli("simulate", "--preset", "subtomogram-50", "--print-config").out


def test_wrong_requests(cli, tmp_path):
    out = ("--out", tmp_path / "a")
    cli("simulate", *out, "--preset", "tou").refused("--preset", "toy")
    cli("simulate", *out, "--count", 0).refused("--count")
    cli("simulate", *out, "--species", "ribosom-80s").refused("ribosom-80s", "ribosome-80s")
    cli("simulate", *out, *FEW, "--structures", tmp_path / "none").refused("none", "not a folder")
    cli("simulate", *out, "--match", tmp_path / "none.mrc").refused("none.mrc")
    cli("simulate", *out, "--scene.counts", "hsp90", 3).refused("hsp90", "species")
    cli("simulate", *out, *FEW, "--scene.shape", 4, 4, 4).refused("no particle fits", "scene.shape")
    cli("simulate", "--preset", "subtomogram-50", "--out", tmp_path / "a.txt").refused("a.txt", "NAME.zarr")
    upside_down = cli("simulate", *out, "--tilts.range", 60, -60)
    assert upside_down.code == 2
    assert "range runs from low to high" in upside_down.err + upside_down.out
    file = tmp_path / "f"
    file.touch()
    cli("simulate", "--out", file / "a", *FEW).refused("cannot be written")
    assert not (tmp_path / "a").exists() or not list((tmp_path / "a").rglob("*.mrc"))
    cli("fetch", "structure", "not-an-id", *out).refused("not-an-id")
