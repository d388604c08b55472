"""`--backend openvino` finds what torch finds."""

import json
import os

import numpy as np
import pytest

from cryovox.formats import scores

pytestmark = pytest.mark.skipif(
    "CRYOVOX_OPENVINO_TESTS" not in os.environ, reason="runs within tests/inference/test_openvino.py"
)


def test_picks_and_scores_agree(cli, tomogram, model, tmp_path):
    tables = {}
    for backend in ("torch", "openvino"):
        out, counts = tmp_path / backend, tmp_path / f"{backend}.json"
        answer = cli(
            "find", tomogram, "--model", model, "--out", out, "--device", "cpu", "--quiet",
            "--backend", backend, "--max-ram", "4G", "--json", counts,
        )  # fmt: skip
        assert answer.code == 0, answer.err
        tables[backend] = json.loads(counts.read_text())
    maps = [np.asarray(scores.read(tmp_path / b / "scores" / "phantom_03.zarr").data) for b in tables]
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-3)
    assert [row["particles"] for row in tables["torch"]] == [row["particles"] for row in tables["openvino"]]
    entries = [json.loads((tmp_path / b / "manifest.json").read_text())["entries"] for b in tables]
    keys = [own["phantom_03"]["key"]["settings"] for own in entries]
    assert "backend" not in keys[0]  # as in earlier versions
    assert keys[1]["backend"] == "openvino"


@pytest.mark.parametrize("command", ["find", "segment"])
def test_it_has_no_surroundings(cli, tomogram, tmp_path, command):
    answer = cli(
        command, tomogram, "--model", "embedded", "--out", tmp_path / "out", "--device", "cpu",
        "--backend", "openvino", "--surroundings",
    )  # fmt: skip
    answer.refused("--surroundings", "torch")
