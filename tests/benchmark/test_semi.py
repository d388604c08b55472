import numpy as np
import pytest

from cryovox.benchmark import real_tomogram
from cryovox.benchmark.real_tomogram import RealTomogram
from cryovox.benchmark.semi import labels as drawing
from cryovox.benchmark.semi import methods as rows
from cryovox.benchmark.semi import scores as scoring
from cryovox.benchmark.semi import suite as semi
from cryovox.benchmark.semi.labels import labeled, read_picks
from cryovox.benchmark.semi.methods import semi_methods, variants
from cryovox.benchmark.suite import Job
from cryovox.benchmark.training import job_settings, shared_settings
from cryovox.core.dataset import Entry
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap, Volume
from cryovox.data.targets import ball_labels
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_volume, write_particles, write_volume
from cryovox.formats import scores as score_files
from cryovox.simulate.phantom import PhantomConfig
from cryovox.workflows.config import train_config
from cryovox.workflows.simulation.phantoms import write_phantoms


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    config = PhantomConfig(shape=(24, 48, 64), count=10)
    folder = write_phantoms(tmp_path_factory.mktemp("data") / "d", config, ("train", "train", "test"), 0)
    return dataset_files.read(folder)


def picks(data):
    return [read_picks(e) for e in data.entries if e.particles is not None]


def test_all_and_one_tomogram(dataset, tmp_path):
    whole = labeled(dataset, "all", tmp_path)
    assert [e.particles is not None for e in whole.entries] == [True, True]
    assert all(e.labels is None and e.exhaustive is True for e in whole.entries)
    one = labeled(dataset, "one tomogram", tmp_path)
    assert [e.particles is not None for e in one.entries] == [True, False]


@pytest.mark.parametrize(("labels", "total"), [("5 picks", 5), ("2 picks", 2)])
def test_so_many_picks_as_evenly_as_can_be(dataset, tmp_path, labels, total):
    few = picks(labeled(dataset, labels, tmp_path))
    names = np.concatenate([p.species for p in few])
    assert len(names) == total
    counts = [int((names == s.name).sum()) for s in dataset.species]
    assert max(counts) - min(counts) <= 1


def test_a_share_is_one_at_least_and_taken_of_each_species(dataset, tmp_path):
    all_names = np.concatenate([p.species for p in picks(labeled(dataset, "all", tmp_path))])
    for labels, share in (("1 %", 0.01), ("50 %", 0.5)):
        names = np.concatenate([p.species for p in picks(labeled(dataset, labels, tmp_path / labels))])
        for kind in dataset.species:
            there = int((all_names == kind.name).sum())
            assert int((names == kind.name).sum()) == max(1, round(share * there))


def test_what_is_left_out_is_unknown_and_the_same_each_time(dataset, tmp_path):
    first, again = (labeled(dataset, "3 picks", tmp_path / name) for name in "ab")
    for entry in first.entries:
        assert entry.exhaustive == (entry.particles is None)  # without picks: an unlabeled tomogram
    for a, b in zip(picks(first), picks(again), strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)


def test_the_seed_draws_tomograms_and_picks(dataset, tmp_path):
    train = [e.name for e in dataset.split("train")]
    drawn = [[e.name for e in drawing.drawn_tomograms(dataset, seed, 1).entries] for seed in range(3)]
    assert drawn == [[train[0]], [train[1]], [train[0]]]
    first, other = (
        np.concatenate([p.positions for p in picks(labeled(dataset, "6 picks", tmp_path / str(seed), seed))])
        for seed in (0, 1)
    )
    assert first.shape == other.shape
    assert not np.isclose(first, other).all()
    whole = [labeled(dataset, "one tomogram", tmp_path, seed).entries for seed in (0, 1)]
    assert [[e.particles is not None for e in entries] for entries in whole] == [[True, False], [False, True]]


def test_membranes_and_gold_are_no_species(dataset, tmp_path):
    kept = drawing.named_species(dataset, [dataset.species[0].name], tmp_path)
    assert [s.name for s in kept.species] == [dataset.species[0].name]
    assert all(set(p.species) == {dataset.species[0].name} for p in picks(kept))
    assert all(e.labels is None for e in kept.entries)


