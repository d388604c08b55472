"""Mistakes that users make: each one ends with one screen that names the file or option and what to do.

Code 2: nothing was started. Code 1: some of several inputs failed. `test_refusals.py` has more of each kind.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import yaml

SCREEN = 24
"""Lines of a terminal."""


@dataclass(frozen=True)
class Files:
    """Correct files, and a folder with wrong ones."""

    folder: Path
    phantoms: Path
    tomogram: Path
    labels: Path
    star: Path
    model: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    @property
    def out(self) -> Path:
        return self.folder / "out"


def mrc(path: Path, data: np.ndarray, voxel: object = 14.0) -> None:
    with mrcfile.new(path) as file:
        file.set_data(data)
        if data.ndim == 3:
            file.set_volume()
        file.voxel_size = voxel


def star(tags: str, row: str) -> str:
    return "data_particles\nloop_\n" + "".join(f"_rln{tag}\n" for tag in tags.split()) + row + "\n"


@pytest.fixture(scope="module")
def files(phantoms, model, tmp_path_factory) -> Files:
    folder, rng = tmp_path_factory.mktemp("mistakes"), np.random.default_rng(0)
    noise = rng.standard_normal((24, 32, 40)).astype(np.float32)
    for name, voxel in (("good", 14.0), ("no-size", 0.0), ("oblong", (14.0, 14.0, 20.0)), ("fine", 1.5)):
        mrc(folder / f"{name}.mrc", noise, voxel)
    mrc(folder / "one.mrc", rng.standard_normal((8, 8, 80)).astype(np.float32), 1.0)
    mrc(folder / "fft.mrc", noise.astype(np.complex64))
    mrc(folder / "flat.mrc", np.full_like(noise, 7))
    mrc(folder / "holes.mrc", noise)
    with mrcfile.open(folder / "holes.mrc", mode="r+") as file:
        file.data[3, 4, 5:9] = np.nan
    shutil.copy(folder / "good.mrc", folder / "series.st")
    whole = (folder / "good.mrc").read_bytes()
    (folder / "cut.mrc").write_bytes(whole[:9000])
    (folder / "empty.mrc").touch()
    (folder / "notes.mrc").write_text("these are notes, not voxels\n" * 80)
    (folder / "notes.docx").write_text("words")
    (folder / "cut.mrc.gz").write_bytes(b"\x1f\x8b" + whole[:500])
    (folder / "nothing").mkdir()
    (folder / "pixels.star").write_text(star("CoordinateX CoordinateY CoordinateZ", "1 2 3"))
    centered = " ".join(f"CenteredCoordinate{axis}Angst" for axis in "XYZ")
    (folder / "centered.star").write_text(star(centered, "1 2 3"))
    (folder / "incomplete.star").write_text(star("CoordinateX CoordinateY", "1 2"))
    zero = star("CoordinateX CoordinateY CoordinateZ TomoTiltSeriesPixelSize ImagePixelSize", "1 2 3 0 10")
    (folder / "zero.star").write_text(zero)
    (folder / "other.star").write_text(star("TomoName CoordinateX CoordinateY CoordinateZ", "TS_77 1 2 3"))
    (folder / "no-header.csv").write_text("7,100,200,300\n7,110,220,330\n")
    (folder / "no-x.csv").write_text("a,y,z\n1,2,3\n")
    (folder / "text.csv").write_text("x,y,z\n1,2,three\n")
    (folder / "fine.csv").write_text("x,y,z\n100,200,100\n")
    (folder / "m.safetensors").write_text("no model at all, but long enough to be read")
    (folder / "settings.yaml").write_text("loop:\n  stepps: 3\n")
    facts = yaml.safe_load((phantoms / "dataset.yaml").read_text())
    facts["voxel"] = facts.pop("voxel_size")
    (folder / "misspelled").mkdir()
    (folder / "misspelled" / "dataset.yaml").write_text(yaml.safe_dump(facts))
    (folder / "in-the-way").write_text("a file")
    return Files(
        folder,
        phantoms,
        phantoms / "tomograms" / "phantom_03.mrc",
        phantoms / "labels" / "phantom_03.mrc",
        phantoms / "particles" / "phantom_03.star",
        model,
    )


def segment(name: str) -> Callable[[Files], tuple]:
    return lambda f: ("segment", f / name, "--model", f.model, "--out", f.out, "--device", "cpu", "--quiet")


def convert(*names: str, to: str = "made.csv") -> Callable[[Files], tuple]:
    options = [name for name in names if not Path(name).suffix]
    return lambda f: ("convert", *(f / n for n in names if n not in options), f / to, *options)


def train(*options: object) -> Callable[[Files], tuple]:
    quick = ("--out", "out", "--steps", 1, "--device", "cpu", "--quiet")
    return lambda f: ("train", "supervised", "--data", f.phantoms, *quick[:1], f.out, *quick[2:], *options)


MISTAKES = {  # the mistake -> request, exit code, words of the screen
    "a command that does not exist": (lambda f: ("fnd", f.tomogram), 2, ["fnd", "find"]),
    "an option with a slip": (
        lambda f: ("pick", f.labels, "--out", f.out, "--treshold", 0.3), 2, ["--treshold", "--help"]),
    "a value out of range": (
        lambda f: ("pick", f.labels, "--out", f.out, "--threshold", 2), 2, ["threshold"]),
    "a time without a unit": (train("--max-time", 20), 2, ["20m (minutes)"]),
    "a setting with a slip": (
        lambda f: (*train()(f), "--config", f / "settings.yaml"), 2, ["loop.stepps", "settings.yaml"]),
    "a path with a slip": (segment("goood.mrc"), 2, ["goood.mrc", "no such file"]),
    "a pattern that matches nothing": (segment("TS_*.mrc"), 2, ["TS_*.mrc", "matches no file"]),
    "a folder without tomograms": (segment("nothing"), 2, ["nothing", "the folder holds no"]),
    "a file of another kind": (segment("notes.docx"), 2, ["notes.docx", ".mrc"]),
    "a text file called .mrc": (segment("notes.mrc"), 2, ["notes.mrc", "not an MRC file"]),
    "an empty file": (segment("empty.mrc"), 2, ["empty.mrc", "is empty"]),
    "an incomplete copy": (segment("cut.mrc"), 2, ["cut.mrc", "cut off"]),
    "an incomplete download": (segment("cut.mrc.gz"), 2, ["cut.mrc.gz", "download the file again"]),
    "a tilt series": (segment("series.st"), 2, ["series.st", "images"]),
    "a Fourier transform": (segment("fft.mrc"), 2, ["fft.mrc", "complex"]),
    "no voxel size in the header": (segment("no-size.mrc"), 2, ["no-size.mrc", "--voxel-size"]),
    "1 Å in the header of a tomogram": (segment("one.mrc"), 2, ["one.mrc", "1.0 Å", "--voxel-size"]),
    "voxels that are not cubes": (segment("oblong.mrc"), 2, ["oblong.mrc", "not cubes"]),
    "a tomogram before binning": (segment("fine.mrc"), 2, ["fine.mrc", "1.5 Å", "14 Å"]),
    "NaN in a tomogram": (segment("holes.mrc"), 2, ["holes.mrc", "4 values", "--fill-nan"]),
    "a constant tomogram": (segment("flat.mrc"), 2, ["flat.mrc", "constant"]),
    "a file that is no model": (
        lambda f: ("find", f.tomogram, "--model", f / "m.safetensors", "--out", f.out), 2, ["m.safetensors"]),
    "one broken tomogram of two": (
        lambda f: ("doctor", f / "good.mrc", f / "cut.mrc.gz"),
        1, ["failed: cut:", "download the file again"]),
    "the output is the input": (convert("good.mrc", to="good.mrc"), 2, ["good.mrc", "the input itself"]),
    "the output exists": (convert("good.mrc", to="flat.mrc"), 2, ["flat.mrc", "--overwrite"]),
    "the output folder is a file": (convert("good.mrc", to="in-the-way/a.mrc"), 2, ["in-the-way"]),
    "several volumes to one": (convert("good.mrc", "flat.mrc", to="a.zarr"), 2, ["a.zarr", "{name}"]),
    "particles of a volume": (
        convert("fine.csv", to="made.mrc"), 2, ["made.mrc: is a volume, and fine.csv is a particle list"]),
    "a list from a volume": (
        convert("good.mrc", to="made.csv"), 2, ["made.csv: is a particle list, and good.mrc is a volume"]),
    "an input of no known format": (convert("notes.docx", to="made.csv"), 2, ["notes.docx: has the ending"]),
    "an output of no known format": (convert("fine.csv", to="made.xyz"), 2, ["made.xyz: has the ending"]),
    "pixels of unknown size": (convert("pixels.star"), 2, ["pixels.star", "--voxel-size"]),
    "a pixel size of 0": (convert("zero.star"), 2, ["rlnTomoTiltSeriesPixelSize", "--voxel-size"]),
    "centered coordinates without a tomogram": (convert("centered.star"), 2, ["centered.star", "--tomogram"]),
    "a column is missing": (convert("incomplete.star"), 2, ["incomplete.star", "rlnCoordinateZ"]),
    "no header line, perhaps a class first": (convert("no-header.csv"), 2, ["no-header.csv", "x,y,z"]),
    "no column x": (convert("no-x.csv", to="made.star"), 2, ["no-x.csv", "column x"]),
    "a word for a number": (convert("text.csv", to="made.tsv"), 2, ["text.csv", "line 2", "three"]),
    "the list of another tomogram": (
        lambda f: ("extract", f / "other.star", f.tomogram, "--box", 8, "--out", f / "e.zarr"),
        2, ["other.star", "TS_77", "phantom_03"]),
    "a folder where one tomogram is read": (
        lambda f: ("extract", f / "other.star", f / "nothing", "--box", 8, "--out", f / "e.zarr"),
        2, ["nothing", "is a folder"]),
    "a list for --against that is a folder": (
        lambda f: ("doctor", "--particles", f / "fine.csv", "--against", f / "nothing"),
        2, ["nothing", "is a folder"]),
    "maps of different sizes": (
        lambda f: ("evaluate", "labels", "--truth", f.labels, "--predictions", f / "good.mrc"),
        2, ["good.mrc"]),
    "a key of dataset.yaml with a slip": (
        lambda f: ("train", "supervised", "--data", f / "misspelled", "--out", f.out),
        2, ["dataset.yaml", "voxel"]),
    "a network that does not exist": (train("--model", "unet"), 2, ["unet3d"]),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_screen_names_the_mistake(cli, files, mistake):
    request, code, words = MISTAKES[mistake]
    told = cli(*request(files))
    assert told.code == code, (told.code, told.out, told.err)
    assert "Traceback" not in told.out + told.err
    screen = " ".join(told.err.replace("│", " ").split())
    assert len(told.err.splitlines()) <= SCREEN
    for word in words:
        assert word in screen, told.err
    assert not files.out.exists() or not any(files.out.iterdir())


def test_there_are_enough_mistakes():
    assert len(MISTAKES) >= 25
