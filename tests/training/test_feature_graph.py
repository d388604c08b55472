from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cryovox.training.strategies.zsda.feature_graph import (
    Nodes,
    cluster_nodes,
    foreground_assignment,
    knn_edges,
)
from cryovox.training.strategies.zsda.graph_losses import (
    EdgeConv,
    NeighborContext,
    NodeReconstruction,
    node_contrast,
    projection,
    sample_masked,
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def slabs(count=4, side=8, batch=2):
    """Features (b, c, z, y, x) of as many slabs along z, each in a direction of its own."""
    slab = torch.arange(side) * count // side
    return (5 * F.one_hot(slab, count + 2).T.float())[None, :, :, None, None].repeat(batch, 1, 1, side, side)


def some_nodes(batch=2, count=6, channels=5, *, features=None, filled=None):
    """Nodes of as many tokens, one token each."""
    features = torch.randn(batch, count, channels) if features is None else features
    batch, count = features.shape[:2]
    return Nodes(
        features,
        torch.arange(count).expand(batch, 1, 1, count),
        torch.full((batch, count), -1),
        torch.ones(batch, count, dtype=torch.bool) if filled is None else filled,
    )


def shuffled(nodes, order):
    """The same nodes under other numbers."""
    features, label, filled = (part[:, order] for part in (nodes.features, nodes.label, nodes.filled))
    return Nodes(features, order.argsort()[nodes.assignment], label, filled)


def blobs(batch=2, channels=16):
    """Features in which a place tells of its surroundings: smooth mixtures of three directions."""
    weights = F.interpolate(3 * torch.randn(batch, 3, 3, 3, 3), size=(8, 8, 8), mode="trilinear").softmax(1)
    mixed = torch.einsum("bkzyx,bkc->bczyx", weights, torch.randn(batch, 3, channels))
    return mixed + 0.2 * torch.randn_like(mixed)


def test_obvious_clusters_become_nodes_with_their_means():
    features = slabs()
    nodes = cluster_nodes(features, 4)
    assert nodes.filled.all()
    assert nodes.assignment.shape == (2, 8, 8, 8)
    for z in range(8):
        assert len(nodes.assignment[0, z].unique()) == 1
        assert torch.equal(nodes.features[0, nodes.assignment[0, z, 0, 0]], features[0, :, z, 0, 0])


def test_features_beyond_the_most_are_averaged_first():
    features = torch.randn(1, 3, 16, 16, 16)
    nodes = cluster_nodes(features, 512, 1)
    assert nodes.assignment.shape == (1, 8, 8, 8)
    assert nodes.filled.all()
    own = nodes.features[0, nodes.assignment[0, 1, 2, 3]]
    assert torch.allclose(own, features[0, :, 2:4, 4:6, 6:8].mean((1, 2, 3)), atol=1e-6)
    assert cluster_nodes(torch.randn(1, 3, 12, 12, 12), 4).assignment.shape == (1, 8, 8, 8)
    assert cluster_nodes(torch.randn(1, 3, 6, 5, 4), 4, max_tokens=15).assignment.shape == (1, 3, 2, 2)


def test_a_second_view_matches_by_the_assignment_of_the_first():
    first = cluster_nodes(slabs(), 4)
    other = torch.randn(2, 7, 16, 16, 16)
    second = cluster_nodes(other, 4, assignment=first.assignment)
    inside = F.avg_pool3d(other, 2)[1][:, first.assignment[1] == 2]
    assert torch.allclose(second.features[1, 2], inside.mean(1), atol=1e-6)
    assert torch.equal(second.filled, first.filled)


def test_an_assignment_of_another_grid_is_refused():
    with pytest.raises(ValueError, match=r"does not fit the tokens \(2, 8, 8, 8\)"):
        cluster_nodes(slabs(), 4, assignment=torch.zeros(2, 4, 4, 4, dtype=torch.int64))


def test_more_nodes_than_tokens_are_refused():
    with pytest.raises(ValueError, match="9 nodes cannot be made of 8 tokens"):
        cluster_nodes(torch.randn(1, 3, 2, 2, 2), 9)


def test_nodes_without_tokens_are_empty():
    nodes = cluster_nodes(slabs(batch=1), 6)
    assert nodes.filled.sum() == 4
    assert (nodes.features[~nodes.filled] == 0).all()
    assert (nodes.centroids[~nodes.filled] == 0).all()


def test_places_are_centroids():
    nodes = cluster_nodes(slabs(), 4)
    bottom = nodes.assignment[0, 0, 0, 0]
    assert torch.allclose(nodes.centroids[0, bottom], torch.tensor([-0.75, 0.0, 0.0]), atol=1e-6)


def test_labels_are_the_majority_of_what_is_known():
    target = torch.zeros(1, 16, 16, 16, dtype=torch.int64)  # four slabs of four voxels
    target[:, 0] = 1  # a quarter
    target[:, 4:8, :10] = 2  # five eighths; the rest is background
    target[:, 8:12] = 255
    target[:, 8, :2] = 1
    known = torch.ones_like(target, dtype=torch.bool)
    known[:, 12:] = False
    nodes = cluster_nodes(slabs(batch=1), 4, target=target, valid_mask=known)
    at = nodes.assignment[0, ::2, 0, 0]
    assert nodes.label[0, at].tolist() == [0, 2, 1, -1]


def test_without_a_target_nothing_is_known():
    nodes = cluster_nodes(slabs(), 4)
    assert (nodes.label == -1).all()


def test_the_means_carry_the_gradient():
    features = slabs().requires_grad_()
    cluster_nodes(features, 4).features[:, :, 0].sum().backward()
    assert features.grad is not None
    assert torch.allclose(features.grad[:, 0], torch.tensor(1 / 128))
    assert (features.grad[:, 1:] == 0).all()


def test_autocast_does_not_lower_the_precision():
    features = torch.randn(2, 4, 4, 4, 4)
    model, wanted = NodeReconstruction(4), cluster_nodes(features, 5)
    masked = sample_masked(wanted.filled, 0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = cluster_nodes(features, 5)
        assert torch.equal(found.features, wanted.features)
        losses = model(found, masked), node_contrast(found, wanted, project=nn.Linear(4, 4))
    assert [loss.dtype for loss in losses] == [torch.float32] * 2
    assert torch.equal(losses[0], model(wanted, masked))


def ball(side=16, radius=4.5):
    """A ball in the middle of a cube, (1, z, y, x) bool."""
    axis = torch.arange(side) - (side - 1) / 2
    return ((axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) < radius**2)[None]


def test_foreground_and_background_share_no_cluster():
    features, target = torch.randn(1, 4, 8, 8, 8), ball().long()
    assignment = foreground_assignment(features, ball(), 8, share=0.5, position=1.0)
    nodes = cluster_nodes(features, 8, assignment=assignment, target=target)
    inside = ball()[:, ::2, ::2, ::2] & ball()[:, 1::2, 1::2, 1::2]
    held = assignment[inside].unique()
    assert set(held.tolist()) <= set(range(4))
    assert len(held) == 4
    assert set(assignment[~ball()[:, ::2, ::2, ::2]].tolist()) >= {4, 5, 6, 7}
    assert (nodes.label[0] > 0).tolist() == [True] * 4 + [False] * 4
    plain = cluster_nodes(features, 8, target=target)
    assert (plain.label > 0).sum() < 4


def test_positions_make_clusters_compact():
    features = torch.randn(2, 4, 8, 8, 8)
    spreads = []
    for position in (0.0, 1.0, 5.0):
        assignment = foreground_assignment(
            features, torch.zeros(2, 8, 8, 8) > 0, 8, share=0.0, position=position
        )
        places = torch.nonzero(assignment[0] == assignment[0, 0, 0, 0]).float()
        spreads.append(float(places.var(0).sum()))
    assert spreads[0] > spreads[1] > spreads[2]


def test_without_foreground_all_clusters_are_background():
    nothing = torch.zeros(1, 8, 8, 8) > 0
    features = torch.randn(1, 4, 8, 8, 8)
    assignment = foreground_assignment(features, nothing, 8, share=0.5, position=0.0)
    assert len(assignment.unique()) >= 4
    assert torch.isfinite(cluster_nodes(features, 8, assignment=assignment).features).all()


def test_context_comes_from_the_neighbors():
    nodes, context = some_nodes(count=8), NeighborContext(5, neighbors=2)
    edges = knn_edges(nodes, 2)[0, 0].tolist()
    far = next(i for i in range(1, 8) if i not in edges)
    before = context(nodes).features[0, 0]
    for index, changes in ((edges[0], True), (far, False)):
        other = nodes.features.clone()
        other[0, index] = 1.001 * other[0, index] + 0.01 * torch.randn(5)
        changed = replace(nodes, features=other)
        assert knn_edges(changed, 2)[0, 0].tolist() == edges
        assert torch.allclose(context(changed).features[0, 0], before, atol=1e-7) != changes


ANGLES = torch.tensor([[0.0, 0.1, 1.5, 1.7, 0.3]])


def fan(filled=None):
    """Nodes on a line whose features point to the angles."""
    features = torch.stack([ANGLES.cos(), ANGLES.sin()], -1) * torch.tensor([1.0, 9, 1, 5, 2])[:, None]
    return some_nodes(features=features, filled=filled)


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("dynamic", [[1, 4], [0, 4], [3, 4], [2, 4], [1, 0]]),
        ("static", [{1, 2}, {0, 2}, {1, 3}, {2, 4}, {3, 2}]),
    ],
)
def test_edges_lead_to_the_nearest_others(rule, wanted):
    found = knn_edges(fan(), 2, rule)[0].tolist()
    assert found == wanted or [set(row) for row in found] == wanted


