"""A student follows its teacher, and what a teacher finds stands in for annotations."""

from math import log

import numpy as np
import pytest
import torch
from torch import nn

from cryovox.core.errors import RequestError
from cryovox.core.intensity import Normalization
from cryovox.core.particles import Species
from cryovox.core.volume import Volume
from cryovox.data.regions import unlabeled_region
from cryovox.data.streams import Batch
from cryovox.models import build
from cryovox.models.card import Card
from cryovox.models.checkpoint import save_model
from cryovox.training.evaluation.teacher_picks import BLOCK, blocks, limit_voxels, teacher_annotations, voxels
from cryovox.training.losses import score_divergence
from cryovox.training.strategies.config.distill import DistillConfig
from cryovox.training.strategies.distill import Distill, on_grid

TINY = {"widths": [4, 8], "blocks": [0, 0], "norm": "batch"}
KINDS = (Species(name="ball", label=1, radius=40.0), Species(name="disc", label=2, radius=60.0))
SIDE = 16


def card(network="heatmap-unet", **changes):
    kind = {"heatmap-unet": "heatmap", "voxresnet": "mask"}[network]
    fields = {
        "network": network, "options": TINY if kind == "heatmap" else {"widths": [4, 8]},
        "out_channels": 2 if kind == "heatmap" else 3, "kind": kind,
        "activation": "sigmoid" if kind == "heatmap" else "softmax",
        "output_stride": 2 if kind == "heatmap" else 1, "patch": SIDE, "overlap": 0.5,
        "species": KINDS, "voxel_size": 10.0, "contrast": "dark",
    }  # fmt: skip
    return Card(**(fields | changes))


@pytest.fixture
def teacher(tmp_path):
    def write(network="heatmap-unet", **changes):
        own = card(network, **changes)
        torch.manual_seed(7)
        save_model(tmp_path / f"{network}.safetensors", build(network, own.options, 1, own.out_channels), own)
        return tmp_path / f"{network}.safetensors"

    return write


def student(path, network="heatmap-unet", **options):
    torch.manual_seed(0)
    own = card(network)
    method = Distill(
        build(network, own.options | options, 1, own.out_channels), DistillConfig(teacher=path), network
    )
    method.setup(own)
    return method.train()


def patches(size=2, seed=0):
    target = torch.zeros(size, 2, SIDE // 2, SIDE // 2, SIDE // 2)
    torch.manual_seed(seed)
    return Batch(torch.randn(size, 1, SIDE, SIDE, SIDE), target, torch.ones_like(target, dtype=torch.bool))


class Constant(nn.Module):
    """Scores of 0.9 and 0.2 everywhere."""

    def forward(self, x):
        grid = x[:, :, ::2, ::2, ::2]
        return torch.cat([torch.full_like(grid, log(9)), torch.full_like(grid, -log(4))], 1)


def test_divergence_by_hand():
    logits = torch.zeros(1, 1, 1, 1, 2)  # scores of 0.5
    scores = torch.tensor([1.0, 0.5]).view(1, 1, 1, 1, 2)
    expected = log(2) / (1.5 + 2e-3)  # nothing from the voxel where both agree
    assert score_divergence(logits, scores, "sigmoid").item() == pytest.approx(expected, rel=1e-5)
    probabilities = torch.tensor([[0.25, 0.75]]).view(1, 2, 1, 1, 1)
    expected = (0.25 * log(0.25 / 0.5) + 0.75 * log(0.75 / 0.5)) / (0.75 + 1e-3)
    flat = torch.zeros(1, 2, 1, 1, 1)
    assert score_divergence(flat, probabilities, "softmax").item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_divergence_is_least_where_scores_agree(activation):
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, 4, requires_grad=True)
    scores = logits.detach().softmax(1) if activation == "softmax" else logits.detach().sigmoid()
    loss = score_divergence(logits, scores, activation)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert gradient.abs().max() < 1e-6
    assert score_divergence(logits, scores.roll(1, 0), activation) > 0.01


def test_scores_are_brought_to_the_grid_of_the_student():
    fine = torch.arange(64.0).view(1, 1, 4, 4, 4)
    coarse = on_grid(fine, torch.zeros(1, 1, 2, 2, 2))
    assert coarse[0, 0, 0, 0, 0] == fine[0, 0, :2, :2, :2].mean()
    back = on_grid(coarse, fine)
    assert back.shape == fine.shape
    assert back[0, 0, 1, 1, 1] == pytest.approx(21.0)  # 10.5 + a quarter of the steps to the next cells
    assert on_grid(fine, fine) is fine


