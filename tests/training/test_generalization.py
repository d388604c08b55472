"""Each baseline of domain generalization does what it says and nothing else."""

import copy
import pickle
import re

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from cryovox.core.errors import RequestError
from cryovox.data.config import PatchConfig
from cryovox.data.streams import Batch
from cryovox.models import build
from cryovox.models.features import feature_modules, forward_uses_encode
from cryovox.models.supervision import supervise
from cryovox.simulate.phantom import PhantomConfig
from cryovox.training.config import LoopConfig
from cryovox.training.strategies import STRATEGIES
from cryovox.training.strategies.baselines.generalization import Swad, challenge_mask
from cryovox.training.strategies.baselines.mix_style import mix_styles, mixing_styles
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.supervised import Supervised
from cryovox.workflows.config import NetworkConfig, train_config
from cryovox.workflows.simulation.phantoms import write_phantoms
from cryovox.workflows.training.run import train

SIDE = 16
OFF = {
    "heavy-augmentation": {"clean": 1.0},
    "fourier-mixing": {"clean": 1.0},
    "mixstyle": {"style_chance": 0.0},
    "rsc": {"rsc_share": 0.0},
}
CHANGING = {
    "heavy-augmentation": {"clean": 0.0},
    "fourier-mixing": {"clean": 0.0},
    "mixstyle": {"style_chance": 1.0},
    "rsc": {"rsc_samples": 1.0},
}
NAMES = [*OFF, "swad"]
SHOWN = {
    "deepfinder": {"widths": [4, 6, 8]},
    "edss3d": {"width": 4},
    "heatmap-unet": {"widths": [4, 8], "blocks": [0, 0]},
    "mednext": {"width": 4, "blocks": [1, 1, 1, 1, 1], "expansion": [1, 1, 1, 1, 1]},
    "multi-view": {"of": "voxresnet", "size": "s", "options": {"widths": [4, 8]}},
    "u-clstm": {"widths": [4, 6, 8]},
    "unet3d": {"widths": [4, 8, 16, 32]},
    "voxresnet": {"widths": [4, 8]},
}
HIDDEN = {
    "fcn8": {"widths": [4, 6, 8], "hidden": 16},
    "yopo": {"widths": [4, 5, 6], "hidden": 8, "window": 12},
}


def network(name="voxresnet"):
    torch.manual_seed(0)
    return build(name, (SHOWN | HIDDEN)[name], 1, 2)


def strategy(name, net=None, supervised=SupervisedConfig(), **own):
    kind = STRATEGIES[name]
    return kind(net or network(), kind.Config(**own), "mine", supervised)


def batches(size=3, seed=0, side=SIDE):
    torch.manual_seed(seed)
    image = torch.randn(size, 1, side, side, side)
    target = torch.zeros(size, side, side, side, dtype=torch.int64)
    target[:, 4:9, 4:9, 4:9] = 1
    image[:, 0, 4:9, 4:9, 4:9] += 3
    return {"labeled": Batch(image, target, torch.ones_like(target, dtype=torch.bool))}


def taught(method, progress=0.0):
    """Losses of the same draw, and their gradient."""
    given = batches()
    torch.manual_seed(1)
    terms = method.losses(given, progress)
    method.zero_grad()
    torch.stack(list(terms.values())).sum().backward()
    return terms, torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", OFF)
def test_switched_off_it_is_the_supervised_training(name):
    plain, own = taught(Supervised(network(), SupervisedConfig(), "mine"))
    terms, slope = taught(strategy(name, **OFF[name]))
    assert terms.keys() == plain.keys()
    assert all(torch.equal(term, plain[key]) for key, term in terms.items())
    assert torch.equal(slope, own)


@pytest.mark.parametrize("name", CHANGING)
def test_switched_on_it_changes_what_is_learned(name):
    terms, slope = taught(strategy(name, **CHANGING[name]))
    _, other = taught(strategy(name, **OFF[name]))
    assert all(torch.isfinite(t) for t in terms.values())
    assert torch.isfinite(slope).all()
    assert not torch.allclose(slope, other, rtol=1e-3)


