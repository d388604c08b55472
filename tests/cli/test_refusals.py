import errno
import resource
import shutil
import subprocess

import mrcfile
import numpy as np
import pytest
import yaml

from cryovox.core.particles import Particles
from cryovox.formats import write_particles


def files(folder):
    found = (p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")
    return sorted(str(p.relative_to(folder)) for p in found)


@pytest.fixture
def out(tmp_path):
    """Where output would go; nothing may be left there but scores from which the next run continues."""
    place = tmp_path / "out"
    yield place
    assert not place.is_dir() or [name for name in files(place) if ".unfinished/" not in name] == []


@pytest.fixture
def ask(cli, model, out):
    """Segment a file, which must be refused."""
    return lambda *args: cli("segment", *args, "--model", model, "--out", out, "--device", "cpu", "--quiet")


@pytest.fixture
def copied(phantoms, tmp_path):
    """A dataset of our own, to spoil."""
    return shutil.copytree(phantoms, tmp_path / "data")


@pytest.fixture
def teach(cli, out):
    def call(data, *args):
        quick = ("--steps", 1, "--batch", 1, "--device", "cpu", "--quiet")
        return cli("train", "supervised", "--data", data, "--out", out, *quick, *args)

    return call


def spoil(data, change):
    """Change what dataset.yaml says."""
    file = data / "dataset.yaml"
    found = yaml.safe_load(file.read_text())
    change(found)
    file.write_text(yaml.safe_dump(found))


def test_no_such_file(ask, tmp_path):
    ask(tmp_path / "none.mrc").refused("none.mrc", "no such file")
    ask(tmp_path / "*.mrc").refused("matches no file")
    ask().refused("names no file")


def test_a_folder_without_tomograms(ask, tmp_path):
    (tmp_path / "empty").mkdir()
    ask(tmp_path / "empty").refused("empty", "the folder holds no")


def test_not_a_tomogram(ask, tmp_path):
    text = tmp_path / "notes.mrc"
    text.write_text("these are notes, not voxels\n" * 80)
    ask(text).refused("notes.mrc", "not an MRC file")
    (tmp_path / "notes.txt").write_text("words")
    ask(tmp_path / "notes.txt").refused("notes.txt", "extension", ".mrc")


def test_empty_and_cut_off(ask, make_mrc, noise, tmp_path):
    (tmp_path / "empty.mrc").touch()
    ask(tmp_path / "empty.mrc").refused("empty.mrc", "is empty")
    whole = make_mrc("whole.mrc", noise).read_bytes()
    (tmp_path / "cut.mrc").write_bytes(whole[:9000])
    ask(tmp_path / "cut.mrc").refused("cut.mrc", "9000", "cut off")


@pytest.mark.parametrize(
    ("voxel", "side", "words"),
    [
        (0.0, 24, "does not say its voxel size"),
        (1.0, 80, "1.0 Å"),
        ((14.0, 14.0, 20.0), 24, "not cubes"),
    ],
)
def test_a_header_that_cannot_be_right(ask, make_mrc, voxel, side, words):
    data = np.random.default_rng(0).standard_normal((8, 8, side)).astype(np.float32)
    ask(make_mrc("odd.mrc", data, voxel)).refused("odd.mrc", words, "--voxel-size")


def test_nan_and_constant(ask, make_mrc, noise):
    noise[3, 4, 5:9] = np.nan
    ask(make_mrc("nan.mrc", noise)).refused("nan.mrc", "4 values", "--fill-nan")
    ask(make_mrc("flat.mrc", np.full_like(noise, 7))).refused("flat.mrc", "constant", "doctor")


def test_wrong_model_for_the_data(ask, make_mrc, noise):
    ask(make_mrc("fine.mrc", noise, 1.5)).refused("1.5 Å", "14 Å", "1.75 to 42 Å")


def test_two_inputs_of_one_name(ask, make_mrc, noise, tmp_path):
    first = make_mrc("a.mrc", noise)
    (tmp_path / "b").mkdir()
    second = shutil.copy(first, tmp_path / "b" / "a.mrc")
    ask(first, second).refused("same name", first)


def test_no_model(cli, tomogram, out, tmp_path):
    def ask(model):
        return cli("find", tomogram, "--model", model, "--out", out, "--device", "cpu")

    ask(tmp_path / "none.safetensors").refused("none.safetensors", "train")
    (tmp_path / "m.safetensors").write_text("no model at all, but long enough to be read")
    ask(tmp_path / "m.safetensors").refused("m.safetensors", "not a cryovox model")
    cli("models", tmp_path / "m.safetensors").refused("not a cryovox model")


def test_damaged_weights(cli, tomogram, model, teach, phantoms, out, tmp_path):
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(model.read_bytes()[:-200])
    told = cli("segment", tomogram, "--model", damaged, "--out", out, "--device", "cpu")
    told.refused("damaged.safetensors", "train it again")
    teach(phantoms, "--start", damaged).refused("damaged.safetensors", "damaged")


def test_start_from_a_model_that_has_nothing_in_common(teach, phantoms, model):
    teach(phantoms, "--start", model, "--model", "deepfinder").refused("shares no weight")


@pytest.mark.parametrize("command", ["segment", "find", "train", "pick", "extract", "convert"])
def test_output_that_cannot_be_written(cli, command, phantoms, tomogram, model, segmented, tmp_path):
    way = tmp_path / "in-the-way"
    way.write_text("a file")
    particles = phantoms / "particles" / "phantom_03.star"
    lines = {
        "segment": (tomogram, "--model", model, "--out", way, "--device", "cpu"),
        "find": (tomogram, "--model", model, "--out", way / "sub", "--device", "cpu"),
        "train": ("supervised", "--data", phantoms, "--out", way, "--steps", 1, "--device", "cpu"),
        "pick": (segmented / "scores", "--out", way),
        "extract": (particles, tomogram, "--box", 8, "--out", way / "set.zarr"),
        "convert": (tomogram, way / "copy.mrc"),
    }
    cli(command, *lines[command]).refused("in-the-way")
    assert way.read_text() == "a file"


def test_json_that_cannot_be_written_is_refused_before_the_work(cli, tomogram, model, out, tmp_path):
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep" / "precious").write_text("results")
    args = (tomogram, "--model", model, "--out", out, "--device", "cpu", "--json")
    cli("find", *args, tmp_path / "keep").refused("keep", "folder", "--json")
    cli("find", *args, tmp_path / "keep" / "precious" / "a.json").refused("precious", "--json")
    assert (tmp_path / "keep" / "precious").read_text() == "results"


def test_no_such_device(ask, teach, tomogram, phantoms, cli, model, out):
    import torch

    if torch.cuda.is_available():
        # CI has no device, so that the refusal is tested there
        pytest.skip("there is one: its absence cannot be told here")
    args = ("--model", model, "--out", out, "--device", "cuda")
    cli("segment", tomogram, *args).refused("--device", "cuda", "--device cpu")
    teach(phantoms, "--device", "cuda").refused("--device")


@pytest.mark.parametrize(
    "args",
    [
        ("--threshhold", "0.3"),
        ("--threshold", "2"),
        ("--threshold", "high"),
        ("--max-count", "0"),
    ],
)
def test_options_that_are_wrong(cli, segmented, out, args):
    told = cli("pick", segmented / "scores", "--out", out, *args)
    assert told.code == 2
    assert "Traceback" not in told.err
    assert args[0].strip("-").split("-")[0] in told.err
    assert "--help" in told.err
    assert len(told.err.splitlines()) < 20


def test_option_without_a_value(cli, out):
    assert cli("find", "x", "--out", out).code == 2
    cli("pick", "x", "--out", out, "--config").refused("--config", "names no file")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("loop:\n  stepps: 3\n", "loop.stepps"),
        ("network: {model: mvgformer, sise: s}\n", "network.sise"),
        ("loop: {steps: many}\n", "loop.steps"),
        ("loop: {max_time: soon}\n", "90s"),
        ("loop: {max_time: 20}\n", "20 has no unit: write 20s"),
        ("loop: {save_every: 20}\n", "20 has no unit: write 20s"),
        ("- a list\n", "no keys"),
        ("a: [", "YAML"),
        ("", "no keys"),
    ],
)
def test_settings_that_are_wrong(teach, phantoms, tmp_path, text, words):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    teach(phantoms, "--config", file).refused("settings.yaml", words)