def test_the_phantom_is_noisy_and_holds_membranes_and_gold():
    config = semi.phantom(semi.SCALES["cpu"])
    assert 0.05 <= config.snr <= 0.15
    assert 40 <= config.tilts.range[1] <= 45
    assert config.scene.vesicles.count
    assert config.scene.fiducials.count
    assert semi.SCALES["cpu"].n_test >= 4


def test_lists_with_errors_do_not_claim_to_be_complete(dataset, tmp_path):
    whole, wrong = picks(labeled(dataset, "all", tmp_path)), "all, 30 % missing, 20 % shifted"
    radii = {s.name: s.radius for s in dataset.species}
    few = labeled(dataset, wrong, tmp_path / "wrong")
    right = labeled(dataset, "all, none wrong", tmp_path / "right")
    assert all(e.exhaustive is False for e in (*few.entries, *right.entries))
    for true, kept in zip(whole, picks(right), strict=True):
        np.testing.assert_allclose(kept.positions, true.positions, atol=1e-2)
    for true, kept in zip(whole, picks(few), strict=True):
        assert len(kept) == len(true) - round(0.3 * len(true))
        away = np.linalg.norm(kept.positions[:, None] - true.positions, axis=2)
        nearest = away.argmin(1)
        same = away[np.arange(len(kept)), nearest] < 1e-2
        assert (~same).sum() == round(0.2 * len(kept))
        for i in np.flatnonzero(~same):
            own = [k for k in range(len(true)) if true.species[k] == kept.species[i]]
            half = radii[str(kept.species[i])] / 2
            assert min(away[i, own]) <= half + 1e-2  # less at a border


def test_one_kind_of_error_alone(dataset, tmp_path):
    (true, *_), (missing, *_), (shifted, *_) = (
        picks(labeled(dataset, labels, tmp_path / labels))
        for labels in ("all", "all, 30 % missing", "all, 20 % shifted")
    )
    assert {tuple(row) for row in missing.positions.round(1)} < {tuple(r) for r in true.positions.round(1)}
    assert len(shifted) == len(true)


@pytest.mark.parametrize("row", [*semi_methods("s"), *variants("s")], ids=lambda row: row.name)
def test_rows_are_trainings_that_exist(row):
    job = Job(row, semi.SEMI.plan("cpu").budgets[0], 0)
    config = job_settings(
        job,
        shared_settings("cpu") | rows.ALL_METHODS | dict(row.own),
        kind=train_config(row.strategy),
    )
    assert config.strategy == row.strategy
    assert config.supervised.drop_block > 0


def test_scores_of_perfect_picks_and_of_half_of_them(dataset, tmp_path, monkeypatch):
    (entry,) = dataset.split("test")
    true = read_picks(entry)
    current = {"picks": true}

    def find(tomograms, model, out, lamella, device):
        assert not lamella
        return {entry.tomogram.stem: current["picks"]}, {}

    monkeypatch.setattr("cryovox.workflows.find.find", find)
    maps = ScoreMap(np.zeros((len(dataset.species), 2, 2, 2)), 10.0, dataset.species, kind="heatmap")
    monkeypatch.setattr(scoring, "read_scores", lambda e, out: maps)
    monkeypatch.setattr(
        scoring, "pick_candidates", lambda name, scores, level: scoring.in_tomogram(scored, name)
    )
    scored = Particles.of(true.positions, true.species.tolist(), np.linspace(1, 0.5, len(true)))
    perfect = scoring.score(dataset, tmp_path, tmp_path, "cpu")
    species = {str(n) for n in true.species}
    each = {f"{m}/{n}" for m in ("f1", "average_precision", "f_beta4") for n in species}
    single = {f"{m} in {entry.name}" for m in ("f1", "average_precision")}
    assert set(perfect) == {"f1", "average_precision", "best_f1", "f_beta4"} | each | single
    assert set(perfect.values()) == {1.0}
    current["picks"] = true.take(np.arange(0, len(true), 2))
    half = scoring.score(dataset, tmp_path, tmp_path, "cpu")
    assert 0 < half["f_beta4"] < half["f1"] < 1
    assert half["best_f1"] == half["average_precision"] == 1