@pytest.mark.parametrize("name", CHANGING)
def test_the_network_comes_out_of_a_step_as_it_went_in(name):
    """Neither hooks nor shadows stay, so that it answers, copies and travels as ever."""
    method = strategy(name, **CHANGING[name])
    taught(method)
    left = method.student
    assert not any(m._forward_hooks for m in left.modules())
    assert "encode" not in vars(left)
    x = torch.randn(2, 1, SIDE, SIDE, SIDE)
    copies = copy.deepcopy(left).eval(), pickle.loads(pickle.dumps(left)).eval()
    assert all(torch.equal(left.eval()(x), other(x)) for other in copies)


# patches


@pytest.mark.parametrize("name", ["heavy-augmentation", "fourier-mixing"])
def test_a_share_of_the_patches_stays_and_so_do_all_labels(name):
    given = batches(size=64, side=8)
    torch.manual_seed(0)
    seen = strategy(name, clean=0.75).source_batch(given)
    same = (seen.image == given["labeled"].image).flatten(1).all(1)
    assert 0.6 < float(same.float().mean()) < 0.9
    assert seen.target is given["labeled"].target
    assert torch.isfinite(seen.image).all()
    torch.manual_seed(0)
    assert torch.equal(strategy(name, clean=0.75).source_batch(given).image, seen.image)


def test_holes_of_the_supervised_training_are_made_in_dressed_patches():
    given, seen = batches(), []
    for share in (0.0, 0.3):
        supervised = SupervisedConfig(drop_block=share)
        method = strategy("heavy-augmentation", supervised=supervised, clean=0.0)
        torch.manual_seed(0)
        seen.append(method.source_batch(given).image)
    whole, holey = seen
    changed = (holey != whole).float().mean()
    assert 0.05 < float(changed) < 0.9


def test_shares_of_amplitudes_are_shares():
    with pytest.raises(ValueError, match="ascending"):
        STRATEGIES["fourier-mixing"].Config(mix_share=(0.5, 0.2))


# MixStyle


def test_moments_lie_between_those_of_two_samples_and_the_pattern_stays():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 6, 6, dtype=torch.float64)
    x[1] = 5 * x[1] + 9
    shares = []
    for _ in range(40):
        out = mix_styles(x)
        for n in range(2):
            own, other, got = ([v.mean((1, 2, 3)), v.std((1, 2, 3))] for v in (x[n], x[1 - n], out[n]))
            by_mean, by_spread = ((g - a) / (b - a) for a, b, g in zip(own, other, got, strict=True))
            share = float(by_mean[0])  # one share for all channels, of the mean and of the spread
            wanted = torch.full((3,), share, dtype=torch.float64)
            torch.testing.assert_close(by_mean, wanted, atol=1e-4, rtol=0)
            torch.testing.assert_close(by_spread, wanted, atol=1e-4, rtol=0)
            pattern = torch.corrcoef(torch.stack([out[n, 0].flatten(), x[n, 0].flatten()]))[0, 1]
            assert float(pattern) == pytest.approx(1, abs=1e-5)
            shares.append(share)
    assert min(shares) > -1e-4
    assert max(shares) < 1 + 1e-4
    assert sum(share < 0.1 for share in shares) > 20  # itself, or mostly the own style
    assert sum(share > 0.9 for share in shares) > 5  # mostly the other


def test_styles_of_a_batch_of_the_same_stay():
    x = torch.randn(1, 3, 4, 4, 4).expand(4, -1, -1, -1, -1)
    torch.testing.assert_close(mix_styles(x), x)
    assert mix_styles(torch.zeros(3, 2, 2, 2, 2)).abs().max() == 0  # nothing is divided by nothing
    assert mix_styles(x.bfloat16()).dtype == torch.bfloat16


def test_no_gradient_flows_through_moments():
    """With moments held, the slope is the ratio of spreads everywhere."""
    torch.manual_seed(0)
    x = torch.randn(2, 1, 4, 4, 4, requires_grad=True)
    mix_styles(x).sum().backward()
    assert all(torch.allclose(sample, sample.mean().expand_as(sample)) for sample in x.grad)


@pytest.mark.parametrize("name", SHOWN)
def test_the_earliest_stages_of_a_network_are_found_and_act(name):
    net = network(name).eval()
    stages = strategy("mixstyle", copy.deepcopy(net)).stages
    assert stages == list(feature_modules(net).values())[:2]
    x = torch.randn(3, 1, *3 * (2 * net.stride,)) * torch.tensor([1.0, 5, 9]).view(3, 1, 1, 1, 1)
    with torch.no_grad():
        plain = net(x)
        for stage in stages:
            torch.manual_seed(3)
            with mixing_styles([net.get_submodule(stage)], 1.0, 10.0):
                assert not torch.allclose(net(x), plain, rtol=1e-3)
        assert torch.equal(net(x), plain)