def test_empty_nodes_are_nobodys_neighbors():
    filled = torch.tensor([[True, False, True, False, True]])
    assert knn_edges(fan(filled), 2)[0, ::2].tolist() == [[4, 2], [4, 0], [0, 2]]
    assert knn_edges(fan(filled), 4)[0, 0].tolist() == [4, 2, 0, 0]  # the node itself fills up
    assert knn_edges(fan(), 9).shape == (1, 5, 5)


def test_edge_convolution_is_the_largest_of_a_layer_over_the_edges():
    x, layer = torch.randn(1, 5, 3), EdgeConv(3, 4)
    edges = knn_edges(some_nodes(features=x), 2)
    theta, phi = layer.other.weight, layer.own.weight + layer.other.weight
    per_edge = [
        F.leaky_relu(phi @ x[0, i] + theta @ (x[0, j] - x[0, i]) + layer.own.bias, 0.2)
        for i in range(5)
        for j in edges[0, i]
    ]
    wanted = layer.norm(torch.stack(per_edge).unflatten(0, (5, 2)).amax(1))
    assert torch.allclose(layer(x, edges)[0], wanted, atol=1e-6)


def test_a_share_of_the_filled_nodes_is_masked():
    filled = torch.arange(10) < torch.tensor([10, 7, 2, 1, 0])[:, None]
    for share, wanted in [(0.5, [5, 4, 1, 0, 0]), (0.01, [1, 1, 1, 0, 0]), (1.0, [9, 6, 1, 0, 0])]:
        masked = sample_masked(filled, share)
        assert masked.sum(1).tolist() == wanted
        assert not (masked & ~filled).any()
    assert (torch.stack([sample_masked(filled[:1], 0.5) for _ in range(20)]).any(0)).all()


