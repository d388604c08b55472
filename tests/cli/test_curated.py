"""`find --curated`: decisions of a person recalibrate a model for these tomograms."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cryovox.core.dataset import Dataset, Entry
from cryovox.core.particles import Species, concatenate
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_particles, read_volume, write_particles, write_volume
from cryovox.metrics.matching import greedy
from cryovox.models.card import read_card
from cryovox.models.checkpoint import load_model, save_model
from cryovox.picking.rated import PROBABILITY

NAME = "phantom_03"
pytestmark = pytest.mark.usefixtures("without_page")


@pytest.fixture
def without_page(monkeypatch):
    monkeypatch.setattr("cryovox.workflows.find.write_report", lambda *args: None)


@pytest.fixture
def find(cli, tomogram, model, tmp_path):
    def call(*args, model=model, code=0):
        out = tmp_path / "out"
        options = ("--model", model, "--out", out, "--device", "cpu", "--quiet", "--noise-control", 0)
        answer = cli("find", tomogram, *options, *args)
        if code:
            return answer
        assert answer.code == 0, answer.err
        picks = read_particles(out / "particles" / f"{NAME}.star", tomogram=read_volume(tomogram))
        entry = json.loads((out / "manifest.json").read_text())["entries"][NAME]
        return picks, entry["particles"], answer

    return call


@pytest.fixture
def truth(phantoms):
    dataset = dataset_files.read(phantoms)
    entry = next(entry for entry in dataset.entries if entry.name == NAME)
    return dataset_files.load_annotations(entry, dataset)[1]


def decide(picks, truth, radius):
    """1 at particles, 0 elsewhere, as a person who knows the truth decides."""
    kept = np.zeros(len(picks), int)
    for name in np.unique(picks.species):
        own = np.flatnonzero(picks.species == name)
        pairs = greedy(picks.positions[own], truth.named(name).positions, radius[name], picks.scores[own])
        kept[own[pairs.predicted]] = 1
    return kept


def written(path, picks, kept, tomogram, **more):
    """A list with the column `keep`."""
    listed = replace(picks, extra={"keep": np.array(kept, str)}, **more)
    write_particles(path, listed, tomogram=read_volume(tomogram), tomogram_name=NAME)
    return path


def mean(picks, which):
    return picks.extra[PROBABILITY].astype(float)[which].mean()


def test_decisions_recalibrate_probabilities_and_thresholds(find, truth, model, tomogram, tmp_path):
    plain, _, _ = find("--threshold", 0.05, "--keep-dense")
    radius = {s.name: s.radius for s in read_card(model).species}
    kept = decide(plain, truth, radius)
    file = written(tmp_path / "curated.star", plain, kept, tomogram)
    curated, record, answer = find("--threshold", 0.05, "--keep-dense", "--curated", file)
    assert "note: phantom_03: curated picks: probabilities and thresholds follow your decisions" in answer.err
    assert len(curated) == len(plain)
    for name in np.unique(plain.species):
        own, now = plain.species == name, curated.species == name
        share = kept[own].mean()
        assert abs(mean(curated, now) - share) <= abs(mean(plain, own) - share) + 1e-3
        if own.sum() >= 30:
            assert mean(curated, now) == pytest.approx(share, abs=0.1)
    assert any(finding[1] == "curated picks" for finding in record["findings"])
    # the same picks, all rejected or all kept, move the thresholds apart
    counts = {}
    for decision in (0, 1):
        file = written(tmp_path / f"{decision}.csv", plain, [decision] * len(plain), tomogram)
        for rule in ((), ("--for", "counting"), ("--fdr", 0.3)):
            picks, record, answer = find("--keep-dense", "--curated", file, *rule)
            counts[decision, rule[:1]] = len(picks)
    assert "picks with an expected rate of at most 0.3 are kept, by calibrated probabilities" in str(
        record["findings"]
    )
    for rule in ((), ("--for",), ("--fdr",)):
        assert counts[0, rule] < counts[1, rule]


def test_decisions_that_contradict_or_repeat_others(find, tomogram, tmp_path):
    picks, _, _ = find("--threshold", 0.05, "--keep-dense")
    decisions = [1, 0] * (len(picks) // 2) + [1] * (len(picks) % 2)
    first = written(tmp_path / "first.csv", picks, decisions, tomogram)
    second = written(tmp_path / "second.csv", picks, [1 - d for d in decisions], tomogram)
    find("--curated", first, second, code=2).refused(
        "--curated", f"{len(picks)} picks are both kept and rejected"
    )
    once, _, _ = find("--curated", first)
    twice, _, repeated = find("--curated", first, first)
    assert "at no candidate" not in repeated.err
    assert len(once) == len(twice)


def test_where_the_tomogram_with_decisions_fails_the_reason_is_shown(find, cli, model, tomogram, tmp_path):
    picks, _, _ = find("--threshold", 0.05, "--keep-dense")
    file = written(tmp_path / "list.csv", picks, [1] * len(picks), tomogram)
    volume = read_volume(tomogram)
    data = np.array(volume.data, np.float32)
    data[20:30, 20:30, 20:30] = np.nan
    spoiled = tmp_path / "spoiled" / f"{NAME}.mrc"
    spoiled.parent.mkdir()
    write_volume(spoiled, volume.with_data(data))
    other = tmp_path / "other.mrc"
    write_volume(other, volume)
    answer = cli("find", spoiled, other, "--model", model, "--out", tmp_path / "new", "--device", "cpu",
                 "--noise-control", 0, "--curated", file)  # fmt: skip
    assert answer.code == 1
    assert "no tomogram with decisions could be searched" in answer.err
    assert "NaN" in answer.err


def test_decisions_on_species_that_are_not_picked_are_named(find, tomogram, tmp_path):
    picks, _, _ = find("--threshold", 0.05, "--keep-dense")
    names = picks.species.astype(object)
    names[: len(names) // 2] = "other"
    file = written(tmp_path / "list.csv", picks, [1] * len(picks), tomogram, species=names.astype(str))
    _, _, answer = find("--curated", file)
    assert "decisions on other, which is not picked under this name, are not used" in answer.err
    assert "at no candidate" not in answer.err


def test_a_model_without_calibration_learns_one_from_decisions(find, model, tomogram, tmp_path):
    network, card = load_model(model)
    plain = tmp_path / "plain.safetensors"
    save_model(plain, network, card.model_copy(update={"calibration": None, "calibration_domain": None}))
    picks, _, _ = find("--threshold", 0.05, model=plain)
    assert PROBABILITY not in picks.extra
    find("--for", "counting", model=plain, code=2).refused("--for", "--curated")
    file = written(
        tmp_path / "list.star", picks, [1, 0] * (len(picks) // 2) + [1] * (len(picks) % 2), tomogram
    )
    curated, _, _ = find("--for", "counting", "--curated", file, model=plain)
    assert len(curated)
    assert PROBABILITY in curated.extra


def test_lists_that_do_not_fit_are_refused(find, cli, phantoms, model, tomogram, tmp_path):
    picks, _, _ = find("--threshold", 0.05)
    volume = read_volume(tomogram)
    without = tmp_path / "without.csv"
    write_particles(without, replace(picks, extra={}), tomogram=volume)
    find("--curated", without, code=2).refused(without, "no column `keep`", "add a column")
    bad = written(tmp_path / "bad.csv", picks, ["maybe"] * len(picks), tomogram)
    find("--curated", bad, code=2).refused(bad, "'maybe'", "1 or yes")
    undecided = written(tmp_path / "undecided.csv", picks, [""] * len(picks), tomogram)
    find("--curated", undecided, code=2).refused("no pick is kept or rejected")
    kept = [1] * len(picks)
    other = written(tmp_path / "o.csv", picks, kept, tomogram, tomograms=np.full(len(picks), "TS_99"))
    find("--curated", other, code=2).refused("--curated", "phantom_03", other)
    kinds = written(tmp_path / "k.csv", picks, kept, tomogram, species=np.full(len(picks), "virus"))
    find("--curated", kinds, code=2).refused("virus", "name the species")
    far = written(tmp_path / "far.csv", picks, kept, tomogram, positions=picks.positions - 1e5)
    find("--curated", far, code=2).refused(f"none of {len(picks)} decisions", "cryovox doctor")
    find("--curated", tomogram, code=2).refused(tomogram, "no particle list")
    find("--curated", tmp_path / "gone.csv", code=2).refused("gone.csv")
    several = ("find", phantoms / "tomograms", "--model", model, "--out", tmp_path / "new", "--quiet")
    unnamed = tmp_path / "unnamed.csv"
    unnamed.write_text("x,y,z,keep\n10,10,10,1\n", encoding="utf-8")
    cli(*several, "--curated", unnamed).refused("names no tomogram", "rlnTomoName")
    assert not (tmp_path / "new").exists()


def test_a_list_without_species_is_of_the_nearest_candidates(find, tomogram, tmp_path):
    picks, _, _ = find("--threshold", 0.05)
    rows = "\n".join(f"{x:.1f},{y:.1f},{z:.1f},no" for z, y, x in picks.positions)
    file = tmp_path / "plain.csv"
    file.write_text(f"x,y,z,keep\n{rows}\n", encoding="utf-8")
    _, record, answer = find("--curated", file)
    assert "0 kept" in answer.err
    assert len(record["expected"]) >= 1


def test_a_dataset_trains_on_kept_picks_and_against_rejected_ones(phantoms, tomogram, truth, tmp_path):
    kept = np.arange(len(truth)) % 3
    cells = np.array(["1", "0", ""])[kept]
    file = written(tmp_path / "list.star", truth, cells, tomogram)
    species = list(dataset_files.read(phantoms).species)
    entry = Entry(name=NAME, tomogram=tomogram, particles=file, exhaustive=False)
    data = Dataset(voxel_size=read_volume(tomogram).voxel_size, species=tuple(species), entries=(entry,))
    _, picks = dataset_files.load_annotations(entry, data)
    np.testing.assert_allclose(picks.positions, truth.positions[kept == 0], atol=1e-3)
    rejected = Species(name="rejected", label=max(s.label for s in species) + 1, radius=60.0)
    data = data.model_copy(update={"species": (*species, rejected)})
    _, picks = dataset_files.load_annotations(entry, data)
    assert len(picks) == (kept < 2).sum()
    assert (picks.species == "rejected").sum() == (kept == 1).sum()
    assert len(concatenate([picks.named(s.name) for s in species])) == (kept == 0).sum()
