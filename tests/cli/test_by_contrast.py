"""`find --by-contrast`: the contrast of a tomogram takes part in picks, noise and half tomograms."""

import json

import numpy as np
import pytest
from scipy import ndimage

from cryovox.core.volume import Volume
from cryovox.formats import read_particles, write_volume
from cryovox.workflows.inputs import frame

SHAPE, VOXEL = (40, 60, 72), 12.0


@pytest.fixture
def tomogram(tmp_path):
    """Dark balls of 140 Å radius in noise."""
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    data = ndimage.gaussian_filter(rng.normal(0, 3.0, SHAPE), 0.7)
    for center in ((20, 16, 18), (18, 42, 50), (22, 20, 54)):
        data -= 1.5 * (np.linalg.norm(grid - np.array(center), axis=-1) <= 140 / VOXEL)
    path = tmp_path / "TS_01.mrc"
    write_volume(path, Volume(data.astype(np.float32), VOXEL))
    return path


def find(cli, tomogram, out, *words):
    answer = cli(
        "find", tomogram, "--out", out, "--device", "cpu", "--quiet", "--contrast", "dark",
        "--species", "ribosome=140", *words,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    return answer, read_particles(out / "particles" / "TS_01.star", tomogram=frame(tomogram))


def test_dense_particles_rise(cli, tomogram, tmp_path):
    answer, dense = find(cli, tomogram, tmp_path / "dense", "--by-contrast", "--threshold", "0.05")
    _, plain = find(cli, tomogram, tmp_path / "plain", "--threshold", "0.05")
    assert "no threshold is calibrated" not in answer.err  # one is given
    options = ("--out", tmp_path / "other", "--species", "ribosome=140", "--by-contrast", "--for", "counting")
    cli("find", tomogram, *options).refused("--for", "--by-contrast are not calibrated")
    best = np.linalg.norm(dense.sorted().positions[0] - VOXEL * np.array((20, 16, 18)))
    others = [VOXEL * np.array(c) for c in ((18, 42, 50), (22, 20, 54))]
    assert min(best, *(np.linalg.norm(dense.sorted().positions[0] - o) for o in others)) < 70
    assert len(dense) != len(plain) or not np.allclose(dense.scores, plain.scores)


def test_noise_is_judged_in_the_same_units(cli, tomogram, tmp_path):
    out = tmp_path / "out"
    answer, _ = find(cli, tomogram, out, "--by-contrast", "--noise-control", "1")
    assert "0.5 is used" in answer.err
    entry = json.loads((out / "manifest.json").read_text())["entries"]["TS_01"]
    assert entry["particles"]["by_contrast"]
    assert entry["noise"]["key"]["picking"]["by_contrast"]
    noise = entry["particles"]["expected"]["ribosome"]["noise"]
    assert noise["decoys"] <= 1  # three standard deviations are rare in noise of this power
    stored = out / "contrast" / "TS_01.npz"
    before = stored.stat().st_mtime_ns
    find(cli, tomogram, out, "--by-contrast", "--noise-control", "1", "--threshold", "0.2")
    assert stored.stat().st_mtime_ns == before  # measured once
    find(cli, tomogram, out, "--by-contrast", "--species", "ribosome=120")
    assert stored.stat().st_mtime_ns != before  # another radius


def test_half_tomograms_and_rates_have_it_too(cli, tomogram, tmp_path):
    out = tmp_path / "out"
    _, picks = find(cli, tomogram, out, "--by-contrast", "--fdr", "0.5", "--halves", tomogram, half(tomogram))
    assert "cryovoxHalves" in picks.extra


def half(tomogram):
    """A second half: the same file under another name."""
    other = tomogram.parent / "odd" / "TS_01.mrc"
    other.parent.mkdir()
    other.write_bytes(tomogram.read_bytes())
    return other


def test_what_has_no_contrast_is_refused(cli, tomogram, phantoms, model, tmp_path):
    out = tmp_path / "out"
    args = ("find", tomogram, "--out", out, "--device", "cpu", "--quiet", "--by-contrast")
    cli(*args).refused("--by-contrast", "--species ribosome=125")
    cli(*args, "--model", model).refused("--by-contrast", "named species")
    labels = phantoms / "labels" / "phantom_03.mrc"
    picks = ("pick", labels, "--out", out, "--dataset", phantoms, "--by-contrast")
    cli(*picks).refused("--by-contrast", "cryovox find")
    assert not out.exists()


def test_names_of_one_radius_and_damaged_files_are_measured_again(cli, tomogram, tmp_path):
    out, words = tmp_path / "out", ("--by-contrast", "--species", "a=140", "b=140", "--threshold", "0.2")
    _, picks = find(cli, tomogram, out, *words)
    for damaged in (out / "contrast" / "TS_01.npz", out / "noise" / "TS_01.json"):
        damaged.write_bytes(damaged.read_bytes()[:100])
    _, again = find(cli, tomogram, out, *words, "--keep-dense")  # picked again, from the stored scores
    np.testing.assert_allclose(again.positions, picks.positions)
    np.testing.assert_allclose(again.scores, picks.scores)
