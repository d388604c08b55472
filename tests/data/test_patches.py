from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryovox.core.intensity import Normalization
from cryovox.core.particles import Species
from cryovox.data.config import PatchConfig
from cryovox.data.patches import TargetSpec, cut, mask_target, sample_corner
from cryovox.data.regions import Region, hold_out
from cryovox.data.targets import IGNORE_INDEX

A, B = Species(name="a", label=1, radius=30.0), Species(name="b", label=2, radius=50.0)
MASK, HEAT, HEAT2 = TargetSpec("mask"), TargetSpec("heatmap"), TargetSpec("heatmap", 2)


def source(positions=((10.0, 20, 30),), channels=None, shape=(24, 48, 56), bounds=None, **more) -> Region:
    positions = np.array(positions, dtype=float).reshape(-1, 3)
    given = {
        "name": "t",
        "data": np.arange(np.prod(shape), dtype=np.float32).reshape(shape),
        "voxel_size": 10.0,
        "normalize": Normalization(0.0, 1.0),
        "bounds": bounds or tuple((0, n) for n in shape),
        "species": (A, B),
        "positions": positions,
        "channels": np.zeros(len(positions), np.intp) if channels is None else np.array(channels),
        "labels": None,
        "annotated_mask": None,
        "exhaustive": np.ones(2, bool),
    }
    return Region(**(given | more))


def test_a_cut_holds_the_voxels_at_its_corner():
    given = source(normalize=Normalization(5.0, 2.0, -1))
    patch = cut(given, (3, 4, 5), 16, MASK)
    assert np.array_equal(patch.image, -(given.data[3:19, 4:20, 5:21] - 5) / 2)
    assert not patch.target[:, :8].any()
    assert cut(given, (3, 10, 20), 16, MASK).target[7, 10, 10] == 1


def test_around_a_small_tomogram_are_the_mean_and_no_target():
    given = source([[4.0, 5, 6]], shape=(8, 10, 12))
    patch = cut(given, (0, 0, 0), 24, MASK)
    assert np.array_equal(patch.image[:8, :10, :12], given.data)
    assert not patch.image[8:].any()
    assert not patch.image[:, 10:].any()
    assert not patch.image[:, :, 12:].any()
    mirrored = cut(given, (0, 0, 0), 24, MASK, mirror=True)
    assert np.array_equal(mirrored.image[8:15, :10, :12], given.data[-2::-1])
    assert np.array_equal(mirrored.image[:8, :10, 12:23], given.data[:, :, -2::-1])
    assert np.array_equal(mirrored.target, patch.target)
    assert (patch.target[8:] == IGNORE_INDEX).all()
    assert (patch.target[:, 10:] == IGNORE_INDEX).all()
    assert (patch.target[:8, :10, :12] != IGNORE_INDEX).all()
    heat = cut(given, (0, 0, 0), 24, HEAT2)
    assert heat.valid_mask[:, :4, :5, :6].all()
    assert not heat.valid_mask[:, 4:].any()
    assert heat.valid_mask.sum() == 2 * 4 * 5 * 6


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_tomogram_and_any_corner_can_be_cut(data):
    shape = tuple(data.draw(st.integers(8, 40)) for _ in range(3))
    corner = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    at = [data.draw(st.floats(-0.5, n - 0.5)) for n in shape]
    given = source([at], shape=shape, exhaustive=np.array([data.draw(st.booleans()), True]))
    spec = data.draw(st.sampled_from([MASK, HEAT, HEAT2]))
    patch = cut(given, corner, 16, spec)
    assert patch.image.shape == (16, 16, 16)
    n = 16 // spec.output_stride
    assert patch.target.shape == patch.valid_mask.shape == ((16,) * 3 if spec is MASK else (2, n, n, n))
    ends = [min(16, n - c) for n, c in zip(shape, corner, strict=True)]
    window = tuple(slice(c, c + e) for c, e in zip(corner, ends, strict=True))
    assert np.array_equal(patch.image[: ends[0], : ends[1], : ends[2]], given.data[window])
    assert not np.delete(patch.image, np.arange(ends[2]), axis=2).any()


def center(weights: np.ndarray) -> np.ndarray:
    return (np.indices(weights.shape).reshape(3, -1) * weights.ravel()).sum(1) / weights.sum()


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.floats(14, 17.9)] * 3), st.sampled_from([1, 2]))
def test_targets_are_centered_on_the_particle_to_a_fraction_of_a_voxel(at, stride):
    given = source([at], [1], shape=(40, 40, 40))
    patch = cut(given, (1, 2, 0), 32, TargetSpec("heatmap", stride))
    assert patch.target[0].max() == 0
    found = stride * center(patch.target[1].astype(float)) + (stride - 1) / 2 + np.array([1, 2, 0])
    assert np.abs(found - at).max() < 0.05


