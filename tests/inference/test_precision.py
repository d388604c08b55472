import numpy as np
import pytest
import torch

from cryovox.core.cache import cache_folder, recall, remember
from cryovox.inference import precision
from cryovox.inference.precision import Comparison, cached_comparison, compare
from cryovox.inference.stream import TilePlan, score
from cryovox.models import build, options

TILES = TilePlan(24, 0.5, 2, "sigmoid")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CRYOVOX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build("heatmap-unet", options("heatmap-unet", "xs"), 1, 3).eval()


@pytest.mark.parametrize(
    ("gain", "difference", "bf16"),
    [(1.2, 0.02, True), (1.19, 0.0, False), (5.0, 0.021, False), (0.5, 1.0, False)],
)
def test_bfloat16_has_to_gain_and_to_agree(gain, difference, bf16):
    assert Comparison(gain, difference).bf16 is bf16


def test_the_comparison_sees_the_rounding_and_leaves_the_network_as_it_is(network):
    images = torch.randn(1, 1, 24, 24, 24)
    before = score(network, images, TILES)
    found = compare(network, TILES, seconds=0.0)
    assert found.gain > 0
    assert 0 < found.difference < 0.02
    assert np.array_equal(score(network, images, TILES), before)
    assert all(p.is_contiguous() and p.dtype == torch.float32 for p in network.parameters())


def test_scores_that_differ_are_noticed(network, monkeypatch):
    # rounding that is worse than that of bfloat16
    coarse = lambda net, images, tiles: np.round(score(net, images, tiles) + 0.2 * tiles.bf16, 2)  # noqa: E731
    monkeypatch.setattr(precision, "score", coarse)
    found = compare(network, TILES, seconds=0.0)
    assert found.difference > 0.15
    assert not found.bf16


def test_a_machine_is_measured_once_per_model(network, monkeypatch):
    calls = []
    monkeypatch.setattr(
        precision, "compare", lambda *_: calls.append(1) or Comparison(1.0 + len(calls), 0.01)
    )
    first = cached_comparison(network, TILES, "aa")
    assert cached_comparison(network, TILES, "aa") == first
    assert len(calls) == 1
    assert cached_comparison(network, TILES, "bb").gain == 3.0
    torch_threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: torch_threads + 1)
    assert cached_comparison(network, TILES, "aa").gain == 4.0
    (cache_folder() / "precision.json").write_text("{broken")
    assert cached_comparison(network, TILES, "aa").gain == 5.0
    assert cached_comparison(network, TILES, "aa").gain == 5.0


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CRYOVOX_CACHE", str(tmp_path / "file" / "inside"))
    remember("precision", "a", 1)
    assert recall("precision", "a") is None


def test_the_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("CRYOVOX_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "cryovox"
