"""What each semi-supervised method asks of the network."""

import copy

import pytest
import torch

from cryovox.core.errors import RequestError
from cryovox.core.particles import Species
from cryovox.data.streams import Batch
from cryovox.data.targets import gaussian_heatmap
from cryovox.data.unlabeled import PickedBatch
from cryovox.models import build
from cryovox.models.card import Card
from cryovox.training.strategies import STRATEGIES, config_of
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.semi import semi_etpicker
from cryovox.training.strategies.teacher import sigmoid_rampup

SEMI = [name for name in STRATEGIES if STRATEGIES[name].task == "semi-supervised"]
SIDE = 16


def card(tmp=None):
    kinds = (Species(name="ball", label=1, radius=40.0), Species(name="disc", label=2, radius=60.0))
    return Card.model_construct(species=kinds, voxel_size=10.0, output_stride=2)


def network():
    torch.manual_seed(0)
    return build("heatmap-unet", {"widths": [4, 8], "blocks": [0, 1], "norm": "batch"}, 1, 2)


def strategy(name, supervised=SupervisedConfig(), **own):
    kind = STRATEGIES[name]
    method = kind(network(), config_of(name)(**own), "heatmap-unet", supervised)
    method.setup(card())
    return method


def batches(seed=0, size=2):
    torch.manual_seed(seed)
    target = torch.zeros(size, 2, 8, 8, 8)
    target[:, 0] = torch.from_numpy(gaussian_heatmap(torch.tensor([[3.0, 3, 3]]).numpy(), 1.0, (8, 8, 8)))
    labeled = Batch(torch.randn(size, 1, SIDE, SIDE, SIDE), target, torch.ones_like(target, dtype=torch.bool))
    bare = Batch(
        torch.randn(size, 1, SIDE, SIDE, SIDE), torch.zeros_like(target), torch.ones_like(labeled.valid_mask)
    )
    return {"labeled": labeled, "unlabeled": bare}


class Sees(torch.nn.Module):
    """A teacher that sees a peak wherever the input is high, on a grid of half the voxels."""

    def forward(self, x):
        found = torch.nn.functional.max_pool3d(x, 2)
        return torch.cat([8 * (found - 3), torch.full_like(found, -8.0)], 1)


def sees(method):
    """Give it such a teacher, now and when a round begins."""
    method.supervised.average = Sees()
    if hasattr(method, "fixed"):
        method.fixed = Sees()


@pytest.mark.parametrize("name", SEMI)
def test_every_method_takes_a_step_and_goes_on(name):
    method = strategy(name)
    given = batches()
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 1e-3)
    method.train()
    for step in range(2):
        terms = method.losses(given, 0.5 + step / 4)
        total = torch.stack(list(terms.values())).sum()
        assert torch.isfinite(total)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        method.after_step(step + 1)
    other = strategy(name)
    other.load_state_dict(method.state_dict())
    for key, value in method.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_without_rounds_the_teacher_follows():
    method = strategy("semi-etpicker", rounds=0)
    assert method.current_teacher(0.3) is method.teacher
    assert not hasattr(method, "fixed")
    assert strategy("semi-etpicker").current_teacher(0.3) is not method.teacher


@pytest.mark.parametrize("name", SEMI)
def test_nothing_unlabeled_is_looked_at_before_its_time(name):
    method = strategy(name)
    assert "unlabeled" not in method.losses(batches(), 0.1)
    assert "unlabeled" in method.losses(batches(), 0.9)
    assert "unlabeled" not in strategy(name, weight=0.0).losses(batches(), 0.9)


def taught_by(method, image):
    """The lesson of a teacher that sees peaks, and its gradient on the student."""
    sees(method)
    given = batches()
    given["unlabeled"] = given["unlabeled"]._replace(image=image)
    torch.manual_seed(3)
    loss = method.losses(given, 1.0)["unlabeled"]
    loss.backward()
    return float(loss.detach())


