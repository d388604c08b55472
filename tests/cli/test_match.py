import json

import numpy as np
import pytest

from cryovox.formats import read_particles, read_volume


@pytest.fixture
def ask(cli, tmp_path):
    out = tmp_path / "out"
    quick = ("--angle", 60, "--contrast", "dark", "--device", "cpu", "--quiet")
    return lambda *args: cli("match", *args, "--out", out, *quick)


def test_particles_with_poses(ask, tomogram, tmp_path):
    answer = ask(
        "ribosome-70s", tomogram, "--json", tmp_path / "done.json", "--threshold", 0.1, "--max-count", 5
    )
    assert answer.code == 0, answer.err
    (row,) = json.loads((tmp_path / "done.json").read_text())
    file = tmp_path / "out" / "particles" / f"{tomogram.stem}.star"
    picks = read_particles(file, tomogram=read_volume(tomogram))
    assert row["particles"] == len(picks) == 5
    assert np.allclose(np.linalg.det(picks.rotations), 1)
    assert "best in noise" in answer.out
    assert f"{row['best_in_noise']:.3f}" in answer.out


def test_a_list_gets_poses(ask, tomogram, tmp_path):
    volume = read_volume(tomogram)
    center = (np.array(volume.shape[::-1]) - 1) / 2 * volume.voxel_size
    (tmp_path / "lists").mkdir()
    rows = "\n".join(",".join(f"{v:.1f}" for v in center + shift) for shift in (0, 40, -60))
    (tmp_path / "lists" / f"{tomogram.stem}.csv").write_text(f"x,y,z\n{rows}\n")
    answer = ask("vlp", tomogram, "--at", tmp_path / "lists", "--symmetry", "I", "--max-shift", 0)
    assert answer.code == 0, answer.err
    assert "median score" in answer.out
    picks = read_particles(tmp_path / "out" / "particles" / f"{tomogram.stem}.star", tomogram=volume)
    assert np.abs(picks.positions[0] - center[::-1]).max() <= 3.01 * volume.voxel_size
    assert np.allclose(np.linalg.det(picks.rotations), 1)
    assert not (tmp_path / "out" / "report.html").exists()


def test_a_dataset_says_how_tomograms_were_recorded(ask, phantoms, tomogram, tmp_path):
    data = {"voxel_size": read_volume(tomogram).voxel_size}
    data["entries"] = [{"name": "a", "tomogram": str(tomogram), "tilt_range": [-50, 40], "tilt_axis": "x"}]
    (tmp_path / "dataset.yaml").write_text(json.dumps(data))
    answer = ask("ribosome-70s", tomogram, "--dataset", tmp_path / "dataset.yaml", "--threshold", 0.1)
    assert answer.code == 0, answer.err
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    imaging = manifest["match"]["entries"][tomogram.stem]["key"]["imaging"]
    assert (imaging["tilt_range"], imaging["tilt_axis"]) == ([-50, 40], "x")


def test_a_broken_tomogram_does_not_stop_the_others(ask, tomogram, tmp_path):
    (tmp_path / "broken.mrc").write_text("broken\n" * 300)
    answer = ask("ribosome-70s", tomogram, tmp_path / "broken.mrc", "--threshold", 0.1)
    assert answer.code == 1
    assert "failed: broken: is not an MRC file" in answer.err
    assert (tmp_path / "out" / "particles" / f"{tomogram.stem}.star").exists()


def test_wrong_requests_are_refused(ask, tomogram, tmp_path):
    ask("ribosome-70s", tmp_path / "none.mrc").refused("no such file")
    ask("ribosme-70s", tomogram).refused("not a species", "ribosome-70s")
    ask(tmp_path / "none.pdb", tomogram).refused("none.pdb", "no such file")
    (tmp_path / "note.txt").write_text("text")
    ask(tmp_path / "note.txt", tomogram).refused("neither a structure nor a map")
    ask("ribosome-70s", tomogram, "--symmetry", "C0").refused("--symmetry")
    ask("ribosome-70s", tomogram, "--defocus", "1e-10").refused("--defocus")
    ask("ribosome-70s", tomogram, "--tilt-range", 60, -60).refused("--tilt-range")
    ask("ribosome-70s", tomogram, "--noise-control", 0).refused("--threshold")
    ask("ribosome-70s", tomogram, "--fdr", 0.1, "--false-positives", 3).refused("--false-positives", "--fdr")
    ask("ribosome-70s", tomogram, "--threads", 0).refused("--threads")
    assert not (tmp_path / "out").exists()
