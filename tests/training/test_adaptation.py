"""What each adaptation asks of the network, by hand and by its invariants."""

import copy
from math import exp, log

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from cryovox.core.errors import RequestError
from cryovox.data.streams import Batch
from cryovox.filters.power_matching import power_spectrum
from cryovox.models import build
from cryovox.models.card import Card
from cryovox.models.features import feature_channels, forward_with_features
from cryovox.models.supervision import Supervision, supervise
from cryovox.training.batch_norm import update_bn_stats
from cryovox.training.strategies import STRATEGIES
from cryovox.training.strategies.adversarial import Discriminator, GradientReversal, grl_coefficient
from cryovox.training.strategies.baselines import alignment, mean_teacher
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.uda import vox_uda

ADAPTING = [name for name in STRATEGIES if STRATEGIES[name].task == "domain adaptation"]
SIDE = 16
CARD = Card(
    network="voxresnet", options={}, out_channels=2, activation="softmax", kind="mask", patch=SIDE,
    species=(), voxel_size=10.0, contrast="dark",
)  # fmt: skip


def network(name="voxresnet", classes=2):
    torch.manual_seed(0)
    return build(name, {"widths": [4, 8]}, 1, classes)


def strategy(name, net=None, supervised=SupervisedConfig(), **own):
    kind = STRATEGIES[name]
    made = kind(net or network(), kind.Config(**own), "voxresnet", supervised)
    made.setup(CARD)
    return made


def batches(seed=0, size=2, offset=0.0, scale=1.0):
    torch.manual_seed(seed)
    image = torch.randn(size, 1, SIDE, SIDE, SIDE)
    target = torch.zeros(size, SIDE, SIDE, SIDE, dtype=torch.int64)
    target[:, 4:9, 4:9, 4:9] = 1
    image[:, 0, 4:9, 4:9, 4:9] += 3
    known = torch.ones_like(target, dtype=torch.bool)
    other = scale * torch.randn(size, 1, SIDE, SIDE, SIDE) + offset
    bare = Batch(other, torch.full_like(target, 255), torch.zeros_like(known))
    return {"labeled": Batch(image, target, known), "target": bare, "noise": bare}


def value(loss):
    return float(loss.detach())


@pytest.mark.parametrize("name", ADAPTING)
def test_every_adaptation_takes_a_step_and_goes_on(name):
    method = strategy(name)
    given = batches()
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 1e-3)
    method.train()
    for step in range(2):
        terms = method.losses({n: given[n] for n in method.required_streams}, 0.5)
        total = torch.stack([t for t in terms.values() if t.requires_grad]).sum()
        assert torch.isfinite(total)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        method.after_step(step + 1)
    assert all(torch.isfinite(p).all() for p in method.network().parameters())
    other = strategy(name)
    other.load_state_dict(method.state_dict())  # running sums too
    for key, value in method.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


@pytest.mark.parametrize("name", [n for n in ADAPTING if n != "adaptive-bn"])
def test_the_target_teaches_the_student_something(name):
    """The gradient changes with the target, and labels of the target have no say."""

    def gradient(offset, labels=255):
        student = network()
        method = strategy(name, student, **({"pseudo_from": 0.0} if name.startswith("vox") else {}))
        given = batches(offset=offset, scale=1 + offset)
        given["target"] = given["target"]._replace(target=torch.full_like(given["target"].target, labels))
        torch.manual_seed(1)
        terms = method.losses({n: given[n] for n in method.required_streams}, 1.0)
        torch.stack([t for t in terms.values() if t.requires_grad]).sum().backward()
        grads = [p.grad for p in student.parameters()]
        return torch.cat([g.flatten() for g in grads if g is not None])

    torch.use_deterministic_algorithms(True)
    try:
        same = gradient(0.0)
        assert torch.equal(same, gradient(0.0, labels=1))
        assert not torch.allclose(same, gradient(0.7), rtol=1e-3)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", ["fda", "spectrum-matching", "histogram-matching", "dann"])
def test_adaptations_drop_blocks_of_labeled_patches(name, monkeypatch):
    from cryovox.training.strategies import supervised

    shares = []
    monkeypatch.setattr(supervised, "drop_cuboids", lambda x, share: shares.append(share) or x)
    strategy(name, supervised=SupervisedConfig(drop_block=0.25)).losses(batches(), 0.5)
    assert shares == [0.25]


