import pytest
import torch

from cryovox.models import build, options
from cryovox.models.networks.swift3d import Swift3D

TINY = {"embed": 8, "heads": (1, 2, 2, 4), "window": 4, "width": 8}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def reached(depths) -> list[int]:
    """Tokens along x of the first stage that feel a change of one voxel."""
    network = Swift3D(1, 2, **TINY, depths=depths).double().eval()
    x = torch.randn(1, 1, 32, 32, 32, dtype=torch.float64)
    bumped = x.clone()
    bumped[0, 0, 2, 2, 2] += 5
    with torch.no_grad():
        change = (network.encode(bumped)["s2"] - network.encode(x)["s2"]).abs().amax((0, 1, 2, 3))
    return torch.nonzero(change > 1e-12).flatten().tolist()


def test_a_layer_sees_its_window_and_the_next_one_the_windows_that_lie_across():
    assert reached((1, 1, 1, 1)) == [0, 1, 2, 3]
    assert reached((2, 1, 1, 1)) == [0, 1, 2, 3, 4, 5]


def test_the_features_lie_at_four_depths():
    network = Swift3D(1, 2, **TINY, depths=(1, 1, 1, 1))
    shapes = {name: tuple(f.shape[1:]) for name, f in network.encode(torch.randn(1, 1, 16, 32, 48)).items()}
    assert shapes == {
        "s2": (8, 8, 16, 24), "s4": (16, 4, 8, 12), "s8": (32, 2, 4, 6), "s16": (64, 1, 2, 3)
    }  # fmt: skip


def test_layers_are_dropped_in_training_only():
    network = Swift3D(1, 2, **TINY, drop_path=0.9)
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        drawn = [network(x) for _ in range(4)]
        assert any(not torch.equal(drawn[0], other) for other in drawn[1:])
        network.eval()
        assert torch.equal(network(x), network(x))


def test_the_reconstruction_is_about_as_large_as_what_was_compared():
    network = build("swift3d", options("swift3d", "paper"), 1, 16)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(10.7e6, rel=0.05)


@pytest.mark.parametrize("wrong", [{"heads": (3, 2, 2, 4)}, {"depths": (2, 2)}])
def test_stages_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match="four each"):
        Swift3D(1, 2, **(TINY | wrong))
