"""What may not be read is told as such; outputs are as readable as the user's other files."""

import gzip
import os
import shutil
import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def closed(tomogram, model, phantoms):
    """Copies of all kinds of inputs, which this process may not read."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    shutil.copy(tomogram, folder / "a.mrc")
    shutil.copy(model, folder / "model.safetensors")
    shutil.copytree(phantoms, folder / "data")
    shutil.copy(phantoms / "particles" / "phantom_03.star", folder / "a.star")
    (folder / "a.mrc.gz").write_bytes(gzip.compress(tomogram.read_bytes()))
    (folder / "s.yaml").write_text("seed: 1\n")
    (folder / "b.zarr").mkdir()
    for path in [*folder.rglob("*.*"), folder / "b.zarr"]:
        path.chmod(0)
    (folder / "w").mkdir()
    (folder / "w").chmod(0o777)
    was = os.geteuid()
    if was == 0:
        import cryovox.workflows.find  # noqa: F401  (what is imported later may not be readable)

        os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(was)
        (folder / "b.zarr").chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("doctor a.mrc", "a.mrc"),
        ("doctor a.mrc.gz", "a.mrc.gz"),
        ("doctor b.zarr", "b.zarr"),
        ("convert a.mrc w/OUT.mrc", "a.mrc"),
        ("convert a.star w/OUT.csv", "a.star"),
        ("convert b.zarr w/OUT.mrc", "b.zarr"),
        ("pick b.zarr --out w/OUT", "b.zarr"),
        ("models model.safetensors", "model.safetensors"),
        ("find a.mrc --model model.safetensors --out w/OUT", "model.safetensors"),
        ("segment a.mrc --model model.safetensors --out w/OUT", "model.safetensors"),
        ("denoise a.mrc --out w/OUT", "a.mrc"),
        ("evaluate particles --truth a.star --picks a.star --radius 100", "a.star"),
        ("train supervised --data data --out w/OUT", "dataset.yaml"),
        ("train supervised --data data --out w/OUT --config s.yaml", "s.yaml"),
        ("extract a.star a.mrc --box 8 --out w/OUT.zarr", "a.mrc"),
    ],
)
def test_what_may_not_be_read_is_told(cli, closed, monkeypatch, command, named):
    monkeypatch.chdir(closed)
    told = cli(*command.split()).refused(named, "permission denied", "chmod")
    assert "is not a" not in told.err


def test_outputs_are_as_readable_as_any_new_file(cli, model, tomogram, tmp_path):
    out, plain = tmp_path / "out", tmp_path / "plain"
    assert cli("find", tomogram, "--model", model, "--out", out, "--device", "cpu", "--quiet").code == 0
    plain.touch()
    files = [p for folder in (model.parent, out) for p in folder.rglob("*") if p.is_file()]
    assert {"model.safetensors", "state.safetensors", "report.html"} <= {p.name for p in files}
    modes = {str(p): oct(p.stat().st_mode) for p in files}
    assert set(modes.values()) == {oct(plain.stat().st_mode)}, modes


def test_errors_of_writing_name_the_output(cli, tomogram, tmp_path, monkeypatch):
    opened = Path.open

    def refuse(self, mode="r", *args, **options):
        if mode == "wb":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, mode, *args, **options)

    monkeypatch.setattr("pathlib.Path.open", refuse)
    told = cli("convert", tomogram.parents[1] / "particles" / "phantom_03.star", tmp_path / "o.csv",
               "--tomogram", tomogram)  # fmt: skip
    told.refused(tmp_path / "o.csv", "ermission denied")
    assert ".cryovox" not in told.err
