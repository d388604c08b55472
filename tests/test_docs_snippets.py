"""The Python, YAML and TOML blocks of the README and of every page in docs are run or read."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^( *)```(python|yaml|toml)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[Any]:
    """Blocks of one language, with the page and the number of each."""
    return [
        pytest.param(page.name, dedent(match[3]), id=f"{page.name}-{number}")
        for page in PAGES
        for number, match in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8")))
        if match[2] == language
    ]


def phantoms(folder: Path, count: int = 1) -> Path:
    from cryovox.simulate.phantom import PhantomConfig
    from cryovox.workflows.simulation.phantoms import write_phantoms

    return write_phantoms(folder, PhantomConfig(shape=(16, 32, 32), count=4, snr=2.0), ("train",) * count, 0)


def subtomogram_set(file: Path) -> None:
    """Twelve boxes with their masks."""
    from cryovox.core.particles import Particles, Species
    from cryovox.formats import subtomograms

    rng = np.random.default_rng(0)
    masks = np.zeros((12, 16, 16, 16), np.uint8)
    masks[:, 5:11, 5:11, 5:11] = 1
    images = (3.0 * masks + rng.normal(size=masks.shape)).astype(np.float32)
    subtomograms.write(
        file,
        subtomograms.Subtomograms(
            voxel_size=10.0,
            particles=Particles.of(np.full((12, 3), 80.0), ["ball"] * 12),
            species=(Species(name="ball", label=1, radius=30.0),),
            corners=np.zeros((12, 3), np.intp),
            images=images,
            masks=masks,
            contrast="bright",
        ),
    )


def readme(code: str) -> dict[str, Any]:
    """A tomogram and a model that has not learned, under the names of the README."""
    import torch

    from cryovox.core.particles import Species
    from cryovox.models import build
    from cryovox.models.card import Card
    from cryovox.models.checkpoint import save_model

    volume = phantoms(Path("phantoms")) / "tomograms" / "phantom_00.mrc"
    Path("my-dataset/tomograms").mkdir(parents=True)
    volume.rename("my-dataset/tomograms/TS_01.mrc")
    torch.manual_seed(0)
    small = {"widths": [4, 8], "blocks": [0, 0]}
    card = Card(
        network="heatmap-unet", options=small, activation="sigmoid", kind="heatmap", output_stride=2,
        out_channels=1, patch=16, voxel_size=14.0, contrast="dark", thresholds={"ball": 0.001},
        species=(Species(name="ball", label=1, radius=60.0),),
    )  # fmt: skip
    Path("run").mkdir()
    save_model(Path("run/model.safetensors"), build("heatmap-unet", small, 1, 1), card)
    result = executed(code)
    assert Path("TS_01.csv").exists()
    assert result["failed"] == {}
    return result


def network(code: str) -> dict[str, Any]:
    """The class predicts, and the row is an entry of the table."""
    import torch

    from cryovox.models import NetworkSpec

    if "class" not in code:
        return {"row": eval(f"{{{code}}}", {"NetworkSpec": NetworkSpec})}
    result = executed(code)
    assert result["Thin"](1, 3, width=4)(torch.zeros(2, 1, 8, 8, 8)).shape == (2, 3, 8, 8, 8)
    return result


def strategy(code: str) -> dict[str, Any]:
    """Its loss reaches the weights; tests/benchmark/test_entry_points.py trains with it."""
    import torch

    from cryovox.data.streams import Batch

    result = executed(code)
    target = torch.zeros(2, 8, 8, 8)
    batch = Batch(torch.randn(2, 1, 8, 8, 8), target, torch.ones_like(target, dtype=torch.bool))
    squared = result["Squared"](torch.nn.Conv3d(1, 2, 3, padding=1), result["SquaredConfig"](), "squared")
    squared.losses({"labeled": batch}, 0.5)["power"].backward()
    assert squared.student.weight.grad.abs().sum() > 0
    return result


def suite(code: str) -> dict[str, Any]:
    """It has a plan and a row without training; tests/benchmark/test_entry_points.py runs one."""
    result = executed(code)
    assert len(result["MINE"].plan("cpu").jobs()) == 12
    assert result["MINE"].references(Path())
    return result


def shrec(code: str) -> dict[str, Any]:
    """Ten empty models in the layout of the challenge."""
    from cryovox.core.volume import Volume
    from cryovox.formats import write_volume

    for number in range(10):
        folder = Path("shrec2021/full_dataset") / f"model_{number}"
        volume = np.random.default_rng(number).normal(size=(8, 12, 12)).astype(np.float32)
        write_volume(folder / "reconstruction.mrc", Volume(volume, 10.0))
        write_volume(folder / "class_mask.mrc", Volume(np.zeros_like(volume), 10.0))
        (folder / "particle_locations.txt").write_text("1BXN 4 4 4 0 0 0\n")
    result = executed(code)
    assert Path("shrec2021-paper/dataset.yaml").exists()
    return result


def set_training(code: str) -> dict[str, Any]:
    """Two steps instead of a training."""
    for name in ("set", "test"):
        subtomogram_set(Path(f"{name}.zarr"))
    short = 'TrainConfig(loop={"steps": 2, "warmup": 1, "batch": 2, "validate_every": 2}, '
    small = 'network={"model": "voxresnet", "options": {"widths": [4, 8]}}, patches={"patch": 16})'
    result = executed(code.replace("TrainConfig()", short + small))
    assert result["rows"]
    return result


def merged_lists(code: str) -> dict[str, Any]:
    """Two lists of one tomogram become one."""
    from cryovox import Volume, read_particles, write_particles, write_volume
    from cryovox.core.particles import Particles

    tomogram = Volume(np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32), 10.0)
    write_volume("TS_01.mrc", tomogram)
    for number, name in enumerate(("before", "yes")):
        particles = Particles.of(np.array([[50.0, 60.0, 70.0 + number]]), ["ribosome"])
        write_particles(f"{name}.star", particles, tomogram=tomogram, tomogram_name="TS_01")
    result = executed(code)
    assert len(read_particles("TS_01.star", tomogram=tomogram)) == 2
    return result


PREPARED: dict[str, Callable[[str], dict[str, Any]]] = {
    "README.md": readme,
    "add-a-network.md": network,
    "add-a-strategy.md": strategy,
    "add-a-suite.md": suite,
    "datasets.md": shrec,
    "subtomograms.md": set_training,
    "suggest.md": merged_lists,
}
"""Page -> function that provides the files of its blocks, runs them and checks the result."""


def executed(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(code, "page", "exec"), names)
    return names


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_python_runs(page, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert PREPARED[page](code)


@pytest.mark.parametrize(("page", "code"), blocks("toml"))
def test_entry_points_are_those_of_the_package(page, code):
    (group,) = tomllib.loads(code)["project"]["entry-points"]
    source = "".join(f.read_text(encoding="utf-8") for f in (ROOT / "src").rglob("__init__.py"))
    assert f'"{group}"' in source


@pytest.mark.parametrize(("page", "code"), blocks("yaml"))
def test_settings_are_known(page, code, tmp_path):
    from cryovox.core.config import from_yaml
    from cryovox.core.dataset import Dataset, Entry
    from cryovox.workflows.cluster.config import ClusterConfig
    from cryovox.workflows.config import TrainConfig
    from cryovox.workflows.training.simulated import StreamConfig

    values = yaml.safe_load(code)
    if isinstance(values, list):
        assert [Entry.model_validate(value) for value in values]
        return
    file = tmp_path / "block.yaml"
    file.write_text(code)
    kind = Dataset if "entries" in values else TrainConfig if "network" in values else StreamConfig
    kind = ClusterConfig if {"kind", "tls"} & values.keys() else kind
    assert from_yaml(kind, file)
