import json

import numpy as np
import pytest

from cryovox.simulate.microscope import (
    DetectorConfig,
    OpticsConfig,
    TiltConfig,
    acquire,
    radial_amplitude,
    reconstruct,
    tilt_scheme,
)
from cryovox.simulate.microscope.acquire import intensities
from cryovox.simulate.microscope.detector import noise_factor, snr_of
from cryovox.simulate.microscope.multislice import slice_projections
from cryovox.simulate.microscope.optics import ctf, interaction_constant
from cryovox.simulate.microscope.projection import project
from cryovox.simulate.microscope.spectra import amplitude_gain, filter_rings

SHAPE = (32, 48, 48)
PLACES = ((18.0, 20.0, 30.0), (12.0, 30.0, 14.0), (16.0, 12.0, 20.0))
CLEAN = OpticsConfig(model="weak", damage=False, cc=0, aperture=0)


def scene(peak: float = 4.0):
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), -1)
    blobs = (np.exp(-((grid - np.array(place)) ** 2).sum(-1) / 8) for place in PLACES)
    out = peak * sum(blobs)
    return np.where(out > 1e-6, out, 0).astype(np.float32)


def tilts(step: float = 10.0, seed: int = 0, **more):
    return tilt_scheme(TiltConfig(step=step, **more), np.random.default_rng(seed))


def test_particles_are_dark_in_the_image_and_bright_in_the_contrast():
    series = acquire(scene(), 10.0, tilts())
    dark = series.noisefree / series.flux[:, None, None]
    assert 1 - dark.min() > 3 * (dark.max() - 1)
    middle = len(series) // 2
    assert np.unravel_index(series.signal[middle].argmax(), (48, 48)) in {(20, 30), (30, 14), (12, 20)}
    volume = reconstruct(series.signal, series.tilts, SHAPE, 10.0)
    assert np.unravel_index(volume.argmax(), SHAPE) in {(18, 20, 30), (12, 30, 14), (16, 12, 20)}


def test_a_weak_image_is_the_projection_times_the_contrast_transfer():
    series = tilts(30.0, defocus=(3, 3))
    images = intensities(scene(), 10.0, series, CLEAN)
    wide = np.pad(scene(), ((0, 0), (0, 16), (0, 16)))
    phase = interaction_constant(300) * 10 * project(wide, np.array([0.0]))[0]
    k = np.hypot(np.fft.fftfreq(64, 10)[:, None], np.fft.rfftfreq(64, 10))
    expected = 1 + 2 * np.fft.irfft2(np.fft.rfft2(phase) * ctf(k, 30000.0, CLEAN), s=phase.shape)
    # the wide one turns about pixel 32, which at 0 degrees changes nothing
    assert np.abs(images[2] - expected[:48, :48]).max() < 2e-3 * np.abs(expected - 1).max()


@pytest.mark.parametrize("model", ["strong", "multislice"])
def test_every_model_is_the_weak_one_for_a_weak_object(model):
    # thin, so that the depth of focus does not count: all in 60 Å
    thin = np.zeros(SHAPE, np.float32)
    thin[14:19] = scene(0.02)[14:19]
    series = tilts(scheme="list", angles=(0.0,), defocus=(3, 3))
    weak = intensities(thin, 10.0, series, CLEAN) - 1
    other = intensities(thin, 10.0, series, CLEAN.model_copy(update={"model": model})) - 1
    assert np.abs(other - weak).max() < 0.01 * np.abs(weak).max()