@pytest.mark.parametrize("strategy", ["supervised", "vox-uda"])
@pytest.mark.parametrize("option", ["--max-time", "--save-every"])
def test_a_duration_without_a_unit(cli, phantoms, out, strategy, option):
    where = ("--data", phantoms) if strategy == "supervised" else ("--source", phantoms, "--target", phantoms)
    answer = cli("train", strategy, *where, "--out", out, option, "20")
    assert answer.code == 2
    assert "Traceback" not in answer.err + answer.out
    screen = " ".join((answer.err + answer.out).replace("│", " ").split())
    assert "20 has no unit: write 20s (seconds), 20m (minutes) or 20h (hours)" in screen
    assert not out.exists()


def test_a_time_of_a_benchmark_without_a_unit(cli, out):
    cli("benchmark", "subtomograms", "--out", out, "--time", "20").refused("--time", "20m (minutes)")
    cli("benchmark", "subtomograms", "--out", out, "--time", "soon", "--dry-run").refused("--time", "90s")
    assert not out.exists()


@pytest.mark.parametrize("text", ["a: [", "- 1\n", "threshold: 0.3\n", "pick:\n  threshhold: 1\n"])
def test_settings_of_several_kinds_that_are_wrong(cli, tmp_path, text):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    cli("find", "x", "--out", "y", "--model", "z", "--config", file).refused("settings.yaml")
    cli("find", "x", "--config", tmp_path / "none.yaml").refused("none.yaml", "no such file")
    cli("models", "--config", file).refused("--config", "no settings")


