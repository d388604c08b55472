"""Spectral clustering and MinCutPool in place of k-means."""

import math

import pytest
import torch

from cryovox.models.blocks.graph import kmeans, kmeans_graph
from cryovox.models.blocks.graph_mincut import MinCut, mincut_losses
from cryovox.models.blocks.graph_spectral import affinity, embedding, spectral_graph
from cryovox.models.blocks.views import VIEWS, to_view


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def rings(count: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    """Two circles around the same middle, which no two centers can tell apart."""
    angle = torch.linspace(0, 2 * math.pi, count + 1)[:-1]
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    return torch.cat([circle, 4 * circle])[None], torch.arange(2).repeat_interleave(count)


def agreement(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Of two clusters, whatever their numbers."""
    same = (found == truth).float().mean().item()
    return max(same, 1 - same)


def as_map(points: torch.Tensor) -> torch.Tensor:
    """Points (b, n, c) as features (b, c, 1, 1, n)."""
    return points.transpose(1, 2)[:, :, None, None]


def test_spectral_clusters_follow_the_shape_where_kmeans_cannot():
    points, truth = rings()
    assert agreement(kmeans(points, 2)[0][0], truth) < 0.8
    assert agreement(spectral_graph(as_map(points), 2).assignment.flatten(), truth) == 1


def test_spectral_nodes_are_means_of_their_members_and_carry_their_gradient():
    points, truth = rings()
    features = (as_map(points) + 3.0).requires_grad_()
    graph = spectral_graph(features, 2)
    for cluster in (0, 1):
        own = graph.assignment.flatten() == cluster
        assert torch.allclose(graph.nodes[0, cluster], points[0, own].mean(0) + 3, atol=1e-5)
    graph.nodes[0, graph.assignment[0, 0, 0, 0]].sum().backward()
    per_point = features.grad.flatten(2)[0, 0]
    assert torch.allclose(per_point, (truth == 0) / 100)


def test_the_affinity_is_symmetric_and_its_largest_eigenvalue_is_one():
    likeness = affinity(torch.randn(2, 60, 5))
    assert torch.equal(likeness, likeness.transpose(1, 2))
    assert (likeness.diagonal(dim1=1, dim2=2) == 0).all()
    assert torch.linalg.eigvalsh(likeness)[:, -1].tolist() == pytest.approx([1, 1], abs=1e-5)


def test_the_affinity_has_no_scale_of_its_own():
    points = torch.randn(1, 60, 5)
    assert torch.allclose(affinity(points), affinity(1000 * points + 7), atol=1e-4)


def test_rows_of_the_embedding_have_unit_length():
    assert torch.allclose(embedding(affinity(torch.randn(1, 30, 4)), 3).norm(dim=-1), torch.ones(1, 30))


@pytest.mark.parametrize("view", VIEWS)
def test_a_transposed_grid_gets_the_transposed_spectral_clusters(view):
    features = torch.randn(1, 8, 6, 6, 6)
    graph, turned = spectral_graph(features, 5), spectral_graph(to_view(features, view), 5)
    assert torch.equal(turned.assignment, to_view(graph.assignment, view))


def test_alike_tokens_are_harmless():
    features = torch.ones(1, 4, 3, 3, 3, requires_grad=True)
    for graph in (spectral_graph(features, 4), MinCut(4, 4)(features)):
        total = graph.nodes.sum() + sum(graph.extra.values())
        (gradient,) = torch.autograd.grad(total, features, allow_unused=True)
        assert total.isfinite()
        assert gradient.isfinite().all()


def two_blocks() -> torch.Tensor:
    """Normalized affinity of two groups of four that are not joined."""
    block = (torch.ones(4, 4) - torch.eye(4)) / 3
    return torch.block_diag(block, block)[None]


@pytest.mark.parametrize(
    ("shares", "cut", "overlap"),
    [
        (torch.eye(2).repeat_interleave(4, 0), -1.0, 0.0),  # the groups themselves
        (torch.full((8, 2), 0.5), -1.0, math.sqrt(2 - math.sqrt(2))),  # everyone everywhere
        (torch.eye(2).repeat(4, 1), -1 / 3, 0.0),  # across the groups: 1 of 3 neighbors stays
    ],
    ids=["groups", "undecided", "across"],
)
def test_losses_of_mincut_by_hand(shares, cut, overlap):
    found = mincut_losses(shares[None], two_blocks())
    assert [float(v) for v in found] == pytest.approx([cut, overlap], abs=1e-5)


def test_mincut_learns_the_groups_from_its_own_losses():
    truth = torch.arange(2).repeat_interleave(32)[torch.randperm(64)]
    points = 3 * torch.nn.functional.one_hot(truth, 8) + 0.3 * torch.randn(64, 8)
    pool = MinCut(8, 2)
    optimizer = torch.optim.Adam(pool.parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        sum(pool(as_map(points[None])).extra.values()).backward()
        optimizer.step()
    graph = pool(as_map(points[None]))
    assert agreement(graph.assignment.flatten(), truth) == 1
    means = torch.stack([points[graph.assignment.flatten() == k].mean(0) for k in (0, 1)])
    assert torch.allclose(graph.nodes[0], means, atol=0.2)


def test_nodes_of_mincut_are_weighted_means():
    features, pool = torch.randn(2, 6, 3, 3, 3), MinCut(6, 4)
    points = features.flatten(2).transpose(1, 2)
    shares = pool.share(points).softmax(-1)
    expected = torch.einsum("bnk,bnc->bkc", shares, points) / shares.sum(1)[..., None]
    assert torch.allclose(pool(features).nodes, expected, atol=1e-5)


@pytest.mark.parametrize("build", [kmeans_graph, spectral_graph, lambda f, k: MinCut(16, k)(f)],
                         ids=["kmeans", "spectral", "mincut"])  # fmt: skip
def test_all_graphs_have_one_form(build):
    graph = build(torch.randn(2, 16, 4, 4, 4), 6)
    assert graph.nodes.shape == (2, 6, 16)
    assert graph.assignment.shape == (2, 4, 4, 4)
    assert graph.assignment.dtype == torch.int64
    assert 0 <= graph.assignment.min() <= graph.assignment.max() < 6
