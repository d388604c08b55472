import numpy as np
import pytest
import torch
from monai.losses import DiceLoss, FocalLoss
from scipy import ndimage

from cryovox.core.errors import RequestError
from cryovox.data.streams import Batch
from cryovox.data.targets import gaussian_heatmap
from cryovox.models.supervision import Supervision
from cryovox.training.losses import (
    HEATMAP_LOSSES,
    IGNORE_INDEX,
    MASK_LOSSES,
    _read,
    boundary_dice,
    ce_dice,
    contrastive,
    count_peaks,
    cross_entropy,
    heatmap_background_loss,
    heatmap_focal,
    heatmap_pu_loss,
    mask_background_loss,
    mask_pu_loss,
    peak_voxels,
    peak_weights,
    point_ce,
    pu_risk,
    soft_dice,
    tversky,
    weighted_mse,
)
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.supervised import Supervised

torch.set_num_threads(1)
SHAPE = (5, 6, 7)
mask_losses = pytest.mark.parametrize("loss", MASK_LOSSES.values(), ids=list(MASK_LOSSES))
heatmap_losses = pytest.mark.parametrize("loss", HEATMAP_LOSSES.values(), ids=list(HEATMAP_LOSSES))


def mask_case(seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, *SHAPE, generator=g, requires_grad=True)
    target = torch.randint(0, 3, (2, *SHAPE), generator=g)
    valid_mask = torch.rand(2, *SHAPE, generator=g) < 0.7
    return logits, target.masked_fill(~valid_mask, IGNORE_INDEX), valid_mask


def gaussians(centers, shape=(9, 10, 11), sigma=1.5):
    grid = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij"), -1)
    far = torch.stack([(grid - torch.tensor(c)).square().sum(-1) for c in centers])
    return torch.exp(-far / (2 * sigma**2)).amax(0)


def heatmap_case(seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    target = torch.stack([gaussians([[3.0, 3.0, 3.0]]), gaussians([[5.2, 6.4, 7.0], [2.0, 8.0, 2.0]])])[None]
    logits = torch.randn(target.shape, generator=g, requires_grad=True)
    return logits, target, torch.rand(target.shape, generator=g) < 0.7


def outcome(loss, logits, target, valid_mask):
    value = loss(logits, target, valid_mask)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


@mask_losses
@pytest.mark.parametrize("written", [IGNORE_INDEX, 0, 1, 2])
def test_unknown_voxels_of_a_mask_have_no_influence(loss, written):
    logits, target, valid_mask = mask_case()
    value, gradient = outcome(loss, logits, target, valid_mask)
    other = logits.detach().clone()
    other[(~valid_mask)[:, None].expand_as(other)] = 50.0
    there = outcome(loss, other.requires_grad_(), target.masked_fill(~valid_mask, written), valid_mask)
    assert torch.allclose(value, there[0])
    assert torch.allclose(gradient.movedim(1, -1)[valid_mask], there[1].movedim(1, -1)[valid_mask])
    assert gradient.movedim(1, -1)[~valid_mask].abs().max() == 0
    assert gradient.abs().max() > 0


@heatmap_losses
def test_unknown_voxels_of_a_heatmap_have_no_influence(loss):
    logits, target, valid_mask = heatmap_case()
    valid_mask[target > 0.5] = True  # what is beside a summit decides whether it is one
    value, gradient = outcome(loss, logits, target, valid_mask)
    other = torch.where(valid_mask, logits.detach(), 9.0).requires_grad_()
    there = outcome(loss, other, torch.where(valid_mask, target, 0.2), valid_mask)
    assert torch.allclose(value, there[0])
    assert torch.allclose(gradient[valid_mask], there[1][valid_mask])
    assert gradient[~valid_mask].abs().max() == 0
    assert gradient.abs().max() > 0


@mask_losses
def test_a_perfect_mask_costs_next_to_nothing(loss):
    _, target, valid_mask = mask_case()
    perfect = torch.nn.functional.one_hot(target.masked_fill(~valid_mask, 0), 3).movedim(-1, 1) * 30.0
    assert 0 <= float(loss(perfect, target, valid_mask)) < 0.02
    worst = perfect.roll(1, 1)
    assert float(loss(worst, target, valid_mask)) > 0.9


def test_a_perfect_heatmap_costs_next_to_nothing():
    _, target, valid_mask = heatmap_case()
    perfect = target.clamp(1e-6, 1 - 1e-6).logit()
    assert float(weighted_mse(perfect, target, valid_mask)) < 1e-6
    sharp = torch.where(peak_voxels(target), 20.0, -20.0)
    assert float(heatmap_focal(sharp, target, valid_mask)) < 1e-4
    assert float(heatmap_focal(-sharp, target, valid_mask)) > 5
    assert float(point_ce(sharp, target, valid_mask)) < 1e-4
    assert float(point_ce(-sharp, target, valid_mask)) > 5


def test_a_particle_beyond_the_patch_has_no_summit_in_it():
    target = torch.from_numpy(gaussian_heatmap(np.array([[-0.6, 5.0, 5.0], [5.0, 5.0, 5.0]]), 1.5, (10,) * 3))
    assert float(target[0].max()) > 0.5
    assert peak_voxels(target[None, None]).nonzero()[:, 2:].tolist() == [[5, 5, 5]]


@mask_losses
def test_mask_losses_fall_under_gradient_descent(loss):
    logits, target, valid_mask = mask_case()
    assert_falls(loss, logits, target, valid_mask)


@heatmap_losses
def test_heatmap_losses_fall_under_gradient_descent(loss):
    logits, target, valid_mask = heatmap_case()
    assert_falls(loss, logits, target, valid_mask)


def assert_falls(loss, logits, target, valid_mask):
    logits = logits.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.2)
    before = loss(logits, target, valid_mask).item()
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(logits, target, valid_mask)
        value.backward()
        optimizer.step()
    assert value.item() < 0.5 * before


