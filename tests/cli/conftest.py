import json
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryovox.cli import main
from cryovox.models import options, sizes
from cryovox.models.networks import heatmap_unet, yopo
from cryovox.simulate.phantom import PhantomConfig
from cryovox.workflows.simulation.phantoms import write_phantoms

TINY = {
    "mvgformer": {"dim": 32, "layers": 2, "heads": 2, "context": [8, 16], "width": 8, "clusters": 8},
    "voxresnet": {"widths": [4, 8]},
    "deepfinder": {"widths": [4, 6, 8]},
    "heatmap-unet": {"widths": [4, 8], "blocks": [0, 0]},
    "residual-unet": {"widths": [4, 8], "blocks": [0, 0]},
    "edss3d": {"width": 4},
    "fcn8": {"widths": [4, 6, 8], "hidden": 16},
    "mednext": {"width": 4, "blocks": [1, 1, 1, 1, 1], "expansion": [1, 1, 1, 1, 1]},
    "ssn3d-ed": {"widths": [4, 6, 8]},
    "swin-unetr": {"width": 12, "depths": [1, 1, 1, 1]},
    "unet3d": {"widths": [4, 8, 16, 32]},
    "hybrid": {
        "encoder": "voxresnet", "size": "s", "options": {"widths": [4, 8]},
        "decoder": "mf", "dim": 8, "width": 4,
    },
    "multi-view": {"of": "voxresnet", "size": "s", "options": {"widths": [4, 8]}},
    "swift3d": {"embed": 8, "depths": [2, 1, 1, 1], "heads": [1, 2, 2, 4], "width": 8, "window": 2},
    "u-clstm": {"widths": [4, 6, 8]},
    "yopo": {"widths": [4, 5, 6], "hidden": 8, "window": 12},
}  # fmt: skip
QUICK = ("--batch", "2", "--lr", "1e-3", "--warmup", "1", "--device", "cpu", "--quiet")


@dataclass
class Answer:
    code: int
    out: str
    err: str

    def refused(self, *words: object, code: int = 2) -> "Answer":
        """One screen on stderr that says what is wrong and what to do, and no traceback."""
        assert self.code == code, (self.code, self.err)
        assert "Traceback" not in self.err + self.out
        assert "what to do" in self.err
        assert len(self.err.splitlines()) < 12, self.err
        for word in words:
            assert str(word) in self.err, (word, self.err)
        return self


@pytest.fixture(autouse=True)
def _plain_allocator(monkeypatch):
    monkeypatch.setenv("CRYOVOX_MALLOC", "0")


@pytest.fixture
def cli(capsys):
    """The command line in this process."""

    def call(*args: object) -> Answer:
        capsys.readouterr()
        try:
            code = main([str(a) for a in args])
        except SystemExit as end:
            code = int(end.code or 0)
        told = capsys.readouterr()
        return Answer(code, told.out, told.err)

    return call


@pytest.fixture
def program():
    """The command line in a process of its own."""

    def call(*args: object, first: str = "") -> Answer:
        code = f"{first}\nfrom cryovox.cli import run; run()"
        command = [sys.executable, "-c", code, *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        return Answer(done.returncode, done.stdout, done.stderr)

    return call


def quietly(*args: object) -> None:
    assert main([str(a) for a in args]) == 0


def write_config(folder: Path, network: str) -> Path:
    file = folder / f"{network}.yaml"
    small = TINY.get(network) or options(network, sizes(network)[0])
    file.write_text(json.dumps({"network": {"model": network, "options": small}}))
    return file


def train(data: Path, out: Path, network: str, steps: int, *more: object) -> Path:
    patch = () if network in ("mednext", "mvgformer", "swin-unetr") else ("--patch", 16)
    config = write_config(out.parent, network)
    args = ("--data", data, "--out", out, "--config", config, "--steps", steps, "--validate-every", steps)
    # hardly trained, a heatmap network is to score about 0.1: the tests pick with less
    with pytest.MonkeyPatch.context() as context:
        for module in (heatmap_unet, yopo):
            context.setattr(module, "PRIOR_LOGIT", -2.19)
        quietly("train", "supervised", *args, *patch, *QUICK, *more)
    return out / "model.safetensors"


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory) -> Path:
    """A dataset of four small phantoms with little noise."""
    config = PhantomConfig(shape=(32, 64, 64), count=8, snr=2.0)
    splits = ("train", "train", "val", "test")
    return write_phantoms(tmp_path_factory.mktemp("data") / "phantoms", config, splits, 0)


@pytest.fixture(scope="session")
def tomogram(phantoms) -> Path:
    return phantoms / "tomograms" / "phantom_03.mrc"


@pytest.fixture(scope="session")
def model(phantoms, tmp_path_factory) -> Path:
    """A network that has hardly learned, with thresholds low enough to pick something."""
    return train(phantoms, tmp_path_factory.mktemp("model") / "run", "heatmap-unet", 3)


@pytest.fixture(scope="session")
def other_model(phantoms, tmp_path_factory) -> Path:
    return train(phantoms, tmp_path_factory.mktemp("other") / "run", "heatmap-unet", 2, "--seed", 1)


@pytest.fixture(scope="session")
def tiny(phantoms, model, tmp_path_factory):
    """A network of the kind asked for, trained for three steps."""

    def make(network: str) -> Path:
        if network == "heatmap-unet":
            return model
        return train(phantoms, tmp_path_factory.mktemp(network) / "run", network, 3)

    return make


@pytest.fixture(scope="session")
def segmented(tomogram, model, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("segmented") / "out"
    quietly("segment", tomogram, "--model", model, "--out", out, "--device", "cpu", "--quiet")
    return out


@pytest.fixture
def make_mrc(tmp_path):
    """Write an MRC file whose header says what it is told to say."""

    def make(name: str, data: np.ndarray, voxel: object = 14.0) -> Path:
        path = tmp_path / name
        with warnings.catch_warnings(), mrcfile.new(path) as file:
            warnings.simplefilter("ignore", RuntimeWarning)  # NaN
            file.set_data(data)
            file.set_volume()
            file.voxel_size = voxel
        return path

    return make


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((24, 32, 40)).astype(np.float32)


def everything(folder: Path) -> dict[str, int]:
    """Every file with the time it was written."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