def test_what_the_teacher_sees_teaches_the_student():
    seen, unseen = torch.zeros(2, 1, SIDE, SIDE, SIDE), torch.zeros(2, 1, SIDE, SIDE, SIDE)
    seen[:, 0, 6:8, 6:8, 6:8] = 5
    method = strategy("semi-etpicker")
    assert taught_by(method, seen) > 0
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in method.student.parameters())
    assert taught_by(strategy("semi-etpicker"), unseen) == 0  # no peak: background alone teaches nothing


@pytest.mark.parametrize("name", ["semi-etpicker", "heatmap-mean-teacher"])
def test_voxels_beyond_the_region_teach_nothing(name):
    image = torch.zeros(2, 1, SIDE, SIDE, SIDE)
    image[..., 6:8, 6:8, 4:6] = image[..., 6:8, 6:8, 10:12] = 5  # a peak on either side
    given = batches()
    known = given["unlabeled"].valid_mask.clone()
    known[..., 4:] = False
    given["unlabeled"] = given["unlabeled"]._replace(image=image, valid_mask=known)
    method, answers = strategy(name), []
    sees(method)
    method.student.register_forward_hook(
        lambda _m, _x, answer: answers.append(answer) or answer.retain_grad()
    )
    method.losses(given, 1.0)["unlabeled"].backward()
    gradient = answers[-1].grad
    assert gradient[..., :4].abs().sum() > 0
    assert (gradient[..., 4:] == 0).all()


def test_the_threshold_follows_what_labeled_particles_get():
    method = strategy("semi-etpicker", low=0.005, high=0.5)
    given = batches()
    for _ in range(200):
        method.losses(given, 1.0)
    certainty = method.certainty
    assert 0.005 < float(certainty[0]) < 0.5  # an untrained network is unsure of its labels
    assert float(certainty[1]) == 0.5  # this species has no label
    fixed = strategy("semi-etpicker", adaptive=False, high=0.5)
    fixed.losses(given, 1.0)
    assert fixed.certainty.tolist() == [0.5, 0.5]


def test_patches_with_fewer_peaks_than_labels_teach_less():
    """As many peaks as labels count fully, one for every two half."""
    image = torch.zeros(2, 1, SIDE, SIDE, SIDE)
    image[0, 0, 6:8, 6:8, 6:8] = 5
    half = strategy(
        "semi-etpicker", student_drop=0.0, deep_drop=0.0, student_noise=0.0, student_contrast_jitter=0.0
    )
    given = batches()
    sees(half)
    given["unlabeled"] = given["unlabeled"]._replace(image=image)
    judged, seen = half.supervised.loss, []
    half.supervised.loss = lambda *given: seen.append(judged(*given)) or seen[-1]
    assert half.losses(given, 1.0)["unlabeled"].item() == pytest.approx(seen[-1].item() / 2, rel=1e-5)


def test_the_student_has_holes_in_its_input_and_its_deep_features(monkeypatch):
    shares = {}
    real = semi_etpicker.deep_drop
    monkeypatch.setattr(semi_etpicker, "drop_cuboids", lambda x, share: shares.update(input=share) or x)
    monkeypatch.setattr(
        semi_etpicker, "deep_drop", lambda net, share: shares.update(deep=share) or real(net, share)
    )
    strategy("semi-etpicker", student_drop=0.2, deep_drop=0.3).losses(batches(), 1.0)
    assert shares == {"input": 0.2, "deep": 0.3}


def test_thresholds_that_cannot_adapt_are_refused():
    with pytest.raises(RequestError, match="no-adaptive"):
        strategy("semi-etpicker", low=0.2, high=0.3)
    strategy("semi-etpicker", low=0.2, high=0.3, adaptive=False)


def test_networks_whose_deep_features_are_not_their_own_are_refused():
    kind = STRATEGIES["semi-etpicker"]
    views = build("multi-view", {"of": "heatmap-unet", "options": {"widths": [4, 8], "blocks": [0, 1]}}, 1, 2)
    with pytest.raises(RequestError, match="--deep-drop 0"):
        kind(views, kind.Config(), "multi-view")
    kind(views, kind.Config(deep_drop=0.0), "multi-view")