@pytest.mark.parametrize("loss", [*MASK_LOSSES.values(), *HEATMAP_LOSSES.values()])
def test_where_nothing_is_known_there_is_no_gradient_and_no_nan(loss):
    logits, target, valid_mask = mask_case() if loss in MASK_LOSSES.values() else heatmap_case()
    value, gradient = outcome(loss, logits, target, torch.zeros_like(valid_mask))
    assert torch.isfinite(value)
    assert gradient.abs().max() == 0


def test_cross_entropy_by_hand():
    """Probabilities 0.8 and 0.5 of the right class: -ln 0.8 = 0.2231 and -ln 0.5 = 0.6931."""
    right = torch.tensor([0.8, 0.5, 0.1])
    logits = torch.stack([right, 1 - right]).log().reshape(1, 2, 1, 1, 3)
    target = torch.tensor([0, 0, IGNORE_INDEX]).reshape(1, 1, 1, 3)
    assert float(cross_entropy(logits, target, target != IGNORE_INDEX)) == pytest.approx(0.4581, abs=1e-4)


def by_hand():
    """Two voxels of background and two of species 1, one voxel unknown."""
    p = torch.tensor([0.1, 0.4, 0.8, 0.6, 0.9])
    logits = torch.stack([torch.zeros(5), p.logit(), torch.full((5,), -40.0)]).reshape(1, 3, 1, 1, 5)
    target = torch.tensor([0, 0, 1, 1, IGNORE_INDEX]).reshape(1, 1, 1, 5)
    return logits, target, target != IGNORE_INDEX


def test_soft_dice_by_hand():
    """Only species 1 occurs: overlap 1.4 of 1.9 and 2 voxels, and 1 for stability: 2.8 / 4.9."""
    assert float(soft_dice(*by_hand())) == pytest.approx(3 / 7, abs=1e-5)


def cube(side: int, shift: int = 0) -> torch.Tensor:
    """A cube of 1 in 8 x 8 x 8 voxels of 0."""
    labels = torch.zeros(1, 8, 8, 8, dtype=torch.long)
    labels[:, 1 + shift : 1 + shift + side, 1 : 1 + side, 1 : 1 + side] = 1
    return labels