def test_a_student_learns_a_constant_teacher(teacher):
    method = student(teacher())
    method.frozen = Constant()
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], 0.1)
    losses = []
    for step in range(60):
        terms = method.losses({"unlabeled": patches(seed=step)}, 0.5)
        assert list(terms) == ["teacher-main"]
        optimizer.zero_grad()
        terms["teacher-main"].backward()
        optimizer.step()
        losses.append(terms["teacher-main"].item())
    assert losses[-1] < 0.05 * losses[0]
    with torch.no_grad():
        scores = method.eval().student(patches(seed=99).image).sigmoid()
    assert scores[:, 0].mean() == pytest.approx(0.9, abs=0.05)
    assert scores[:, 1].mean() == pytest.approx(0.2, abs=0.05)


def test_only_the_student_learns(teacher):
    method = student(teacher())
    before = {name: value.clone() for name, value in method.teacher.state_dict().items()}
    learning = {name for name, p in method.named_parameters() if p.requires_grad}
    assert learning
    assert all(name.startswith("supervised.student.") for name in learning)
    sum(method.losses({"labeled": patches(), "unlabeled": patches(seed=1)}, 0.5).values()).backward()
    assert all(p.grad is not None for name, p in method.named_parameters() if name in learning)
    assert all(p.grad is None for p in method.teacher.parameters())
    after = method.teacher.state_dict()  # statistics of batch norm too
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not method.teacher.training


def test_annotations_add_the_supervised_loss(teacher):
    method = student(teacher())
    both = method.losses({"labeled": patches(), "unlabeled": patches(seed=1)}, 0.5)
    assert set(both) == {"main", "teacher-main"}
    assert set(method.losses({"labeled": patches()}, 0.5)) == {"main", "teacher-main"}


def test_a_mask_teacher_has_a_mask_student(teacher):
    method = student(teacher("voxresnet"), "voxresnet")
    terms = method.losses({"unlabeled": patches()}, 0.5)
    assert all(name.startswith("teacher-") and value > 0 for name, value in terms.items())
    with pytest.raises(RequestError, match="voxresnet, a mask"):
        student(teacher("voxresnet"), "heatmap-unet")
    with pytest.raises(RequestError, match="heatmap-unet, a heatmap"):
        student(teacher(), "voxresnet")


def test_what_a_student_cannot_learn_is_refused(teacher):
    with pytest.raises(RequestError, match="offsets"):
        student(teacher(), offsets=True)
    method = student(teacher())
    with pytest.raises(RequestError, match="does not take patches of 17"):
        method.setup(card().model_copy(update={"patch": 17}))
    with pytest.raises(RequestError, match="names no trained model"):
        DistillConfig().teacher_file()


class Bright(nn.Module):
    """A mask of the voxels of gray value 1 and of those of gray value 2."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        one, two = ((x - value).abs() < 0.5 for value in (1, 2))
        return 20 * torch.cat([~(one | two), one, two], 1).float()


def region(shape, *balls):
    """A region with balls, each with center and radius in voxels and gray value."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    data = np.zeros(shape, np.float32)
    for center, radius, value in balls:
        data[np.linalg.norm(grid - center, axis=-1) <= radius] = value
    bounds = tuple((0, n) for n in shape)
    return unlabeled_region("a", Volume(data, 10.0), Normalization(0.0, 1.0), bounds, KINDS)


def test_what_a_teacher_finds_stands_in_for_annotations():
    bare = region((32, 48, 40), ((10, 12, 14), 4, 1.0), ((20, 36, 26), 6, 2.0))
    own = teacher_annotations(bare, Bright().eval(), card("voxresnet"))
    order = np.argsort(own.channels)
    np.testing.assert_allclose(own.positions[order], [(10, 12, 14), (20, 36, 26)], atol=0.1)
    assert own.channels[order].tolist() == [0, 1]
    assert own.exhaustive.all()
    np.testing.assert_array_equal(own.labels, bare.data)


def test_boxes_cover_a_region_once():
    whole = region((20, BLOCK + 44, 30))
    parts = [*blocks(whole)]
    assert [part.bounds[1] for part in parts] == [(0, 150), (150, 300)]
    assert sum(map(voxels, parts)) == voxels(whole)


def test_a_limit_takes_the_middle_of_each_region_or_fewer_regions():
    wide = region((4, 400, 300))
    (kept,) = limit_voxels([wide], 4 * 200 * 150)
    assert kept.bounds == ((0, 4), (100, 300), (75, 225))
    assert [one.bounds for one in limit_voxels([wide] * 3, 1e9)] == [wide.bounds] * 3
    assert len(limit_voxels([wide] * 8, 4 * 4 * 128 * 128)) == 4  # edges are not cut below 128
