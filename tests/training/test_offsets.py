import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cryovox.core.particles import Species
from cryovox.core.volume import ScoreMap
from cryovox.data.streams import Batch
from cryovox.data.targets import gaussian_heatmap
from cryovox.models import build
from cryovox.models.blocks.voting import REACH, vote_for_centers
from cryovox.models.networks.heatmap_unet import HeatmapUNet
from cryovox.models.supervision import predict, supervise
from cryovox.picking import PickConfig, pick
from cryovox.training.offsets import implied_offsets, offset_error
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.supervised import Supervised

SIDE = 16
places = st.tuples(*(st.floats(5, 10),) * 3)
AT = torch.stack(torch.meshgrid(*(torch.arange(SIDE, dtype=torch.float32),) * 3, indexing="ij"))


def target_of(center, sigma):
    return torch.from_numpy(gaussian_heatmap(np.array([center]), sigma, (SIDE,) * 3))[None, None]


def toward(center):
    return torch.tensor(center, dtype=torch.float32).view(1, 3, 1, 1, 1) - AT


@settings(max_examples=40, deadline=None)
@given(places, st.floats(1, 3))
def test_a_gaussian_tells_how_far_its_center_is(center, sigma):
    height = target_of(center, sigma)
    found, sure = implied_offsets(height)
    sure = (sure & (height > 0.5))[0, 0]
    assert sure.sum() >= 1
    np.testing.assert_allclose(found[0][:, sure], toward(center)[0][:, sure], atol=5e-3)


def test_offsets_cost_nothing_where_they_are_right_and_count_where_something_is_known():
    center = (7.3, 8.1, 6.6)
    target = target_of(center, 1.5)
    valid_mask = torch.ones_like(target, dtype=torch.bool)
    right = toward(center)
    assert float(offset_error(right, target, valid_mask)) < 1e-5
    wrong = right + 1.0
    assert float(offset_error(wrong, target, valid_mask)) == pytest.approx(1 - 0.25 / 2, abs=1e-2)
    assert float(offset_error(wrong, target, ~valid_mask)) == 0
    elsewhere = torch.where(target > 0.5, right, 9.0)
    assert float(offset_error(elsewhere, target, valid_mask)) < 1e-5
    assert float(offset_error(wrong, torch.zeros_like(target), valid_mask)) == 0


@settings(max_examples=30, deadline=None)
@given(places)
def test_votes_find_the_center_that_a_coarse_height_does_not_tell(center):
    summit = torch.full((1, 2, SIDE, SIDE, SIDE), -6.0)
    z, y, x = np.rint(center).astype(int)
    summit[0, 1, z, y, x] = 2.0  # one voxel alone
    kinds = (Species(name="a", label=1, radius=30.0), Species(name="b", label=2, radius=30.0))
    logits = vote_for_centers(summit, toward(center).clamp(-REACH, REACH))
    found = pick(ScoreMap(logits.sigmoid()[0].numpy(), 1.0, kinds, kind="heatmap"), PickConfig(border=0.0))
    assert list(found.species) == ["b"]
    np.testing.assert_allclose(found.positions[0], center, atol=0.02)


def test_votes_go_as_far_as_offsets_do():
    logits, offsets = torch.full((1, 1, SIDE, SIDE, SIDE), -6.0), torch.zeros(1, 3, SIDE, SIDE, SIDE)
    logits[0, 0, 4, 4, 4], offsets[0, 0, 4, 4, 4] = 2.0, 2.0
    assert float(vote_for_centers(logits, offsets)[0, 0, 6, 4, 4]) == pytest.approx(2.0, abs=1e-4)


def test_votes_do_not_lie_higher_than_heights():
    torch.manual_seed(0)
    logits, offsets = torch.randn(2, 3, 8, 8, 8), torch.randn(2, 3, 8, 8, 8)
    assert float(vote_for_centers(logits, offsets).max()) <= float(logits.max()) + 1e-4
    turned = offsets.flip(2) * torch.tensor([-1.0, 1, 1]).view(3, 1, 1, 1)
    assert torch.allclose(
        vote_for_centers(logits.flip(2), turned), vote_for_centers(logits, offsets).flip(2), atol=1e-5
    )


def test_a_network_with_offsets_learns_them_and_votes_when_it_predicts():
    torch.manual_seed(0)
    network = HeatmapUNet(1, 1, widths=(4, 8, 8), blocks=(1, 1, 1), offsets=True)
    center = (7.4, 8.2, 6.7)
    target = target_of(center, 1.5)
    valid_mask = torch.ones_like(target, dtype=torch.bool)
    image = torch.randn(1, 1, *(2 * SIDE,) * 3)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    errors = []
    for _ in range(60):
        error = offset_error(supervise(network, image).offsets, target, valid_mask)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < errors[0] / 5
    offer = supervise(network, image)
    assert torch.equal(network(image), offer.prediction)  # what a teacher says is what a student says
    network.eval()
    with torch.no_grad():
        offer = supervise(network, image)
        assert torch.equal(predict(network, image), vote_for_centers(offer.prediction, offer.offsets))
        plain = HeatmapUNet(1, 1, widths=(4, 8, 8), blocks=(1, 1, 1)).eval()
        assert torch.equal(predict(plain, image), plain(image))


def test_training_counts_the_offsets():
    torch.manual_seed(0)
    target = target_of((7.4, 8.2, 6.7), 1.5)
    given = Batch(torch.randn(1, 1, *(2 * SIDE,) * 3), target, torch.ones_like(target, dtype=torch.bool))
    for offsets in (False, True):
        network = HeatmapUNet(1, 1, widths=(4, 8, 8), blocks=(1, 1, 1), offsets=offsets)
        terms = Supervised(network, SupervisedConfig(), "heatmap-unet").losses({"labeled": given}, 0.0)
        assert set(terms) == {"main", "offsets"} if offsets else {"main"}


def test_masks_and_views_have_none():
    for name, options in (
        ("residual-unet", {"widths": [4, 8], "blocks": [0, 1], "offsets": True}),
        ("multi-view", {"of": "heatmap-unet", "options": {"offsets": True}}),
    ):
        with pytest.raises(Exception, match="offsets"):
            build(name, options, 1, 2)
