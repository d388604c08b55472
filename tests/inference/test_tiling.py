import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryovox.inference.tiling import plan

sizes = st.integers(1, 150)
tiles = st.sampled_from([4, 8, 16, 24, 32, 56])
overlaps = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9])
strides = st.sampled_from([1, 2, 4])


@settings(max_examples=200, deadline=None)
@given(sizes, tiles, overlaps, strides)
def test_every_voxel_is_covered(size, tile, overlap, stride):
    axis = plan(size, tile, overlap, stride)
    assert axis.out_size == -(-size // stride)
    covered = np.zeros(axis.out_size, int)
    total = np.zeros(axis.out_size)
    for start in axis.starts:
        assert start % stride == 0
        inner, outer = axis.overlap(start)
        assert 0 <= inner.start <= inner.stop <= tile // stride
        assert inner.stop - inner.start == outer.stop - outer.start
        # tile output i is volume output start / stride + i
        assert inner.start + start // stride == outer.start
        covered[outer] += 1
        total[outer] += axis.window()[inner]
    assert covered.min() >= 1
    assert axis.total() == pytest.approx(total, rel=1e-5)
    assert axis.total().min() > 0


@settings(max_examples=100, deadline=None)
@given(sizes, tiles, overlaps, strides)
def test_no_tile_is_spare_and_the_faces_share_what_lies_beyond(size, tile, overlap, stride):
    axis = plan(size, tile, overlap, stride)
    steps = np.diff(axis.starts)
    assert len(set(steps.tolist())) <= 1
    before, after = -axis.starts[0], axis.starts[-1] + tile - size
    assert 0 <= before <= after < before + 2 * stride
    assert len(axis.starts) == 1 or before + after < steps[0]


@settings(max_examples=100, deadline=None)
@given(sizes, tiles, overlaps)
def test_the_parts_of_tiles_inside_make_up_the_volume(size, tile, overlap):
    axis, seen = plan(size, tile, overlap), np.zeros(size, int)
    for start in axis.starts:
        inner, outer = axis.inside(start)
        positions = np.arange(start, start + tile)
        assert np.array_equal(positions[inner], np.arange(size)[outer])
        beyond = np.delete(positions, np.arange(tile)[inner])
        assert ((beyond < 0) | (beyond >= size)).all()
        seen[outer] += 1
    assert seen.min() >= 1


def test_overlap_by_half_places_tiles_half_a_tile_apart():
    assert plan(64, 32, 0.5).starts == (0, 16, 32)
    assert plan(70, 32, 0.5).starts == (-5, 11, 27, 43)
    assert plan(64, 32, 0.0).starts == (0, 32)
    assert plan(5, 32, 0.0).starts == (-13,)
    assert all(s % 8 == 0 for s in plan(100, 56, 0.5, 8).starts)
