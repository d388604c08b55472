import shlex
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from cryovox.core.intensity import SURE
from cryovox.core.volume import Volume
from cryovox.report.doctor import ORDER, Expected, Finding, examine, render, summary

PATH = Path("tomo.mrc")
SHAPE = (64, 96, 112)


def phantom(shape=SHAPE, sign=-1, tilt_axis="y", seed=0, solid=slice(None)):
    """Balls of 80 Å radius in noise, with the missing wedge of +-60 degrees, 10 Å voxels."""
    rng = np.random.default_rng(seed)
    points = np.zeros(shape, np.float32)
    allowed = np.arange(shape[0])[solid]
    count = int(len(allowed) * shape[1] * shape[2] / 8000)
    where = [rng.choice(allowed, count), *(rng.integers(0, n, count) for n in shape[1:])]
    points[tuple(where)] = 1
    balls = ndimage.distance_transform_edt(points == 0) < 8
    data = sign * balls.astype(np.float32) + rng.normal(scale=0.7, size=shape)
    kz, ky, kx = np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij")
    across = kx if tilt_axis == "y" else ky
    measured = np.abs(kz) <= np.tan(np.radians(60)) * np.abs(across) + 1e-9
    return np.fft.ifftn(np.fft.fftn(data) * measured).real.astype(np.float32)


@pytest.fixture(scope="module")
def clean():
    return phantom()


def found(data, what, **given):
    findings = examine(Volume(data, given.pop("voxel_size", 10.0)), PATH, **given)
    return next(f for f in findings if f.what == what)


def test_a_clean_tomogram_raises_no_warning(clean):
    findings = examine(Volume(clean, 10.0), PATH, (10.0, 10.0, 10.0), model=Expected(10.2, "dark"))
    assert {f.level for f in findings} == {"ok"}, findings
    assert summary(findings) == "nothing to worry about"


@pytest.mark.parametrize(
    ("header", "level"),
    [
        ((0.0, 0.0, 0.0), "error"),
        ((np.nan,) * 3, "error"),
        ((1.0, 1.0, 1.0), "warning"),
        ((0.013,) * 3, "warning"),
        ((5000.0,) * 3, "warning"),
        ((10.0, 10.0, 10.9), "warning"),
        ((10.0, 10.0, 10.001), "ok"),
    ],
)
def test_voxel_sizes(clean, header, level):
    finding = found(clean, "voxel size", header_voxel_size=header)
    assert finding.level == level
    assert ("--voxel-size" in finding.remedy) == (level != "ok")


def test_swapped_axes_are_seen_by_shape_and_by_wedge(clean):
    turned = clean.transpose(1, 0, 2)
    assert found(turned, "shape").level == "warning"
    assert "trimvol -rx" in found(turned, "shape").remedy
    assert "beam y" in found(turned, "missing wedge").found
    turned = clean.transpose(2, 1, 0)
    assert "along x" in found(turned, "shape").found
    wedge = found(turned, "missing wedge")
    assert wedge.level == "note"
    assert "tilt axis y, beam x" in wedge.found


@pytest.mark.parametrize("axis", ["y", "x"])
def test_the_tilt_axis_is_found(axis):
    wedge = found(phantom(tilt_axis=axis, seed=4), "missing wedge")
    assert f"tilt axis {axis}, beam z" in wedge.found


def test_no_wedge_is_invented():
    noise = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    assert "none to be seen" in found(noise, "missing wedge").found


def test_images_are_no_tomograms(clean):
    assert found(clean[:1].copy(), "shape").level == "warning"


def test_broken_voxels_are_counted(clean):
    data = clean.copy()
    data[3, 4, 5], data[10, 0, 0] = np.nan, np.inf
    finding = found(data, "NaN, infinity")
    assert finding.level == "error"
    assert finding.found.startswith("2 voxels")
    assert "z 3 to 10" in finding.found
    assert "--fill-nan" in finding.remedy


@pytest.mark.parametrize("fill", [0.0, 7.5, np.nan])
def test_a_tomogram_without_contrast_is_an_error(fill):
    finding = found(np.full((20, 20, 20), fill, np.float32), "grey values")
    assert finding.level == "error"


def test_empty_planes_are_located(clean):
    data = clean.copy()
    data[:7] = 0
    data[-2:] = 3
    finding = found(data, "empty planes")
    assert finding.level == "warning"
    assert finding.found.startswith("z 0 to 6 and z 62 to 63:")
    assert "z: [7, 62]" in finding.remedy
    data = clean.copy()
    data[-1] = 0
    assert found(data, "empty planes").found.startswith("z 63 to 63:")


def test_empty_planes_of_nan_are_located(clean):
    data = clean.copy()
    data[:5] = np.nan
    assert found(data, "empty planes").found.startswith("z 0 to 4:")


def test_the_slab_is_found():
    data = phantom(solid=slice(16, 48), seed=2)
    data[:12] *= 0.4
    data[52:] *= 0.4
    finding = found(data, "slab")
    assert finding.level == "note"
    z0, z1 = (int(word) for word in finding.found.split()[1:4:2])
    assert abs(z0 - 12) <= 2
    assert abs(z1 - 51) <= 2


