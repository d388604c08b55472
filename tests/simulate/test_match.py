import json

import numpy as np
import pytest
from scipy import fft, ndimage

from cryovox.core.errors import RequestError
from cryovox.formats import read_volume
from cryovox.simulate.phantom import wedge_filter
from cryovox.simulate.realism import spectrum
from cryovox.simulate.realism.match import estimate_signal_fraction, initial_mixture, match_tomogram
from cryovox.simulate.realism.spectrum import (
    amplitude_filter,
    power_spectrum,
    radial_filter,
    radial_frequency,
    radial_power,
    robust_power_spectrum,
    spectrum_rmse,
    z_score,
)
from cryovox.simulate.realism.statistics import TomogramStatistics, find_slab, measure_statistics
from cryovox.simulate.realism.tilt_range import estimate_tilt_range
from cryovox.simulate.realism.two_sample_test import classifier_auc, extract_patches, roc_auc

SHAPE, SLAB, VOXEL = (64, 72, 80), (18, 46), 30.0


def white(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def balls(shape=SHAPE, slab=SLAB, seed=0, tilt=60.0):
    """A noise-free slab of bright balls of 90 Å radius, and where they are."""
    rng = np.random.default_rng(seed)
    points = np.zeros(shape, np.float32)
    where = np.stack([rng.integers(*ends, 150) for ends in (slab, (0, shape[1]), (0, shape[2]))])
    points[tuple(where)] = 1
    solid = (ndimage.distance_transform_edt(points == 0) <= 3).astype(np.float32)
    smooth = ndimage.gaussian_filter(solid, 0.6) - ndimage.gaussian_filter(solid, 5)
    return wedge_filter(smooth, tilt), solid > 0


@pytest.fixture(scope="module")
def scene():
    return balls()


@pytest.fixture(scope="module")
def target():
    """Dark balls of another scene in colored noise, with a wedge: gray values around 60."""
    clean, _ = balls(seed=9)
    noise = wedge_filter(ndimage.gaussian_filter(white(seed=8), 0.7), 60)
    return 60 - 3 * (z_score(clean) + 0.8 * z_score(noise))


@pytest.fixture(scope="module")
def likeness(target):
    return measure_statistics(target, VOXEL)


@pytest.fixture(scope="module")
def matched(scene, likeness):
    return match_tomogram(scene[0], likeness, 1, iterations=3)


# spectra


def test_white_noise_has_its_variance_at_every_node():
    power = power_spectrum(2 * white())
    assert power.shape == spectrum.SHAPE
    assert np.median(power) == pytest.approx(4, rel=0.05)
    assert np.quantile(power, [0.01, 0.99]) == pytest.approx([4, 4], rel=0.5)
    assert np.mean(radial_power(2 * white())[2:]) == pytest.approx(4, rel=0.03)


def test_a_wave_is_found_at_its_frequency():
    z, y, x = np.ogrid[:64, :64, :64]
    wave = np.cos(2 * np.pi * (8 * z + 8 * x + 16 * y) / 64)
    power = power_spectrum(wave)
    along, around, angle = np.unravel_index(power.argmax(), power.shape)
    assert spectrum.KY_NODES[along] == pytest.approx(0.25, abs=0.04)
    assert spectrum.RADIUS_NODES[around] == pytest.approx(np.hypot(0.125, 0.125), abs=0.03)
    assert spectrum.ANGLE_NODES[angle] == pytest.approx(45, abs=5)
    k = radial_frequency()[radial_power(wave).argmax()]
    assert k == pytest.approx(np.sqrt(2 * 0.125**2 + 0.25**2), abs=1 / 64)


def test_a_smooth_spectrum_goes_to_the_nodes_and_back():
    k = np.hypot(spectrum.KY_NODES[:, None], spectrum.RADIUS_NODES)[:, :, None]
    wanted = np.exp(-8 * k - 0.02 * np.abs(spectrum.ANGLE_NODES))
    volume = fft.irfftn(fft.rfftn(white()) * amplitude_filter(wanted, SHAPE), s=SHAPE)
    inside = np.broadcast_to((k > 0.08) & (k < 0.5), wanted.shape)
    error = np.log(power_spectrum(volume) / wanted)[inside]
    assert abs(error.mean()) < 0.07
    assert error.std() < 0.25


def test_the_radial_filter_is_the_square_root_of_its_shells():
    shells = np.linspace(1, 4, 32)
    volume = fft.irfftn(fft.rfftn(white()) * radial_filter(shells, SHAPE), s=SHAPE)
    assert radial_power(volume)[3:] == pytest.approx(shells[3:], rel=0.12)


def sheet(shape=SHAPE, slab=SLAB):
    """A membrane that stands upright in the slab, at an x that hardly changes along y."""
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    away = x - shape[2] / 2 - 0.08 * y
    inside = (z >= slab[0]) & (z < slab[1])
    return (np.exp(-0.5 * away**2) * inside).astype(np.float32)


def streaks(data, slab, plane):
    """Power within 10 degrees of the x axis over that from 20 to 50, at equal frequency, in a plane.

    Matter without order has about 1 in xy, where nothing is missing, and in xz up to the wedge.
    """
    part = z_score(data[slab[0] : slab[1]])
    for axis, n in enumerate(part.shape):
        part = part * np.hanning(n).reshape([-1 if i == axis else 1 for i in range(3)])
    power = np.abs(fft.fftn(part)) ** 2
    kz, ky, kx = np.meshgrid(*(fft.fftfreq(n) for n in part.shape), indexing="ij")
    across, out = (ky, kz) if plane == "xy" else (kz, ky)
    k, angle = np.hypot(across, kx), np.degrees(np.arctan2(np.abs(across), np.abs(kx)))
    use = (np.abs(out) < 1.5 / min(part.shape[0], 48)) & (k > 0.08) & (k < 0.25)
    ring = np.rint(40 * k).astype(int)
    near, far = (use & (angle < 10)), (use & (angle > 20) & (angle < 50))
    means = [
        np.bincount(ring[w], power[w], 12)[4:10] / np.bincount(ring[w], minlength=12)[4:10]
        for w in (near, far)
    ]
    return float(np.mean(means[0] / means[1]))


def test_a_membrane_leaves_no_ridge_in_the_spectrum_of_the_imaging():
    noise = wedge_filter(ndimage.gaussian_filter(white(), 0.7), 60)
    alone, both = (power_spectrum(v) for v in (noise, noise + 3 * sheet()))
    cleaned = robust_power_spectrum(noise + 3 * sheet())
    k = np.hypot(spectrum.KY_NODES[:, None], spectrum.RADIUS_NODES)[:, :, None]
    use = np.broadcast_to((k > 0.08) & (k < 0.4) & (np.abs(spectrum.ANGLE_NODES) < 50), alone.shape)
    assert (both / alone)[use].max() > 100
    assert (cleaned / alone)[use].max() < 10
    assert np.quantile((cleaned / alone)[use], 0.95) < 2.5 < 8 < np.quantile((both / alone)[use], 0.95)
    # what has no ridge stays as it is, and so does the wedge
    assert np.median((robust_power_spectrum(noise) / alone)[use]) == pytest.approx(1, abs=0.02)
    wedge = np.broadcast_to((k > 0.15) & (k < 0.4) & (np.abs(spectrum.ANGLE_NODES) > 75), alone.shape)
    assert (robust_power_spectrum(noise) / alone)[wedge].max() < 1.01


@pytest.mark.parametrize("tilt_axis", [False, True])
def test_spectrum_rmse_knows_no_scale_and_is_symmetric(tilt_axis):
    a, b = white(seed=1), ndimage.gaussian_filter(white(seed=2), 0.8)
    assert spectrum_rmse(a, 3 * a + 7, tilt_axis=tilt_axis) == pytest.approx(0, abs=1e-3)
    there = spectrum_rmse(a, b, tilt_axis=tilt_axis)
    assert there == pytest.approx(spectrum_rmse(b, a, tilt_axis=tilt_axis))
    assert there > 1


def test_spectrum_rmse_of_a_known_filter():
    # both are z-scored, so only the shape of exp(-8 k) counts
    a = white((64, 64, 64), seed=3)
    k = np.sqrt(sum(f**2 for f in spectrum.frequencies(a.shape)))
    b = fft.irfftn(fft.rfftn(a) * np.exp(-4 * k), s=a.shape)
    shells = radial_frequency()[radial_frequency() >= 2 / 64]
    shift = np.log(np.var(b) / np.var(a))
    expected = np.sqrt(np.mean((8 * shells + shift) ** 2))
    assert spectrum_rmse(a, b) == pytest.approx(expected, rel=0.05)


def test_only_the_wedge_differs_along_the_tilt_axis():
    a, b = wedge_filter(white(), 60), wedge_filter(white(seed=5), 60).transpose(2, 1, 0)
    assert spectrum_rmse(a, b[: SHAPE[0]], tilt_axis=True) > 5 * spectrum_rmse(a, b[: SHAPE[0]])


# the missing wedge


@pytest.mark.parametrize("tilt", [50, 60, 70])
@pytest.mark.parametrize("noisy", [False, True])
def test_the_wedge_of_a_simulation(tilt, noisy):
    clean = balls(tilt=tilt, seed=tilt)[0]
    data = z_score(clean) + wedge_filter(white(), tilt)
    low, high = estimate_tilt_range(data + 0.3 * white(seed=4) if noisy else data)
    assert -low == pytest.approx(tilt, abs=4)
    assert high == pytest.approx(tilt, abs=4)


def test_a_range_of_tilts_that_is_not_symmetric():
    kz, kx = fft.fftfreq(SHAPE[0])[:, None, None], fft.rfftfreq(SHAPE[2])[None, None, :]
    tilt = np.degrees(np.arctan2(kz, kx))
    data = fft.irfftn(fft.rfftn(white()) * ((tilt > -45) & (tilt < 62)), s=SHAPE)
    low, high = estimate_tilt_range(data)
    assert low == pytest.approx(-45, abs=4)
    assert high == pytest.approx(62, abs=4)
    low, high = estimate_tilt_range(data[::-1])
    assert low == pytest.approx(-62, abs=4)


@pytest.mark.parametrize("blur", [0, 1])
def test_no_wedge_is_invented(blur):
    assert estimate_tilt_range(ndimage.gaussian_filter(white(), blur)) is None


# measuring


def test_the_likeness_of_a_known_tomogram(target, likeness):
    assert likeness.contrast == "dark"
    assert likeness.mean == pytest.approx(target.mean())
    assert likeness.std == pytest.approx(target.std(), rel=0.02)
    assert likeness.slab == pytest.approx(SLAB, abs=4)
    assert likeness.noise_from == "void"
    assert max(map(abs, likeness.tilts)) == pytest.approx(60, abs=4)
    assert likeness.asymmetry > 0.2
    assert np.all(np.diff(likeness.levels) > 0)
    # wedge_filter and smoothing are linear, so the noise is known: 3 * 0.8
    assert likeness.noise_std == pytest.approx(2.4, rel=0.15)


def test_a_likeness_goes_to_json_and_back(likeness):
    text = json.dumps(likeness.to_dict())
    assert TomogramStatistics.from_dict(json.loads(text)) == likeness
    with pytest.raises(RequestError, match="unknown key 'color'"):
        TomogramStatistics.from_dict({**likeness.to_dict(), "color": 1})
    with pytest.raises(RequestError, match="other nodes"):
        TomogramStatistics.from_dict({**likeness.to_dict(), "matter": [[[0.0]]]})


def test_turning_gray_values_over_changes_only_the_contrast(target, likeness):
    turned = measure_statistics(-target, VOXEL)
    assert turned.contrast == "bright"
    assert turned.mean == pytest.approx(-likeness.mean)
    assert turned.matter == likeness.matter
    assert measure_statistics(target, VOXEL, contrast="bright").asymmetry == pytest.approx(
        -likeness.asymmetry
    )


def test_a_gradient_is_no_structure(target, likeness):
    ramp = np.linspace(-20, 20, SHAPE[2], dtype=np.float32)
    statistics = measure_statistics(target + ramp, VOXEL)
    assert statistics.std == pytest.approx(likeness.std, rel=1e-3)
    assert statistics.matter_radial == pytest.approx(likeness.matter_radial, abs=0.01)


def test_half_tomograms_tell_the_noise_of_a_sample_without_void():
    signal = ndimage.gaussian_filter(white(seed=1), 1.5)
    signal = signal / signal.std()
    first, second = (signal + np.sqrt(2) * 0.5 * white(seed=s) for s in (2, 3))
    statistics = measure_statistics((first + second) / 2, VOXEL, halves=(first, second))
    assert statistics.noise_from == "halves"
    assert statistics.noise_std == pytest.approx(0.5, rel=0.05)
    floor = measure_statistics((first + second) / 2, VOXEL)
    assert (floor.noise_from, floor.slab) == ("floor", (0, SHAPE[0]))
    assert floor.noise_std == pytest.approx(0.5, rel=0.1)


def test_a_box_is_the_part_that_counts(target):
    box = ((0, 64), (0, 40), (0, 80))
    assert measure_statistics(target, VOXEL, box=box) == measure_statistics(target[:, :40], VOXEL)
    with pytest.raises(RequestError, match="not within"):
        measure_statistics(target, VOXEL, box=((0, 65), (0, 40), (0, 80)))
    with pytest.raises(RequestError, match="too small"):
        measure_statistics(target, VOXEL, box=((0, 64), (0, 10), (0, 80)))


def test_nothing_and_broken_voxels(target):
    with pytest.raises(RequestError, match="no contrast"):
        measure_statistics(np.full(SHAPE, 3.0), VOXEL)
    broken = target.copy()
    broken[5, 5, 5] = np.nan
    assert np.isfinite(measure_statistics(broken, VOXEL).std)


def test_the_slab():
    spread = np.ones(60)
    assert find_slab(spread) == (0, 60)
    spread[20:45] = 2
    assert find_slab(spread) == (20, 45)


# imitating


def test_a_likeness_has_the_spectrum_and_gray_values_of_its_target(scene, target, matched):
    unmatched = -z_score(scene[0]) - white(seed=3)
    for tilt_axis in (False, True):
        before = spectrum_rmse(target, unmatched, tilt_axis=tilt_axis)
        assert spectrum_rmse(target, matched, tilt_axis=tilt_axis) < 0.4 * before
    assert matched.dtype == np.float32
    assert matched.mean() == pytest.approx(target.mean(), abs=float(0.1 * target.std()))
    assert matched.std() == pytest.approx(target.std(), rel=0.05)
    inside = [v[SLAB[0] : SLAB[1]] for v in (target, matched)]
    low, high = (np.quantile(v, (0.01, 0.1, 0.5, 0.9, 0.99)) for v in inside)
    assert high == pytest.approx(low, abs=float(0.1 * target.std()))


def test_a_membrane_in_the_target_becomes_no_streaks(scene):
    """The spectrum of one membrane, given to noise of random phases, is a pattern of streaks along it."""
    clean, _ = balls(seed=9)
    noise = wedge_filter(ndimage.gaussian_filter(white(seed=8), 0.7), 60)
    target = -(z_score(clean) + wedge_filter(8 * sheet(), 60) + 0.8 * z_score(noise))
    alike = match_tomogram(scene[0], measure_statistics(target, VOXEL), 1, iterations=3)
    for plane in ("xy", "xz"):
        assert streaks(target, SLAB, plane) > 3
        assert streaks(alike, SLAB, plane) < 1.8


def test_a_membrane_of_the_scene_is_seen_in_its_likeness(scene, likeness):
    clean = scene[0] + 0.7 * wedge_filter(sheet(), 60)
    alike = match_tomogram(clean, likeness, 1, iterations=3)
    inside, there = sheet() > 0.6, sheet() > 0.01
    matter = np.zeros(SHAPE, bool)
    matter[SLAB[0] + 3 : SLAB[1] - 3] = True
    apart = alike[inside & matter].mean() - alike[~there & matter].mean()
    assert apart < -0.5 * alike[matter].std()  # dark


def test_the_profile_along_z_is_that_of_the_target(target, matched):
    result, wanted = (ndimage.gaussian_filter1d(v.std(axis=(1, 2)), 2) for v in (matched, target))
    assert np.abs(np.log(result / wanted)).max() < 0.25


def test_particles_stay_where_they_are_and_are_dark(scene, matched):
    clean, solid = scene
    assert matched[solid].mean() < matched[~solid].mean() - 0.5 * matched.std()
    assert np.corrcoef(-matched.ravel(), clean.ravel())[0, 1] > 0.4


def test_the_share_of_signal(scene, likeness):
    values = z_score(scene[0])[SLAB[0] : SLAB[1]]
    result = [initial_mixture(values, likeness, share).signal.sum() for share in (0.1, 0.2, 0.4)]
    assert result == sorted(result)
    assert 0.4 < estimate_signal_fraction(values, likeness) <= likeness.share
    # without skewness nothing speaks for particles
    assert estimate_signal_fraction(values, likeness.model_copy(update={"asymmetry": 0.0})) < 0.05
    with pytest.raises(RequestError, match="not a fraction"):
        initial_mixture(values, likeness, 1.5)


def test_seeds(scene, likeness, matched):
    again = match_tomogram(scene[0], likeness, 1, iterations=3)
    assert np.array_equal(again, matched)
    one, other = (
        match_tomogram(scene[0], likeness, seed, iterations=1) for seed in (np.random.default_rng(5), 2)
    )
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] < 0.99
    with pytest.raises(RequestError, match="empty"):
        match_tomogram(np.zeros(SHAPE, np.float32), likeness, 0)


