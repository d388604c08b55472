"""Suites in which shapes differ: classes of equal size, and unseen structures of the user."""

import numpy as np
import pytest

from cryovox.benchmark.suite import Budget, Job
from cryovox.benchmark.zero_shot import classes as zero_shot_classes
from cryovox.benchmark.zero_shot import shapes as zero_shot_shapes
from cryovox.benchmark.zero_shot.classes import (
    ABLATIONS,
    CLASSES,
    CLASSES_SUITE,
    TARGET,
    VALIDATION_CLASSES,
    VALIDATION_TARGET,
    class_scores,
    cube_confusion,
    simulate_classes,
)
from cryovox.benchmark.zero_shot.shapes import SHAPES, alike, read_shapes, split_shapes
from cryovox.core.errors import RequestError
from cryovox.core.volume import Volume
from cryovox.formats import write_volume
from cryovox.simulate.particles.library import build_template
from cryovox.workflows.simulation.templates import templates


def cubes(*labels):
    """One cube for each label, in which half of the voxels have it."""
    out = np.zeros((len(labels), 4, 4, 4), np.uint8)
    for cube, label in zip(out, labels, strict=True):
        cube[:2] = label
    return out


def test_confusion_counts_whole_cubes():
    true, predicted = cubes(1, 1, 1, 2, 2), cubes(1, 2, 0, 2, 2)
    predicted[3, 0, 0] = 1  # a quarter of its foreground
    assert cube_confusion(predicted, true, 2).tolist() == [[1 / 3, 1 / 3, 1 / 3], [0, 0, 1]]
    scores = class_scores(predicted, true, ("a", "b"))
    assert scores["class_accuracy"] == pytest.approx(2 / 3, abs=1e-5)
    assert scores["confusion/a as b"] == scores["confusion/a as nothing"] == pytest.approx(1 / 3, abs=1e-5)
    assert scores["iou"] == pytest.approx(4 / 5)
    # a: 32 voxels of 96 and 4 elsewhere; b: 60 of 64 and 32 elsewhere
    assert scores["mean_iou"] == pytest.approx((32 / 100 + 60 / 96) / 2, abs=1e-5)


def test_a_perfect_prediction_has_ones():
    true = cubes(1, 2, 3)
    scores = class_scores(true, true, ("a", "b", "c"))
    assert [scores[name] for name in ("mean_iou", "class_accuracy", "iou")] == [1, 1, 1]


def test_classes_have_equal_sizes():
    for names in (CLASSES, VALIDATION_CLASSES):
        sizes = [
            int((t.density > 0.3 * t.density.max()).sum()) for t in templates(list(names), 8.0, None, 25.0)
        ]
        assert max(sizes) < 1.1**3 * min(sizes), dict(zip(names, sizes, strict=True))


def test_what_is_chosen_by_is_not_tested():
    assert not set(CLASSES) & set(VALIDATION_CLASSES)
    assert TARGET != VALIDATION_TARGET


def test_classes_are_trained_and_their_confusion_is_scored(tmp_path, monkeypatch):
    monkeypatch.setattr(zero_shot_classes, "COUNTS", {"smoke": 4})
    CLASSES_SUITE.prepare(tmp_path, "smoke", None)
    (row,) = (r for r in CLASSES_SUITE.plan("smoke").methods if r.strategy == "vox-zsda")
    table = CLASSES_SUITE.run(Job(row, Budget(steps=2), 0), tmp_path, tmp_path / "out", "cpu")
    assert {"chosen", "chosen, all", "chosen, more noise", "chosen, same microscope"} <= set(table)
    for scores in table.values():
        for true in CLASSES:
            row_of_true = [scores[f"confusion/{true} as {guess}"] for guess in ("nothing", *CLASSES)]
            assert sum(row_of_true) in (0, pytest.approx(1, abs=1e-4))
    assert set(ABLATIONS.methods("xs")[0].adaptation) == {f"own.{k}" for k in zero_shot_classes.FIXED}


def test_the_users_classes_agree(tmp_path):
    for name, species in (("source", CLASSES[:2]), ("target", CLASSES[1::-1])):
        simulate_classes(tmp_path / f"{name}.zarr", species, TARGET, 1, 0)
    with pytest.raises(RequestError, match="beta-galactosidase, apo-ferritin in its source"):
        CLASSES_SUITE.prepare(tmp_path / "data", "smoke", tmp_path)


SPECIES = ("beta-galactosidase", "p97", "proteasome-20s", "clpb")


def folder_of_maps(tmp_path):
    """Maps of four particles, one of them twice, and files that are no structures."""
    for folder, names in (("structures_a", SPECIES[:1]), ("maps_b", SPECIES), ("other", ("groel",))):
        for name in names:
            density = build_template(name, 8.0, 25.0).density
            (tmp_path / folder).mkdir(exist_ok=True)
            write_volume(tmp_path / folder / f"{name[:4]}_x.mrc", Volume(density, 8.0))
    (tmp_path / "maps_b" / "notes.txt").write_text("no map")
    return tmp_path


def test_shapes_are_distinct_and_of_suitable_size(tmp_path, monkeypatch):
    folder = folder_of_maps(tmp_path)
    small = build_template("esterase", 8.0, 25.0).density
    write_volume(folder / "maps_b" / "tiny.mrc", Volume(small, 8.0))
    again = build_template("p97", 8.0, 25.0).density
    write_volume(
        folder / "maps_b" / "turned.mrc", Volume(np.ascontiguousarray(again.transpose(2, 0, 1)), 8.0)
    )
    shapes = read_shapes(folder)
    assert sorted(t.name for t in shapes) == sorted(f"{name[:4]}_x" for name in SPECIES)
    assert not any(alike(a, b) for a in shapes for b in shapes if a is not b)
    with pytest.raises(RequestError, match="holds 4 distinct structures"):
        split_shapes(shapes, tested=True)
    monkeypatch.setattr(zero_shot_shapes, "TRAINED", 2)
    monkeypatch.setattr(zero_shot_shapes, "TESTED", 1)
    trained, tested = split_shapes(shapes, tested=True)
    same, others = split_shapes(shapes, tested=False)
    assert trained == same
    assert not {t.name for t in tested} & {t.name for t in others}
    assert not {t.name for t in trained} & {t.name for t in (*tested, *others)}


def test_unseen_shapes_are_scored(tmp_path, monkeypatch):
    monkeypatch.setattr(zero_shot_shapes, "TRAINED", 2)
    monkeypatch.setattr(zero_shot_shapes, "TESTED", 1)
    monkeypatch.setattr(zero_shot_shapes, "COUNTS", {"smoke": (2, 4)})
    facts = SHAPES.prepare(tmp_path / "data", "smoke", folder_of_maps(tmp_path))
    assert (len(facts["trained shapes"]), len(facts["unseen shapes"])) == (2, 1)
    (row,) = (r for r in SHAPES.plan("smoke").methods if r.strategy == "vox-zsda")
    table = SHAPES.run(Job(row, Budget(steps=2), 0), tmp_path / "data", tmp_path / "out", "cpu")
    names = {"chosen", "chosen, all", "chosen, unseen, same microscope", "chosen, seen, other microscope"}
    assert names <= set(table)
    (floor,) = SHAPES.references(tmp_path / "data").values()
    assert set(floor) == names


def test_structures_are_asked_for(tmp_path):
    with pytest.raises(RequestError, match="zsda-50 needs structures"):
        SHAPES.prepare(tmp_path, "smoke", None)
