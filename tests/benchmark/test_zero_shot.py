"""Suites without a target: one training, several worlds, and nothing of them seen before."""

import numpy as np
import pytest

from cryovox.benchmark.adaptation import cubes
from cryovox.benchmark.adaptation.cubes import Scale
from cryovox.benchmark.adaptation.suite import (
    DOMAIN_GENERALIZATION,
    FEW_TARGET,
    SOURCE_ONLY,
    SUPERVISED,
    VOX_UDA,
    VOX_ZSDA,
    uses_target,
)
from cryovox.benchmark.subtomograms import bright_images
from cryovox.benchmark.suite import Budget, Job
from cryovox.benchmark.zero_shot.suite import (
    DOMAINS,
    FIRST,
    VALIDATION_DOMAINS,
    VALIDATION_SPECIES,
    VARIANTS,
    ZSDA,
    largest_component_center,
    localization,
)
from cryovox.core.particles import Particles
from cryovox.formats.subtomograms import Subtomograms
from cryovox.training.strategies import STRATEGIES


def ball(center, radius=3.0, side=16):
    grid = np.indices((side,) * 3) - np.reshape(center, (3, 1, 1, 1))
    return ((grid**2).sum(0) <= radius**2).astype(np.uint8)


def test_what_is_found_near_the_middle_counts():
    truth = np.stack([ball((8, 8, 8))] * 4)
    predicted = np.stack([ball((8, 8, 9)), ball((8, 8, 11)), ball((8, 8, 8), 2), np.zeros_like(truth[0])])
    # two hits of three claims and four targets
    assert localization(predicted, truth) == pytest.approx(2 * 2 / 7)
    assert localization(truth, truth) == 1
    assert localization(np.zeros_like(truth), truth) == 0
    nothing = np.zeros_like(truth)
    nothing[:2] = truth[:2]  # two cubes without a target
    assert localization(nothing, nothing) == 1
    assert localization(truth, nothing) == pytest.approx(2 * 2 / (4 + 2))


def test_the_largest_piece_is_what_was_found():
    assert largest_component_center(np.maximum(ball((4, 4, 4), 1), ball((11, 11, 11), 3))) == pytest.approx(
        (11, 11, 11)
    )
    assert largest_component_center(np.zeros((4, 4, 4), np.uint8)) is None


def test_who_may_look_at_the_target():
    names = {row.strategy for row in ZSDA.plan("cpu").methods}
    assert {SOURCE_ONLY, SUPERVISED, VOX_UDA, VOX_ZSDA, FEW_TARGET, *DOMAIN_GENERALIZATION} == names
    assert {name for name in names if uses_target(name)} == {VOX_UDA, FEW_TARGET}


def test_a_changed_row_differs_from_the_method_as_it_comes():
    usual = STRATEGIES[VOX_ZSDA].Config().model_dump()
    for name, own in VARIANTS.items():
        same = True
        for path, value in own.items():
            at = usual
            for key in path.split("."):
                at = at[key]
            same &= at == value
        assert same == (name == VOX_ZSDA), name


def test_what_is_chosen_by_is_not_what_is_tested(tmp_path):
    """No world of the ablations has a species that only the tests have, nor their seeds."""
    small = Scale(("groel",), cubes.UNSEEN, source=3, target=3)
    assert not set(VALIDATION_SPECIES) & ({*cubes.UNSEEN, *cubes.SEEN})
    assert VALIDATION_DOMAINS.keys() == DOMAINS.keys()
    for name, make in VALIDATION_DOMAINS.items():
        mine, theirs = make(tmp_path / "a", small), DOMAINS[name](tmp_path / "b", small)
        assert len(mine) == len(theirs)
        assert not np.array_equal(mine.images, theirs.images), name


def test_the_users_target_is_one_world(tmp_path, monkeypatch):
    monkeypatch.setattr(cubes, "read_user_set", lambda data, name: unseen_of(tmp_path / name))
    ZSDA.prepare(tmp_path, "cpu", tmp_path)
    assert len(list(tmp_path.glob("*-train.zarr"))) == 1
    (floor,) = ZSDA.references(tmp_path).values()
    assert set(floor) == {"chosen", "chosen, all"}


def unseen_of(folder):
    return cubes.unseen_target(folder, Scale(("groel",), ("hsp90",), source=4, target=8))


def test_all_worlds_are_scored_after_one_training(tmp_path, monkeypatch):
    small = Scale(("groel",), ("hsp90",), source=4, target=8)
    monkeypatch.setitem(cubes.SCALES, "smoke", small)
    ZSDA.prepare(tmp_path, "smoke", None)
    (row,) = (r for r in ZSDA.plan("smoke").methods if r.strategy == VOX_ZSDA)
    table = ZSDA.run(Job(row, Budget(steps=2), 0), tmp_path, tmp_path / "out", "cpu")
    expected = {f"chosen, {part}" for part in ("all", *DOMAINS) if part != FIRST} | {"chosen"}
    assert expected <= set(table)
    assert table["chosen"] == table["source"] == table["adapted"]  # there is no choice without a target
    for scores in table.values():
        assert set(scores) == {"iou", "dice", "mean_iou_per_sample", "localisation_f1"}
    (floor,) = ZSDA.references(tmp_path).values()
    assert expected == set(floor)


def test_the_floor_sees_dark_particles_as_bright_ones():
    cubes = np.random.default_rng(0).standard_normal((2, 16, 16, 16)).astype(np.float32)
    nowhere = Particles.of(np.zeros((2, 3)), "a")
    for sign, contrast in ((1, "bright"), (-1, "dark"), (1, "auto")):
        data = Subtomograms(sign * cubes, None, 10.0, nowhere, contrast=contrast)
        assert np.array_equal(bright_images(data), cubes)
