import json
from types import SimpleNamespace

import pytest
import torch

from cryovox.core.cache import cache_folder
from cryovox.core.config import validated
from cryovox.core.particles import Species
from cryovox.inference.precision import Comparison
from cryovox.models import build, options
from cryovox.models.card import Card
from cryovox.training.config import LoopConfig
from cryovox.training.precision import compare_training, training_precision
from cryovox.workflows.config import train_config
from cryovox.workflows.training.run import measured_loop

SPECIES = (Species(name="a", label=1, radius=60.0),)
CARD = Card(
    network="voxresnet", options=options("voxresnet", "xs"), out_channels=2, activation="softmax",
    kind="mask", patch=16, species=SPECIES, voxel_size=10.0, contrast="dark",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CRYOVOX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build(CARD.network, CARD.options, 1, CARD.out_channels)


def test_a_step_is_compared_in_both_precisions_and_the_network_stays_as_it_is(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = compare_training(network, torch.randn(1, 1, 16, 16, 16), "softmax", seconds=0.0)
    assert found.gain > 0
    assert 0 < found.difference < 0.1
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        (Comparison(1.6, 0.01), "bf16-mixed"),
        (Comparison(0.1, 0.01), "32-true"),
        (Comparison(1.6, 0.3), "32-true"),
    ],
)
def test_what_is_faster_and_agrees_is_taken_and_remembered(network, comparison, expected):
    seen = []

    def measure(network, images, activation):
        seen.append((tuple(images.shape), activation))
        return comparison

    state = torch.get_rng_state()
    for _ in range(2):
        assert training_precision(network, CARD, 3, "cpu", measure) == expected
    assert seen == [((3, 1, 16, 16, 16), "softmax")]
    assert torch.equal(torch.get_rng_state(), state)
    training_precision(network, CARD, 2, "cpu", measure)
    assert len(seen) == 2  # another batch is another measurement
    assert len(json.loads((cache_folder() / "precision.json").read_text())) == 2


def test_auto_is_a_precision():
    assert validated(LoopConfig, {"precision": "auto"}, "test").precision == "auto"


@pytest.mark.parametrize(
    ("settings", "strategy", "expected"),
    [
        ({}, "supervised", "auto"),
        ({"steps": 200}, "supervised", "auto"),
        ({"steps": 199}, "supervised", "32-true"),
        ({"max_time": "60s"}, "supervised", "auto"),
        ({"max_time": "59s"}, "supervised", "32-true"),
        ({"max_time": "2m", "steps": 10}, "supervised", "32-true"),
        ({}, "vox-uda", "32-true"),  # scores after such trainings were not compared
        ({"precision": "bf16-mixed", "steps": 10}, "vox-uda", "bf16-mixed"),
        ({"precision": "32-true"}, "supervised", "32-true"),
    ],
)
def test_the_default_measures_where_the_training_repays_it(settings, strategy, expected):
    assert validated(LoopConfig, settings, "test").precision_of(strategy) == expected


def test_processes_of_several_nodes_agree(monkeypatch):
    config = validated(train_config("supervised"), {"network": {"model": "voxresnet"}}, "test")
    prepared = SimpleNamespace(network=None, card=CARD)  # nothing is measured
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert measured_loop(config, prepared, "cuda", 1).precision == "bf16-mixed"
    assert measured_loop(config, prepared, "cpu", 1).precision == "32-true"
