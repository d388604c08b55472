from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from cryovox.core.volume import Volume
from cryovox.report.volume_checks import name_findings, seam_finding, volume_findings

SHAPE = (48, 80, 112)


@pytest.fixture
def noise():
    values = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 1.0)
    return (values / values.std()).astype(np.float32)


def levels(data, name="tomo.mrc", size=10.0):
    return {f.check: f for f in volume_findings(Volume(data, size), Path(name), size)}


def test_noise_passes_every_check(noise):
    assert {f.level for f in levels(noise).values()} == {"ok"}


@pytest.mark.parametrize(
    ("name", "size", "level"),
    [
        ("TS_01_10.00Apx.mrc", 10.0, "ok"),
        ("TS_01_10.00Apx.mrc", 10.012, "ok"),
        ("TS_01_10.00Apx.mrc", 1.35, "warning"),
        ("tomo_171_xlow_31.36A.mrc.gz", 31.36, "ok"),
        ("tomo_171_xlow_31.36A.mrc.gz", 13.6, "warning"),
    ],
)
def test_voxel_size_in_the_name(name, size, level):
    (finding,) = name_findings(Path(name), size)
    assert (finding.check, finding.level) == ("name", level)
    assert ("--voxel-size" in finding.remedy) == (level == "warning")


@pytest.mark.parametrize(
    ("name", "size", "levels"),
    [
        ("TS_bin4.mrc", 5.4, ["ok"]),
        ("TS_bin4.mrc", 1.35, ["warning"]),
        ("TS_1_b8_rec.mrc", 1.35, ["warning"]),
        ("TS_A12.mrc", 1.35, []),
        ("tomo3.mrc", 1.35, []),
        ("cabin4.mrc", 1.35, []),
    ],
)
def test_binning_in_the_name(name, size, levels):
    findings = name_findings(Path(name), size)
    assert [f.level for f in findings] == levels
    assert all(f.check == "binning" for f in findings)


def test_constant_slices(noise):
    data = noise.copy()
    data[:3] = 0.0  # padding, which has a check of its own
    assert levels(data)["constant slices"].level == "ok"
    data[20:22] = 1.5
    finding = levels(data)["constant slices"]
    assert finding.level == "warning"
    assert "z 20-21" in finding.message
    data = noise.copy()
    data[:, :5], data[:, :, 7] = 2.0, 2.0
    assert "y 0-4; x 7" in levels(data)["constant slices"].message


def test_floats_that_were_clipped(noise):
    finding = levels(np.clip(noise, -2.0, 5.0))["saturation"]
    assert finding.level == "warning"
    assert "at -2" in finding.message
    assert levels(noise)["saturation"].level == "ok"


@pytest.mark.parametrize(("axis", "side"), [(0, 12), (1, 16), (2, 28)])
@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_seams_between_tiles(noise, axis, side, strength):
    tile = np.arange(SHAPE[axis]) // side
    steps = np.moveaxis((strength * (-1.0) ** tile)[:, None, None], 0, axis)
    finding = seam_finding(Volume((noise + steps / 2).astype(np.float32), 10.0))
    assert finding.level == "warning"
    assert f"every {side} voxels" in finding.message
    assert f"at {'zyx'[axis]} {side}," in finding.message


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_margin_without_data_is_no_seam(axis):
    """As in a crop of a rotated tomogram: the steps to the margin have one distance, that of the margins."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((96, 96, 96)), 2.0)
    data = np.moveaxis(10 * smooth.astype(np.float32), axis, 0)
    data[:3] = data[-3:] = 0
    assert seam_finding(Volume(np.moveaxis(data, 0, axis), 10.0)).level == "ok"


def test_a_slab_and_gold_are_no_seams(noise):
    data = noise.copy()
    data[:12] *= 0.3
    data[36:] *= 0.3
    data[20:26, 30:36, 50:56] -= 30
    data[5:11, 60:66, 20:26] -= 30
    assert seam_finding(Volume(data, 10.0)).level == "ok"


@pytest.mark.parametrize("shape", [(1, 40, 40), (9, 9, 9)])
def test_any_size(shape):
    data = np.random.default_rng(0).normal(size=shape).astype(np.float16)
    assert volume_findings(Volume(data, 10.0), Path("a.mrc"), 10.0)


def test_a_real_tomogram_passes(shared_data):
    from cryovox.formats import read_volume

    path = shared_data / "real_tomograms" / "tomo_171_xlow_31.36A.mrc.gz"
    findings = volume_findings(read_volume(path), path, 31.36)
    assert {f.level for f in findings} == {"ok"}, findings