@pytest.mark.parametrize("shape", [(40, 64, 64), (28, 50, 61)])
def test_another_size_and_another_slab(likeness, shape):
    slab = (6, 34) if shape[0] == 40 else (0, 28)
    clean, _ = balls(shape, slab, seed=2)
    matched = match_tomogram(clean, likeness, 0, iterations=2)
    assert matched.shape == shape
    inside = matched[slab[0] + 3 : slab[1] - 3].std() / likeness.std
    assert inside == pytest.approx(np.mean(likeness.profile_std[22:42]), rel=0.15)


# the classifier


def test_area_by_hand():
    assert roc_auc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert roc_auc(np.array([0.0, 2.0]), np.array([1.0, 3.0])) == 0.25


def test_patches_are_in_order():
    data = np.arange(5 * 4 * 6).reshape(5, 4, 6)
    patches = extract_patches(data, 2)
    assert patches.shape == (2 * 2 * 3, 2, 2, 2)
    assert np.array_equal(patches[4], data[0:2, 2:4, 2:4])
    with pytest.raises(ValueError, match="no cube"):
        extract_patches(data, 5)


def test_the_classifier_tells_noise_from_smooth_noise_only():
    one, same, smooth = (
        white(seed=1),
        white(seed=2),
        z_score(ndimage.gaussian_filter(white(seed=3), 0.6)),
    )
    parts = [extract_patches(v, 16) for v in (one, same, smooth)]
    assert classifier_auc(parts[0], parts[2]) > 0.98
    assert 0.3 < classifier_auc(parts[0], parts[1]) < 0.7
    with pytest.raises(ValueError, match="needs 8"):
        classifier_auc(parts[0][:5], parts[1])


def test_a_real_tomogram(shared_data):
    volume = read_volume(shared_data / "real_tomograms" / "tomo_171_xlow_31.36A.mrc.gz")
    data = np.asarray(volume.data, np.float32)
    statistics = measure_statistics(data, volume.voxel_size, box=((0, 128), (0, 96), (0, 128)))
    assert statistics.contrast == "dark"
    assert statistics.slab == pytest.approx((35, 95), abs=6)
    assert max(map(abs, statistics.tilts)) == pytest.approx(60, abs=4)
    assert statistics.noise_from == "void"
    assert 0.8 < statistics.share < 0.98
    # a membrane runs along y in this part of it
    scene, _ = balls((128, 96, 128), (35, 95), seed=3)
    alike = match_tomogram(scene, statistics, 0, iterations=2)
    for plane in ("xy", "xz"):
        real = streaks(data[:, :96], (35, 95), plane)
        assert real > 2
        assert streaks(alike, (35, 95), plane) < 0.6 * real
