"""Suites of adaptation train on what they say, hide the target's labels, and judge the choice."""

import json
from dataclasses import replace
from operator import attrgetter

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import ndimage

from cryovox.benchmark import SUITES, runner
from cryovox.benchmark.adaptation import cubes as cube_suites
from cryovox.benchmark.adaptation import suite as adaptation
from cryovox.benchmark.adaptation import variants
from cryovox.benchmark.adaptation.cubes import (
    UDA,
    Scale,
    empty_target,
    even_split,
    held_out_mask,
    subset,
    write_target,
)
from cryovox.benchmark.adaptation.suite import (
    BASELINES,
    MODELS,
    SOURCE_ONLY,
    SUPERVISED,
    VOX_UDA,
    AdaptationMethod,
    TrainingData,
    cached_score,
    score_models,
    selection_outcome,
    selection_summary,
    train_models,
)
from cryovox.benchmark.adaptation.tomograms import (
    TOMOGRAMS,
    hold_out_last,
    localization,
    merge_species,
    overlap,
    sim_deepfinder,
    without_annotations,
    write_centers,
)
from cryovox.benchmark.real_tomogram import (
    MATCH_DISTANCE,
    RealTomogram,
    find_peaks,
    read_split,
    read_unique_picks,
    recalls,
    write_split,
)
from cryovox.benchmark.runner import run_suite
from cryovox.benchmark.suite import Budget, Job, Method, Plan
from cryovox.benchmark.tables import markdown
from cryovox.benchmark.training import SHARED, job_settings
from cryovox.core.dataset import Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import LabelMap, ScoreMap, Volume
from cryovox.data.targets import ball_labels
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_volume, subtomograms, write_labels, write_volume
from cryovox.formats.subtomograms import Subtomograms
from cryovox.training.strategies import STRATEGIES
from cryovox.workflows.config import train_config
from cryovox.workflows.training import adapt

NAMES = [name for name in SUITES if name.startswith(("uda", "zsda"))]
SMALL = Scale(("groel",), ("hsp90",), source=2, target=4)


def job(row, **budget):
    return Job(row, Budget(**(budget or {"steps": 10})), 0)