def test_features_come_from_the_one_pass_of_the_answer():
    net, x = network().eval(), torch.randn(1, 1, SIDE, SIDE, SIDE)
    calls = []
    stem = net.stem.register_forward_hook(lambda *_: calls.append(1))
    answer, features = forward_with_features(net, x, net)
    stem.remove()
    assert calls == [1]
    assert torch.equal(answer, net(x))
    assert list(features) == ["fc", "v2", "v4", "v6"]
    assert all(torch.equal(a, b) for a, b in zip(features.values(), net.encode(x).values(), strict=True))
    assert "encode" not in vars(net)  # the method is in force again
    assert feature_channels(net) == {"fc": 4, "v2": 8, "v4": 8, "v6": 8}


def test_networks_that_do_not_answer_by_their_features_encode_twice():
    net = build("swin-unetr", {"width": 12, "depths": [1, 1, 1, 1]}, 1, 2)
    x = torch.randn(1, 1, 32, 32, 32)
    answer, features = forward_with_features(net.eval(), x, lambda given: supervise(net, given))
    assert answer.prediction.shape == (1, 2, 32, 32, 32)
    assert features


def test_a_network_without_features_is_refused():
    with pytest.raises(RequestError, match="has no features"):
        strategy("coral", nn.Conv3d(1, 2, 1)).forward_features(torch.zeros(1, 1, 4, 4, 4))


def test_a_heatmap_network_has_no_pseudo_labels():
    heat = build("heatmap-unet", {"widths": [4, 8], "blocks": [0, 0]}, 1, 1)
    for name in ("vox-uda", "advent", "fixmatch"):
        with pytest.raises(RequestError, match="probabilities of classes"):
            strategy(name, heat)


def test_a_joint_pass_gives_each_batch_its_own_outputs():
    method, (x, y) = strategy("dann").eval(), (torch.randn(n, 1, SIDE, SIDE, SIDE) for n in (2, 1))
    for image, (output, features) in zip((x, y), method.forward_jointly([x, y]), strict=True):
        alone, own_features = method.forward_features(image)
        assert output.logits.keys() == alone.logits.keys()
        for name, logits in alone.logits.items():
            torch.testing.assert_close(output.logits[name], logits, atol=1e-4, rtol=1e-4)
        for name, feature in own_features.items():
            torch.testing.assert_close(features[name], feature, atol=1e-4, rtol=1e-4)


def test_a_split_keeps_offsets_and_gives_losses_of_the_network_to_the_first_part():
    x = torch.arange(3.0).view(3, 1, 1, 1, 1)
    whole = Supervision({"main": x}, {"own": torch.tensor(2.0)}, {"deep": x}, x)
    first, second = whole.split([2, 1])
    assert (first.extra.keys(), second.extra) == ({"own"}, {})
    for part, values in ((first, [0.0, 1.0]), (second, [2.0])):
        for tensor in (part.prediction, part.features["deep"], part.offsets):
            assert tensor.flatten().tolist() == values


def test_the_reversed_gradient():
    x = torch.tensor([2.0, 3.0], requires_grad=True)
    (GradientReversal.apply(x, 0.25) * torch.tensor([4.0, -8.0])).sum().backward()
    assert x.grad.tolist() == [-1.0, 2.0]
    assert grl_coefficient(0.0, 10) == 0
    assert grl_coefficient(0.1, 10) == pytest.approx(2 / (1 + exp(-1)) - 1)
    assert grl_coefficient(1.0, 10) == pytest.approx(1, abs=1e-4)


def test_a_discriminator_that_cannot_tell_pays_log_2():
    teller = Discriminator(3).eval()
    nn.init.zeros_(teller[-1].weight)
    nn.init.zeros_(teller[-1].bias)
    loss = teller.adversarial_loss(torch.randn(2, 3, 4, 4, 4), torch.randn(2, 3, 4, 4, 4), 1.0)
    assert value(loss) == pytest.approx(log(2))


def domain_accuracy(name, joint):
    """Accuracy of a trained discriminator on fresh patches; the target is the source, scaled by two."""
    torch.manual_seed(0)
    method = strategy(name, joint_pass=joint).train()
    method.student.requires_grad_(False)
    optimizer = torch.optim.Adam(method.discriminator.parameters(), 1e-2)
    logits = []
    method.discriminator.register_forward_hook(lambda _module, _inputs, output: logits.append(output))

    def adversarial_loss(seed):
        given = batches(seed)
        given["target"] = given["target"]._replace(image=2 * given["labeled"].image)
        logits.clear()
        return method.losses(given, 0.0)["adversarial"]

    for step in range(15):
        optimizer.zero_grad()
        adversarial_loss(step).backward()
        optimizer.step()
    with torch.no_grad():
        adversarial_loss(1000)
    source, target = torch.cat(logits).chunk(2)
    return float(torch.cat([source < 0, target > 0]).float().mean())


