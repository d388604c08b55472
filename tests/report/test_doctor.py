import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from cryovox.core.intensity import MIN_CERTAINTY
from cryovox.core.volume import Volume
from cryovox.formats import read_particles, read_volume
from cryovox.report.doctor import ORDER, Finding, ModelInput, examine, render, sample_planes, summary
from cryovox.simulate.phantom import PhantomConfig
from cryovox.simulate.phantom import phantom as simulated

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


def finding_of(data, what, **options):
    findings = examine(Volume(data, options.pop("voxel_size", 10.0)), PATH, **options)
    return next(f for f in findings if f.check == what)


def test_a_clean_tomogram_raises_no_warning(clean):
    findings = examine(Volume(clean, 10.0), PATH, (10.0, 10.0, 10.0), model=ModelInput(10.2, "dark"))
    assert {f.level for f in findings} == {"ok"}, findings
    assert summary(findings) == "no problems detected"


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
    finding = finding_of(clean, "voxel size", header_voxel_size=header)
    assert finding.level == level
    assert ("--voxel-size" in finding.remedy) == (level != "ok")


def test_swapped_axes_are_seen_by_shape_and_by_wedge(clean):
    turned = clean.transpose(1, 0, 2)
    assert finding_of(turned, "shape").level == "warning"
    assert "trimvol -rx" in finding_of(turned, "shape").remedy
    assert "beam y" in finding_of(turned, "missing wedge").message
    turned = clean.transpose(2, 1, 0)
    assert "along x" in finding_of(turned, "shape").message
    wedge = finding_of(turned, "missing wedge")
    assert wedge.level == "note"
    assert "tilt axis y, beam x" in wedge.message


@pytest.mark.parametrize("axis", ["y", "x"])
def test_the_tilt_axis_is_found(axis):
    wedge = finding_of(phantom(tilt_axis=axis, seed=4), "missing wedge")
    assert f"tilt axis {axis}, beam z" in wedge.message


def test_no_wedge_is_invented():
    noise = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    assert "not detected" in finding_of(noise, "missing wedge").message


def test_images_are_no_tomograms(clean):
    assert finding_of(clean[:1].copy(), "shape").level == "warning"


def test_broken_voxels_are_counted(clean):
    data = clean.copy()
    data[3, 4, 5], data[10, 0, 0] = np.nan, np.inf
    finding = finding_of(data, "NaN, infinity")
    assert finding.level == "error"
    assert finding.message.startswith("2 voxels")
    assert "z 3 to 10" in finding.message
    assert "--fill-nan" in finding.remedy


@pytest.mark.parametrize("fill", [0.0, 7.5, np.nan])
def test_a_tomogram_without_contrast_is_an_error(fill):
    finding = finding_of(np.full((20, 20, 20), fill, np.float32), "gray values")
    assert finding.level == "error"


def test_empty_planes_are_located(clean):
    data = clean.copy()
    data[:7] = 0
    data[-2:] = 3
    finding = finding_of(data, "empty planes")
    assert finding.level == "warning"
    assert finding.message.startswith("z 0 to 6 and z 62 to 63:")
    assert finding.remedy == "cryovox doctor tomo.mrc --write-masks masks"
    assert sample_planes(Volume(data, 10.0)) == (7, 62)
    data = clean.copy()
    data[-1] = 0
    assert finding_of(data, "empty planes").message.startswith("z 63 to 63:")


def test_empty_planes_of_nan_are_located(clean):
    data = clean.copy()
    data[:5] = np.nan
    assert finding_of(data, "empty planes").message.startswith("z 0 to 4:")


def test_the_slab_is_found():
    data = phantom((128, 96, 112), solid=slice(44, 84), seed=2)
    data[:40] *= 0.4
    data[88:] *= 0.4
    finding = finding_of(data, "slab")
    assert finding.level == "note"
    assert finding.remedy == "cryovox doctor tomo.mrc --write-masks masks"
    z0, z1 = map(int, re.search(r"the sample spans z (\d+)-(\d+) \(", finding.message).groups())
    assert (z0, z1 + 1) == sample_planes(Volume(data, 10.0))
    assert abs(z0 - (40 - 15)) <= 3
    assert abs(z1 - (87 + 15)) <= 3


def with_a_bead(data, seed):
    """The same with one ball of 40 Å radius, far denser than anything else."""
    center = np.random.default_rng([seed, 9]).integers(8, np.array(data.shape) - 8)
    squared = sum(
        (axis - c) ** 2 for axis, c in zip(np.ogrid[tuple(map(slice, data.shape))], center, strict=True)
    )
    return data - 20 * data.std() * (squared < 9)


