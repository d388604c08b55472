from math import tanh

import pytest
import torch

from cryovox.models.networks.uclstm import UCLSTM, Bidirectional, ConvLSTM


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def planes_changed(lstm) -> list[int]:
    """Planes of the answer that change when plane 3 of 6 does."""
    x = torch.randn(1, 4, 6, 5, 5)
    bumped = x.clone()
    bumped[:, :, 3] += 1
    with torch.no_grad():
        change = (lstm(bumped) - lstm(x)).abs().amax((0, 1, 3, 4))
    return torch.nonzero(change > 1e-7).flatten().tolist()


def test_a_plane_is_read_with_those_before_it_and_both_ways_with_all():
    assert planes_changed(ConvLSTM(4, 4)) == [3, 4, 5]
    assert planes_changed(Bidirectional(4)) == [0, 1, 2, 3, 4, 5]


def test_with_open_gates_the_memory_counts_the_planes():
    lstm = ConvLSTM(1, 1)
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.zero_()
        lstm.given.bias.copy_(torch.tensor([30.0, 30.0, 30.0, 0.5]))  # enter, keep, leave, fresh
        found = lstm(torch.zeros(1, 1, 4, 2, 2))[0, 0, :, 0, 0]
    assert found.tolist() == pytest.approx([tanh(n * tanh(0.5)) for n in (1, 2, 3, 4)], abs=1e-5)


def test_with_the_gate_shut_nothing_is_remembered():
    lstm = ConvLSTM(2, 3)
    with torch.no_grad():
        lstm.kept.weight.zero_()
        lstm.given.bias.chunk(4)[1].fill_(-60.0)
        x = torch.randn(1, 2, 5, 4, 4)
        one_by_one = torch.cat([lstm(x[:, :, z : z + 1]) for z in range(5)], 2)
        assert torch.allclose(lstm(x), one_by_one, atol=1e-6)


def test_a_fresh_network_starts_with_its_memory_open():
    for lstm in (m for m in UCLSTM(1, 2, widths=(4, 6, 8)).modules() if isinstance(m, ConvLSTM)):
        enter, keep, leave, fresh = lstm.given.bias.chunk(4)
        assert keep.eq(1).all()
        assert not torch.cat([enter, leave, fresh]).any()


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_order_of_the_planes_matters(bidirectional):
    network = UCLSTM(1, 2, widths=(4, 6, 8), bidirectional=bidirectional).eval()
    x = torch.randn(1, 1, 16, 8, 8)
    deep = {}
    network.along_z.register_forward_hook(lambda _m, given, answer: deep.update(x=given[0], y=answer))
    with torch.no_grad():
        network(x)
        swapped = deep["x"][:, :, [0, 2, 1, 3]]
        answer = deep["y"]
        assert not torch.allclose(network.along_z(swapped)[:, :, [0, 2, 1, 3]], answer, atol=1e-4)


def test_widths_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="three, the last even"):
        UCLSTM(1, 2, widths=(4, 6, 7))
