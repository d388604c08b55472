"""Vox-ZSDA: two views, a graph that both share, and a way over to Vox-UDA."""

import numpy as np
import pytest
import torch

from cryovox.core.errors import RequestError
from cryovox.data.streams import Batch
from cryovox.filters.config import PriorConfig
from cryovox.models import MODELS
from cryovox.models.card import Card
from cryovox.models.networks.voxresnet import VoxResNet
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.config.vox_uda import VoxUDAConfig
from cryovox.training.strategies.config.vox_zsda import FewTargetConfig, GraphConfig, VoxZSDAConfig
from cryovox.training.strategies.uda.vox_uda import VoxUDA
from cryovox.training.strategies.zsda.gradient_balance import gradient_norm, gradients
from cryovox.training.strategies.zsda.two_views import (
    GRAPH_LOSSES,
    block_assignment,
    select_level,
    two_view_batch,
)
from cryovox.training.strategies.zsda.vox_zsda import FewTarget, VoxZSDA

SIDE = 16
CARD = Card(
    network="voxresnet", options={}, out_channels=2, activation="softmax", kind="mask", patch=SIDE,
    species=(), voxel_size=10.0, contrast="dark",
)  # fmt: skip
GRAPH = GraphConfig(clusters=8, tokens=64)
BALANCED = GRAPH.model_copy(
    update={
        "gradient_share": 0.3, "foreground_nodes": 0.5, "node_position": 1.0, "contrast_edges": True,
    }
)  # fmt: skip


def batch(n=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(n, 1, SIDE, SIDE, SIDE, generator=generator)
    target = (torch.randn(n, SIDE, SIDE, SIDE, generator=generator) > 0.5).long()
    return Batch(image, target, torch.ones_like(target, dtype=torch.bool))


def batches():
    return {"labeled": batch(), "target": batch(seed=1), "noise": batch(4, seed=2)}


def strategy(kind, config):
    torch.manual_seed(0)
    made = kind(VoxResNet(1, 2, widths=(4, 8)), config, "voxresnet", SupervisedConfig(loss="ce+dice"))
    made.setup(CARD)
    return made.train()


def losses(made, progress=0.5):
    torch.manual_seed(1)
    return made(batches(), progress)


@pytest.mark.parametrize("graph", [GRAPH, BALANCED], ids=["fixed weights", "balanced"])
def test_every_part_has_a_term_that_reaches_the_student(graph):
    made = strategy(VoxZSDA, VoxZSDAConfig(graph=graph))
    found = losses(made)
    assert {"main", "consistency", "graph", "graph-contrast"} <= set(found)
    for name, term in found.items():
        made.zero_grad()
        term.backward(retain_graph=True)
        moved = made.student.stem[0].weight.grad
        # masked nodes are told from visible ones, which the student gives
        assert moved is not None, name
        assert bool((moved != 0).any()), name


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        (VoxZSDAConfig(graph=GRAPH, consistency=False), "consistency"),
        (VoxZSDAConfig(graph=GRAPH.model_copy(update={"graph_learning": False})), "graph"),
        (VoxZSDAConfig(graph=GRAPH.model_copy(update={"graph_contrast": False})), "graph-contrast"),
    ],
    ids=["consistency", "graph", "contrast"],
)
def test_a_part_that_is_off_leaves_the_others_alone(config, missing):
    every = set(losses(strategy(VoxZSDA, VoxZSDAConfig(graph=GRAPH))))
    assert set(losses(strategy(VoxZSDA, config))) == every - {missing}


def test_graph_gradients_are_a_share_of_that_of_the_segmentation():
    vox_zsda = strategy(VoxZSDA, VoxZSDAConfig(graph=BALANCED))
    terms = losses(vox_zsda)
    stem = list(vox_zsda.student.stem.parameters()) + list(vox_zsda.student.down[0].parameters())
    graph = [terms.pop(name) for name in GRAPH_LOSSES]
    terms.pop("consistency")
    whole = gradient_norm(gradients(sum(terms.values()), stem))
    for loss in graph:
        assert float(gradient_norm(gradients(loss, stem)) / whole) == pytest.approx(0.3, rel=0.5)


def test_both_views_are_judged_by_the_same_mask_and_differ():
    given = batch()
    twice = two_view_batch(given, PriorConfig())
    assert torch.equal(twice.target[:2], given.target)
    assert torch.equal(twice.target[2:], given.target)
    assert not torch.allclose(twice.image[:2], twice.image[2:])


def test_the_target_is_not_asked_for_without_leaning():
    made = strategy(FewTarget, FewTargetConfig(graph=GRAPH, target_weight=0.0))
    blind = strategy(VoxZSDA, VoxZSDAConfig(graph=GRAPH))
    made.views.load_state_dict(blind.views.state_dict())  # weights beside the student are drawn later
    alone, found = losses(blind), losses(made)
    assert {name.removeprefix("views-") for name in found} == set(alone)
    for name, term in alone.items():
        assert torch.allclose(found[f"views-{name}"], term), name