@pytest.mark.parametrize("rule", ["dynamic", "static"])
def test_what_is_masked_does_not_show(rule):
    nodes = some_nodes(batch=2, count=8)
    masked = sample_masked(nodes.filled, 0.5)
    other = replace(nodes, features=torch.where(masked[..., None], torch.randn(2, 8, 5), nodes.features))
    model = NodeReconstruction(5, rule=rule)
    assert torch.equal(model.reconstruct(nodes, masked), model.reconstruct(other, masked))
    assert model(nodes, masked) != model(other, masked)


def test_the_rebuilt_is_judged_by_its_angle_where_it_was_masked():
    nodes, model = some_nodes(batch=1, count=4, channels=2), NodeReconstruction(2)
    masked = torch.tensor([[True, False, True, False]])
    nodes.filled[0, 2] = False
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([0.0, 3.0]))
    nodes.features[0, 0] = torch.tensor([4.0, 0.0])
    assert model(nodes, masked).item() == pytest.approx(1.0)
    nodes.features[0, 0] = torch.tensor([0.0, -2.0])
    assert model(nodes, masked).item() == pytest.approx(4.0)


def test_static_edges_rebuild_otherwise_than_dynamic_ones():
    nodes = some_nodes(count=12)
    masked = sample_masked(nodes.filled, 0.5)
    dynamic, static = NodeReconstruction(5), NodeReconstruction(5, rule="static")
    static.load_state_dict(dynamic.state_dict())
    assert not torch.allclose(
        dynamic.reconstruct(nodes, masked), static.reconstruct(nodes, masked), atol=1e-3
    )