def test_patches_that_do_not_fit(teach, phantoms):
    teach(phantoms, "--model", "mvgformer", "--patch", 48).refused("--patch", "32", "48")
    teach(phantoms, "--model", "voxresnet", "--patch", 20).refused("--patch", "20", "24")


def test_networks_and_sizes_that_do_not_exist(teach, phantoms, tmp_path):
    teach(phantoms, "--model", "deepfindr").refused("deepfinder")
    teach(phantoms, "--model", "deepfinder", "--size", "xl").refused("xl", "paper")
    (tmp_path / "o.yaml").write_text("network: {options: {depth: 3}}\n")
    teach(phantoms, "--config", tmp_path / "o.yaml").refused("depth", "widths")


def test_data_that_are_not_there(teach, tmp_path):
    teach(tmp_path).refused("dataset.yaml")
    teach(tmp_path / "none").refused("none", "no such file")


def test_training_on_nan(teach, copied):
    with mrcfile.open(copied / "tomograms" / "phantom_00.mrc", mode="r+") as file:
        file.data[0, 0, :7] = np.nan
    teach(copied).refused("phantom_00.mrc", "7 values", "--fill-nan")
    with mrcfile.open(copied / "tomograms" / "phantom_00.mrc", mode="r+") as file:
        file.data[...] = 1
    teach(copied).refused("phantom_00.mrc", "constant")


def test_picks_outside_the_tomogram(teach, copied):
    swapped = Particles.of([[800.0, 300.0, 200.0]], "capsid")
    write_particles(copied / "particles" / "far.csv", swapped)

    def change(found):
        found["entries"][0].pop("labels")
        found["entries"][0]["particles"] = "particles/far.csv"

    spoil(copied, change)
    teach(copied).refused("far.csv", "1 of 1", "outside", "pixels")