def test_full_leaning_is_vox_uda():
    found = losses(strategy(FewTarget, FewTargetConfig(graph=GRAPH, target_weight=1.0)))
    wanted = losses(strategy(VoxUDA, VoxUDAConfig()))
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[name], wanted[name]) for name in wanted)


def test_leaning_halfway_weighs_both_by_half():
    half = losses(strategy(FewTarget, FewTargetConfig(graph=GRAPH, target_weight=0.5)))
    uda = losses(strategy(FewTarget, FewTargetConfig(graph=GRAPH, target_weight=1.0)))
    for name, term in uda.items():
        assert torch.allclose(half[name], 0.5 * term), name
    assert any(name.startswith("views-") for name in half)


@pytest.mark.parametrize("target_weight", [0.0, 0.5, 1.0])
def test_the_average_goes_over_too(target_weight):
    """Its decay lies between those of both methods; its norms count the target as often as it leans."""
    made = strategy(FewTarget, FewTargetConfig(graph=GRAPH, target_weight=target_weight))
    blind, uda = strategy(VoxZSDA, VoxZSDAConfig(graph=GRAPH)), strategy(VoxUDA, VoxUDAConfig())
    a, b, c = (x.supervised.config.ema for x in (blind, made.uda, uda))
    assert b == pytest.approx((1 - target_weight) * a + target_weight * c)
    given, counted = batches(), []
    for seed in range(20):
        torch.manual_seed(seed)
        made.losses(given, 0.5)
        counted.append(made.uda.bn_images is given["target"].image)
    assert (
        made.uda.bn_images is None
        if not target_weight
        else 0.5 - target_weight / 2 <= np.mean(counted) <= 0.5 + target_weight / 2
    )


def test_parts_that_are_off_have_no_weights():
    """Weights without a gradient stop a training on several devices."""
    off = GRAPH.model_copy(update={"graph_learning": False, "graph_contrast": False})
    for made in (
        strategy(VoxZSDA, VoxZSDAConfig(graph=off)),
        strategy(FewTarget, FewTargetConfig(graph=GRAPH, target_weight=0.0)),
        strategy(FewTarget, FewTargetConfig(graph=GRAPH, target_weight=1.0)),
        strategy(VoxZSDA, VoxZSDAConfig(graph=GRAPH.model_copy(update={"graph_contrast": False}))),
        strategy(VoxZSDA, VoxZSDAConfig(graph=BALANCED.model_copy(update={"graph_contrast": False}))),
    ):
        sum(losses(made).values()).backward()
        left = [name for name, p in made.named_parameters() if p.requires_grad and p.grad is None]
        assert not left


def test_cuboids_are_dropped_from_both_views_if_asked_for():
    made = strategy(VoxZSDA, VoxZSDAConfig(graph=GRAPH))
    before = losses(made)["main"]
    made.supervised.config = made.supervised.config.model_copy(update={"drop_block": 0.5})
    assert not torch.allclose(before, losses(made)["main"])


def test_more_nodes_than_places_are_refused():
    with pytest.raises(RequestError, match="27 nodes cannot be made of 8 locations"):
        strategy(VoxZSDA, VoxZSDAConfig(graph=GraphConfig(clusters=27, tokens=8)))


@pytest.mark.parametrize("weights", [(0.0,) * 4, (1.0, 1.0, 1.0, -1.0)], ids=["none", "negative"])
def test_invalid_feature_weights_are_refused(weights):
    with pytest.raises(RequestError, match="are not weights"):
        strategy(VoxZSDA, VoxZSDAConfig(graph=GRAPH, feature_weights=weights))


def test_heatmaps_are_refused():
    network = MODELS["heatmap-unet"](1, 2)
    with pytest.raises(RequestError, match="heatmaps"):
        VoxZSDA(network, VoxZSDAConfig(), "heatmap-unet")


def test_the_graph_lies_on_the_coarsest_features_with_room_for_it():
    shapes = {"fine": (4, 32, 32, 32), "middle": (8, 8, 8, 8), "coarse": (8, 4, 4, 4)}
    assert [select_level(shapes, n) for n in (8, 64, 65, 512, 513, 10**6)] == [
        "coarse", "coarse", "middle", "middle", "fine", "fine",
    ]  # fmt: skip


@pytest.mark.parametrize(("clusters", "count"), [(8, 8), (16, 8), (27, 27)])
def test_blocks_fill_the_grid_evenly(clusters, count):
    assignment = block_assignment(torch.zeros(2, 3, 12, 12, 12), clusters, 12**3)
    sizes = torch.bincount(assignment[0].flatten())
    assert assignment.shape == (2, 12, 12, 12)
    assert sizes.tolist() == [12**3 // count] * count
    corner = assignment[0, :2, :2, :2]
    assert bool((corner == corner[0, 0, 0]).all())


def test_a_run_of_an_earlier_version_goes_on():
    """It named the weights of Vox-UDA without a prefix."""
    made = strategy(FewTarget, FewTargetConfig(graph=GRAPH))
    losses(made)
    state = {name.removeprefix("uda."): value for name, value in made.state_dict().items()}
    other = strategy(FewTarget, FewTargetConfig(graph=GRAPH))
    other.load_state_dict(state)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in made.state_dict().items())