def test_stride_two_peaks_where_two_voxels_meet():
    # output voxel i is centered at input 2 i + 1 / 2
    patch = cut(source([[8.5, 12.5, 4.5]], shape=(24, 24, 24)), (0, 0, 0), 24, HEAT2)
    assert patch.target[0, 4, 6, 2] == 1


def test_heatmap_of_an_exhaustive_source_is_known_throughout():
    assert cut(source(), (0, 8, 16), 24, HEAT).valid_mask.all()


def test_heatmap_where_one_species_was_not_searched_exhaustively():
    given = source(
        [[12.0, 12, 12], [12.0, 12, 20]],
        [0, 1],
        shape=(24, 24, 48),
        exhaustive=np.array([False, True]),
    )
    patch = cut(given, (0, 0, 0), 24, HEAT, rim=1.5)
    far = np.linalg.norm(np.moveaxis(np.indices((24, 24, 24)), 0, -1) - 12, axis=-1)
    rival = np.linalg.norm(np.moveaxis(np.indices((24, 24, 24)), 0, -1) - [12, 12, 20], axis=-1)
    assert np.array_equal(patch.valid_mask[0], (far <= 4.5) | (rival <= 5))
    assert patch.valid_mask[1].all()
    # the rim is known background, the far side of the patch is not
    assert patch.target[0][(far > 4) & (far <= 4.5)].max() < 0.02
    assert not patch.valid_mask[0, 0, 0, 0]


def test_mask_outside_the_rim_is_unknown_where_not_exhaustive():
    given = source([[12.0, 12, 12]], shape=(24, 24, 24), exhaustive=np.array([False, True]))
    far = np.linalg.norm(np.moveaxis(np.indices((24, 24, 24)), 0, -1) - 12, axis=-1)
    patch = cut(given, (0, 0, 0), 24, MASK, rim=1.5)
    assert (patch.target[far <= 3] == 1).all()
    assert (patch.target[(far > 3) & (far <= 7.5)] == 0).all()  # 1.5 radii of the largest species
    assert (patch.target[far > 7.5] == IGNORE_INDEX).all()
    assert np.array_equal(patch.valid_mask, patch.target != IGNORE_INDEX)
    assert (
        cut(replace(given, exhaustive=np.ones(2, bool)), (0, 0, 0), 24, MASK).target != IGNORE_INDEX
    ).all()


@pytest.mark.parametrize("spec", [MASK, HEAT, HEAT2])
def test_outside_the_box_and_the_searched_mask_nothing_is_known(spec):
    annotated_mask = np.ones((24, 48, 56), bool)
    annotated_mask[:, :, 24:] = False
    given = source(bounds=((4, 24), (0, 48), (0, 56)), annotated_mask=annotated_mask)
    patch = cut(given, (0, 8, 16), 24, spec)
    s = spec.output_stride
    known = patch.valid_mask if spec is MASK else patch.valid_mask[0]
    expected = np.zeros((24, 24, 24), bool)
    expected[4:, :, :8] = True
    assert np.array_equal(known, expected[::s, ::s, ::s])


def test_label_maps_are_cut_as_they_are():
    labels = np.zeros((24, 48, 56), np.uint8)
    labels[5:9, 10:14, 20:24] = 2
    patch = cut(source(labels=labels), (2, 8, 16), 16, MASK)
    assert np.array_equal(patch.target, labels[2:18, 8:24, 16:32])


def test_the_target_of_a_box_is_that_of_its_cubes():
    given = source([[10.0, 20, 30], [12.0, 30, 33]], [0, 1], exhaustive=np.array([False, False]))
    whole = mask_target(given, (0, 8, 16), (24, 40, 32))
    assert whole.shape == (24, 40, 32)
    assert np.array_equal(whole[:16, 16:32, :16], cut(given, (0, 24, 16), 16, MASK).target)
    assert set(np.unique(whole)) == {0, 1, 2, IGNORE_INDEX}


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_corners_stay_inside_the_region(data):
    shape = tuple(data.draw(st.integers(8, 60)) for _ in range(3))
    low = [data.draw(st.integers(0, n - 1)) for n in shape]
    bounds = tuple((a, data.draw(st.integers(a + 1, n))) for a, n in zip(low, shape, strict=True))
    at = [data.draw(st.floats(a - 0.5, b - 0.51)) for a, b in bounds]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    found, corner = sample_corner([source([at], shape=shape, bounds=bounds)], PatchConfig(), 16, rng)
    for c, (a, b) in zip(corner, bounds, strict=True):
        assert a <= c <= max(a, b - 16)
    assert cut(found, corner, 16, MASK).valid_mask.any()