@pytest.mark.parametrize("count", [1, 4, 14])
@pytest.mark.parametrize("snr", [0.05, 0.2, 2.0])
@pytest.mark.parametrize("vacuum", [None, 0.3])
def test_no_particle_of_a_phantom_lies_outside_the_sample(count, snr, vacuum):
    config = PhantomConfig(shape=(96, 64, 64), count=count, snr=snr)
    narrow = 0
    for seed in range(4):
        simulation = simulated(config, np.random.default_rng([seed, count]))
        z = simulation.particles.positions[:, 0] / config.voxel_size
        data = np.array(simulation.volume.data)
        if vacuum is not None:  # the ice is as thick as the particles need
            keep = np.abs(z - z.mean()) <= 18
            z = z[keep] if keep.any() else z[:1]
            low, high = int(z.min()) - 5, int(z.max()) + 6
            noise = np.random.default_rng(seed).normal(scale=vacuum * data.std(), size=data.shape)
            data[: max(0, low)], data[high:] = noise[: max(0, low)], noise[high:]
        for shown in (data, with_a_bead(data, seed)):
            first, last = sample_planes(Volume(shown, config.voxel_size))
            assert first <= z.min()
            assert z.max() <= last - 1
            narrow += last - first < 0.9 * len(data)
    assert vacuum is None or narrow > 0


def test_the_sample_of_a_real_tomogram_holds_all_its_picks(shared_data):
    volume = read_volume(shared_data / "real_tomograms" / "tomo_171_xlow_31.36A.mrc.gz")
    picks = read_particles(shared_data / "real_tomograms" / "tomo_171_xlow_80S_angstrom.csv")
    first, last = sample_planes(volume)
    z, radius = picks.positions[:, 0] / volume.voxel_size, 150 / volume.voxel_size
    assert len(z) == 128
    assert first <= z.min() - radius
    assert z.max() + radius <= last - 1
    assert last - first < 0.75 * volume.shape[0]


@pytest.mark.parametrize(("sign", "contrast"), [(-1, "dark"), (1, "bright")])
@pytest.mark.parametrize("seed", [0, 1])
def test_contrast(sign, contrast, seed):
    finding = finding_of(phantom(sign=sign, seed=seed), "contrast")
    assert f"particles look {contrast}" in finding.message
    assert finding.level == ("ok" if sign < 0 else "note")


def test_contrast_against_a_model():
    finding = finding_of(phantom(sign=1), "contrast", model=ModelInput(10.0, "dark", "m1"))
    assert finding.level == "note"
    assert "m1 was trained on dark particles" in finding.message
    assert "--contrast dark" in finding.remedy


@pytest.mark.parametrize(("certainty", "level"), [(MIN_CERTAINTY - 0.1, "warning"), (MIN_CERTAINTY, "ok")])
def test_a_contrast_is_a_guess_here_where_it_is_one_in_training(clean, monkeypatch, certainty, level):
    monkeypatch.setattr("cryovox.report.doctor.detect_contrast", lambda volume: ("dark", certainty))
    assert finding_of(clean, "contrast").level == level


def test_contrast_without_particles_is_called_a_guess():
    levels = {
        finding_of(np.random.default_rng(s).normal(size=(48, 48, 48)).astype(np.float32), "contrast").level
        for s in range(6)
    }
    assert "warning" in levels


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16])
def test_integers_that_were_cut_off(clean, kind):
    ends = np.iinfo(kind)
    middle, spread = (ends.max + ends.min) / 2, (ends.max - ends.min) / 2
    scaled = (clean - clean.mean()) / clean.std()
    good = np.clip(middle + scaled * spread / 8, ends.min, ends.max).astype(kind)
    assert finding_of(good, "gray values").level == "ok"
    cut = np.clip(middle + scaled * spread / 2, ends.min, ends.max).astype(kind)
    finding = finding_of(cut, "gray values")
    assert finding.level == "warning"
    assert "%" in finding.message


@pytest.mark.parametrize(
    ("size", "level"),
    [(10.0, "ok"), (10.4, "ok"), (10.8, "warning"), (13.48, "note"), (5.0, "note"), (3.0, "warning")],
)
def test_sampling_against_a_model(clean, size, level):
    finding = finding_of(clean, "sampling", model=ModelInput(size))
    assert finding.level == level
    assert ("resample it" in finding.message) == (level == "note")
    if level != "ok":
        assert finding.remedy == f"cryovox convert tomo.mrc tomo_fixed.mrc --resample {size:g}"


def test_what_the_reader_told_is_passed_on(clean):
    assert finding_of(clean, "header", problems=["the map id is missing"]).message == "the map id is missing"


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
    findings = examine(Volume(data, 10.0), path, (0.0, 0.0, 0.0), ["x" * 30 + " y" * 60], ModelInput(5.0))
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
    messages = {f.check: f.message for f in findings}
    assert summary(findings) == "no problems detected"
    assert "look dark" in messages["contrast"]
    assert "tilt axis y, beam z" in messages["missing wedge"]
    assert re.search(r"spans z 2\d-10\d \(", messages["slab"])


def test_a_misaligned_crop_is_distinguished_by_its_gold_bead_only(shared_data):
    """Levels are the same for both, as the page about volumes says; the range of gray values is not."""
    levels, ranges = [], []
    for name in ("perfect", "degraded"):
        path = shared_data / "misaligned" / f"real_crop_{name}.mrc.gz"
        volume = read_volume(path, 10.0)
        findings = examine(volume, path, header_voxel_size=None)
        levels.append({(f.check, f.level) for f in findings})
        ranges.append(float(np.ptp(volume.data)))
    assert levels[0] == levels[1]
    assert ranges[0] == pytest.approx(22.83 + 19.65, abs=0.02)
    assert ranges[1] == pytest.approx(8.028 + 6.785, abs=0.02)