def test_the_floor_finds_big_particles_and_is_told_how_many(dataset):
    blobs = scoring.dog_baseline(dataset)
    (entry,) = dataset.split("test")
    true = read_picks(entry)
    assert {n: int((blobs.species == n).sum()) for n in np.unique(true.species)} == {
        n: int((true.species == n).sum()) for n in np.unique(true.species)
    }
    near = np.linalg.norm(true.positions[:, None] - blobs.positions, axis=2).min(1)
    assert (near < min(s.radius for s in dataset.species) / 2).mean() > 0.3  # by chance there is next to none


def test_the_risk_is_told_how_many_are_hidden(dataset, tmp_path):
    """Of 14 hidden ones a patch shows as many as it takes up of the tomograms; seven of ten hold a pick."""
    few = labeled(dataset, "6 picks", tmp_path / "6 picks")
    complete = labeled(dataset, "all", tmp_path / "all")
    total = sum(len(p) for p in picks(complete))
    picked = [e for e in few.entries if e.particles is not None]
    (ratio,) = drawing.unlabeled_particles(picked, complete).values()
    assert ratio == pytest.approx((total - 6) * min(1, 48**3 / (2 * 24 * 48 * 64)) / 0.7, abs=1e-3)


def test_candidates_reach_further_down_than_picks_and_oust_none_of_another_species(tmp_path):
    data = np.zeros((2, 16, 16, 16), np.float32)
    data[0, 4, 4, 4], data[0, 11, 11, 11] = 0.9, 0.1
    data[1, 4, 4, 5] = 0.3
    kinds = tuple(Species(name=n, label=i, radius=30.0) for i, n in enumerate(("ball", "shell"), start=1))
    scores = ScoreMap(data, 10.0, kinds, kind="heatmap")
    score_files.write(tmp_path / "scores" / "t.zarr", scores)
    entry = Entry(name="t", tomogram=tmp_path / "t.mrc")
    picked = scoring.pick_candidates("t", scoring.read_scores(entry, tmp_path), scoring.LEVELS[0])
    assert sorted(picked.species) == ["ball", "ball", "shell"]


def test_regions_that_merge_at_a_low_score_count_at_a_higher_one(dataset, tmp_path, monkeypatch):
    """A mask is faint everywhere: one region at the lowest level, every particle by itself above it."""
    (entry,) = dataset.split("test")
    true, shape = read_picks(entry), read_volume(entry.tomogram).shape
    data = np.full((len(dataset.species), *shape), 0.1, np.float32)
    for channel, kind in enumerate(dataset.species):
        places = true.named(kind.name).positions / dataset.voxel_size
        small = [kind.radius / 2 / dataset.voxel_size] * len(places)
        data[channel][ball_labels(places, [1] * len(places), small, shape) > 0] = 0.9
    scores = ScoreMap(data, dataset.voxel_size, dataset.species, kind="mask")
    monkeypatch.setattr(scoring, "read_scores", lambda e, out: scores)
    monkeypatch.setattr("cryovox.workflows.find.find", lambda *_, **__: ({entry.tomogram.stem: true}, {}))
    assert scoring.score(dataset, tmp_path, tmp_path, "cpu")["best_f1"] == 1
    monkeypatch.setattr(scoring, "LEVELS", scoring.LEVELS[:1])
    assert scoring.score(dataset, tmp_path, tmp_path, "cpu")["best_f1"] <= 0.5


def test_tests_without_picks_or_with_one_name_are_refused(dataset, tmp_path):
    (test,) = dataset.split("test")
    semi.check_user_data(tmp_path, dataset)
    bare = dataset.model_copy(update={"entries": (test.model_copy(update={"particles": None}),)})
    with pytest.raises(RequestError, match="no particle list"):
        semi.check_user_data(tmp_path, bare)
    volume = read_volume(test.tomogram)
    write_particles(tmp_path / "none.csv", read_picks(test).take(np.arange(0)), tomogram=volume)
    empty = dataset.model_copy(
        update={"entries": (test.model_copy(update={"particles": tmp_path / "none.csv"}),)}
    )
    with pytest.raises(RequestError, match="no particles in its test entries"):
        semi.check_user_data(tmp_path, empty)
    twice = dataset.model_copy(update={"entries": (test, test.model_copy(update={"name": "b"}))})
    with pytest.raises(RequestError, match="several tomograms"):
        semi.check_user_data(tmp_path, twice)


