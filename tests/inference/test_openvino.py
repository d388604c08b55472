"""Networks computed by OpenVINO have the scores of torch.

They run in a process of their own: after OpenVINO has computed in a process, a signal that a test of another
file sends to this process may end it.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cryovox.core.errors import RequestError
from cryovox.inference import openvino
from cryovox.inference.memory import tile_bytes
from cryovox.inference.openvino import OpenVinoNetwork
from cryovox.inference.stream import TilePlan, score
from cryovox.models import build, options

OWN_PROCESS = "CRYOVOX_OPENVINO_TESTS"
alone = pytest.mark.skipif(
    OWN_PROCESS not in os.environ, reason="runs within test_all_in_a_process_of_their_own"
)


@pytest.mark.skipif(OWN_PROCESS in os.environ, reason="this is that process")
def test_all_in_a_process_of_their_own():
    files = [__file__, Path(__file__).parents[1] / "cli" / "test_backend.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, files)]
    done = subprocess.run(command, env={**os.environ, OWN_PROCESS: "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def network(name, size="xs"):
    torch.manual_seed(0)
    return build(name, options(name, size), 1, 3).eval()


def plan(own, tile=32, bf16=False):
    return TilePlan(tile, 0.5, own.output_stride, own.activation, bf16=bf16)


@alone
@pytest.mark.parametrize(
    ("name", "size"), [("heatmap-unet", "xs"), ("voxresnet", "xs"), ("mvgformer", "s"), ("mednext", "s")]
)
def test_scores_are_those_of_torch(name, size):
    own = network(name, size)
    other = OpenVinoNetwork(own, bf16=False)
    for batch in (2, 1):  # single tiles have convolutions of their own in torch
        images = torch.randn(batch, 1, 32, 32, 32)
        np.testing.assert_allclose(score(other, images, plan(own)), score(own, images, plan(own)), atol=1e-4)


@alone
def test_bfloat16_rounds_scores():
    own = network("heatmap-unet")
    images = torch.randn(1, 1, 32, 32, 32)
    half = score(OpenVinoNetwork(own, bf16=True), images, plan(own, bf16=True))
    np.testing.assert_allclose(half, score(own, images, plan(own)), atol=0.05)


@alone
def test_its_memory_is_computed_from_shapes():
    own = network("heatmap-unet")
    assert tile_bytes(OpenVinoNetwork(own, bf16=False), plan(own)) == tile_bytes(own, plan(own))


@alone
def test_other_scores_are_refused(monkeypatch):
    monkeypatch.setattr(openvino, "LARGEST_DIFFERENCE", {False: -1.0, True: -1.0})
    own = network("voxresnet")
    with pytest.raises(RequestError, match=r"scores of openvino differ"):
        score(OpenVinoNetwork(own, bf16=False), torch.randn(1, 1, 32, 32, 32), plan(own))


@alone
def test_a_network_that_it_cannot_compute_is_refused():
    class Strange(torch.nn.Module):
        output_stride, activation = 1, "sigmoid"

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, images):
            return torch.linalg.eigvalsh(images) * self.weight

    with pytest.raises(RequestError, match="cannot compute this network"):
        OpenVinoNetwork(Strange(), bf16=False)(torch.randn(1, 1, 4, 4, 4))


@alone
def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RequestError, match=r"cryovox\[openvino\]"):
        OpenVinoNetwork(network("voxresnet"), bf16=False)
