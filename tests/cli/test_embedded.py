"""The model that comes with the package."""

import json
import subprocess
import sys

import numpy as np

from cryovox.models.card import EMBEDDED, is_embedded, model_file, read_card
from cryovox.workflows.demo import Demo


def test_the_file_is_small_and_says_what_it_is(cli):
    file = model_file(EMBEDDED)
    assert file.stat().st_size < 10e6
    card = read_card(EMBEDDED)
    assert all(species.diameters for species in card.species)
    assert card.calibration is not None
    assert "simulations only" in card.warnings[0]
    assert card.surroundings is not None
    assert [kind.name for kind in card.surroundings.species] == ["membrane", "gold", "empty"]
    assert all(kind.extended for kind in card.surroundings.species)
    assert card.surroundings.thresholds.keys() == {"membrane", "gold", "empty"}
    assert "particle-40-70" in cli("models", "embedded").out


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_embedded(EMBEDDED)
    (tmp_path / "embedded").mkdir()
    assert not is_embedded(EMBEDDED)


def test_demo_finds_nearly_all_particles_of_a_simulation(cli, tmp_path):
    example = Demo(tmp_path / "demo", device="cpu")
    table, page = example.with_embedded_model()
    *species, (_, _, particles, picked) = table.rows
    assert len(species) == 3
    assert picked >= 0.85 * particles
    assert page.exists()
    tomogram = example.out / "dataset" / "tomograms" / "sim_000.mrc"
    counts = tmp_path / "counts.json"
    answer = cli(
        "find", tomogram, "--out", tmp_path / "found", "--species", "ribosome=170", "--device", "cpu",
        "--quiet", "--json", counts,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert "simulations only" in answer.err
    (row,) = json.loads(counts.read_text())[:1]
    assert row["species"] == "ribosome"
    assert 5 <= row["particles"] <= 40


def test_a_training_starts_from_it(cli, phantoms, tmp_path):
    answer = cli(
        "train", "supervised", "--data", phantoms, "--out", tmp_path / "run", "--start", "embedded",
        "--steps", 2, "--options", "{widths: [8, 16, 32, 64]}", "--device", "cpu", "--quiet",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    training = read_card(tmp_path / "run").training
    assert training["start"]["model"] == "embedded.safetensors"
    assert training["start"]["weights_taken"] > 0.9 * training["start"]["weights"]
    assert np.isfinite(training["seconds"])


def test_loading_a_model_does_not_import_the_compiler_of_torch():
    code = (
        "import sys; from cryovox.models.card import EMBEDDED;"
        "from cryovox.models.checkpoint import load_model;"
        "load_model(EMBEDDED); assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