@pytest.mark.parametrize("name", ["dann", "advent", "vox-uda"])
def test_the_discriminator_sees_a_difference_in_scale_in_a_joint_pass_only(name):
    assert domain_accuracy(name, joint=False) == pytest.approx(0.5, abs=0.02)
    assert domain_accuracy(name, joint=True) > 0.95


def test_student_and_discriminator_pull_the_adversarial_loss_in_opposite_directions():
    method = strategy("dann").train()
    given = batches(offset=1.0, scale=2.0)

    def gradients(progress):
        method.zero_grad()
        method.losses(given, progress)["adversarial"].backward()
        student = torch.cat([p.grad.flatten() for p in method.student.parameters() if p.grad is not None])
        return student, torch.cat([p.grad.flatten() for p in method.discriminator.parameters()])

    (student, own), coefficient = gradients(0.5), grl_coefficient(0.5, 10.0)
    with torch.no_grad():
        before = method.losses(given, 0.5)["adversarial"]
        step = iter(student.split([p.numel() for p in method.student.parameters() if p.grad is not None]))
        for p in method.student.parameters():
            if p.grad is not None:
                p -= 1e-3 * next(step).view_as(p) / student.norm() / coefficient
        assert method.losses(given, 0.5)["adversarial"] > before  # descent of the student confuses it
        for p in method.discriminator.parameters():
            p -= 1e-2 * p.grad / own.norm()
    assert float(gradients(0.0)[0].norm()) == 0


def test_doubt_by_hand():
    logits = torch.zeros(1, 2, 1, 1, 1)
    assert alignment.self_information(logits).flatten().tolist() == pytest.approx([0.5, 0.5])
    assert float(alignment.self_information(torch.tensor([50.0, 0.0]).view(1, 2, 1, 1, 1)).sum()) < 1e-6


def test_the_discrepancy_of_a_sample_with_itself_is_nothing():
    here = torch.randn(64, 3)
    assert float(alignment.mmd(here, here)) == pytest.approx(0, abs=1e-6)
    near, far = (float(alignment.mmd(here, torch.randn(64, 3) + d)) for d in (0.0, 2.0))
    assert 0 < near < far


def test_coral_by_hand():
    """Covariances diag(2, 0) and 0 in two channels: 4 / (4 * 2^2)."""
    source = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])  # torch.cov divides by n - 1
    assert float(alignment.covariance_distance(source, torch.zeros(2, 2))) == pytest.approx(4 / 16)


COUNTING = {"adaptive-bn": {}, "vox-uda": {}, "mean-teacher": {"target_statistics": True}}


def statistics(name, **own):
    """Mean that the kept network and the student count in the first batch norm, and that of the target."""
    method = strategy(name, **own)
    given = batches(offset=5.0)
    method.train()
    for step in range(60):
        method.losses(given, 0.0)
        method.after_step(step + 1)  # weights stay as they are
    learned, kept = method.student, method.network()
    assert all(torch.allclose(a, b) for a, b in zip(learned.parameters(), kept.parameters(), strict=True))
    assert not any(m.training for m in kept.modules())
    with torch.no_grad():
        seen = method.student.stem[0](given["target"].image).mean((0, 2, 3, 4))
    return kept.stem[1].running_mean, learned.stem[1].running_mean, seen


@pytest.mark.parametrize("name", COUNTING)
def test_batch_norms_that_count_the_target_and_nothing_else_of_it(name):
    kept, learned, seen = statistics(name, **COUNTING[name])
    torch.testing.assert_close(kept, seen, atol=0.05, rtol=0.05)
    assert not torch.allclose(learned, kept, atol=0.1)


def test_batch_norms_of_a_teacher_that_follow_the_student_are_of_both_domains():
    kept, learned, seen = statistics("vox-uda", target_statistics=False)
    torch.testing.assert_close(kept, learned, atol=0.1, rtol=0.1)
    assert not torch.allclose(kept, seen, atol=0.1)