def test_makers_are_whole_stages_and_not_those_who_hand_on():
    class Net(nn.Module):
        stride, patch = 4, 8

        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv3d(1, 2, 1), nn.ReLU(inplace=True))
            self.after = nn.Identity()
            self.norm = nn.LayerNorm(2)

        def encode(self, x):
            first = self.stem(x)
            moved = self.norm(self.after(first).movedim(1, -1)).movedim(-1, 1)
            return {"first": first, "moved": moved, "computed": moved + 1}

    assert feature_modules(Net()) == {"first": "stem"}


def test_mixstyle_only_while_training_and_in_company():
    method = strategy("mixstyle", style_chance=1.0).eval()
    answers = [method.forward_features(batches()["labeled"].image)[0].prediction for _ in range(2)]
    assert torch.equal(*answers)


@pytest.mark.parametrize("name", HIDDEN)
def test_mixstyle_refuses_a_network_without_stages(name):
    with pytest.raises(RequestError, match="styles could be mixed"):
        strategy("mixstyle", network(name))


# RSC


def test_what_helps_most_is_muted():
    helps = torch.arange(24.0).view(1, 3, 2, 2, 2)
    seen = set()
    for seed in range(8):
        torch.manual_seed(seed)
        kept = challenge_mask(helps, 1 / 3, 1.0)
        if kept.shape == (1, 3, 1, 1, 1):
            assert kept.flatten().tolist() == [1, 1, 0]
        else:
            assert kept.shape == (1, 1, 2, 2, 2)
            assert kept.flatten().tolist() == [1, 1, 1, 1, 1, 0, 0, 0]  # a third of 8, rounded
        seen.add(kept.numel())
    assert seen == {3, 8}


def test_only_a_share_of_the_samples_is_challenged():
    kept = challenge_mask(torch.randn(9, 6, 2, 2, 2), 1 / 3, 1 / 3)
    assert (kept.flatten(1).min(1).values == 0).sum() == 3


def test_muting_what_helps_costs_more_than_muting_what_harms():
    torch.manual_seed(0)
    method = strategy("rsc")
    optimizer = torch.optim.Adam(method.student.parameters(), 1e-2)
    for _ in range(15):
        terms = method.supervised.losses(batches(), 0.0)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    source = method.source_batch(batches())
    answer, features = method.forward_features(source.image)
    own = features["v6"]
    helps = method.helpfulness(answer, source, own)

    def cost(gains):
        torch.manual_seed(2)  # the same draw of places or channels
        kept = challenge_mask(gains * own.detach(), 1 / 3, 1.0)
        method.student.encode = lambda _: features | {"v6": own * kept}
        try:
            told = supervise(method.student, source.image)
        finally:
            del method.student.encode
        return float(
            torch.stack(list(method.supervised.compute_losses(told, source).values())).sum().detach()
        )

    assert cost(helps) > cost(-helps)


@pytest.mark.parametrize("name", sorted({*SHOWN, *HIDDEN} - {"mednext", "multi-view"}))
def test_every_network_that_answers_by_its_features_is_challenged(name):
    net = network(name)
    given = batches(size=2, side=2 * net.stride)["labeled"]
    if net.kind == "heatmap":
        step = net.output_stride
        target = given.target[:, None, ::step, ::step, ::step].float().expand(-1, 2, -1, -1, -1)
        given = given._replace(target=target, valid_mask=target >= 0)
    terms = strategy("rsc", net, rsc_samples=1.0).losses({"labeled": given}, 0.0)
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("name", ["mednext", "multi-view"])
def test_rsc_refuses_a_network_that_does_not_answer_by_its_features(name):
    assert not forward_uses_encode(network(name))
    with pytest.raises(RequestError, match="would do nothing"):
        strategy("rsc", network(name))


# SWAD


