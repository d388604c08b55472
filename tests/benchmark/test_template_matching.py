"""Rows of template matching in the suites: species are found by their structures."""

from dataclasses import replace

import numpy as np
import pytest

from cryovox.benchmark.picking import PICKING
from cryovox.benchmark.template_matching import matches, read_rows, template_of, write_rows
from cryovox.benchmark.tomograms import object_scores, true_particles, without_noise
from cryovox.core.particles import Species
from cryovox.formats import dataset as dataset_files


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("picking")
    PICKING.prepare(folder, "smoke", None)
    return folder


def test_rows_stand_beside_the_other_references(prepared):
    rows = read_rows(prepared)
    assert [name.split(",")[0] for name in rows] == ["TM", "TM-F"]
    for scores in rows.values():
        assert set(scores) == {"ribosomes"}
        assert all(0 <= value <= 1 for value in scores["ribosomes"].values())
    assert rows.items() <= PICKING.references(prepared).items()


def test_rows_of_tomograms_count_species_apart(prepared, tmp_path):
    dataset = dataset_files.read(prepared / "test")
    true = true_particles(dataset)
    true = true.take(np.isin(true.species, ["thyroglobulin", "apo-ferritin", "membrane"]))
    write_rows(tmp_path, dataset, true, "smoke", lambda picks: object_scores(dataset, picks, true))
    for scores in read_rows(tmp_path).values():
        assert set(scores) == {"objects, any class", "objects, mean over classes"}
    assert read_rows(prepared / "elsewhere") == {}


def test_species_are_found_where_they_are(prepared):
    """In a tomogram without noise; the list of the truth names the species that are searched for."""
    dataset = without_noise(dataset_files.read(prepared / "test"))
    true = true_particles(dataset).named("ribosome")
    picks = matches(dataset, true, 60.0, {}, 24)
    assert picks.species.tolist() == ["ribosome"] * len(true)
    assert np.linalg.norm(picks.positions - true.positions, axis=1).max() < 100
    nowhere = replace(true, species=np.array(["membrane"] * len(true)))
    assert matches(dataset, nowhere, 60.0, {}) is None


def test_templates_are_files_or_built_in(tmp_path):
    kind = Species(name="4V94", label=1, radius=80.0)
    assert template_of(kind)[0].name == "4V94"
    assert template_of(Species(name="gold", label=1, radius=80.0)) is None
    file = tmp_path / "map.mrc"
    file.touch()
    assert template_of(kind.model_copy(update={"structure": str(file)})) == (file, "C1")