@pytest.mark.parametrize("name", ["vox-uda", "mean-teacher"])
def test_a_teacher_without_a_memory_is_the_student(name):
    method = strategy(name, teacher_decay=0.0)
    given = batches()
    method.train()
    method.losses({n: given[n] for n in method.required_streams}, 0.5)
    method.after_step(1)
    pairs = zip(method.student.parameters(), method.teacher.parameters(), strict=True)
    assert all(torch.allclose(a, b) for a, b in pairs)


def test_the_teacher_labels_filtered_patches_with_the_statistics_of_filtered_patches():
    """A filter leaves little of the noise; with the statistics of the raw target, features are too small."""
    method, raw = (strategy("vox-uda", denoised_statistics=own) for own in (True, False))
    x = batches()["target"].image
    cleaned = method.denoised(x)
    assert float(cleaned.std()) < 0.5 * float(x.std())
    seen = {}
    for name, one in (("filtered", method), ("raw", raw)):
        norm = one.teacher.stem[1]
        norm.register_forward_hook(lambda module, inputs, out, name=name: seen.__setitem__(name, out.clone()))
        update_bn_stats(one.teacher, x)
        before = {key: v.clone() for key, v in one.teacher.state_dict().items() if "running" in key}
        one.labeling_probabilities(cleaned)
        assert all(torch.equal(v, one.teacher.state_dict()[key]) for key, v in before.items())
    torch.testing.assert_close(
        seen["filtered"].std((0, 2, 3, 4)), torch.ones(4), atol=0.02, rtol=0
    )  # initial weights
    assert float(seen["raw"].std()) < 0.7 * float(seen["filtered"].std())
    for _ in range(3):
        method.labeling_probabilities(cleaned)
    assert int(method.of_denoised.count) == 4


def test_further_statistics_are_kept_with_the_training():
    method, other = strategy("vox-uda"), strategy("vox-uda")
    method.labeling_probabilities(method.denoised(batches()["target"].image))
    other.load_state_dict(method.state_dict())
    assert int(other.of_denoised.count) == 1
    assert torch.equal(other.of_denoised.mean0, method.of_denoised.mean0)
    assert strategy("vox-uda", denoiser="none").of_denoised is None


def test_frozen_batch_norms_stay_in_the_kept_network_too():
    student = network()
    for parameter in student.stem.parameters():
        parameter.requires_grad_(False)
    method = strategy("vox-uda", student)
    before = {key: v.clone() for key, v in method.network().state_dict().items() if "running" in key}
    given = batches(offset=5.0)
    method.train()
    method.losses(given, 0.5)
    method.after_step(1)
    after = method.network().state_dict()
    changed = {key for key, v in before.items() if not torch.equal(v, after[key])}
    assert changed
    assert not any(key.startswith("stem") for key in changed)


def test_weights_of_terms_that_a_noisy_source_does_not_have():
    """MVGFormer has further terms, which belong to the source as it is."""
    torch.manual_seed(0)
    net = build("mvgformer", {"width": 12, "layers": 1, "heads": 2}, 1, 2)
    kind = STRATEGIES["vox-uda"]
    given = {name: batch_of(32) for name in ("labeled", "target")}
    weighted = kind(net, kind.Config(), "mvgformer", SupervisedConfig(weights={"vsl": 0.5}))
    weighted.setup(CARD)
    terms = weighted.losses(given, 0.5)
    assert {"vsl", "consistency"} <= set(terms)
    wrong = kind(net, kind.Config(), "mvgformer", SupervisedConfig(weights={"vls": 0.5}))
    with pytest.raises(RequestError, match="no term is called 'vls'"):
        wrong.losses(given, 0.5)


def test_unknown_weights_are_refused():
    with pytest.raises(ValidationError, match="adversary"):
        strategy("vox-uda", loss_weights={"adversary": 0.1})


def batch_of(side):
    target = torch.zeros(2, side, side, side, dtype=torch.int64)
    target[:, 8:16, 8:16, 8:16] = 1
    image = torch.randn(2, 1, side, side, side)
    return Batch(image, target, torch.ones_like(target, dtype=torch.bool))


def test_networks_without_batch_norms_have_nothing_to_count():
    plain = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.InstanceNorm3d(2)).train()
    update_bn_stats(plain, torch.zeros(1, 1, 4, 4, 4))
    assert not plain.training


def test_adaptive_batch_norm_wants_batch_norms():
    plain = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1))
    with pytest.raises(RequestError, match="has no batch norm"):
        strategy("adaptive-bn", plain)