@pytest.mark.parametrize("rule", ["dynamic", "static"])
def test_reconstruction_does_not_depend_on_the_numbers_of_nodes(rule):
    nodes, order = cluster_nodes(blobs(), 8), torch.randperm(8)
    model, masked = NodeReconstruction(16, rule=rule), sample_masked(nodes.filled, 0.5)
    assert torch.allclose(model(nodes, masked), model(shuffled(nodes, order), masked[:, order]), atol=1e-5)


@pytest.mark.parametrize("rule", ["dynamic", "static"])
def test_masked_nodes_are_learned_from_their_surroundings(rule):
    model = NodeReconstruction(16, rule=rule)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    *lessons, exam = (cluster_nodes(blobs(16), 12, 2) for _ in range(9))
    masked = sample_masked(exam.filled, 0.5)
    before = model(exam, masked).item()
    for step in range(80):
        loss = model(lessons[step % 8])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert model(exam, masked).item() < 0.6 * before


def test_contrast_is_that_of_the_formula():
    first, second = some_nodes(batch=2, count=3), some_nodes(batch=2, count=3)
    first = replace(first, label=torch.tensor([[0, 1, -1], [1, 1, -1]]))
    ends = F.normalize(torch.cat([first.features.flatten(0, 1), second.features.flatten(0, 1)]), dim=-1)
    labels, terms = first.label.flatten().repeat(2).tolist(), []
    for i in range(12):
        alike = {j: (ends[i] @ ends[j] / 0.2).exp() for j in range(12) if j != i}
        same = [j for j in alike if j == (i + 6) % 12 or labels[i] == labels[j] >= 0]
        terms.append(-sum((alike[j] / sum(alike.values())).log() for j in same) / len(same))
    found = node_contrast(first, second, project=nn.Identity(), temperature=0.2)
    assert torch.allclose(found, sum(terms) / 12, atol=1e-5)


def test_contrast_by_labels_alone_is_nothing_without_labels():
    first, second = some_nodes(), some_nodes()
    unknown = [replace(n, label=torch.full((2, 6), -1)) for n in (first, second)]
    assert float(node_contrast(*unknown, project=nn.Identity(), positives="labels")) == 0


def test_contrast_by_labels_alone_leaves_twins_of_no_label_out():
    """Of the nodes, only those with a label have a say."""
    first, second = some_nodes(), some_nodes()
    label = torch.tensor([[1, 1, 0, 0, -1, -1]] * 2)
    some = [replace(n, label=label) for n in (first, second)]
    both, alone = (node_contrast(*some, project=nn.Identity(), positives=p) for p in ("both", "labels"))
    assert torch.isfinite(alone)
    assert not torch.equal(both, alone)


