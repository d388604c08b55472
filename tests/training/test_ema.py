import pytest
import torch
from torch import nn

from cryovox.benchmark.training import SHARED
from cryovox.training.ema import ema_copy, ema_update, ema_weight
from cryovox.training.strategies import STRATEGIES, config_of
from cryovox.training.strategies.config.supervised import SupervisedConfig


def pair() -> tuple[nn.Module, nn.Module]:
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2))
    average = ema_copy(network)
    with torch.no_grad():
        average[0].weight.zero_()
        network[0].weight.fill_(1.0)
    return average, network


@pytest.mark.parametrize(
    ("decay", "step", "weight"),
    [(0.99, 1, 1.0), (0.99, 9, 1.0), (0.99, 18, 0.5), (0.99, 90, 0.1), (0.99, 900, 0.01), (0.99, 9000, 0.01),
     (0.999, 900, 0.01), (0.9, 90, 0.1), (0.9, 900, 0.1), (0.0, 900, 1.0)],
)  # fmt: skip
def test_the_average_reaches_back_by_its_decay_or_by_a_tenth_of_a_short_training(decay, step, weight):
    assert ema_weight(decay, step) == pytest.approx(weight)


@pytest.mark.parametrize(("steps", "decay"), [(20, 0.999), (342, 0.995), (342, 0.999), (342, 0.9)])
def test_nothing_of_the_initial_weights_remains(steps, decay):
    average, network = pair()
    with torch.no_grad():
        average[0].weight.fill_(1e6)
    for step in range(1, steps + 1):
        ema_update(average, network, decay, step)
    assert torch.allclose(average[0].weight, torch.ones(2, 2), rtol=1e-6)


@pytest.mark.parametrize(
    ("steps", "decay", "age"), [(100, 0.999, 9.1), (340, 0.999, 33.1), (3000, 0.99, 99.0)]
)
def test_the_mean_age_of_the_averaged_weights(steps, decay, age):
    """Of weights that are the number of the step: a tenth of the steps, or d / (1 - d) where that is less."""
    average, network = pair()
    for step in range(1, steps + 1):
        with torch.no_grad():
            network[0].weight.fill_(float(step))
        ema_update(average, network, decay, step)
    assert steps - average[0].weight[0, 0].item() == pytest.approx(age, rel=1e-3)


def test_statistics_are_averaged_and_counts_copied():
    average, network = pair()
    network[1].running_mean.fill_(4.0)
    network[1].num_batches_tracked.fill_(7)
    ema_update(average, network, 0.75, 10_000)
    assert average[1].running_mean.tolist() == [1.0, 1.0]
    assert average[1].num_batches_tracked == 7


def test_the_twin_is_apart():
    average, network = pair()
    assert not average.training
    assert not any(p.requires_grad for p in average.parameters())
    assert all(p.requires_grad for p in network.parameters())
    assert average[0].weight.data_ptr() != network[0].weight.data_ptr()


def test_all_methods_of_a_suite_average_alike():
    configs = [config_of(name)() for name in STRATEGIES if name != "supervised"]
    teachers = {config.teacher_decay for config in configs if "teacher_decay" in type(config).model_fields}
    assert teachers == {SupervisedConfig().ema} == {SHARED["supervised.ema"]}
