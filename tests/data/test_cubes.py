from dataclasses import replace

import numpy as np
import pytest

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import LabelMap, Volume
from cryovox.data.config import AugmentConfig
from cryovox.data.cubes import CubeStream, detect_set_contrast, hold_out_cubes, load_cubes
from cryovox.data.patches import TargetSpec
from cryovox.data.sampling import SamplingConfig
from cryovox.data.targets import IGNORE_INDEX
from cryovox.formats import subtomograms
from cryovox.formats.subtomograms import Subtomograms

SPECIES = (Species(name="a", label=3, radius=30), Species(name="b", label=7, radius=40))
MASK, HEAT = TargetSpec("mask"), TargetSpec("heatmap", 2)
PLAIN = AugmentConfig(flips=False, contrast=0, brightness=0, noise=0, blur=0, cut=0)


def balls(n=10, side=16, sign=1.0, seed=0) -> Subtomograms:
    """Balls of radius 3 near the middle of noisy cubes on different levels; kinds take turns."""
    rng = np.random.default_rng(seed)
    centers = side / 2 + rng.uniform(-3, 3, (n, 3))
    grid = np.indices((side, side, side))
    inside = ((grid[None] - centers[:, :, None, None, None]) ** 2).sum(1) <= 9
    kinds = np.arange(n) % 2
    levels = rng.uniform(-50, 50, (n, 1, 1, 1))
    images = levels + rng.normal(size=inside.shape) + 3 * sign * inside
    masks = inside * np.array([3, 7])[kinds, None, None, None]
    particles = Particles.of(centers * 10, [SPECIES[k].name for k in kinds])
    corners = np.zeros((n, 3), np.intp)
    return Subtomograms(images.astype("f4"), masks.astype("u1"), 10.0, particles, SPECIES, corners)


@pytest.fixture
def stream():
    opened = []

    def make(cubes, spec=MASK, side=16, batch=4, augment=PLAIN, seed=(0, 0)):
        sampling = SamplingConfig(spec, side, batch, augment=augment, seed=seed)
        opened.append(CubeStream(cubes, sampling))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.mark.parametrize("sign", [1, -1])
def test_every_cube_is_scaled_by_itself_and_particles_are_bright(sign):
    given = balls(sign=sign)
    cubes = load_cubes(given)
    assert cubes.contrast == ("bright" if sign > 0 else "dark")
    images = cubes.images.astype(float)
    np.testing.assert_allclose(images.mean((1, 2, 3)), 0, atol=2e-3)
    np.testing.assert_allclose(images.std((1, 2, 3)), 1, atol=2e-3)
    assert all(image[mask > 0].mean() > 1 for image, mask in zip(images, given.masks, strict=True))
    assert np.array_equal(np.unique(cubes.labels), [0, 1, 2])


def test_the_contrast_is_what_is_said_then_what_is_recorded_then_what_is_seen():
    given = balls()
    assert detect_set_contrast(given)[0] == "bright"
    assert detect_set_contrast(replace(given, masks=None))[0] == "bright"
    assert detect_set_contrast(replace(given, contrast="dark")) == ("dark", np.inf)
    assert load_cubes(replace(given, contrast="dark")).contrast == "dark"
    assert load_cubes(replace(given, contrast="dark"), contrast="bright").contrast == "bright"
    noise = np.random.default_rng(1).normal(size=given.images.shape).astype("f4")
    with pytest.raises(RequestError, match="unclear") as refused:
        load_cubes(replace(given, images=noise), "noise.zarr")
    assert "--set-contrast" in refused.value.remedy


def test_a_cube_of_one_value_is_nought_and_nan_is_refused():
    given = balls()
    given.images[2] = 5
    assert not load_cubes(given).images[2].any()
    given.images[3, 0, 0, 0] = np.nan
    with pytest.raises(RequestError, match="NaN"):
        load_cubes(given, contrast="bright")


def test_species_that_a_set_does_not_name_come_from_its_masks():
    given = replace(balls(), species=())
    names = [s.name for s in load_cubes(given).species]
    assert names == ["label-3", "label-7"]
    one = replace(given, masks=(given.masks > 0).astype("u1"), particles=Particles.of(np.zeros((10, 3)), "x"))
    (kind,) = load_cubes(one).species
    assert (kind.name, kind.label) == ("x", 1)
    assert kind.radius == pytest.approx(30, rel=0.1)
    with pytest.raises(RequestError, match="neither"):
        load_cubes(replace(given, masks=None))


def test_merged_species_are_one():
    cubes = load_cubes(balls(), merge=True)
    assert [(s.name, s.label, s.radius) for s in cubes.species] == [("particle", 1, 40.0)]
    assert np.array_equal(np.unique(cubes.labels), [0, 1])
    assert set(cubes.channels) == {0}
    assert set(cubes.species_names) == {"a", "b"}