def test_few_picks_of_a_real_tomogram(tmp_path, monkeypatch):
    """Picks come from below the cut alone, more of them hold the fewer, and the rest is unknown."""
    rng = np.random.default_rng(0)
    write_volume(tmp_path / "t.mrc", Volume(rng.random((8, 32, 16), dtype=np.float32), 30.0))
    places = 30.0 * rng.uniform(0, (7, 31, 15), (60, 3))
    real = RealTomogram(tmp_path / "t.mrc", Particles.of(places, real_tomogram.RIBOSOME))
    monkeypatch.setattr(real_tomogram, "load_or_simulate", lambda *_: (real, "made"))
    facts = real_tomogram.SEMI.prepare(tmp_path / "data", "cpu", None)
    below = real.part(above=False)
    assert facts["labels"] == {"10 picks": 10, "30 picks": min(30, len(below)), "64 picks": len(below)}
    assert facts["tested"] == 60 - len(below)
    known = []
    for labels in semi.label_amounts(tmp_path / "data"):
        few = real_tomogram.SEMI.draw(tmp_path / "data", labels, 0, tmp_path / labels)
        (entry,) = few.entries
        assert entry.exhaustive is False
        assert entry.box.bounds((8, 32, 16))[1] == (0, real.cut)
        known.append({tuple(p) for p in read_picks(entry).positions.round(1)})
    assert known[0] < known[1] <= known[2] == {tuple(p) for p in below.positions.round(1)}
    (other,) = real_tomogram.SEMI.draw(tmp_path / "data", "10 picks", 1, tmp_path / "other").entries
    assert {tuple(p) for p in read_picks(other).positions.round(1)} != known[0]
    (entry,) = real_tomogram.SEMI.draw(tmp_path / "data", "10 picks", 0, tmp_path / "again").entries
    complete = real_tomogram.SEMI.complete(tmp_path / "data", 0)
    (hidden,) = drawing.unlabeled_particles([entry], complete).values()
    assert hidden == pytest.approx((len(below) - 10) / 0.7, abs=1e-3)  # a patch shows all of so small a part
    references = real_tomogram.SEMI.references(tmp_path / "data")
    assert all(set(rows) == set(facts["labels"]) for rows in references.values())


def test_hours_count_a_training_for_every_amount():
    plan = semi.OTHER_AMOUNTS.plan("cpu")
    assert plan.models_per_job == 2
    assert plan.hours(2) == pytest.approx(len(plan.methods) * 3 * 2 * 20 / 60 / 2)


def test_tomograms_that_nobody_picked_stay_unlabeled(dataset, tmp_path):
    first, *others = dataset.entries
    mine = dataset.model_copy(update={"entries": (first, *map(drawing.without_picks, others))})
    for labels in ("1 %", "all", "one tomogram"):
        kept = labeled(mine, labels, tmp_path).entries
        assert [e.name for e in kept if e.particles is None] == [e.name for e in mine.split("train")[1:]]


def test_the_floor_looks_for_blobs_of_the_right_sign(dataset):
    (test,) = dataset.split("test")
    volume = read_volume(test.tomogram)
    turned = tmp = test.tomogram.with_name("bright.mrc")
    write_volume(turned, Volume(-np.asarray(volume.data), volume.voxel_size))
    bright = test.model_copy(update={"tomogram": tmp, "contrast": "bright"})
    both = [scoring.dog_baseline(dataset.model_copy(update={"entries": (e,)})) for e in (test, bright)]
    np.testing.assert_allclose(both[0].positions, both[1].positions)


def test_species_that_weigh_nothing_are_scored_alike(dataset, tmp_path):
    (test,) = dataset.split("test")
    picks = read_picks(test)
    path = tmp_path / "p.csv"
    write_particles(path, Particles.of(picks.positions, "beta-amylase"))
    kind = Species(name="beta-amylase", label=1, radius=70.0)
    only = dataset.model_copy(
        update={"species": (kind,), "entries": (test.model_copy(update={"particles": path}),)}
    )
    true = semi.true_particles(only)
    assert scoring.species_scores(true, [true], only)["f1"] == 1.0
