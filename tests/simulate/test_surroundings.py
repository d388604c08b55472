"""Membranes, filaments, beads and crystals of periodic boxes."""

import numpy as np
import pytest

from cryovox.simulate.config.surroundings import SurroundingsConfig
from cryovox.simulate.stream.box import (
    CRYSTAL,
    EMPTY,
    FILAMENT,
    GOLD,
    MEMBRANE,
    Grids,
    PeriodicBox,
    draw_sample,
)
from cryovox.simulate.stream.surroundings import (
    Surroundings,
    add_bead,
    add_filament,
    add_sheet,
    crystal,
    vesicle,
)

SHAPE, VOXEL = (40, 52, 64), 10.0
CONFIG = SurroundingsConfig(share=1.0, kind_share=1.0, texture=(0.0, 0.0), vesicle_radius=(80.0, 100.0))


def drawn(add, seed):
    grids = Grids.empty(SHAPE)
    add(grids, np.random.default_rng(seed))
    return grids


def sheet(grids, rng):
    add_sheet(grids, VOXEL, CONFIG, rng)


def filament(grids, rng):
    add_filament(grids, VOXEL, rng)


@pytest.mark.parametrize("add", [sheet, filament])
def test_what_crosses_the_box_continues_at_the_opposite_face(add):
    for seed in range(12):
        volume = drawn(add, seed).potential
        assert volume.max() > 0.5
        for axis in range(3):
            steps = np.abs(np.diff(volume, axis=axis)).max()
            across = np.abs(np.take(volume, 0, axis) - np.take(volume, -1, axis)).max()
            assert across <= 1.3 * steps + 0.1


def test_a_sheet_is_two_leaflets_about_a_bilayer_apart():
    grids = drawn(sheet, 3)
    body = grids.labels == MEMBRANE
    fraction = body.mean()
    # one to two crossings of a layer of about 52 Å in a box of 400 to 640 Å
    assert 0.06 < fraction < 0.4
    assert grids.potential[body].mean() > 5 * np.abs(grids.potential[~body]).mean()


def test_a_filament_is_as_thick_as_it_should_be():
    sizes = {}
    for seed in range(12):
        grids = drawn(filament, seed)
        body = (grids.labels == FILAMENT).sum()
        length = max(SHAPE) if body else 0
        sizes.setdefault(body > 2500, []).append(body / length)
    actin, microtubule = sizes[False], sizes[True]
    assert 15 < np.median(actin) < 60  # a rod of about 60 Å, 28 voxels
    assert 200 < np.median(microtubule) < 700  # a tube of 250 Å with a wall of 50 Å, 314 voxels


def test_gold_is_much_stronger_than_a_membrane():
    bead = drawn(lambda grids, rng: add_bead(grids, VOXEL, CONFIG, rng), 0)
    assert bead.potential.max() > 3 * drawn(sheet, 0).potential.max()
    assert (bead.labels == GOLD).sum() == pytest.approx((bead.potential > 6).sum(), rel=0.3)


def test_a_vesicle_is_hollow_and_a_crystal_is_not():
    rng = np.random.default_rng(0)
    shell = vesicle(VOXEL, CONFIG, rng)
    z, y, x = shell.support
    from_center = np.linalg.norm(np.stack([z, y, x], 1) - shell.center, axis=1)
    assert from_center.min() > 4
    assert from_center.max() < 16
    ice = crystal(VOXEL, CONFIG, rng)
    assert np.linalg.norm(np.stack(ice.support, 1) - ice.center, axis=1).min() < 1
    assert ice.values.max() <= 4.5


def test_objects_do_not_overlap_and_leave_room_in_every_box():
    surroundings = Surroundings(CONFIG, [9.0, 10.0], (0,))
    for seed in range(6):
        grids = surroundings.draw(1, SHAPE, np.random.default_rng(seed))
        assert set(np.unique(grids.labels)) <= {0, MEMBRANE, FILAMENT, GOLD, CRYSTAL}
        assert 0 < (grids.labels > 0).mean() < 0.7
        again = Surroundings(CONFIG, [9.0, 10.0], (0,)).draw(1, SHAPE, np.random.default_rng(seed))
        assert np.array_equal(again.potential, grids.potential)


def test_no_kind_at_all_is_an_empty_box():
    none = CONFIG.model_copy(update={"kind_share": 0.0})
    grids = Surroundings(none, [10.0], (0,)).draw(0, SHAPE, np.random.default_rng(0))
    assert not grids.potential.any()
    assert not grids.labels.any()


def test_every_kind_has_its_label():
    surroundings = Surroundings(CONFIG, [10.0], (0,))
    boxes = [surroundings.draw(0, SHAPE, np.random.default_rng(seed)).labels for seed in range(6)]
    assert set(np.unique(boxes)) == {0, MEMBRANE, FILAMENT, GOLD, CRYSTAL}


def test_a_sample_ends_at_two_faces_and_its_box_is_empty_beyond():
    sample = draw_sample((60, 40, 40), np.random.default_rng(3))
    faces = np.abs(np.diff(sample.astype(int), axis=0, append=sample[:1])).sum(axis=0)
    assert (faces == 2).all()  # counted around the periodic box
    assert 0.15 < 1 - sample.mean() < 0.65
    inside, outside = np.argwhere(sample)[100].astype(float), np.argwhere(~sample)[100].astype(float)
    box = PeriodicBox(
        np.ones(sample.shape, np.float32),
        np.full(sample.shape, 2, np.uint8),
        np.full(sample.shape, MEMBRANE, np.uint8),
        np.stack([inside, outside]),
        np.array([1, 0]),
        np.stack([np.eye(3)] * 2),
    )
    assert box.sample is None
    cut = box.cut(sample)
    assert np.array_equal(cut.sample, sample)
    assert not cut.potential[~sample].any()
    assert not cut.labels[~sample].any()
    assert (cut.surroundings[~sample] == EMPTY).all()
    assert (cut.surroundings[sample] == MEMBRANE).all()
    assert np.array_equal(cut.positions, inside[None])
    assert cut.channels.tolist() == [1]