def test_pseudo_labels_of_a_round_come_from_one_teacher():
    method = strategy("pseudo-labels", rounds=2)
    given = batches()
    method.losses(given, 0.3)
    first = copy.deepcopy(method.fixed.state_dict())
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.add_(1.0)
    method.losses(given, 0.5)
    assert all(torch.equal(v, first[k]) for k, v in method.fixed.state_dict().items())
    method.losses(given, 0.7)  # the second round
    assert not all(torch.equal(v, first[k]) for k, v in method.fixed.state_dict().items())
    method.losses(given, 1.0)
    assert int(method.round) == 2  # the end begins no third


@pytest.mark.parametrize("name", SEMI)
@pytest.mark.parametrize(("unknown", "risk"), [("ignore", False), ("pu", True)])
def test_what_is_not_picked_is_left_to_the_teacher(name, unknown, risk):
    given = batches()
    known = given["labeled"].valid_mask.clone()
    known[..., 6:] = False
    given["labeled"] = given["labeled"]._replace(valid_mask=known)
    method = strategy(name, SupervisedConfig(unknown=unknown)).train()
    assert any("unknown" in term for term in method.losses(given, 0.0)) == risk


@pytest.mark.parametrize("name", ["semi-etpicker", "heatmap-mean-teacher"])
def test_where_all_particles_of_a_species_are_picked_the_teacher_has_no_say(name):
    """The teacher sees a ball that is none, since all balls are picked."""
    off = {"student_noise": 0.0, "student_contrast_jitter": 0.0}
    if name == "semi-etpicker":
        off |= {"student_drop": 0.0, "deep_drop": 0.0}
    image = torch.zeros(2, 1, SIDE, SIDE, SIDE)
    image[:, 0, 10:12, 10:12, 10:12] = 5
    gradients = {}
    for searched in (False, True):
        method = strategy(name, **off)
        sees(method)
        method.supervised.student = torch.nn.Conv3d(1, 2, 2, stride=2)
        torch.nn.init.zeros_(method.student.weight)
        torch.nn.init.zeros_(method.student.bias)
        given = batches()
        complete = torch.tensor([[searched, False]] * 2)
        known = given["unlabeled"].valid_mask
        given["unlabeled"] = PickedBatch(image, given["labeled"].target, known, complete)
        method.losses(given, 1.0)["unlabeled"].backward()
        gradients[searched] = float(method.student.weight.grad[0].mean())  # at gray values of the false ball
    assert gradients[False] < 0 < gradients[True]  # raised, and lowered


def test_masks_are_refused():
    kind = STRATEGIES["semi-etpicker"]
    masks = build("voxresnet", {"widths": [4, 8]}, 1, 2)
    with pytest.raises(RequestError, match="needs heatmaps"):
        kind(masks, kind.Config(), "voxresnet")


def test_background_that_reaches_into_the_peaks_is_refused():
    with pytest.raises(RequestError, match="not below"):
        strategy("semi-etpicker", low=0.6)


def test_supervised_training_has_the_same_drop_block():
    from cryovox.training.strategies.supervised import Supervised

    method = Supervised(network(), SupervisedConfig(drop_block=0.2), "heatmap-unet")
    given = batches()["labeled"]
    assert not torch.equal(method.drop_blocks(given).image, given.image)
    assert torch.equal(method.drop_blocks(given).target, given.target)


@pytest.mark.parametrize("name", SEMI)
def test_there_is_always_a_teacher(name):
    with pytest.raises(ValueError, match="teacher_decay"):
        config_of(name)(teacher_decay=0.0)


def test_the_weight_rises():
    assert sigmoid_rampup(0.19, 0.2, 0.2) == 0
    assert 0 < sigmoid_rampup(0.21, 0.2, 0.2) < 0.02
    assert sigmoid_rampup(0.4, 0.2, 0.2) == sigmoid_rampup(1.0, 0.2, 0.2) == 1
