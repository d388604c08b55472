"""Tomograms of other voxel sizes than that of the model."""

import numpy as np
import pytest
from scipy import fft, ndimage
from scipy.spatial import KDTree

from cryovox.core.volume import Volume
from cryovox.formats import read_particles, read_volume, scores, write_volume

SAME = 14.0  # Å, of the phantoms and the models


def fourier_zoomed(volume: Volume, factor: int) -> Volume:
    """The volume with voxels that are *factor* times smaller: its spectrum is padded with zeros."""
    spectrum = fft.fftshift(fft.fftn(np.asarray(volume.data, np.float32)))
    pad = [((factor - 1) * n // 2, (factor - 1) * n - (factor - 1) * n // 2) for n in volume.shape]
    fine = fft.ifftn(fft.ifftshift(np.pad(spectrum, pad))).real * factor**3
    return Volume(fine.astype(np.float32), volume.voxel_size / factor)


@pytest.fixture
def pair(tomogram, tmp_path):
    """A tomogram without its highest frequencies, and the same with half the voxel size."""
    volume = read_volume(tomogram)
    smooth = volume.with_data(ndimage.gaussian_filter(np.asarray(volume.data, np.float32), 1.0, mode="wrap"))
    paths = tmp_path / "coarse" / "a.mrc", tmp_path / "fine" / "a.mrc"
    for path, one in zip(paths, (smooth, fourier_zoomed(smooth, 2)), strict=True):
        write_volume(path, one)
    return paths


def test_picks_of_a_tomogram_and_of_its_binned_version_agree(cli, model, pair, tmp_path):
    lists = {}
    for path in pair:
        out = tmp_path / path.parent.name / "out"
        args = ("--model", model, "--out", out, "--device", "cpu", "--quiet", "--contrast", "dark")
        answer = cli("find", path, *args, "--threshold", 0.05, "--keep-dense")
        assert answer.code == 0, answer.err
        assert ("resampled from 7 to 14 Å" in answer.err) == (path.parent.name == "fine")
        lists[path.parent.name] = read_particles(out / "particles" / "a.star", tomogram=read_volume(path))
    coarse, fine = lists["coarse"], lists["fine"]
    assert len(coarse) > 5
    assert abs(len(coarse) - len(fine)) <= 0.1 * len(coarse)
    gap, nearest = KDTree(fine.positions).query(coarse.positions)
    assert np.mean(gap < 0.25 * SAME) > 0.9
    matched = gap < 0.25 * SAME
    np.testing.assert_allclose(coarse.scores[matched], fine.scores[nearest[matched]], atol=0.02)


def test_scores_have_the_grid_of_the_model_and_labels_that_of_the_tomogram(cli, tiny, pair, tmp_path):
    labels = {}
    for path in pair:
        out = tmp_path / path.parent.name / "out"
        args = (
            "--model",
            tiny("voxresnet"),
            "--out",
            out,
            "--device",
            "cpu",
            "--quiet",
            "--contrast",
            "dark",
        )
        assert cli("segment", path, *args).code == 0
        score_map, volume = scores.read(out / "scores" / "a.zarr"), read_volume(path)
        assert score_map.voxel_size == SAME
        assert (score_map.tomogram_shape, score_map.tomogram_voxel_size) == (volume.shape, volume.voxel_size)
        label_map = read_volume(out / "labels" / "a.mrc")
        assert (label_map.shape, label_map.voxel_size) == (volume.shape, volume.voxel_size)
        labels[path.parent.name] = np.asarray(label_map.data)
    assert np.unique(labels["coarse"]).size > 1
    assert np.mean(labels["fine"][::2, ::2, ::2] == labels["coarse"]) > 0.97


def test_a_mask_has_the_grid_of_the_tomogram(cli, model, pair, tmp_path):
    path = pair[1]
    volume = read_volume(path)
    inside = np.zeros(volume.shape, np.int8)
    inside[:, :, : volume.shape[2] // 2] = 1
    write_volume(tmp_path / "mask.mrc", Volume(inside, volume.voxel_size))
    out = tmp_path / "out"
    args = ("--out", out, "--device", "cpu", "--quiet", "--threshold", 0.02, "--mask", tmp_path / "mask.mrc")
    assert cli("find", path, "--model", model, *args).code == 0
    picks = read_particles(out / "particles" / "a.star", tomogram=volume)
    assert len(picks)
    assert picks.positions[:, 2].max() <= volume.shape[2] / 2 * volume.voxel_size
    far = scores.read(out / "scores" / "a.zarr").data[:, :, :, -4:]
    assert not np.any(far)