def test_the_hold_out_is_whole_fair_and_always_the_same():
    cubes = load_cubes(balls(40))
    training, held = hold_out_cubes(cubes, 0.25)
    assert sorted([*training.indices, *held.indices]) == list(range(40))
    assert [(held.species_names[held.indices] == k).sum() for k in ("a", "b")] == [5, 5]
    assert np.array_equal(hold_out_cubes(cubes, 0.25)[1].indices, held.indices)
    for share in (1e-9, 1 - 1e-9):
        training, held = hold_out_cubes(cubes, share)
        assert len(training) >= 1
        assert len(held) >= 1
    with pytest.raises(RequestError, match="holds 1"):
        hold_out_cubes(load_cubes(balls(1), contrast="bright"), 0.5)


def test_every_cube_comes_once_before_any_comes_again(stream):
    training, _ = hold_out_cubes(load_cubes(balls(15)), 0.2)
    assert len(training) == 12
    made = stream(training)
    shown = [made.batch(n).image[:, 0].numpy() for n in range(6)]
    first, second = np.concatenate(shown[:3]), np.concatenate(shown[3:])
    known = training.images[training.indices].astype("f4")
    for epoch in (first, second):
        assert sorted(epoch.sum((1, 2)).tolist()) == sorted(known.sum((1, 2)).tolist())
    assert not np.array_equal(first, second)


def test_a_batch_is_the_same_whenever_it_is_drawn(stream):
    cubes = load_cubes(balls())
    augment = AugmentConfig()
    here, there = stream(cubes, augment=augment), stream(cubes, augment=augment)
    in_order = [here.batch(n) for n in range(6)]
    for n in (5, 0, 3):
        assert all((a == b).all() for a, b in zip(there.batch(n), in_order[n], strict=True))
    other = stream(cubes, augment=augment, seed=(0, 1)).batch(0)
    assert not (other.image == in_order[0].image).all()


@pytest.mark.parametrize("spec", [MASK, HEAT], ids=["mask", "heatmap"])
def test_targets_lie_on_the_particles(stream, spec):
    batch = stream(load_cubes(balls()), spec).batch(0)
    for image, target, known in zip(batch.image[:, 0], batch.target, batch.valid_mask, strict=True):
        if spec is MASK:
            assert image[target > 0].mean() > 1
            assert known.all()
        else:
            channel, z, y, x = np.unravel_index(int(target.argmax()), target.shape)
            assert image[2 * z : 2 * z + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean() > 1
            assert known[channel, z, y, x]
            assert not known.all()  # nobody said what the rest is


def test_cubes_that_do_not_fit_are_filled_up_or_cut(stream):
    cubes = load_cubes(balls())
    large = stream(cubes, side=20).batch(0)
    assert large.target.shape == (4, 20, 20, 20)
    assert (large.target[:, :16, :16, :16] != IGNORE_INDEX).all()
    assert (large.target[:, 16:] == IGNORE_INDEX).all()
    assert (large.image[:, 0, 16] == large.image[:, 0, 14]).all()
    small = stream(cubes, side=8)
    assert small.batch(0).image.shape == (4, 1, 8, 8, 8)
    corners = {tuple(small.batch(n).image[0, 0, 0, 0].tolist()) for n in range(6)}
    assert len(corners) == 6


def test_what_was_cut_from_one_tomogram_shows_its_neighbors(tmp_path):
    rng = np.random.default_rng(0)
    centers = np.array([[16, 16, 16], [16, 16, 22], [16, 40, 16]]) * 10.0
    data = rng.normal(size=(32, 64, 48)).astype("f4")
    particles = Particles.of(centers, ["a", "b", "a"], tomograms="T")
    path = tmp_path / "s.zarr"
    labels = LabelMap(np.zeros(data.shape, np.uint8), 10.0, SPECIES)
    assert subtomograms.extract(Volume(data, 10.0), particles, 16, path, masks=labels) == 3
    cubes = load_cubes(subtomograms.read(path), contrast="bright")
    first, second, third = (cubes.region(i, HEAT) for i in range(3))
    assert first.positions.tolist() == [[8, 8, 8], [8, 8, 14]]
    assert first.channels.tolist() == [0, 1]
    assert sorted(second.positions.tolist()) == [[8, 8, 2], [8, 8, 8]]
    assert third.positions.tolist() == [[8, 8, 8]]


def test_the_digest_follows_what_is_seen():
    given = balls()
    assert load_cubes(given).digest() == load_cubes(balls()).digest()
    training, held = hold_out_cubes(load_cubes(given), 0.3)
    assert len({training.digest(), held.digest(), load_cubes(balls(seed=1)).digest()}) == 3


def test_labels_alone_cannot_be_learned_from():
    with pytest.raises(RequestError, match="no images"):
        load_cubes(replace(balls(), images=None))