def test_contrast_without_labels_knows_twins_only():
    first, second = some_nodes(), some_nodes()
    labeled = replace(first, label=torch.randint(0, 2, (2, 6)))
    alone = node_contrast(first, second, project=nn.Identity())
    assert torch.equal(alone, node_contrast(labeled, second, project=nn.Identity(), positives="matched"))
    assert not torch.equal(alone, node_contrast(labeled, second, project=nn.Identity()))


def test_contrast_depends_neither_on_numbers_nor_on_the_order_of_views():
    features, target = blobs(), torch.randint(0, 3, (2, 8, 8, 8))
    first = cluster_nodes(features, 8, target=target)
    second = cluster_nodes(features + 0.1 * torch.randn_like(features), 8, assignment=first.assignment)
    head, order = projection(16), torch.randperm(8)
    wanted = node_contrast(first, second, project=head)
    turned = node_contrast(shuffled(first, order), shuffled(second, order), project=head)
    assert torch.allclose(turned, wanted, atol=1e-5)
    assert torch.allclose(node_contrast(second, first, project=head), wanted, atol=1e-5)


def test_views_that_match_contrast_less_than_shuffled_ones():
    features = blobs()
    first = cluster_nodes(features, 8)
    second = cluster_nodes(features + 0.2 * torch.randn_like(features), 8, assignment=first.assignment)
    wrong = replace(second, features=second.features.roll(1, 1))
    matched, mixed = (node_contrast(first, other, project=nn.Identity()) for other in (second, wrong))
    assert matched < 0.5 * mixed


def test_empty_nodes_do_not_count():
    first, second = some_nodes(), some_nodes()
    held = torch.tensor([True, True, False, True, False, False])
    parts = [replace(n, filled=held.expand(2, 6)) for n in (first, second)]
    wanted = node_contrast(
        *(some_nodes(features=n.features[:, held]) for n in (first, second)), project=nn.Identity()
    )
    assert torch.equal(node_contrast(*parts, project=nn.Identity()), wanted)


def losses_of(features, clusters, target=None, rule="dynamic"):
    """Both losses of the features and of a noisy view."""
    model, head = NodeReconstruction(features.shape[1], rule=rule), projection(features.shape[1])
    first = cluster_nodes(features, clusters, target=target)
    second = cluster_nodes(features + 0.1 * torch.randn_like(features), clusters, assignment=first.assignment)
    return model(first), node_contrast(first, second, project=head)


@pytest.mark.parametrize("rule", ["dynamic", "static"])
def test_the_gradient_reaches_the_features(rule):
    for index in range(2):
        features = blobs().requires_grad_()
        losses_of(features, 8, rule=rule)[index].backward()
        assert features.grad is not None
        assert features.grad.isfinite().all()
        assert (features.grad.abs().sum((1, 2, 3, 4)) > 0).all()


@pytest.mark.parametrize(
    ("value", "shape", "clusters"),
    [
        pytest.param(0.0, (2, 4, 4, 4, 4), 5, id="dead"),
        pytest.param(1.0, (2, 4, 4, 4, 4), 5, id="constant"),
        pytest.param(None, (1, 4, 4, 4, 4), 5, id="one sample"),
        pytest.param(None, (1, 4, 4, 4, 4), 1, id="one node"),
        pytest.param(None, (2, 4, 1, 1, 2), 2, id="two tokens"),
    ],
)
def test_degenerate_batches_give_finite_losses_and_gradients(value, shape, clusters):
    features = torch.randn(shape) if value is None else torch.full(shape, value)
    features.requires_grad_()
    target = torch.full((shape[0], *shape[2:]), 255)
    losses = losses_of(features, clusters, target)
    sum(losses).backward()
    assert torch.stack(losses).isfinite().all()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_a_batch_without_any_filled_node_costs_nothing():
    features = torch.randn(1, 3, 5, requires_grad=True)
    nodes = some_nodes(features=features, filled=torch.zeros(1, 3, dtype=torch.bool))
    loss = NodeReconstruction(5)(nodes) + node_contrast(nodes, nodes, project=projection(5))
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None
    assert (features.grad == 0).all()
