import pytest
import torch
from torch import nn

from cryovox.training.ema import ema_copy, ema_update


def pair() -> tuple[nn.Module, nn.Module]:
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2))
    average = ema_copy(network)
    with torch.no_grad():
        average[0].weight.zero_()
        network[0].weight.fill_(1.0)
    return average, network


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (8, 0.5), (80, 0.9), (10_000, 0.99)])
def test_the_average_follows_fast_at_first_and_slowly_later(step, decay):
    average, network = pair()
    ema_update(average, network, 0.99, step)
    assert torch.allclose(average[0].weight, torch.full((2, 2), 1 - decay))
    assert (network[0].weight == 1).all()


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
