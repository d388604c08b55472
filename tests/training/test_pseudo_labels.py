import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cryovox.data.augment import HALF_TURNS, WEDGE_SYMMETRIES
from cryovox.data.targets import gaussian_heatmap
from cryovox.training.strategies.semi.pseudo_labels import (
    gaussians,
    local_max,
    multi_view_probabilities,
    pseudo_labels,
    select_views,
    separated_peaks,
)


def maps(*peaks, side=12, height=0.9, sigma=1.0):
    """A heatmap (1, 1, z, y, x) with Gaussians at the peaks."""
    found = height * gaussian_heatmap(np.array(peaks, float).reshape(-1, 3), sigma, (side,) * 3)
    return torch.from_numpy(found)[None, None]


def labels(seen, high=0.5, low=0.1, radii=(4.0,), agreement=0.5, ignore=True, exclusive=False):
    line = torch.full((seen.shape[2],), high)
    return pseudo_labels(
        seen, line, low, radii=radii, sigmas=[1.0] * len(radii), agreement=agreement, ignore=ignore,
        exclusive=exclusive,
    )  # fmt: skip


@given(
    st.lists(st.tuples(*[st.integers(0, 9)] * 3), max_size=5, unique=True),
    st.floats(0.5, 3.0),
)
@settings(max_examples=20, deadline=None)
def test_gaussians_are_those_of_the_targets(peaks, sigma):
    """Against the loop over particles that labeled targets are made by."""
    mask = torch.zeros(1, 1, 10, 10, 10, dtype=torch.bool)
    for z, y, x in peaks:
        mask[0, 0, z, y, x] = True
    found = gaussians(mask, [sigma])[0, 0].numpy()
    wanted = gaussian_heatmap(np.array(peaks, float).reshape(-1, 3), sigma, (10, 10, 10))
    np.testing.assert_allclose(found, wanted, atol=4e-4)  # those are cut off at 4 sigma


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_the_highest_of_a_cube_axis_by_axis(reach):
    heights = torch.rand(2, 3, 6, 7, 8, generator=torch.Generator().manual_seed(reach))
    whole = torch.nn.functional.max_pool3d(heights, 2 * reach + 1, stride=1, padding=reach)
    assert torch.equal(local_max(heights, reach), whole)


def test_every_view_leaves_the_missing_wedge_in_place():
    """A wedge mask of +-60 degrees about y is the same after every flip; a quarter turn moves it."""
    axis = np.fft.fftshift(np.fft.fftfreq(15))
    z, _, x = np.meshgrid(axis, axis, axis, indexing="ij")
    wedge = np.abs(z) <= np.tan(np.radians(60)) * np.abs(x)
    for number in range(1, 9):
        assert len(select_views(number)) == number
        for axes in select_views(number):
            assert np.array_equal(np.flip(wedge, axes), wedge), axes
    assert not np.array_equal(np.rot90(wedge, axes=(1, 2)), wedge)
    assert select_views(4) == HALF_TURNS
    assert select_views(8) == WEDGE_SYMMETRIES


def test_views_are_turned_back():
    """A network that copies its input answers the same from all sides."""
    x = torch.randn(2, 1, 6, 6, 6)
    seen = multi_view_probabilities(lambda given: given, x, select_views(8))
    for view in seen:
        torch.testing.assert_close(view, x.sigmoid())


def test_a_peak_becomes_a_gaussian_and_the_band_between_is_left_out():
    seen = maps((6, 6, 6))[None] + maps((2, 2, 2), height=0.3)[None]
    found = labels(seen)
    assert int(found.peaks.sum()) == 1
    assert float(found.target[0, 0, 6, 6, 6]) == 1
    assert bool(found.valid_mask[0, 0, 6, 6, 6])
    assert not bool(found.valid_mask[0, 0, 2, 2, 2])  # neither peak nor background
    assert bool(found.valid_mask[0, 0, 10, 10, 2])
    everything = labels(seen, ignore=False)
    assert bool(everything.valid_mask.all())
    assert torch.equal(everything.target, found.target)


def test_a_peak_that_few_views_share_is_no_label():
    one, none = maps((6, 6, 6)), torch.zeros(1, 1, 12, 12, 12)
    seen = torch.stack([one, one, none, none])
    assert int(labels(seen, high=0.4).peaks.sum()) == 1
    assert int(labels(seen, high=0.4, agreement=0.6).peaks.sum()) == 0
    assert int(labels(seen, high=0.5).peaks.sum()) == 0  # the mean is 0.45


