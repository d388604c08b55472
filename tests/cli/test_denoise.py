import json

import numpy as np
import pytest

from cryovox.formats import read_volume


@pytest.fixture
def ask(cli, tmp_path):
    return lambda *args: cli("denoise", *args, "--out", tmp_path / "out", "--device", "cpu", "--quiet")


@pytest.mark.parametrize("method", ["ibf", "bf", "ngm"])
def test_denoised_tomograms_are_files_that_tell_what_was_removed(ask, tomogram, tmp_path, method):
    answer = ask(tomogram, "--method", method, "--json", tmp_path / "done.json")
    assert answer.code == 0, answer.err
    (row,) = json.loads((tmp_path / "done.json").read_text())
    denoised, original = read_volume(row["file"]), read_volume(tomogram)
    removed = np.std(np.asarray(denoised.data) - np.asarray(original.data)) / np.std(original.data)
    assert row["removed"] == pytest.approx(removed, abs=1e-3)
    assert f"{row['removed']:.3f}" in answer.out
    assert denoised.voxel_size == original.voxel_size


def test_settings_reach_the_filter(ask, tomogram, tmp_path):
    removed = []
    for args in ((), ("--sigma-r", 0.1), ("--method", "ngm"), ("--method", "ngm", "--cube", 0.2)):
        assert ask(tomogram, *args, "--json", tmp_path / "done.json").code == 0
        removed.append(json.loads((tmp_path / "done.json").read_text())[0]["removed"])
    assert removed[1] < removed[0]
    assert removed[3] > removed[2]


def test_a_broken_tomogram_does_not_keep_the_others_from_being_done(ask, tomogram, tmp_path):
    (tmp_path / "broken.mrc").write_text("broken\n" * 300)
    answer = ask(tomogram, tmp_path / "broken.mrc")
    assert answer.code == 1
    assert "failed: broken: is not an MRC file" in answer.err
    assert (tmp_path / "out" / "denoised" / "phantom_03.mrc").exists()


def test_what_cannot_be_is_refused(ask, tomogram, tmp_path):
    ask(tmp_path / "none.mrc").refused("no such file")
    assert ask(tomogram, "--sigma-r", 0).code == 2
    assert ask(tomogram, "--method", "median").code == 2
    assert not (tmp_path / "out").exists()
