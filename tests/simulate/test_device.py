import numpy as np
import pytest
import torch

from cryovox.simulate.microscope import OpticsConfig
from cryovox.simulate.particles.library import build_template
from cryovox.simulate.presets import PRESETS
from cryovox.simulate.scene import SceneConfig
from cryovox.simulate.tomogram import simulate


@pytest.mark.gpu  # benchmarks/gpu/README.md lists the run that has one
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA; `make test` leaves gpu tests out")
@pytest.mark.parametrize("model", ["weak", "strong", "multislice"])
def test_a_gpu_gives_the_tomogram_of_the_cpu(model):
    toy = PRESETS["toy"]
    scene = SceneConfig(shape=(32, 64, 64), voxel_size=10.0, counts={"proteasome-20s": 3})
    optics = OpticsConfig(model=model)
    config = toy.model_copy(update={"species": ("proteasome-20s",), "scene": scene, "optics": optics})
    here, there = (
        simulate([build_template("proteasome-20s", 10.0)], config, (0,), device=d) for d in ("cpu", "cuda")
    )
    scale = np.abs(here.clean.data).max()
    assert np.abs(here.clean.data - there.clean.data).max() < 1e-4 * scale
    flipped = (here.series.counts != there.series.counts).mean()
    assert flipped < 1e-3  # rounding may move a count by one