def moved(method, steps, total=8, averaged=0):
    """Let the weights jump; gives the average of the last weights by torch, and the weights of the end."""
    average = AveragedModel(method.student, use_buffers=True)
    for step in range(steps):
        method.losses(batches(size=2), step / total)
        with torch.no_grad():
            for p in method.student.parameters():
                p.add_(torch.randn_like(p))
        method.after_step(step + 1)
        if step >= steps - averaged:
            average.update_parameters(method.student)
    return average.module.state_dict(), method.student.state_dict()


@pytest.mark.parametrize(("share", "last"), [(0.5, 4), (1.0, 8), (0.25, 2), (0.0, 1)])
def test_the_mean_of_the_last_part(share, last):
    """8 steps; a share of 0 keeps the weights themselves."""
    method = strategy("swad", swad_share=share)
    wanted, end = moved(method.train(), 8, averaged=last)
    for key, mean in method.network().state_dict().items():
        if mean.dtype.is_floating_point:  # running statistics too
            torch.testing.assert_close(mean, wanted[key], rtol=1e-4, atol=1e-5)
        else:
            assert torch.equal(mean, end[key])


def test_before_the_mean_begins_the_weights_themselves_are_kept():
    method = strategy("swad", swad_share=0.25)
    moved(method, 4)
    assert isinstance(method, Swad)
    for key, value in method.student.state_dict().items():
        assert torch.equal(value, method.network().state_dict()[key]), key
    assert not method.train().network().training


def test_the_mean_goes_on_from_its_state():
    torch.manual_seed(5)
    method = strategy("swad", swad_share=1.0)
    moved(method, 3)
    other = strategy("swad", swad_share=1.0)
    other.load_state_dict(method.state_dict())
    for each in (method, other):
        torch.manual_seed(6)
        each.losses(batches(size=2), 0.9)
        each.after_step(4)
    assert int(other.averaged) == 4
    pairs = zip(method.network().state_dict().values(), other.network().state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


# in the workflow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    config = PhantomConfig(shape=(24, 40, 48), count=4, snr=2.0)
    return write_phantoms(tmp_path_factory.mktemp("data") / "phantoms", config, ("train", "val"), 0)


def settings(name):
    loop = LoopConfig(steps=3, batch=2, warmup=1, validate_every=3, keep="last")
    small = NetworkConfig(model="heatmap-unet", options={"widths": [4, 8], "blocks": [0, 0]})
    if name == "vox-zsda":  # which needs masks
        small = NetworkConfig(model="voxresnet", options={"widths": [4, 8]})
    return train_config(name)(network=small, loop=loop, patches=PatchConfig(patch=16))


def alike(a, b):
    first, second = load_file(a), load_file(b)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("name", [*NAMES, "vox-zsda"])
def test_three_steps_and_the_same_after_an_interruption(name, data, tmp_path, recorded_steps):
    whole = train(data, tmp_path / "whole", settings(name), device="cpu")

    always = settings(name)
    always = always.model_copy(update={"loop": always.loop.model_copy(update={"save_every": "1e-6s"})})
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "run", always, device="cpu", on_progress=recorded_steps(stop_at=2))
    steps = recorded_steps()
    again = train(data, tmp_path / "run", always, device="cpu", on_progress=steps)
    assert steps.numbers == [2, 3]  # the state is written after the callback
    assert alike(again, whole)


@pytest.mark.parametrize("name", ["mixstyle", "fourier-mixing"])
def test_a_single_patch_is_refused_before_anything_is_written(name, data, tmp_path):
    config = settings(name)
    alone = config.model_copy(update={"loop": config.loop.model_copy(update={"batch": 1})})
    with pytest.raises(RequestError, match="a single one"):
        train(data, tmp_path / "run", alone, device="cpu")
    assert not (tmp_path / "run").exists()


def test_the_settings_of_the_supervised_loss_are_heard(data, tmp_path):
    config = settings("mixstyle").model_copy(update={"supervised": SupervisedConfig(loss="dice")})
    with pytest.raises(RequestError, match="'dice' does not fit"):
        train(data, tmp_path / "run", config, device="cpu")


@pytest.mark.parametrize("name", NAMES)
def test_options_show_up_once(name, capsys):
    from cryovox.cli import main

    assert main(["train", name, "--help-all"]) == 0
    shown = capsys.readouterr().out
    for option in STRATEGIES[name].Config.model_fields:
        assert len(re.findall(rf"^  --(\[no-\])?{option.replace('_', '-')}\b(?!-)", shown, re.M)) == 1, option