def test_fixmatch_learns_only_what_the_teacher_is_sure_of():
    method = strategy("fixmatch", threshold=0.999999)
    assert value(method.additional_losses(None, batches(), 1.0)["pseudo"]) == 0
    sure = strategy("fixmatch", threshold=0.01)
    assert value(sure.additional_losses(None, batches(), 1.0)["pseudo"]) > 0
    assert value(sure.additional_losses(None, batches(), 0.0)["pseudo"]) == 0  # not before it knows anything


def test_blocks_are_hidden_whole():
    torch.manual_seed(0)
    mask = mean_teacher.block_mask(torch.zeros(4, 1, 20, 20, 20), block=8, masked=0.5)
    assert mask.shape == (4, 1, 20, 20, 20)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    for corner in (mask[:, :, :8, :8, :8], mask[:, :, 8:16, :8, :8]):
        assert torch.equal(corner, corner[..., :1, :1, :1].expand_as(corner))
    assert 0.2 < float(mask.mean()) < 0.8


def test_consistency_is_one_minus_the_cosine_weighed_over_depths():
    a = {"x": torch.tensor([1.0, 0.0]).view(1, 2, 1, 1, 1), "y": torch.ones(1, 2, 1, 1, 1)}
    b = {"x": torch.tensor([0.0, 3.0]).view(1, 2, 1, 1, 1), "y": torch.ones(1, 2, 1, 1, 1)}
    assert float(vox_uda.feature_consistency(a, b, [0.3, 0.7])) == pytest.approx(0.3)
    assert float(vox_uda.feature_consistency(a, a, [0.3, 0.7])) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("mode", ["mean", "averaged", "rms"])
def test_the_noise_of_the_target_is_added_to_the_source(mode):
    """White target noise of 0.5: rms keeps what the filter lets through, the mean of 4 halves it."""
    method = strategy("vox-uda", noise_kind="white", noise_mode=mode)
    torch.manual_seed(0)
    noise = 0.5 * torch.randn(4, 1, SIDE, SIDE, SIDE)
    given = {"noise": Batch(noise, noise, noise)}
    x = torch.zeros(8, 1, SIDE, SIDE, SIDE)
    kept = (1 - (10 / 16) ** 3) ** 0.5
    wanted = 0.5 * kept * (1 if mode == "rms" else 0.5)
    assert float(method.noisy(x, given).std()) == pytest.approx(wanted, rel=0.05)


def test_the_noisy_source_may_be_brought_back_to_its_variance():
    method = strategy("vox-uda", noise_kind="white", noise_mode="rms", restandardize=True)
    given = batches()
    x = given["labeled"].image
    out = method.noisy(x, given)
    torch.testing.assert_close(out.std((1, 2, 3, 4)), x.std((1, 2, 3, 4)))
    assert not torch.allclose(out, x)