def test_foreground_patches_hold_a_particle_and_rare_species_are_drawn_as_often():
    many = np.random.default_rng(0).uniform(20, 70, (50, 3))
    given = source(np.r_[many, [[60.0, 60, 60]]], [0] * 50 + [1], shape=(90, 90, 90))
    rng = np.random.default_rng(1)
    config = PatchConfig(foreground=1, jitter=0.1)
    hits = 0
    for _ in range(200):
        _, corner = sample_corner([given], config, 16, rng)
        offset = given.positions - corner
        held = ((offset >= 0) & (offset < 16)).all(1)
        assert held.any()
        hits += held[50]
    assert 80 <= hits <= 140
    plain = PatchConfig(foreground=1, jitter=0.1, balance=False)
    corners = [np.array(sample_corner([given], plain, 16, rng)[1]) for _ in range(200)]
    assert sum(((given.positions[50] - c >= 0) & (given.positions[50] - c < 16)).all() for c in corners) < 60


def test_background_is_drawn_from_regions_by_their_size():
    small = source(name="s", bounds=((0, 8), (0, 48), (0, 7)))
    large = source(name="l", bounds=((0, 8), (0, 48), (0, 49)))
    rng = np.random.default_rng(0)
    drawn = [sample_corner([small, large], PatchConfig(foreground=0), 8, rng)[0].name for _ in range(400)]
    assert 25 <= drawn.count("s") <= 80
    assert sample_corner([source([])], PatchConfig(foreground=1), 8, rng)[0].name == "t"


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 999),
    st.integers(2, 60),
    st.sampled_from([0.1, 0.2, 0.5]),
    st.tuples(st.integers(60, 90), st.integers(40, 90), st.integers(40, 90)),
)
def test_hold_out_shares_no_particle_and_never_cuts_z(seed, n, fraction, shape):
    rng = np.random.default_rng(seed)
    given = source(rng.uniform(0, np.array(shape) - 1, (n, 3)), shape=shape)
    (kept,), (held,) = hold_out([given], fraction)
    assert kept.bounds[0] == held.bounds[0] == (0, shape[0])
    axis = 1 if shape[1] >= shape[2] else 2
    assert kept.bounds[3 - axis] == held.bounds[3 - axis]
    assert 0 == kept.bounds[axis][0] < kept.bounds[axis][1] <= held.bounds[axis][0]
    assert held.bounds[axis][0] < held.bounds[axis][1] == shape[axis]
    assert not (kept.inside() & held.inside()).any()
    here, there = given.positions[kept.inside(), axis], given.positions[held.inside(), axis]
    if len(here) and kept.bounds[axis][1] > 1:
        assert there.min() - here.max() >= A.radius / 10
    # rounding the cut to voxels moves at most the few particles at the cut
    at_cut = (np.abs(given.positions[:, axis] - held.bounds[axis][0]) <= 1).sum()
    assert abs(len(there) - max(1, round(fraction * n))) <= at_cut


def test_hold_out_of_a_region_without_particles_goes_by_length():
    (kept,), (held,) = hold_out([source([], shape=(80, 20, 50))], 0.2)
    assert kept.bounds == ((0, 80), (0, 20), (0, 35))
    assert held.bounds == ((0, 80), (0, 20), (40, 50))


def test_hold_out_leaves_a_margin_for_species_with_particles_only():
    """Membranes of simulations have a radius of 400 Å, which leaves nothing of a small tomogram."""
    wide = Species(name="membrane", label=2, radius=400.0)
    given = source([(10, 10, x) for x in range(4, 60, 4)], shape=(20, 20, 60), species=(A, wide))
    (kept,), (held,) = hold_out([given], 0.2)
    assert held.bounds[2][0] - kept.bounds[2][1] == np.ceil(A.radius / 10)
    assert len(kept.annotated) > len(held.annotated)


SPARSE = {"exhaustive": np.array([True, False]), "shape": (30, 400, 40)}