def sure_of(labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(labels, 2).movedim(-1, 1) * 60.0


def test_boundary_dice_by_hand():
    valid_mask = torch.ones(1, 8, 8, 8, dtype=torch.bool)
    assert float(boundary_dice(sure_of(cube(5)), cube(5), valid_mask)) == pytest.approx(0, abs=1e-4)
    large, small = (cube(side)[0].bool().numpy() for side in (5, 4))
    shells = [mask & ~ndimage.binary_erosion(mask, np.ones((3, 3, 3))) for mask in (large, small)]
    assert [int(shell.sum()) for shell in shells] == [98, 56]
    assert int((shells[0] & shells[1]).sum()) == 37  # Dice 74 / 154
    loss = float(boundary_dice(sure_of(cube(4)), cube(5), valid_mask))
    assert loss == pytest.approx(80 / 154, abs=1e-4)
    filled, hollow = cube(5), cube(5)
    hollow[:, 2:5, 2:5, 2:5] = 0
    inside = sure_of(hollow)  # no voxel of the surface is wrong, and soft Dice would tell
    assert float(boundary_dice(inside, filled, valid_mask)) == pytest.approx(0, abs=1e-4)
    assert float(soft_dice(inside, filled, valid_mask)) > 0.1


def test_surfaces_beside_unknown_voxels_do_not_count():
    labels, valid_mask = cube(5), torch.ones(1, 8, 8, 8, dtype=torch.bool)
    valid_mask[:, 5:] = False  # the face at z = 5 is unknown, and what z = 4 is depends on it
    wrong = sure_of(labels)
    wrong[:, :, 4] = wrong[:, :, 4].roll(1, 1)
    right = float(boundary_dice(sure_of(labels), labels.masked_fill(~valid_mask, IGNORE_INDEX), valid_mask))
    assert (
        float(boundary_dice(sure_of(cube(6)), labels.masked_fill(~valid_mask, IGNORE_INDEX), valid_mask))
        > right
    )
    assert right < 0.02


def test_features_are_read_as_scipy_enlarges_them():
    features = torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    large = [ndimage.zoom(f, 4, order=1, mode="nearest", grid_mode=True) for f in features[0].numpy()]
    at = torch.tensor([[0, 5, 15, 2000, 4095]])
    wanted = torch.tensor(np.stack(large)).flatten(1)[:, at[0]].T[None]
    assert torch.allclose(_read(features, at, torch.Size([16, 16, 16])), wanted, atol=1e-5)


def halves() -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.zeros(2, 8, 8, 8, dtype=torch.long)
    target[:, 4:] = 1
    return target, torch.ones_like(target, dtype=torch.bool)


def test_contrast_by_hand():
    target, valid_mask = halves()
    torch.manual_seed(0)
    apart = torch.nn.functional.one_hot(target, 2).movedim(-1, 1).float()
    loss = float(contrastive(apart, target, valid_mask, points=400, temperature=1.0))
    # each of 800 sees 399 alike at e and 400 others at 1, 1484.6 in all: the probability of one is 0.00183
    assert loss == pytest.approx(6.303, abs=0.05)
    same = torch.ones_like(apart)  # one of 799 that cannot be told apart
    assert float(contrastive(same, target, valid_mask, points=400)) == pytest.approx(6.683, abs=1e-3)


def test_contrast_separates_classes_and_leaves_out_what_is_unknown():
    target, valid_mask = halves()
    valid_mask[:, :, 4:] = False
    torch.manual_seed(0)
    features = torch.randn(2, 3, 8, 8, 8, requires_grad=True)
    optimizer = torch.optim.Adam([features], lr=0.1)
    for _ in range(40):
        optimizer.zero_grad()
        contrastive(features, target.masked_fill(~valid_mask, IGNORE_INDEX), valid_mask).backward()
        assert not features.grad[:, :, :, 5:].any()
        optimizer.step()
    units = torch.nn.functional.normalize(features.detach(), dim=1)[:, :, :, :4].transpose(0, 1)
    means = [units[:, target[:, :, :4] == k].mean(1) for k in (0, 1)]
    assert float(means[0] @ means[1]) < 0
    assert means[0].norm() > 0.7


def test_contrast_where_nothing_is_known():
    target, valid_mask = halves()
    features = torch.randn(2, 3, 4, 4, 4, requires_grad=True)
    for left in (torch.zeros_like(valid_mask), valid_mask & (torch.arange(2) == 0)[:, None, None, None]):
        value = contrastive(features, target, left)
        (gradient,) = torch.autograd.grad(value, features)
        assert value.isfinite()
        assert not gradient[1].any()


def test_tversky_of_equal_weights_is_dice():
    """(tp + 1) / (tp + (fp + fn) / 2 + 1) is Dice with 2 added to both of its parts; MONAI computes it."""
    logits, target, valid_mask = by_hand()
    known = valid_mask[:, None].float()
    one_hot = torch.nn.functional.one_hot(target.masked_fill(~valid_mask, 0), 3).movedim(-1, 1)
    dice = DiceLoss(batch=True, smooth_nr=2.0, smooth_dr=2.0)
    wanted = dice(logits.softmax(1) * known, one_hot * known)
    assert float(tversky(logits, target, valid_mask)) == pytest.approx(float(wanted), abs=1e-5)


def test_heatmap_focal_of_points_is_the_focal_loss_of_monai():
    """Without the flanks of a Gaussian nothing reduces the penalty; alpha = 2 is gamma = 2 there."""
    logits, gaussian, valid_mask = heatmap_case()
    points = peak_voxels(gaussian).float()
    summed = FocalLoss(gamma=2.0, reduction="none")(logits, points)[valid_mask].sum()
    count = int((points[valid_mask] > 0).sum())
    assert count >= 1
    assert heatmap_focal(logits, points, valid_mask).item() == pytest.approx(summed.item() / count, rel=1e-5)


def test_the_flank_of_a_gaussian_is_penalized_less():
    """Probability 1/2 costs ln 2 / 4 at the peak and where the target is 0, 1/16 of it where it is 1/2."""
    target = torch.zeros(1, 1, 3, 3, 3)
    target[..., 1, 1, 1], target[..., 1, 1, 2] = 1.0, 0.5
    for voxel, expected in (((1, 1, 1), 0.1733), ((0, 0, 0), 0.1733), ((1, 1, 2), 0.01083)):
        valid_mask = torch.zeros_like(target, dtype=torch.bool)
        valid_mask[(0, 0, *voxel)] = True
        loss = heatmap_focal(torch.zeros_like(target), target, valid_mask)
        assert float(loss) == pytest.approx(expected, rel=1e-3)


def test_every_particle_has_a_summit_even_between_voxels():
    target = gaussians([[3.5, 3.5, 3.5], [6.0, 7.2, 8.9]])[None, None]
    found = peak_voxels(target)[0, 0]
    assert found[3:5, 3:5, 3:5].all()
    assert found.sum() == 9
    weights = peak_weights(target)[0, 0]
    assert weights[3:5, 3:5, 3:5].unique().tolist() == [1 / 8]
    assert float(weights.sum()) == pytest.approx(2)
    assert torch.equal(weights > 0, found)


def test_a_center_between_voxels_counts_once():
    """Eight summits of one center are one particle in the loss, as one summit is."""
    losses = []
    for center in ([4.0, 4.0, 4.0], [3.5, 3.5, 3.5]):
        target = gaussians([center, [10.0, 10.0, 10.0]], shape=(14, 14, 14))[None, None]
        known = torch.ones_like(target, dtype=torch.bool)
        assert float(count_peaks(target, known)) == pytest.approx(2)
        losses.append(float(heatmap_focal(torch.full_like(target, -3.0), target, known)))
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_losses_do_not_overflow():
    _, target, valid_mask = heatmap_case()
    for sign in (1, -1):
        assert torch.isfinite(heatmap_focal(torch.full_like(target, sign * 1e4), target, valid_mask))
        assert torch.isfinite(heatmap_pu_loss(torch.full_like(target, sign * 1e4), target, valid_mask, 0.5))


def test_hidden_risk_by_hand():
    away = torch.tensor([[[1.0, 2.0, 4.0], [8.0, 1.0, 1.0]]])
    unknown = torch.tensor([[[True, True, False], [False, True, True]]])
    labeled = torch.tensor([[[False, False, True], [True, False, False]]])
    # channel 0: 3 - 0.5 * 4 = 1; channel 1: 2 - 0.5 * 8 is below zero
    assert float(pu_risk(away, unknown, labeled, 0.5)) == 1
    assert float(pu_risk(away, unknown, labeled, 0.0)) == 5
    assert float(pu_risk(away, unknown, labeled, 100.0)) == 0


@pytest.mark.parametrize("hidden", [0.0, 0.5, 3.0])
def test_hidden_risk_is_never_negative(hidden):
    for seed in range(5):
        logits, target, valid_mask = heatmap_case(seed)
        assert heatmap_pu_loss(logits, target, valid_mask, hidden).item() >= 0
        logits, target, valid_mask = mask_case(seed)
        assert mask_pu_loss(logits, target, valid_mask, hidden).item() >= 0


@pytest.mark.parametrize(("loss", "case"), [(heatmap_pu_loss, heatmap_case), (mask_pu_loss, mask_case)])
def test_the_unknown_are_not_pushed_to_background_once_the_hidden_account_for_it(loss, case):
    logits, target, valid_mask = case()
    _, pushed = outcome(lambda *a: loss(*a, 0.0), logits, target, valid_mask)
    assert pushed.abs().max() > 0
    value, gradient = outcome(lambda *a: loss(*a, 1e6), logits, target, valid_mask)
    assert value == 0
    assert gradient.abs().max() == 0


def test_the_hidden_risk_touches_unknown_voxels_downwards_and_labeled_ones_upwards():
    logits = torch.zeros(1, 1, 9, 10, 11, requires_grad=True)
    target = gaussians([[4.0, 5.0, 5.0]], sigma=1.0)[None, None]
    valid_mask = target > 0.1
    _, gradient = outcome(lambda *a: heatmap_pu_loss(*a, 0.5), logits, target, valid_mask)
    assert (gradient[~valid_mask] > 0).all()  # descent lowers the score
    assert (gradient[valid_mask] < 0).all()


def test_presumed_background_of_full_weight_is_labeled_background():
    logits, target, valid_mask = heatmap_case()
    everywhere = torch.ones_like(valid_mask)
    target = target.where(valid_mask, 0)
    whole = heatmap_focal(logits, target, valid_mask) + heatmap_background_loss(logits, target, valid_mask)
    assert whole.item() == pytest.approx(heatmap_focal(logits, target, everywhere).item(), rel=1e-5)
    logits, target, valid_mask = mask_case()
    presumed = mask_background_loss(logits, target, valid_mask)
    background = torch.zeros_like(target)
    assert presumed.item() == pytest.approx(cross_entropy(logits, background, ~valid_mask).item(), rel=1e-5)


def test_presumed_background_weighs_unlabeled_voxels_alone():
    logits, target, valid_mask = heatmap_case()
    _, gradient = outcome(heatmap_background_loss, logits, target.where(valid_mask, 0), valid_mask)
    assert (gradient[~valid_mask] > 0).all()
    assert not gradient[valid_mask].any()
    batch = {"labeled": toy_batch("heatmap")}
    terms = []
    for weight in (0.1, 0.3):
        torch.manual_seed(0)
        config = SupervisedConfig(unknown="background", unlabeled_weight=weight)
        terms.append(Supervised(Toy("heatmap", 2), config, "toy").losses(batch, 0.0)["main-unknown"].item())
    assert terms[1] == pytest.approx(3 * terms[0])


class Toy(torch.nn.Module):
    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.kind = kind
        self.body = torch.nn.Conv3d(1, 4, 3, padding=1)
        self.head = torch.nn.Conv3d(4, channels, 1)

    def forward(self, x):
        return self.head(self.body(x).relu())


def toy_batch(kind: str) -> Batch:
    if kind == "heatmap":
        _, target, valid_mask = heatmap_case()
        return Batch(target.amax(1, keepdim=True) * 3, target, valid_mask)
    _, target, valid_mask = mask_case()
    return Batch(target.masked_fill(~valid_mask, 0)[:, None].float(), target, valid_mask)


CASES = [("mask", name) for name in MASK_LOSSES] + [("heatmap", name) for name in HEATMAP_LOSSES]


@pytest.mark.parametrize(("kind", "name"), CASES)
@pytest.mark.parametrize("unknown", ["pu", "ignore", "background"])
def test_each_loss_reaches_the_weights_and_training_lowers_it(kind, name, unknown):
    torch.manual_seed(0)
    network = Toy(kind, 2 if kind == "heatmap" else 3)
    strategy = Supervised(network, SupervisedConfig(loss=name, unknown=unknown, unlabeled_ratio=0.1), "toy")
    batch = {"labeled": toy_batch(kind)}
    terms = strategy.losses(batch, 0.0)
    assert set(terms) == ({"main"} if unknown == "ignore" else {"main", "main-unknown"})
    for term in terms.values():
        gradients = torch.autograd.grad(term, list(network.parameters()), retain_graph=True)
        assert all(g.abs().max() > 0 for g in gradients)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    values = []
    for step in range(1, 41):
        optimizer.zero_grad()
        total = sum(strategy.losses(batch, 0.0).values())
        total.backward()
        optimizer.step()
        strategy.after_step(step)
        values.append(total.item())
    assert values[-1] < 0.9 * values[0]


class Rich(Toy):
    """Two outputs, a loss of its own, features."""

    def supervise(self, x):
        features = self.body(x)
        logits = self.head(features.relu())
        return Supervision({"main": logits, "side": 2 * logits}, {"own": features.square().mean()},
                           {"last": features})  # fmt: skip


def test_weights_multiply_the_terms_they_name():
    torch.manual_seed(0)
    batch, network = {"labeled": toy_batch("mask")}, Rich("mask", 3)
    plain = Supervised(network, SupervisedConfig(loss="ce", unknown="pu"), "toy").losses(batch, 0.0)
    given = {"side": 0.5, "own": 3.0, "main-unknown": 0.0}
    config = SupervisedConfig(loss="ce", unknown="pu", weights=given)
    weighted = Supervised(network, config, "toy").losses(batch, 0.0)
    assert list(plain) == ["main", "side", "main-unknown", "side-unknown", "own"]
    for name, term in plain.items():
        assert torch.equal(weighted[name], given.get(name, 1.0) * term)


def test_a_weight_of_no_term_is_refused():
    strategy = Supervised(Rich("mask", 3), SupervisedConfig(weights={"vls": 0.5}), "toy")
    with pytest.raises(RequestError, match="no term is called 'vls'"):
        strategy.losses({"labeled": toy_batch("mask")}, 0.0)


def test_a_weight_of_the_unknown_voxels_may_wait_for_some():
    batch = toy_batch("mask")
    batch = batch._replace(valid_mask=torch.ones_like(batch.valid_mask), target=batch.target.clamp(max=2))
    strategy = Supervised(Rich("mask", 3), SupervisedConfig(weights={"main-unknown": 0.5}), "toy")
    assert "main-unknown" not in strategy.losses({"labeled": batch}, 0.0)


def test_contrast_is_a_term_with_its_weight():
    batch, network = {"labeled": toy_batch("mask")}, Rich("mask", 3)
    values = []
    for weight in (1.0, 0.1):
        torch.manual_seed(0)
        config = SupervisedConfig(loss="ce", contrastive=weight)
        values.append(Supervised(network, config, "toy").losses(batch, 0.0)["contrastive"])
    assert torch.allclose(values[1], 0.1 * values[0])
    (gradient,) = torch.autograd.grad(values[0], network.body.weight)
    assert gradient.any()
    with pytest.raises(RequestError, match="offers no features"):
        Supervised(Toy("mask", 3), config, "toy").losses(batch, 0.0)


def test_a_fully_known_batch_has_no_unknown_term():
    strategy = Supervised(Toy("heatmap", 2), SupervisedConfig(), "toy")
    batch = toy_batch("heatmap")
    assert set(strategy({"labeled": batch._replace(valid_mask=torch.ones_like(batch.valid_mask))}, 0.0)) == {
        "main"
    }


@pytest.mark.parametrize(("kind", "loss"), [("mask", "focal-heatmap"), ("heatmap", "ce+dice")])
def test_a_loss_that_does_not_fit_is_refused(kind, loss):
    with pytest.raises(RequestError, match=f"does not fit toy, which predicts a {kind}") as caught:
        Supervised(Toy(kind, 2), SupervisedConfig(loss=loss), "toy")
    assert caught.value.where == "--loss"


@pytest.mark.parametrize(
    ("name", "kind", "loss"),
    [
        ("deepfinder", "mask", tversky),
        ("mvgformer", "mask", ce_dice),
        ("heatmap-unet", "heatmap", heatmap_focal),
    ],
)
def test_auto_is_a_loss_for_sparse_targets(name, kind, loss):
    assert Supervised(Toy(kind, 2), SupervisedConfig(), name).loss is loss


def test_the_average_is_what_is_validated_and_stays_in_eval_mode():
    strategy = Supervised(Toy("mask", 3), SupervisedConfig(ema=0.9), "toy").train()
    assert strategy.network() is strategy.average
    assert strategy.student.training
    assert not strategy.average.training
    assert not any(p.requires_grad for p in strategy.average.parameters())
    plain = Supervised(Toy("mask", 3), SupervisedConfig(ema=0), "toy")
    assert plain.network() is plain.student