def cubes(n=4, side=8, seed=0, tomograms=None):
    """Random cubes, of which the first voxel and the mask tell the number."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, side, side, side), np.uint8)
    masks[:, 0, 0] = np.arange(side) <= np.arange(n)[:, None] % side
    images = rng.standard_normal(masks.shape).astype(np.float32)
    images[:, 0, 0, 0] = np.arange(n)
    return Subtomograms(
        images, masks, 10.0, Particles.of(np.zeros((n, 3)), "target", tomograms=tomograms),
        (Species(name="target", label=1, radius=60.0),), contrast="bright",
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tier", ["smoke", "cpu", "gpu"])
def test_every_row_has_settings_of_its_strategy(name, tier):
    plan = SUITES[name].plan(tier)
    for row in plan.methods:
        if row.strategy in (SOURCE_ONLY, SUPERVISED):
            job_settings(job(row))
            continue
        config = job_settings(job(row), {**SHARED, **row.adaptation}, kind=train_config(row.strategy))
        changed = {k.removeprefix("own."): v for k, v in row.adaptation.items() if k.startswith("own.")}
        assert {k: attrgetter(k)(config.own) for k in changed} == changed
        assert config.strategy == row.strategy


def test_every_seed_draws_its_own_data(tmp_path, monkeypatch):
    suite = SUITES["uda-shift"]
    monkeypatch.setitem(cube_suites.SCALES, "cpu", SMALL)
    suite.prepare(tmp_path, "cpu", None)
    draws = cube_suites.draw_folders(tmp_path)
    assert len(draws) == suite.draws
    for name in ("source", "target"):
        first, *others = (subtomograms.read(draw / f"{name}.zarr").images[:] for draw in draws)
        assert all(not np.array_equal(first, other) for other in others)
    assert not any(draw.joinpath("target-unlabelled.zarr", "mask").exists() for draw in draws)
    (baseline,) = suite.references(tmp_path).values()
    assert set(baseline) == {"chosen", "chosen, all"}

    folders = []
    monkeypatch.setattr(
        cube_suites.AdaptationSuite, "run", lambda _, job, folder, *more: folders.append(folder)
    )
    row = suite.plan("cpu").methods[0]
    for seed in (0, 1, 2, 3):
        suite.run(Job(row, Budget(steps=1), seed), tmp_path, tmp_path / "out", "cpu")
    assert folders == [*draws, draws[0]]
    suite.run(Job(row, Budget(steps=1), 1), tmp_path / "users", tmp_path / "out", "cpu")
    assert folders[-1] == tmp_path / "users"


def test_a_changed_row_differs_from_the_method_as_it_comes():
    usual = STRATEGIES[VOX_UDA].Config()
    for name, own in variants.VARIANTS.items():
        assert (usual.model_copy(update=own) == usual) == (name == VOX_UDA), name


def test_all_ways_to_adapt_compete():
    names = {row.name for row in SUITES["uda"].plan("cpu").methods}
    assert {SOURCE_ONLY, SUPERVISED, VOX_UDA, *BASELINES} <= names
    assert {*BASELINES, VOX_UDA, "supervised"} <= set(STRATEGIES)


@pytest.fixture
def stages(monkeypatch):
    """Trainings that leave empty model files; adaptations choose what `stages["choice"]` says."""
    calls = {"choice": "adapted", "trained": [], "adapted": []}

    def train(job, data, out, device, **more):
        calls["trained"].append((job, data))
        model = out / "run" / "model.safetensors"
        model.parent.mkdir(parents=True, exist_ok=True)
        model.touch()
        return model

    def fake_adapt(source, targets, out, config, *, device):
        calls["adapted"].append((source, targets, config))
        out.mkdir(parents=True, exist_ok=True)
        (out / "choice.json").write_text(json.dumps({"chosen": calls["choice"]}))
        return out / "model.safetensors"

    monkeypatch.setattr(adaptation, "train", train)
    monkeypatch.setattr(adapt, "adapt", fake_adapt)
    return calls


def test_contestants_learn_from_what_they_may(stages, tmp_path):
    training_data = TrainingData(tmp_path / "source", (tmp_path / "bare",), tmp_path / "labelled")
    for name, data in ((SOURCE_ONLY, training_data.source), (SUPERVISED, training_data.labeled)):
        row = AdaptationMethod(name, "voxresnet", strategy=name)
        assert (
            len(set(train_models(job(row, time="4m"), training_data, tmp_path, tmp_path, "cpu").values()))
            == 1
        )
        assert stages["trained"][-1][1] == data
        assert stages["trained"][-1][0].budget.time == "4m"  # all of it
    row = AdaptationMethod("dann", "voxresnet", strategy="dann", adaptation={"own.weight": 0.5})
    train_models(job(row, time="4m"), training_data, tmp_path, tmp_path / "dann", "cpu")
    source, targets, config = stages["adapted"][0]
    assert (source, targets) == (training_data.source, training_data.targets)
    assert (config.loop.max_time, config.own.weight, config.loop.keep) == ("120s", 0.5, "last")
    first, data = stages["trained"][-1]
    assert (first.budget.time, data) == ("120s", training_data.source)


def test_ways_to_adapt_start_from_one_model_of_the_source(stages, tmp_path):
    training_data = TrainingData(tmp_path / "source", (tmp_path / "bare",), tmp_path / "labelled")

    def start(name, *, seed=0, **more):
        row = AdaptationMethod(name, "voxresnet", strategy=name, **more)
        train_models(
            replace(job(row, time="4m"), seed=seed), training_data, tmp_path, tmp_path / "out", "cpu"
        )
        return stages["adapted"][-1][2].network.start

    known = start("dann")
    assert start("mmd", adaptation={"own.weight": 0.5}) == known
    assert len(stages["trained"]) == 1
    assert known not in (start("dann", seed=1), start("dann", train={"loop.batch": 2}))
    assert len(stages["trained"]) == 3


@pytest.mark.parametrize("choice", ["source", "adapted"])
def test_the_chosen_model_is_one_of_both(stages, tmp_path, choice):
    stages["choice"] = choice
    row = AdaptationMethod("mmd", "voxresnet", strategy="mmd")
    models = train_models(
        job(row), TrainingData(tmp_path, (tmp_path,), tmp_path), tmp_path, tmp_path / "out", "cpu"
    )
    assert models["chosen"] == models[choice]
    assert models["source"] != models["adapted"]


def test_a_network_that_is_no_row_learns_the_source_alone(stages, tmp_path):
    training_data = TrainingData(tmp_path / "source", (tmp_path / "bare",), tmp_path / "labelled")
    train_models(job(Method("deepfinder", "deepfinder")), training_data, tmp_path, tmp_path, "cpu")
    assert stages["trained"][0][1] == training_data.source


def test_every_model_is_scored_once_on_every_part(tmp_path):
    asked = []

    def score(model, out):
        asked.append((model.name, out.name))
        return {"": {"iou": {"a": 0.2, "b": 0.6}[model.name]}, "all": {"iou": 0.5}}

    a, b = tmp_path / "a", tmp_path / "b"
    table = score_models({"source": a, "adapted": b, "chosen": b}, score, "iou", tmp_path, selected=True)
    assert asked == [("a", "found-source"), ("b", "found-adapted")]
    assert [table[m]["iou"] for m in MODELS] == [0.2, 0.6, 0.6]
    assert table["chosen, all"] == {"iou": 0.5}
    assert table["rule"]["right"] == 1


def test_models_that_jobs_share_are_scored_once_for_each_target(tmp_path):
    asked = []

    def score(model, out):
        asked.append(model)
        return {"": {"iou": 0.25}}

    shared, own = tmp_path / "starts" / "a" / "model.safetensors", tmp_path / "own.safetensors"
    shared.parent.mkdir(parents=True)
    for target in ("one", "one", "other"):
        known = cached_score(score, tmp_path / "starts", target)
        assert known(shared, tmp_path) == known(own, tmp_path) == {"": {"iou": 0.25}}
    assert asked == [shared, own, own, shared, own]


@pytest.mark.parametrize(
    ("source", "adapted", "took", "right", "lost"),
    [
        (0.5, 0.7, "adapted", 1, 0.0),
        (0.5, 0.7, "source", 0, 0.2),
        (0.7, 0.5, "adapted", 0, 0.2),
        (0.7, 0.5, "source", 1, 0.0),
        (0.5, 0.504, "source", 1, 0.004),
        (0.5, 0.506, "source", 0, 0.006),
    ],
)
def test_the_rule_is_right_where_the_other_model_is_no_better(source, adapted, took, right, lost):
    both = {"source": {"iou": source}, "adapted": {"iou": adapted}}
    outcome = selection_outcome(both | {"chosen": both[took]}, "iou")
    assert outcome["right"] == right
    assert outcome["lost"] == pytest.approx(lost, abs=1e-9)
    assert outcome["took adapted"] == (took == "adapted")
    assert outcome["gain of adapted"] == pytest.approx(adapted - source)


def test_the_record_counts_help_and_harm_apart():
    def run(source, adapted, took):
        both = {"source": {"iou": source}, "adapted": {"iou": adapted}}
        return {"scores": {"rule": selection_outcome(both | {"chosen": both[took]}, "iou")}}

    first = {"runs": [run(0.2, 0.6, "adapted"), run(0.2, 0.6, "source"), {"failed": "no memory"}]}
    second = {"runs": [run(0.5, 0.1, "source"), run(0.5, 0.501, "source"), {"scores": {"chosen": {}}}]}
    summary = selection_summary([first, second])
    assert (summary["runs"], summary["correct selections"]) == (4, 3)
    assert (summary["adaptation helped"], summary["... adapted model selected"]) == (2, 1)
    assert (summary["adaptation harmed"], summary["... source model selected"]) == (1, 1)
    assert summary["mean gain, selected model"] == pytest.approx(0.1)
    assert summary["mean gain, adapted model"] == pytest.approx((0.4 + 0.4 - 0.4 + 0.001) / 4, abs=1e-5)
    assert summary["mean gain, better model"] == pytest.approx((0.4 + 0.4 + 0.001) / 4, abs=1e-5)
    assert selection_summary([])["runs"] == 0


def result(compared, reference):
    values = {"base": {"source": 0.1, "chosen": 0.1}, "new": {"source": 0.1, "chosen": 0.5}}
    return {
        "headlines": ("iou",), "reference": reference, "compared": compared, "references": {},
        "plan": {"contestants": [{"name": n} for n in values], "seeds": 1},
        "runs": [
            {"contestant": n, "budget": "9s", "seed": 0, "scores": {c: {"iou": v} for c, v in row.items()}}
            for n, row in values.items()
        ],
    }  # fmt: skip


def test_contestants_are_compared_where_the_suite_says():
    assert "| selected, difference from base [95 % CI] |" in markdown(result(("chosen",), "base"))
    assert "| +0.400 |" in markdown(result(("chosen",), "base"))
    assert "| +0.200 |" in markdown(result((), "base"))
    assert "difference" not in markdown(result((), ""))


@pytest.mark.parametrize(("n", "held"), [(1, 1), (4, 1), (20, 3), (210, 31)])
def test_a_share_is_held_out_evenly(n, held):
    where = np.flatnonzero(even_split(n))
    assert len(where) == held
    assert held < 3 or np.ptp(np.diff(where)) <= 1


def test_whole_tomograms_are_held_out_where_there_are_enough():
    names = np.repeat([f"t{i}" for i in range(10)], 3)
    held = held_out_mask(cubes(30, tomograms=names))
    assert held.sum() == 6
    assert not set(names[held]) & set(names[~held])
    assert held_out_mask(cubes(30)).sum() == 4


def test_a_target_is_written_with_what_is_held_out_at_the_end_and_without_labels(tmp_path):
    target = cubes(5)
    write_target(tmp_path, "target", target, np.array([False, True, False, False, True]))
    whole, bare, learned = (
        subtomograms.read(tmp_path / f"target{part}.zarr") for part in ("", "-unlabelled", "-train")
    )
    assert whole.images[:, 0, 0, 0].tolist() == [0, 2, 3, 1, 4]
    assert_array_equal(whole.masks[:], target.masks[[0, 2, 3, 1, 4]])
    assert bare.masks is None
    assert_array_equal(bare.images[:], whole.images[:])
    assert_array_equal(learned.masks[:], whole.masks[:3])


def test_a_target_with_nothing_in_it_has_noise_alone(tmp_path):
    nothing = empty_target(tmp_path, SMALL)
    scene = subtomograms.read(tmp_path / "empty-inf.zarr")
    assert not nothing.masks.any()
    for noise, clean in zip(nothing.images, scene.images[:], strict=True):
        assert clean.var() / noise.var() == pytest.approx(cube_suites.OTHER_MICROSCOPE.snr, rel=0.02)
        smooth = [ndimage.gaussian_filter(x, 2) for x in (noise, clean)]
        assert abs(np.corrcoef(*(x.ravel() for x in smooth))[0, 1]) < 0.5


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(cube_suites.SCALES, "smoke", SMALL)


def test_a_suite_from_data_to_table(small, stages, tmp_path, monkeypatch):
    def label_set(model, data, device):
        """The adapted model knows the truth; every other one sees nothing."""
        truth = subtomograms.read(tmp_path / "out" / "data" / "target.zarr").masks[:]
        return truth if model.parent.name == "adapted" else 0 * truth

    monkeypatch.setattr("cryovox.workflows.label_sets.label_set", label_set)
    result = run_suite("uda", tmp_path / "out", UDA.plan("smoke"), tier="smoke", device="cpu")
    runs = {run["contestant"]: run for run in result["runs"]}
    alone, ours = runs[SOURCE_ONLY], runs[VOX_UDA]
    assert [alone["scores"][m]["iou"] for m in MODELS] == [0, 0, 0]
    assert [ours["scores"][m]["iou"] for m in MODELS] == [0, 1, 1]
    assert ours["scores"]["rule"] | {"right": 1, "gain": 1} == ours["scores"]["rule"]
    assert "rule" not in alone["scores"]
    assert "| vox-uda | 0.000 | 1.000 | 1.000 |" in markdown(result)
    source, (target,), _ = stages["adapted"][0]
    assert subtomograms.read(target).masks is None
    assert subtomograms.read(source).masks is not None
    assert sorted(p.stem for p in (tmp_path / "out" / "data").glob("source*.zarr")) == [
        "source", "source, SNR 0.03", "source, SNR inf",
    ]  # fmt: skip


def test_targets_of_the_safety_suite(small, tmp_path):
    suite = SUITES["uda-safety"]
    suite.prepare(tmp_path, "smoke", None)
    rows = suite.plan("cpu").methods
    assert all(suite.training_data(row, tmp_path).targets[0].is_dir() for row in rows)
    assert not subtomograms.read(tmp_path / "nothing in it.zarr").masks[:].any()
    assert suite.references(tmp_path) == {}
    assert {row.data for row in rows} == {"source"}


def folder_of(path, n, side, voxel):
    """Volumes with masks, as a user was given them."""
    rng = np.random.default_rng(n)
    for i in range(n):
        image = rng.standard_normal((side,) * 3).astype(np.float32)
        mask = np.zeros((side,) * 3, np.uint8)
        mask[: side // 4] = 1
        write_volume(path / "images" / f"v{i}.mrc", Volume(image, voxel))
        write_labels(path / "masks" / f"v{i}.mrc", LabelMap(mask, voxel))


def test_folders_of_volumes_are_cut_and_held_out_by_volume(tmp_path):
    folder_of(tmp_path / "given" / "source", 2, 32, 10.0)
    folder_of(tmp_path / "given" / "target", 7, 64, 12.0)
    facts = UDA.prepare(tmp_path / "data", "cpu", tmp_path / "given")
    assert (facts["source"], facts["target"], facts["target_voxel_size"]) == (2, 7 * 8, 12.0)
    bare = subtomograms.read(tmp_path / "data" / "target-unlabelled.zarr")
    learned = subtomograms.read(tmp_path / "data" / "target-train.zarr")
    assert (len(bare), bare.shape, bare.voxel_size) == (56, (32, 32, 32), 10.0)
    assert len(learned) == 48  # one volume of seven is held out
    assert {s.name for s in learned.species} == {"target"}


def test_data_without_a_target_are_refused(tmp_path):
    subtomograms.write(tmp_path / "source.zarr", cubes())
    with pytest.raises(RequestError, match=r"target\.zarr"):
        UDA.prepare(tmp_path / "data", "cpu", tmp_path)


def test_the_users_data_have_one_source():
    plan = UDA.plan("cpu")
    assert {row.data for row in UDA.on_user_data(plan).methods} == {"source"}
    assert len(UDA.on_user_data(plan).methods) == len(plan.methods) - 4
    strange = Plan((Method("deepfinder", "deepfinder"),), plan.budgets)
    assert len(UDA.on_user_data(strange).methods) == 1


def test_the_manifest_of_every_stage_counts(tmp_path):
    for stage, manifest in (("", {"inputs": {}}), ("source", {"steps": 3, "seconds": 1.5}),
                        ("adapted", {"steps": 4, "seconds": 2.0})):  # fmt: skip
        (tmp_path / "run" / stage).mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / stage / "manifest.json").write_text(json.dumps(manifest))
    assert runner._training_cost(tmp_path) == {"steps": 7, "train_seconds": 3.5}
    assert runner._training_cost(tmp_path / "nowhere") == {}


@pytest.fixture
def labeled(tmp_path):
    """Two tomograms with a protein (2) and a membrane (5)."""
    data = np.zeros((8, 8, 8), np.uint8)
    data[1:3, 1:3, 1:3], data[6:] = 2, 5
    species = (Species(name="groel", label=2, radius=60.0), Species(name="membrane", label=5, radius=20.0))
    entries = []
    for i in range(2):
        write_volume(tmp_path / f"t{i}.mrc", Volume(np.zeros((8, 8, 8), np.float32), 10.0))
        write_labels(tmp_path / f"t{i}_labels.mrc", LabelMap(data, 10.0))
        entries.append(
            Entry(name=f"t{i}", tomogram=tmp_path / f"t{i}.mrc", labels=tmp_path / f"t{i}_labels.mrc")
        )
    return Dataset(voxel_size=10.0, species=species, entries=tuple(entries))


def test_species_become_one_and_the_rest_background(labeled, tmp_path):
    merged = merge_species(labeled, ["groel"], tmp_path / "merged")
    mask = np.asarray(read_volume(merged.entries[0].labels).data)
    assert mask.sum() == 8
    assert mask[1, 1, 1] == 1
    assert [s.name for s in merged.species] == ["particle"]
    assert merged.species[0].radius == pytest.approx(10 * (3 * 8 / (4 * np.pi)) ** (1 / 3), abs=0.1)


def test_the_last_tomogram_is_held_out_and_the_target_says_nothing(labeled, tmp_path):
    dataset = hold_out_last(labeled, tmp_path)
    assert [e.split for e in dataset.entries] == ["train", "test"]
    dataset_files.write(tmp_path / "bare", without_annotations(dataset))
    bare = dataset_files.read(tmp_path / "bare")
    assert [(e.split, e.labels, e.particles) for e in bare.entries] == [("train", None, None)] * 2
    assert bare.species == ()
    with pytest.raises(RequestError, match="one tomogram"):
        hold_out_last(labeled.model_copy(update={"entries": labeled.entries[:1]}), tmp_path)


def test_voxels_of_any_particle_are_pooled_over_tomograms(labeled, tmp_path):
    whole = merge_species(labeled, ["groel"], tmp_path / "merged")
    half = np.zeros((8, 8, 8), np.uint8)
    half[1, 1:3, 1:3] = 1
    for i, mask in enumerate((half, 2 * half)):
        write_labels(tmp_path / "out" / "labels" / f"t{i}.mrc", LabelMap(mask, 10.0))
    background = (2 * 512 - 16) / (2 * 512 - 8)
    scores = overlap(whole.entries, tmp_path / "out")
    assert scores == {"dice": 0.66667, "iou": 0.5, "mean_iou": round((0.5 + background) / 2, 5)}


def test_the_floor_of_tomograms_finds_dark_balls(tmp_path):
    """Told their size and number, with the contrast that an entry names."""
    places = np.array([[8, 8, 8], [8, 24, 24], [24, 8, 24], [22, 23, 9]])
    mask = ball_labels(places.astype(float), [1] * 4, [4.0] * 4, (32, 32, 32))
    entries = []
    for name, sign in (("a", -1), ("b", 1)):
        gray = sign * mask.astype(np.float32) + 0.1 * np.random.default_rng(0).standard_normal(mask.shape)
        write_volume(tmp_path / f"{name}.mrc", Volume(gray.astype(np.float32), 10.0))
        write_labels(tmp_path / f"{name}_labels.mrc", LabelMap(mask, 10.0))
        files = {"tomogram": tmp_path / f"{name}.mrc", "labels": tmp_path / f"{name}_labels.mrc"}
        contrast = "dark" if sign < 0 else "bright"
        split = "train" if sign < 0 else "test"
        entries.append(Entry(name=name, contrast=contrast, split=split, **files))
    kind = Species(name="particle", label=1, radius=40.0)
    truth = Dataset(voxel_size=10.0, species=(kind,), entries=tuple(entries))
    dataset_files.write(tmp_path / "truth", truth)
    for entry in entries:
        write_centers(tmp_path / "truth" / "centres" / f"{entry.name}.csv", entry, truth)
    (floor,) = TOMOGRAMS.references(tmp_path).values()
    assert set(floor) == {"chosen", "chosen, all"}
    for row in floor.values():
        assert row["localisation_f1"] == 1
        assert row["dice"] > 0.8


def test_picks_of_any_particle_are_matched_with_the_objects(labeled, tmp_path):
    for entry in labeled.entries:
        write_centers(tmp_path / "centres" / f"{entry.name}.csv", entry, labeled)
    whole = merge_species(labeled, [s.name for s in labeled.species], tmp_path / "merged")
    for entry in whole.entries:  # the first tomogram as it is, nothing in the second
        mask = np.asarray(read_volume(entry.labels).data).astype(np.uint8) * (entry.name == "t0")
        write_labels(tmp_path / "out" / "labels" / f"{entry.tomogram.stem}.mrc", LabelMap(mask, 10.0))
    first, second = whole.entries

    def f1(*some):
        return localization(some, tmp_path / "centres", tmp_path / "out", whole.species)

    assert f1(first) == 1
    assert f1(second) == 0
    assert f1(first, second) == pytest.approx(2 / 3, abs=1e-4)  # half of the objects, no false alarm


def test_the_tomograms_of_others_have_nine_classes(shared_data):
    dataset = sim_deepfinder(shared_data / "sim_deepfinder")
    assert [e.name for e in dataset.entries] == [f"tomo{n}_f16" for n in (1, 2, 3, 4)]
    assert [s.label for s in dataset.species] == list(range(1, 10))
    assert dataset.voxel_size == 10
    assert all(e.labels.exists() for e in dataset.entries)


def test_recall_grows_with_the_candidates():
    true = Particles.of([[0, 0, 0], [0, 0, 1000], [0, 0, 2000], [0, 0, 3000]], "r")
    candidates = Particles.of(
        [[0, 0, MATCH_DISTANCE - 1], [0, 0, 500], [0, 500, 0], [0, 0, 1001 + MATCH_DISTANCE], [0, 0, 2000],
         [0, 0, 3000]],
        "r", scores=[0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
    )  # fmt: skip
    assert recalls(candidates, true) == {
        "recall_1x": 0.25, "recall_2x": 0.75, "recall_3x": 0.75, "recall_4x": 0.75, "recall_3x_4x": 0.75,
    }  # fmt: skip


def test_a_perfect_detector_is_capped_where_a_third_is_picked():
    ribosomes = [[0, 0, 1000.0 * i] for i in range(30)]
    order = np.random.default_rng(0).random(30)
    table = recalls(Particles.of(ribosomes, "r", order), Particles.of(ribosomes[::3], "r"))
    assert table["recall_1x"] < 0.7
    assert table["recall_3x"] == table["recall_4x"] == table["recall_3x_4x"] == 1


def test_balls_of_a_mask_are_candidates_at_their_middles():
    z, y, x = np.ogrid[:24, :24, :24]
    data = sum(
        value * ((z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2 <= 16)
        for value, (a, b, c) in ((0.9, (8, 8, 8)), (0.6, (15, 16, 15)))
    )
    species = (Species(name="r", label=1, radius=125.0),)
    peaks = find_peaks(ScoreMap(data[None].astype(np.float32), 31.25, species, kind="mask"))
    assert np.abs(peaks.positions[:2] / 31.25 - [[8, 8, 8], [15, 16, 15]]).max() < 0.6
    assert peaks.scores[0] > peaks.scores[1]


def test_what_is_tested_is_not_learned_from(tmp_path):
    path = tmp_path / "t.mrc"
    write_volume(path, Volume(np.arange(4 * 16 * 4, dtype=np.float32).reshape(4, 16, 4), 10.0))
    picks = Particles.of([[10, 10.0 * y, 10] for y in (0, 9, 9.4, 9.6, 10, 15)], "ribosome-80s")
    real = RealTomogram(path, picks)
    assert real.cut == 10
    assert [len(real.part(above=True)), len(real.part(above=False))] == [3, 3]
    write_split(tmp_path, real)
    assert read_volume(tmp_path / "target" / "part.mrc").shape == (4, 10, 4)
    (entry,) = dataset_files.read(tmp_path / "labelled").entries
    assert entry.box.y == (0, 10)
    again = read_split(tmp_path)
    assert (again.cut, len(again.picks), again.dark) == (10, 6, True)
    assert_array_equal(np.sort(again.picks.positions[:, 1]), np.sort(picks.positions[:, 1]))
    assert len(read_split(tmp_path).part(above=True)) == 3


def test_picks_of_the_real_tomogram_are_taken_once(shared_data):
    folder = shared_data / "real_tomograms"
    picks = read_unique_picks(folder / "tomo_171_xlow_80S_angstrom.csv")
    real = RealTomogram(folder / "tomo_171_xlow_31.36A.mrc.gz", picks)
    assert len(picks) == 127
    assert real.cut == 160
    assert len(real.part(above=True)) + len(real.part(above=False)) == 127


def test_cubes_are_chosen_in_order():
    some = subset(cubes(4), np.array([2, 0]))
    assert some.images[:, 0, 0, 0].tolist() == [2, 0]
    assert some.masks.sum(axis=(1, 2, 3)).tolist() == [3, 1]
    assert len(some.particles) == 2
