"""What was tilted about x is shown to networks as if it had been tilted about y."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from cryovox.core.intensity import Normalization
from cryovox.core.particles import Species
from cryovox.data.augment import AugmentConfig
from cryovox.data.patches import TargetSpec, align_tilt_axis, cut
from cryovox.data.regions import Region
from cryovox.data.sampling import SamplingConfig
from cryovox.data.streams import PatchStream
from cryovox.inference.stream import TilePlan, stream
from cryovox.report.wedge import find_wedge
from cryovox.simulate.phantom import wedge_filter
from cryovox.training.evaluation.validate import thresholds_at_picks

SIDE = 48
PLAIN = AugmentConfig(flips=False, contrast=0, brightness=0, noise=0, blur=0, cut=0)


def tilted_about_x(seed=0):
    noise = np.random.default_rng(seed).standard_normal((SIDE, SIDE, SIDE), dtype=np.float32)
    return np.ascontiguousarray(np.rot90(wedge_filter(noise, 50), -1, axes=(1, 2)))


def source(data, tilt_axis):
    position = np.array([[20.0, 12.0, 31.0]])
    labels = np.zeros(data.shape, np.uint8)
    labels[18:23, 10:15, 29:34] = 1
    return Region(
        name="one", data=data, voxel_size=10.0, normalize=Normalization(0.0, 1.0),
        bounds=((0, SIDE),) * 3, species=(Species(name="ball", label=1, radius=30.0),),
        positions=position, channels=np.zeros(1, np.intp), labels=labels, annotated_mask=None,
        exhaustive=np.ones(1, bool), tilt_axis=tilt_axis,
    )  # fmt: skip


def test_patches_of_a_tilt_about_x_have_the_wedge_of_a_tilt_about_y():
    data = tilted_about_x()
    assert find_wedge(data).tilt_axis == 2
    for kind in ("mask", "heatmap"):
        spec = TargetSpec(kind)
        one, other = (
            PatchStream([source(data, axis)], SamplingConfig(spec, SIDE, 1, augment=PLAIN, seed=(0,))).make(0)
            for axis in "xy"
        )
        assert find_wedge(one.image[0, 0].numpy()).tilt_axis == 1
        assert find_wedge(other.image[0, 0].numpy()).tilt_axis == 2
        for name in ("image", "target", "valid_mask"):
            turned = torch.rot90(getattr(other, name), dims=(-2, -1))
            assert torch.equal(getattr(one, name), turned)


def test_a_patch_of_a_tilt_about_y_is_left_alone():
    patch = cut(source(tilted_about_x(), "y"), (0, 0, 0), 16, TargetSpec("mask"))
    assert align_tilt_axis(patch, "y") is patch


class AlongX(nn.Module):
    """A network that knows its axes: the step from one voxel to the next in x."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.scale * (x - torch.roll(x, 1, dims=-1))


def scores(data, tilt_axis):
    blocks = []
    tiles = TilePlan(16, 0.5, 1, "sigmoid", tilt_axis=tilt_axis)
    stream(AlongX(), data, Normalization(0.0, 1.0), tiles, lambda _, block: blocks.append(block.copy()))
    return np.concatenate(blocks, axis=1)


def test_scores_of_a_turned_tomogram_are_the_turned_scores():
    data = tilted_about_x()[:32, :32, :32]
    turned = np.ascontiguousarray(np.rot90(data, axes=(1, 2)))
    found = scores(data, "x")
    expected = np.rot90(scores(turned, "y"), -1, axes=(2, 3))
    inner = (slice(None), *[slice(8, -8)] * 3)
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-5)
    assert np.abs(found - scores(data, "y"))[inner].max() > 0.1


def test_thresholds_at_picks_are_read_where_the_picks_are():
    data = np.zeros((SIDE,) * 3, np.float32)
    data[20, 12, 31] = 4.0
    tiles = TilePlan(16, 0.5, 1, "sigmoid")
    for axis in "yx":
        region = replace(source(data, axis))
        found = thresholds_at_picks(AlongX(), [region], TargetSpec("mask"), tiles)
        assert found["threshold/ball"] > 0.45