def test_no_picks_and_not_exhaustive(teach, copied):
    write_particles(copied / "particles" / "none.csv", Particles.of(np.zeros((0, 3)), []))

    def change(found):
        found["entries"][0].update(particles="particles/none.csv", exhaustive=False)

    spoil(copied, change)
    teach(copied).refused("none.csv", "no picks", "exhaustive")


def test_unknown_species(teach, copied):
    write_particles(copied / "particles" / "odd.csv", Particles.of([[100.0, 100.0, 100.0]], "dragon"))
    spoil(copied, lambda found: found["entries"][0].update(particles="particles/odd.csv"))
    teach(copied).refused("odd.csv", "dragon", "capsid")


def test_entries_that_cannot_be_used(teach, copied):
    spoil(copied, lambda found: found["entries"][0].update(tomogram="tomograms/none.mrc"))
    teach(copied).refused("none.mrc", "phantom_00")
    spoil(copied, lambda found: found.update(entries=[], voxel_size=-1))
    teach(copied).refused("voxel_size", "-1")
    spoil(copied, lambda found: found.update(voxel_size=14.0))
    teach(copied).refused("dataset.yaml", "split: train")


def test_a_refused_training_does_not_block_the_folder(teach, cli, phantoms, copied, tmp_path):
    spoil(copied, lambda found: found["entries"][0].update(tomogram="tomograms/none.mrc"))
    teach(copied).refused("none.mrc")
    assert not (tmp_path / "out").exists()


def limited(cli, size, *args):
    """Run with files limited to *size* bytes, which the system answers much like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        return cli(*args)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # mrcfile leaves it open
def test_files_that_may_not_grow(cli, tomogram, model, out, tmp_path):
    args = ("segment", tomogram, "--model", model, "--out", out, "--device", "cpu", "--quiet")
    limited(cli, 12_000, *args).refused("larger than this system allows", code=1)
    limited(cli, 12_000, "convert", tomogram, out / "copy.mrc").refused("larger", code=1)


def test_a_training_whose_weights_do_not_fit_the_disk(cli, phantoms, tmp_path):
    quick = ("--steps", 1, "--batch", 1, "--patch", 16, "--device", "cpu", "--quiet")
    told = limited(cli, 100_000, "train", "supervised", "--data", phantoms, "--out", tmp_path / "run", *quick)
    told.refused("larger than this system allows", code=1)
    assert files(tmp_path / "run") == ["config.yaml", "manifest.json", "metrics.csv"]


@pytest.mark.parametrize("where", ["scores", "labels", "manifest.json"])
def test_a_disk_that_fills(cli, tomogram, model, tmp_path, monkeypatch, where):
    import os

    real = os.replace

    def full(source, target):
        if f"/{where}" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return real(source, target)

    out = tmp_path / "out"
    args = ("segment", tomogram, "--model", model, "--out", out, "--device", "cpu", "--quiet")
    with monkeypatch.context() as patched:
        patched.setattr("os.replace", full)
        cli(*args).refused("disk is full", where, code=1)
    kept = [name for name in files(out) if not name.startswith("scores/.phantom_03.unfinished/")]
    assert not [name for name in kept if name.startswith(".") or "/." in name]
    assert not (out / "manifest.json").exists()
    assert cli(*args).code == 0
    assert not list(out.glob("scores/.*"))
    assert (out / "labels" / "phantom_03.mrc").exists()


def test_a_small_disk(program, tomogram, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")  # the limit on file sizes above stands in for it
    try:
        program("convert", tomogram, disk / "copy.mrc").refused("disk is full", "copy.mrc", code=1)
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_program_ends_with_the_code_of_the_refusal(program, tmp_path):
    told = program("doctor", tmp_path / "none.mrc").refused("none.mrc", "check the path")
    assert told.out == ""
