import pytest
import torch

from cryovox.models.blocks.graph import cluster_means, kmeans, kmeans_graph
from cryovox.models.blocks.views import VIEWS, to_view


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_well_separated_clusters_are_found():
    truth = torch.arange(5).repeat_interleave(20)[torch.randperm(100)]
    middles = 10 * torch.eye(5, 8)
    points = middles[truth] + 0.3 * torch.randn(100, 8)
    assignment, centers = kmeans(points[None], 5)
    pairs = set(zip(truth.tolist(), assignment[0].tolist(), strict=True))
    assert len(pairs) == 5
    for true, found in pairs:
        assert torch.allclose(centers[0, found], points[truth == true].mean(0), atol=1e-5)


def test_more_steps_never_raise_the_cost():
    points = torch.randn(3, 200, 6)
    costs = []
    for steps in range(6):
        assignment, centers = kmeans(points, 8, steps)
        own = centers.gather(1, assignment[..., None].expand(-1, -1, 6))
        costs.append((points - own).square().sum().item())
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]


@pytest.mark.parametrize("view", VIEWS)
def test_a_transposed_grid_gets_the_transposed_assignment(view):
    features = torch.randn(2, 12, 8, 8, 8)
    graph, turned = kmeans_graph(features, 16), kmeans_graph(to_view(features, view), 16)
    assert torch.equal(turned.assignment, to_view(graph.assignment, view))
    assert torch.allclose(turned.nodes, graph.nodes, atol=1e-5)


def test_each_sample_is_clustered_by_itself():
    features = torch.randn(4, 12, 4, 4, 4)
    together, alone = kmeans_graph(features, 6), kmeans_graph(features[2:3], 6)
    assert torch.equal(together.assignment[2:3], alone.assignment)
    assert torch.allclose(together.nodes[2:3], alone.nodes, atol=1e-6)


def test_clusters_without_points_are_harmless():
    features = torch.tensor([1.0, 2.0]).repeat(32).reshape(1, 1, 4, 4, 4).requires_grad_()
    graph = kmeans_graph(features, 16)
    assert set(graph.nodes.flatten().tolist()) == {1.0, 2.0}
    graph.nodes.sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_nodes_are_means_and_carry_the_gradient_of_means():
    points = torch.tensor([[[0.0], [2.0], [10.0]]], requires_grad=True)
    nodes = cluster_means(points, torch.tensor([[0, 0, 1]]), torch.zeros(1, 2, 1))
    assert nodes.flatten().tolist() == [1.0, 10.0]
    nodes[0, 0].sum().backward()
    assert points.grad is not None
    assert points.grad.flatten().tolist() == [0.5, 0.5, 0.0]


def test_equal_points_share_a_cluster_whatever_their_order():
    points = torch.randn(1, 10, 3).repeat(1, 4, 1)
    assignment, _ = kmeans(points, 5)
    assert (assignment.reshape(4, 10) == assignment[0, :10]).all()