def test_of_two_peaks_within_half_a_radius_one_is_kept():
    near = torch.maximum(maps((6, 6, 5)), maps((6, 6, 7), height=0.8))
    assert int(labels(near[None], radii=(4.0,)).peaks.sum()) == 1
    assert int(labels(near[None], radii=(2.0,)).peaks.sum()) == 2
    assert separated_peaks(near, [4.0])[0, 0, 6, 6, 5]


@pytest.mark.parametrize("place", [(6, 6, 11.8), (-0.6, 6, 6), (6, 11.7, 0.4)])
def test_the_slope_of_a_peak_beyond_the_patch_is_no_peak(place):
    """Its highest voxel lies on a face, far from its center; what is above background is left out."""
    seen = maps(place)[None]
    assert float(seen.max()) > 0.5
    found = labels(seen)
    assert int(found.peaks.sum()) == 0
    assert not bool(found.valid_mask[seen[0] > 0.5].any())
    assert int(labels(torch.maximum(seen, maps((6, 6, 6))[None])).peaks.sum()) == 1


def test_each_species_has_its_own_line():
    seen = torch.cat([maps((6, 6, 6), height=0.4)] * 2, 1)[None]
    found = pseudo_labels(
        seen, torch.tensor([0.5, 0.3]), 0.1, radii=[4, 4], sigmas=[1, 2], agreement=0.5, ignore=True,
        exclusive=False,
    )  # fmt: skip
    assert int(found.peaks.sum()) == 1
    assert float(found.target[:, 0].max()) < 1e-6
    assert float(found.target[0, 1, 6, 6, 8]) == pytest.approx(np.exp(-0.5))


def test_one_species_in_a_place():
    """Two claim the same particle: the higher one has it, and there the other is known to be absent."""
    strong, weak, elsewhere = (
        maps(p, height=h) for p, h in (((3, 3, 3), 0.9), ((3, 3, 4), 0.6), ((9, 9, 9), 0.6))
    )
    seen = torch.cat([strong, torch.maximum(weak, elsewhere)], dim=1)[None]
    both, one = (labels(seen, radii=(4.0, 4.0), exclusive=e) for e in (False, True))
    assert (int(both.peaks.sum()), int(one.peaks.sum())) == (3, 2)
    assert one.target[0, 1, 9, 9, 9] == 1  # where there is no rival it stays
    assert one.valid_mask[0, 1, 3, 3, 4]
    assert one.target[0, 1, 3, 3, 4] < 0.1


def test_pseudo_labels_never_contradict_a_pick():
    """The teacher sees both species beside a pick of the first, and a particle far away."""
    seen = torch.cat([maps((6.0, 6, 8), (6.0, 6, 18), side=24), maps((6.0, 8, 6), side=24)], 1)[None]
    picks = torch.zeros(1, 2, 24, 24, 24, dtype=torch.bool)
    picks[0, 0, 6, 6, 6] = True
    args = {"radii": (4.0, 4.0), "sigmas": (1.0, 1.0), "agreement": 0.5, "ignore": True, "exclusive": False}
    line = torch.full((2,), 0.5)
    before = pseudo_labels(seen, line, 0.1, **args)
    assert before.peaks.nonzero()[:, 1:].tolist() == [[0, 6, 6, 8], [0, 6, 6, 18], [1, 6, 8, 6]]
    after = pseudo_labels(seen, line, 0.1, **args, picks=picks)
    assert after.peaks.nonzero()[:, 1:].tolist() == [[0, 6, 6, 6], [0, 6, 6, 18]]
    around = (slice(None), slice(None), 6, slice(3, 10), 6)
    assert after.valid_mask[around].all()  # the pick says what is there, and that nothing else is
    assert after.target[0, 1].max() == 0
    assert after.target[0, 0, 6, 6, 6] == 1
    assert torch.equal(before.target[:, :1, ..., 14:], after.target[:, :1, ..., 14:])
    complete = torch.tensor([[True, False]])
    searched = pseudo_labels(seen, line, 0.1, **args, picks=picks, complete=complete)
    assert searched.peaks.nonzero()[:, 1:].tolist() == [[0, 6, 6, 6]]  # no other particle of the first
    assert searched.valid_mask[:, 0].all()
    alone = pseudo_labels(seen, line, 0.1, **args, complete=complete)
    assert alone.peaks.nonzero()[:, 1:].tolist() == [[1, 6, 8, 6]]
    none = pseudo_labels(seen, line, 0.1, **args, picks=torch.zeros_like(picks))
    assert torch.equal(none.target, before.target)
    assert torch.equal(none.valid_mask, before.valid_mask)