@pytest.mark.parametrize(("sign", "contrast"), [(-1, "dark"), (1, "bright")])
@pytest.mark.parametrize("seed", [0, 1])
def test_contrast(sign, contrast, seed):
    finding = found(phantom(sign=sign, seed=seed), "contrast")
    assert f"particles look {contrast}" in finding.found
    assert finding.level == ("ok" if sign < 0 else "note")


def test_contrast_against_a_model():
    finding = found(phantom(sign=1), "contrast", model=Expected(10.0, "dark", "m1"))
    assert finding.level == "note"
    assert "m1 was trained on dark ones" in finding.found
    assert "--contrast dark" in finding.remedy


@pytest.mark.parametrize(("certainty", "level"), [(SURE - 0.1, "warning"), (SURE, "ok")])
def test_a_contrast_is_a_guess_here_where_it_is_one_in_training(clean, monkeypatch, certainty, level):
    monkeypatch.setattr("cryovox.report.doctor.detect_contrast", lambda volume: ("dark", certainty))
    assert found(clean, "contrast").level == level


def test_contrast_without_particles_is_called_a_guess():
    levels = {
        found(np.random.default_rng(s).normal(size=(48, 48, 48)).astype(np.float32), "contrast").level
        for s in range(6)
    }
    assert "warning" in levels


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16])
def test_integers_that_were_cut_off(clean, kind):
    ends = np.iinfo(kind)
    middle, spread = (ends.max + ends.min) / 2, (ends.max - ends.min) / 2
    scaled = (clean - clean.mean()) / clean.std()
    good = np.clip(middle + scaled * spread / 8, ends.min, ends.max).astype(kind)
    assert found(good, "grey values").level == "ok"
    cut = np.clip(middle + scaled * spread / 2, ends.min, ends.max).astype(kind)
    finding = found(cut, "grey values")
    assert finding.level == "warning"
    assert "%" in finding.found


@pytest.mark.parametrize(
    ("size", "level"), [(10.0, "ok"), (10.4, "ok"), (13.48, "warning"), (5.0, "warning")]
)
def test_sampling_against_a_model(clean, size, level):
    finding = found(clean, "sampling", model=Expected(size))
    assert finding.level == level
    if level == "warning":
        assert finding.remedy == f"cryovox convert tomo.mrc tomo_fixed.mrc --resample {size:g}"


def test_what_the_reader_told_is_passed_on(clean):
    assert found(clean, "header", problems=["the map id is missing"]).found == "the map id is missing"


def test_the_data_are_left_alone(clean):
    before = clean.copy()
    clean.setflags(write=False)
    examine(Volume(clean, 10.0), PATH)
    assert np.array_equal(clean, before)


@pytest.mark.parametrize("voxel_size", [0.8, 3.0, 40.0])
@pytest.mark.parametrize("shape", [(1, 40, 40), (17, 18, 19), (3, 3, 3)])
def test_any_size_is_looked_over(shape, voxel_size):
    data = np.random.default_rng(0).normal(size=shape).astype(np.float16)
    assert examine(Volume(data, voxel_size), PATH)


def test_text_fits_a_terminal_and_the_worst_comes_first(clean):
    data = clean.copy()
    data[:7] = np.nan
    path = Path("a folder/with a long name/TS_01.mrc.gz")
    findings = examine(Volume(data, 10.0), path, (0.0, 0.0, 0.0), ["x" * 30 + " y" * 60], Expected(5.0))
    text = render(findings, path)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert len(text.splitlines()) <= 40
    levels = [ORDER.index(f.level) for f in findings]
    assert levels == sorted(levels)
    assert text.startswith(f"{path}: 2 errors, ")


def test_a_wrapped_command_can_be_pasted():
    words = [
        "cryovox",
        "convert",
        "a long folder/" * 4 + "tomo.mrc",
        "other_" * 10 + "tomo.mrc",
        "--fill-nan",
    ]
    lines = render([Finding("error", "NaN", "many", shlex.join(words))], PATH).splitlines()[3:]
    assert all(line.endswith(" \\") for line in lines[:-1])
    pasted = "  ".join(line.removesuffix(" \\").strip() for line in lines).removeprefix("-> ")
    assert len(lines) > 1
    assert all(len(line) <= 100 for line in lines)
    assert shlex.split(pasted) == words


def test_a_real_tomogram(shared_data):
    mrcfile = pytest.importorskip("mrcfile")
    path = shared_data / "real_tomograms" / "tomo_171_xlow_31.36A.mrc.gz"
    with mrcfile.open(path, permissive=True) as file:
        findings = examine(Volume(file.data.copy(), 31.36), path)
    told = {f.what: f.found for f in findings}
    assert summary(findings) == "nothing to worry about"
    assert "look dark" in told["contrast"]
    assert "tilt axis y, beam z" in told["missing wedge"]
    z0, z1 = (int(word) for word in told["slab"].split()[1:4:2])
    assert 30 <= z0 <= 40
    assert 90 <= z1 <= 102