@pytest.mark.parametrize("angle", [0.0, 50.0])
def test_multislice_sees_a_displaced_object_at_another_defocus(angle):
    point = np.zeros((128, 32, 128), np.float32)
    point[104, 16, 44] = 0.5
    turn = np.deg2rad(angle)
    height = 2 * (40 * np.cos(turn) + 20 * np.sin(turn))
    config = CLEAN.model_copy(update={"model": "multislice", "slice_thickness": 10.0})

    def result(defocus: float, optics: OpticsConfig):
        series = tilts(scheme="list", angles=(angle,), defocus=(defocus, defocus))
        return intensities(point, 2.0, series, optics)[0]

    output, expected, same = result(0.3, config), result(0.3 + 1e-4 * height, CLEAN), result(0.3, CLEAN)
    strength = np.abs(expected - 1).max()
    assert np.abs(output - expected).max() < 0.03 * strength
    assert np.abs(output - same).max() > 0.1 * strength


def test_the_slices_add_up_to_the_projection():
    volume = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    for angle in (0.0, -60.0, 33.0):
        pieces, heights = slice_projections(volume, angle, 5.0)
        assert np.diff(heights) == pytest.approx(5.0)
        whole = project(volume, np.array([angle]))[0]
        assert np.abs(pieces.sum(0) - whole).max() < 1e-4 * whole.max()


def test_the_strong_image_of_gold_stays_positive_and_near_multislice():
    volume = scene()
    volume[10:20, 20:30, 20:30] = 25.0
    series = tilts(30.0)
    images = {m: intensities(volume, 10.0, series, OpticsConfig(model=m)) for m in ("strong", "multislice")}
    difference = images["strong"] - images["multislice"]
    assert images["strong"].min() > 0
    assert difference.std() < 0.02 * images["multislice"].std()


def test_a_shift_moves_the_image():
    still, moved = tilts(30.0), tilts(30.0, shift=8.0)
    one, two = (intensities(scene(), 10.0, series, CLEAN)[2] for series in (still, moved))
    y, x = np.meshgrid(np.arange(48), np.arange(48), indexing="ij")
    for axis, grid in enumerate((y, x)):
        places = [((1 - image) * grid).sum() / (1 - image).sum() for image in (one, two)]
        assert 10 * (places[1] - places[0]) == pytest.approx(moved.shifts[2, axis], abs=0.8)


def test_noise_is_that_of_the_dose():
    series = tilts(20.0, total_dose=70.0)
    result = acquire(np.zeros(SHAPE, np.float32), 10.0, series, detector=DetectorConfig.ideal())
    assert result.noisefree == pytest.approx(1000.0, rel=1e-5)
    assert result.counts.mean((1, 2)) == pytest.approx(1000.0, rel=0.01)
    assert result.counts.var((1, 2)) == pytest.approx(1000.0, rel=0.12)
    assert np.array_equal(result.counts, np.round(result.counts))


def test_noise_and_signal_follow_the_detectors_curves():
    detector = DetectorConfig(dqe=0.8, dqe_nyquist=0.3, mtf_nyquist=0.5, mean_free_path=None)
    flat = acquire(np.zeros((8, 96, 96), np.float32), 10.0, tilts(5.0, total_dose=100.0), detector=detector)
    mean = radial_amplitude(flat.noise, 12).mean(0) ** 2
    place = ((np.arange(12) + 0.5) / 12) ** 2
    expected = (0.5**place) ** 2 / (0.375**place) / flat.flux[0]
    assert mean[1:] == pytest.approx(expected[1:], rel=0.06)


