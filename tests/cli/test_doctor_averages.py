"""`cryovox doctor AVERAGE --reference MAP` tells hand and contrast."""

import json

import numpy as np
import pytest

from cryovox.core.volume import Volume
from cryovox.formats import read_volume, write_volume
from cryovox.metrics.average_relation import AverageRelation
from cryovox.workflows import average_checks


def test_a_mirrored_and_inverted_ribosome(cli, shared_data, tmp_path):
    """Averages of two species by two groups, at different voxel sizes."""
    folder, changed = shared_data / "averages_more", tmp_path / "changed.mrc"
    true = read_volume(folder / "tomoguide_cytoribo.mrc.gz")
    write_volume(changed, true.with_data(-np.asarray(true.data)[:, :, ::-1]))
    reference = ("--reference", folder / "ribo80s_emd3883_64.mrc.gz")
    answer = cli("doctor", changed, *reference, "--json", tmp_path / "f.json")
    assert answer.code == 0, answer.err
    (rows,) = json.loads((tmp_path / "f.json").read_text()).values()
    findings = {row["what"]: row for row in rows}
    assert findings["average contrast"]["level"] == findings["average hand"]["level"] == "error"
    assert "--invert" in findings["average contrast"]["remedy"]
    assert "--flip-z" in findings["average hand"]["remedy"]
    assert "correlation 0.8" in findings["average hand"]["found"]


@pytest.mark.parametrize(
    ("correlations", "levels"),
    [
        ((0.9, 0.2, 0.8, 0.1), {"same structure": "ok", "average contrast": "ok", "average hand": "ok"}),
        ((0.9, 0.2, 0.89, 0.1), {"same structure": "ok", "average contrast": "ok", "average hand": "note"}),
        ((0.3, 0.2, 0.8, 0.1), {"same structure": "ok", "average contrast": "ok", "average hand": "error"}),
        ((0.3, 0.2, 0.3, 0.2), {"same structure": "warning"}),
    ],
)
def test_what_is_told(tmp_path, monkeypatch, correlations, levels):
    keys = ((False, False), (False, True), (True, False), (True, True))
    relation = AverageRelation(dict(zip(keys, correlations, strict=True)))
    monkeypatch.setattr(average_checks, "average_relation", lambda a, b: relation)
    write_volume(tmp_path / "a.mrc", Volume(np.random.default_rng(0).random((8, 8, 8), np.float32), 10.0))
    findings = average_checks.compare_average(tmp_path / "a.mrc", tmp_path / "a.mrc")
    assert {finding.check: finding.level for finding in findings} == levels


def test_references_that_are_refused(cli, tmp_path):
    write_volume(tmp_path / "t.mrc", Volume(np.zeros((4, 4, 600), np.int8) + np.arange(600) % 3, 10.0))
    cli("doctor", "--reference", tmp_path / "t.mrc", "--particles", "a.star").refused("needs an average")
    cli("doctor", tmp_path / "t.mrc", "--reference", tmp_path / "t.mrc").refused("more than an average")
