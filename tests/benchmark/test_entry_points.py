"""Networks, suites and strategies of another package are found by their entry points."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-strategy.md"
CODE = """
    from torch import nn

    from cryovox.benchmark.suite import Budget, Method, Plan, Suite
    from cryovox.models import build, options


    class Thin(nn.Module):
        stride, output_stride, patch, fixed_patch = 1, 1, 16, False
        kind, activation = "mask", "softmax"
        sizes = {"s": {"width": 3}}

        def __init__(self, in_channels, out_channels, *, width=8):
            super().__init__()
            self.all = nn.Sequential(
                nn.Conv3d(in_channels, width, 3, padding=1), nn.ReLU(), nn.Conv3d(width, out_channels, 1)
            )

        def forward(self, x):
            return self.all(x)


    class Weighing(Suite):
        name, title, source, headlines, reference = "weighing", "Weights", "us", ("weights",), "voxresnet"

        def plan(self, tier):
            return Plan((Method("voxresnet", "voxresnet"),), (Budget(steps=1),), seeds=1)

        def prepare(self, folder, tier, data):
            return {}

        def run(self, job, folder, out, device):
            row = job.method
            network = build(row.network, options(row.network, row.size), 1, 2)
            return {"all": {"weights": sum(p.numel() for p in network.parameters())}}


    WEIGHING = Weighing()
"""
POINTS = """
    [cryovox.models]
    thin = outside:Thin

    [cryovox.suites]
    weighing = outside:WEIGHING

    [cryovox.strategies]
    squared = squared:Squared
"""


@pytest.fixture
def outside(tmp_path):
    """What `pip install` of another package leaves."""
    (tmp_path / "outside.py").write_text(dedent(CODE))
    (tmp_path / "squared.py").write_text(PAGE.read_text().split("```python\n")[1].split("```")[0])
    known = tmp_path / "outside-1.0.dist-info"
    known.mkdir()
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (known / "entry_points.txt").write_text(dedent(POINTS))
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def cryovox(outside, *words):
    command = [sys.executable, "-c", "from cryovox.cli import run; run()", *map(str, words)]
    return subprocess.run(command, env=outside, capture_output=True, text=True, check=False)


def test_a_network_and_a_suite_from_outside_meet(outside, tmp_path):
    out = tmp_path / "out"
    done = cryovox(outside, "benchmark", "weighing", "--out", out, "--methods", "voxresnet", "thin")
    assert done.returncode == 0, done.stderr
    weights = 3 * 27 + 3 + 3 * 2 + 2
    assert f"| thin | {weights:.3f} |" in done.stdout


def test_a_suite_that_nobody_has_is_refused_with_the_nearest(outside, tmp_path):
    done = cryovox(outside, "benchmark", "weighin", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "did you mean 'weighing'" in done.stderr


def test_a_strategy_from_outside_trains_with_its_own_settings(outside, tmp_path):
    data, out = tmp_path / "set.zarr", tmp_path / "run"
    simulated = cryovox(
        outside, "simulate", "--preset", "subtomogram-50", "--species", "groel", "--count", 4, "--out", data
    )
    assert simulated.returncode == 0, simulated.stderr
    done = cryovox(
        outside, "train", "squared", "--data", data, "--out", out, "--model", "thin", "--steps", 2,
        "--batch", 1, "--power", 1.5, "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "power: 1.5" in (out / "config.yaml").read_text()
    assert '"train squared"' in (out / "manifest.json").read_text()


def test_a_strategy_that_nobody_has_is_refused(outside, tmp_path):
    done = cryovox(outside, "train", "squarred", "--data", tmp_path, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "did you mean 'squared'" in done.stderr
