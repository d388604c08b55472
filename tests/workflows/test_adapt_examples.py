import numpy as np
import pytest
import torch

from cryovox.core.particles import Species
from cryovox.models import build
from cryovox.models.card import Card
from cryovox.models.checkpoint import save_model
from cryovox.workflows.training.select import examples


@pytest.mark.parametrize("name", ["voxresnet", "heatmap-unet"])
def test_examples_are_the_middle_slices(tmp_path, name):
    given = {"widths": [4, 8]} | ({"blocks": [0, 0]} if name == "heatmap-unet" else {})
    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        outputs = 2 if name == "voxresnet" else 1
        network = build(name, given, 1, outputs).eval()
        card = Card(
            network=name,
            options=given,
            out_channels=outputs,
            activation=network.activation,
            kind=network.kind,
            output_stride=network.output_stride,
            patch=16,
            species=(Species(name="a", label=1, radius=50.0),),
            voxel_size=10.0,
            contrast="dark",
        )
        paths.append(tmp_path / f"{seed}.safetensors")
        save_model(paths[-1], network, card)
    images = np.random.default_rng(0).standard_normal((6, 1, 16, 16, 16)).astype(np.float32)
    found = examples(*paths, images, "cpu")
    assert [one.name for one in found] == ["patch 1", "patch 2", "patch 3", "patch 4"]
    assert np.array_equal(found[2].image, images[2, 0, 8])
    with torch.no_grad():
        logits = network(torch.from_numpy(images))[2]
    p = logits.softmax(0)[1] if outputs == 2 else logits.sigmoid()[0]
    assert np.allclose(found[2].adapted, p[len(p) // 2], atol=1e-5)
    assert not np.allclose(found[2].source, found[2].adapted)