def test_colored_noise_gives_the_source_the_power_of_the_target():
    method = strategy("vox-uda")
    assert "noise" not in method.required_streams
    torch.manual_seed(0)
    target = torch.randn(60, 1, SIDE, SIDE, SIDE)
    source = nn.functional.avg_pool3d(target, 3, 1, 1)
    out = method.noisy(source, {"target": Batch(target, target, target)})
    before, after = (power_spectrum(x) / power_spectrum(target) for x in (source, out))
    assert before[SIDE // 2, SIDE // 2, SIDE // 2] < 0.01
    assert after.median().item() == pytest.approx(1, abs=0.2)
    other = 2 * target  # what was seen before is not forgotten at once
    method.noisy(source, {"target": Batch(other, other, other)})
    assert (method.target_power / power_spectrum(target)).mean().item() == pytest.approx(1.03, abs=0.01)


@pytest.mark.parametrize("given", [{"noise_mode": "rms"}, {"noise_patches": 5}, {"cube": 0.5}])
def test_settings_of_white_noise_are_refused_where_it_is_colored(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        vox_uda.VoxUDAConfig(**given)
    vox_uda.VoxUDAConfig(noise_kind="white", **given)
    vox_uda.VoxUDAConfig(denoiser="ngm", cube=0.5)


SWITCHES = {
    "consistency": ({"consistency"}, {"adversarial", "pseudo"}),
    "adversarial": ({"adversarial"}, {"consistency", "pseudo"}),
    "pseudo": ({"pseudo"}, {"consistency", "adversarial"}),
}


@pytest.mark.parametrize("name", SWITCHES)
def test_each_part_can_be_switched_off(name):
    gone, left = SWITCHES[name]
    terms = strategy("vox-uda", **{name: False}).losses(batches(), 1.0)
    assert left <= set(terms)
    assert not gone & set(terms)


def test_weights_weigh_and_pseudo_labels_wait():
    whole = strategy("vox-uda", ngm=False, fixed_noise=0.0)
    torch.manual_seed(0)
    plain = whole.losses(batches(), 1.0)
    heavy = strategy("vox-uda", ngm=False, fixed_noise=0.0, loss_weights={"pseudo": 3.0})
    torch.manual_seed(0)
    weighed = heavy.losses(batches(), 1.0)
    assert value(weighed["pseudo"]) == pytest.approx(3 * value(plain["pseudo"]), rel=1e-4)
    assert "pseudo" not in whole.losses(batches(), 0.05)


def test_the_stream_of_noise_is_asked_for_with_white_noise_alone():
    assert strategy("vox-uda").required_streams == ("labeled", "target")
    assert strategy("vox-uda", noise_kind="white").required_streams == ("labeled", "target", "noise")
    assert strategy("vox-uda", ngm=False).required_streams == ("labeled", "target")
    corrected = strategy("vox-uda", class_prior_correction=0.5)
    assert corrected.required_streams == ("labeled", "target", "anywhere")


def test_only_what_the_teacher_is_sure_of_becomes_a_label():
    """A teacher that says 0.9 background everywhere but 0.8 target in one voxel."""
    method = strategy("vox-uda", class_thresholds=False, denoiser="none")
    chances = torch.zeros(1, 2, SIDE, SIDE, SIDE)
    chances[:, 0], chances[:, 1] = 0.9, 0.1
    chances[0, :, 3, 3, 3] = torch.tensor([0.2, 0.8])

    class Teacher(nn.Module):
        def forward(self, x):
            return chances.log()

    method.supervised.average = Teacher()
    x = torch.zeros(1, 1, SIDE, SIDE, SIDE)
    right = chances.log() * 20
    wrong = right.clone()
    wrong[0, :, 3, 3, 3] = torch.tensor([9.0, -9.0])
    assert float(method.pseudo_label_loss(right, x, None)) == pytest.approx(0, abs=1e-3)
    assert float(method.pseudo_label_loss(wrong, x, None)) == pytest.approx(
        0, abs=1e-3
    )  # 0.8 is not sure enough
    fair = strategy("vox-uda", class_thresholds=True, denoiser="none")
    fair.supervised.average = Teacher()
    assert float(fair.pseudo_label_loss(wrong, x, None)) > 1e-3  # 0.85 * 0.8 / 0.9 is


def test_priors_bring_the_shares_of_the_source():
    method = strategy("vox-uda", class_prior_correction=1.0)
    chances = torch.tensor([0.9, 0.1]).view(1, 2, 1, 1, 1).expand(1, 2, SIDE, SIDE, SIDE)
    given = batches(size=1)
    share = float((given["labeled"].target > 0).float().mean())
    found = method.with_source_priors(chances, given["labeled"])
    assert float(found.sum(1).mean()) == pytest.approx(1)
    assert float(found[:, 1].mean()) == pytest.approx(share, rel=1e-3)


@pytest.mark.parametrize("denoiser", ["ibf", "bf", "ngm", "none"])
def test_the_teacher_sees_the_target_denoised(denoiser):
    method = strategy("vox-uda", denoiser=denoiser)
    torch.manual_seed(0)
    x = torch.randn(2, 1, SIDE, SIDE, SIDE)
    cleaned = method.denoised(x)
    assert cleaned.shape == x.shape
    assert torch.equal(cleaned, x) if denoiser == "none" else float(cleaned.std()) < float(x.std())


def test_the_student_starts_as_its_teacher():
    method = strategy("vox-uda")
    for a, b in zip(method.student.parameters(), method.teacher.parameters(), strict=True):
        assert torch.equal(a, b)
    before = copy.deepcopy(method.teacher.state_dict())
    method.additional_losses(strategy_seen(method), batches(), 1.0)
    assert all(torch.equal(v, method.teacher.state_dict()[k]) for k, v in before.items())


def strategy_seen(method):
    from cryovox.training.strategies.extended import SourceOutput

    source = batches()["labeled"]
    return SourceOutput(source, *method.forward_features(source.image))