def test_the_same_seed_gives_the_same_series_and_another_only_other_noise():
    one, two, other = (acquire(scene(), 10.0, tilts(), seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.counts, two.counts)
    assert np.array_equal(one.noisefree, other.noisefree)
    assert abs(np.corrcoef(one.noise.ravel(), other.noise.ravel())[0, 1]) < 0.03


def test_the_draw_of_a_tilt_does_not_depend_on_the_others():
    series = tilts()
    whole, part = (acquire(scene(), 10.0, t) for t in (series, series.subset(slice(3, 6))))
    assert np.abs(whole.counts[3:6] - part.counts).max() < 1e-2


def test_a_requested_snr_is_met():
    series = acquire(scene(), 10.0, tilts(), detector=DetectorConfig(snr=0.1))
    assert snr_of(series.signal, series.contrast - series.signal) == pytest.approx(0.1, rel=1e-3)
    assert np.abs(series.contrast - series.signal - series.noise).max() < 1e-4


def test_a_requested_snr_of_the_tomogram_is_met():
    result, mask = acquire(scene(), 10.0, tilts(5.0)), np.zeros(SHAPE, bool)
    mask[8:24, 8:40, 8:40] = True
    signal, noise = (reconstruct(part, result.tilts, SHAPE, 10.0) for part in (result.signal, result.noise))
    scaled = result.scale_noise(noise_factor(signal, noise, 0.05, mask))
    tomogram = reconstruct(scaled.contrast, scaled.tilts, SHAPE, 10.0)
    assert snr_of(signal, tomogram - signal, mask) == pytest.approx(0.05, rel=0.01)


def test_halves_hold_independent_noise():
    framed = acquire(scene(), 10.0, tilts(5.0), detector=DetectorConfig(frames=True))
    even, odd = framed.halves()
    assert np.abs(even.counts + odd.counts - framed.counts).max() < 1e-2
    assert abs(np.corrcoef(even.noise.ravel(), odd.noise.ravel())[0, 1]) < 0.03
    assert even.noise.var() == pytest.approx(2 * framed.noise.var(), rel=0.05)
    assert np.abs(even.signal - framed.signal).max() < 1e-5
    by_tilt = acquire(scene(), 10.0, tilts(5.0)).halves()
    assert [len(half) for half in by_tilt] == [13, 12]
    assert by_tilt[1].tilts.nominal_angles[0] == -55
    volumes = [reconstruct(h.contrast, h.tilts, SHAPE, 10.0) for h in by_tilt]
    assert np.corrcoef(volumes[0].ravel(), volumes[1].ravel())[0, 1] > 0


def test_scaling_the_noise_scales_the_frames_alike():
    framed = acquire(scene(), 10.0, tilts(30.0), detector=DetectorConfig(frames=True)).scale_noise(3.0)
    assert np.abs(framed.frames.sum(0) - framed.counts).max() < 2e-2


def test_later_tilts_have_lost_fine_detail():
    series = tilts(10.0, scheme="continuous", total_dose=150.0, defocus=(3, 3))
    kept, lost = (intensities(scene(), 5.0, series, OpticsConfig(damage=d)) - 1 for d in (False, True))
    left = [np.linalg.norm(b) / np.linalg.norm(a) for a, b in zip(kept, lost, strict=True)]
    assert left[0] > 0.9
    assert (np.diff(left) < 0).all()


def test_what_was_drawn_goes_to_json():
    series = acquire(scene(), 10.0, tilts(20.0), seed=5)
    result = json.loads(json.dumps(series.as_dict()))
    assert result["seed"] == 5
    assert result["optics"]["voltage"] == 300
    assert len(result["tilts"]["defocus"]) == len(result["flux"]) == 7


def test_matched_amplitudes_are_the_wished_ones():
    rng = np.random.default_rng(0)
    white = rng.standard_normal((3, 40, 48)).astype(np.float32) + 2
    assert radial_amplitude(white, 10) == pytest.approx(1, abs=0.25)
    target = np.linspace(5, 1, 10)
    result = filter_rings(white, amplitude_gain(white, target))
    assert radial_amplitude(result, 10) == pytest.approx(np.tile(target, (3, 1)), rel=1e-3)
    assert result.mean((1, 2)) == pytest.approx(white.mean((1, 2)), rel=1e-4)
    before, after = np.fft.rfft2(white), np.fft.rfft2(result)
    assert np.abs(np.angle(after * before.conj()))[1:20, 1:24].max() < 1e-3


def test_a_voxel_size_of_nothing_is_refused():
    with pytest.raises(ValueError, match="voxel size"):
        acquire(scene(), 0.0, tilts(60.0))