def line(n, **more):
    return source([[9.0, 10 + 8 * i, 20.0] for i in range(n)], **(SPARSE | more))


def test_a_few_picks_are_all_learned_from():
    given = [line(14), line(30), line(0)]
    kept, held = hold_out(given, 0.2)
    assert kept == given
    assert held == []


def test_of_many_sparse_picks_a_share_is_held_out_and_what_has_none_is_learned_from():
    given = [line(40), line(30), line(0), line(1)]
    kept, held = hold_out(given, 0.2)
    assert [int(s.inside().sum()) for s in held] == [8, 6]
    assert kept[2:] == given[2:]
    assert all(s.bounds[1][1] < 400 for s in kept[:2])


def test_picks_that_are_spread_thin_are_held_out_by_the_region():
    given = [line(2) for _ in range(60)]
    kept, held = hold_out(given, 0.2)
    assert held == given[:12]
    assert kept == given[12:]


def test_of_few_particles_in_regions_that_were_searched_one_at_least_is_held_out():
    (kept,), (held,) = hold_out([line(3, exhaustive=np.ones(2, bool))], 0.2)
    assert kept.inside().sum() == 2
    assert held.inside().sum() == 1


def crowded(count=300, seed=0, **more):
    rng = np.random.default_rng(seed)
    shape = (30, 48, 56)
    positions = rng.uniform(-4, 1, (count, 3)) + rng.uniform(0, 1, (count, 3)) * np.array(shape)
    return source(
        positions, rng.integers(0, 2, count), shape=shape, bounds=((0, 30), (8, 40), (4, 50)), **more
    )


def drawn_naively(sources, config, patch_size, rng):
    """The definition: list every annotated particle of every region, for each patch anew."""
    rng.random()
    candidates = [(s, i) for s in range(len(sources)) for i in np.flatnonzero(sources[s].inside())]
    kinds = np.array([sources[s].channels[i] for s, i in candidates])
    if config.balance:
        kind = rng.choice(np.unique(kinds))
        candidates = [c for c, k in zip(candidates, kinds, strict=True) if k == kind]
    which, i = candidates[rng.integers(len(candidates))]
    origin = sources[which]
    shift = rng.uniform(-config.jitter, config.jitter, 3) * patch_size
    wanted = np.rint(origin.positions[i] + shift - patch_size / 2).astype(int)
    return origin, tuple(
        int(np.clip(w, a, max(a, b - patch_size))) for w, (a, b) in zip(wanted, origin.bounds, strict=True)
    )


@pytest.mark.parametrize("balance", [True, False])
def test_patches_are_drawn_as_from_a_list_of_all_particles(balance):
    config = PatchConfig(foreground=1, balance=balance)
    sources = [crowded(40, 1), source([]), crowded(7, 2), crowded(90, 3)]
    fast, slow = np.random.default_rng(5), np.random.default_rng(5)
    for _ in range(200):
        ours, theirs = sample_corner(sources, config, 16, fast), drawn_naively(sources, config, 16, slow)
        assert ours[0] is theirs[0]
        assert ours[1] == theirs[1]


@pytest.mark.parametrize("spec", [MASK, HEAT, HEAT2], ids=["mask", "heatmap", "heatmap, stride 2"])
@pytest.mark.parametrize("exhaustive", [(True, True), (False, True), (False, False)])
def test_a_cut_looks_at_every_particle_that_reaches_it(spec, exhaustive):
    """Against a source whose neighbor search leaves nothing out."""

    class All(Region):
        def near(self, corner, shape, reach):
            return np.arange(len(self.positions))

    some = crowded(exhaustive=np.array(exhaustive))
    every = All(**{name: getattr(some, name) for name in Region.__dataclass_fields__})
    rng = np.random.default_rng(0)
    for corner in rng.integers(-8, 40, (20, 3)).tolist():
        ours, theirs = cut(some, corner, 16, spec), cut(every, corner, 16, spec)
        assert np.array_equal(ours.target, theirs.target)
        assert np.array_equal(ours.valid_mask, theirs.valid_mask)


def test_particles_are_listed_once_however_many_patches_are_drawn(monkeypatch):
    calls, inside = [], Region.inside
    monkeypatch.setattr(Region, "inside", lambda self: calls.append(self) or inside(self))
    sources = [crowded(50, 1), crowded(50, 2)]
    for _ in range(20):
        sample_corner(sources, PatchConfig(foreground=1), 16, np.random.default_rng(0))
    assert len(calls) == len(sources)
