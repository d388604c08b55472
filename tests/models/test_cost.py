import json
from pathlib import Path

import pytest
import torch

from cryovox.models import MODELS, build
from cryovox.models import cost as cost_module
from cryovox.models.cost import cost, cost_table

COMMITTED = Path(cost_module.__file__).with_name("costs.json")
REMEDY = (
    "run `python -m cryovox.models.cost > src/cryovox/models/costs.json` and `python benchmarks/render.py`"
)


def test_weights_and_operations_of_a_network_counted_by_hand():
    taps, voxels, width, classes = 27, 32**3, 16, 16
    found = cost("edss3d", "s")
    inner = 4 * (taps * width * width + width)
    assert found.parameters == (taps * width + width) + inner + (width * classes + classes)
    fine = taps * width + taps * width * width + width * classes  # first, last, classifier
    middle = 2 * taps * width * width / 8
    coarse = taps * width * width / 64
    assert found.flops == 2 * voxels * (fine + middle + coarse)
    assert found.flops_per_voxel == found.flops / voxels


def test_attention_counts_alike_with_and_without_values(monkeypatch):
    shapes_alone = cost("mvgformer", "s", layers=2)

    def needs_values(*args):
        if torch.get_default_device().type == "meta":
            raise NotImplementedError
        return build(*args)

    monkeypatch.setattr(cost_module, "build", needs_values)
    assert cost("mvgformer", "s", layers=2) == shapes_alone


def test_attention_is_counted():
    one, two = (cost("mvgformer", "s", layers=layers).flops for layers in (2, 3))
    tokens, views, dim = 512, 3, 96
    products = 12 * dim**2 * tokens  # query, key, value, output and an MLP four times as wide
    attention = 2 * tokens**2 * dim
    assert two - one == 2 * views * (products + attention)


@pytest.mark.parametrize("name", ["voxresnet", "heatmap-unet"])
def test_the_patch_is_that_of_the_network_unless_another_is_asked_for(name):
    usual, other = cost(name, "s"), cost(name, "s", patch_size=16)
    assert usual.patch_size == MODELS[name].patch
    assert other.patch_size == 16
    assert other.flops_per_voxel == pytest.approx(usual.flops_per_voxel)


def test_more_channels_cost_more_and_options_count():
    plain = cost("voxresnet", "s", in_channels=1, out_channels=3)
    assert plain.flops < cost("voxresnet", "s", in_channels=2, out_channels=3).flops
    assert plain.flops < cost("voxresnet", "s", out_channels=16).flops
    weights = sum(p.numel() for p in build("voxresnet", {"widths": [4, 8]}, 1, 3).parameters())
    assert cost("voxresnet", "s", out_channels=3, widths=[4, 8]).parameters == weights


def test_the_committed_table_is_what_the_networks_cost():
    committed = json.loads(COMMITTED.read_text(encoding="utf-8"))
    names = {row["network"] for row in committed}  # others are counted when they are listed
    assert committed == [row for row in cost_table() if row["network"] in names], REMEDY
