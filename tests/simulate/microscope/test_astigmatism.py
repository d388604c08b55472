import numpy as np
import pytest
from pydantic import ValidationError

from cryovox.simulate.microscope import OpticsConfig, TiltConfig, tilt_scheme
from cryovox.simulate.microscope.acquire import intensities
from cryovox.simulate.microscope.optics import wavelength
from cryovox.simulate.microscope.reconstruct import flip_phases

SIZE, EDGE = 256, 4.0
PLAIN = OpticsConfig(model="weak", damage=False, cc=0, aperture=0, cs=0, amplitude_contrast=0.0)
LIST = {"scheme": "list", "angles": (0.0,), "defocus": (2.0, 2.0)}


def draw(seed=0, **settings):
    return tilt_scheme(TiltConfig(**settings), np.random.default_rng(seed))


def point(strength=10.0):
    volume = np.zeros((3, SIZE, SIZE), np.float32)
    volume[1, SIZE // 2, SIZE // 2] = strength
    return volume


def spectrum(image):
    """Of an image whose only object is a point in the middle: real, the contrast transfer itself."""
    return np.fft.rfft2(np.fft.ifftshift(image - 1)).real


def first_zero(line):
    """Where a line of the spectrum first changes its sign, in 1/Å."""
    at = np.flatnonzero(line[4:-1] * line[5:] < 0)[0] + 4
    return (at + line[at] / (line[at] - line[at + 1])) / (len(line) * 2 - 2) / EDGE


@pytest.mark.parametrize("model", ["weak", "strong"])
@pytest.mark.parametrize(("direction", "along"), [(0, "x"), (90, "y"), (45, None)], ids=["x", "y", "between"])
def test_zeros_along_the_axes_are_those_of_the_two_defoci(model, direction, along):
    tilts = draw(**LIST, astigmatism=(0.6, 0.6), astigmatism_angle=(direction, direction))
    result = spectrum(intensities(point(), EDGE, tilts, PLAIN.model_copy(update={"model": model}))[0])
    half = {"x": (0.3, -0.3), "y": (-0.3, 0.3), None: (0.0, 0.0)}[along]
    for line, more in zip((result[0], result[: SIZE // 2 + 1, 0]), half, strict=True):
        expected = np.sqrt(1 / (wavelength(300) * 1e4 * (2 + more)))
        assert first_zero(line) == pytest.approx(expected, rel=0.01)


def test_the_diagonals_tell_which_way_it_turns():
    tilts = draw(**LIST, astigmatism=(0.6, 0.6), astigmatism_angle=(45.0, 45.0))
    result = spectrum(intensities(point(), EDGE, tilts, PLAIN)[0])
    steps = np.arange(SIZE // 2 + 1)
    for line, more in ((result[steps, steps], 0.3), (result[-steps, steps], -0.3)):
        expected = np.sqrt(1 / (wavelength(300) * 1e4 * (2 + more)))
        assert np.sqrt(2) * first_zero(line) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("model", ["weak", "strong"])
def test_each_tilt_has_a_defocus_of_its_own(model):
    tilts = draw(**(LIST | {"angles": (0.0, 0.0, 0.0)}), defocus_spread=0.3, defocus_error=0.3)
    images = intensities(point(), EDGE, tilts, PLAIN.model_copy(update={"model": model}))
    for image, defocus in zip(images, tilts.defocus, strict=True):
        assert first_zero(spectrum(image)[0]) == pytest.approx(
            np.sqrt(1 / (wavelength(300) * defocus)), rel=0.01
        )
    assert np.ptp(tilts.defocus) > 1000
    assert np.abs(tilts.nominal_defocus - tilts.defocus).max() > 1000


def test_flipping_follows_the_astigmatism_and_the_error_of_the_defocus():
    tilts = draw(**LIST, astigmatism=(0.6, 0.6), astigmatism_angle=(30.0, 30.0))
    image = 1 - intensities(point(), EDGE, tilts, PLAIN)
    assert spectrum(1 + flip_phases(image, tilts, EDGE, PLAIN)[0])[:, :-1].min() > -1e-3
    wrong = draw(**LIST, defocus_error=0.5)
    image = 1 - intensities(point(), EDGE, wrong, PLAIN)
    assert spectrum(1 + flip_phases(image, wrong, EDGE, PLAIN)[0]).min() < -0.005


def test_dose_and_astigmatism_are_drawn_within_their_ranges_and_disturb_nothing():
    settings = {"step": 10, "shift": 2.0, "defocus_spread": 0.1}
    for seed in range(20):
        plain, other = np.random.default_rng(seed), np.random.default_rng(seed)
        one = tilt_scheme(TiltConfig(**settings), plain)
        two = tilt_scheme(TiltConfig(**settings, total_dose=(80, 130), astigmatism=(0.1, 0.4)), other)
        assert plain.random() == other.random()
        assert np.array_equal(one.defocus, two.defocus)
        assert np.array_equal(one.shifts, two.shifts)
        assert 80 < two.dose.sum() < 130
        assert 1000 < two.astigmatism[0] < 4000
        assert 0 < two.astigmatism_angle[0] < 180
        assert np.ptp(two.astigmatism) == np.ptp(two.dose) == 0
        assert one.dose.sum() == pytest.approx(120)
        assert not one.astigmatism.any()
    sums = [draw(seed, total_dose=(80, 130)).dose.sum() for seed in range(100)]
    assert min(sums) < 85
    assert max(sums) > 125


@pytest.mark.parametrize(
    "settings",
    [
        {"total_dose": 0},
        {"total_dose": (0, 10)},
        {"total_dose": (120, 80)},
        {"astigmatism": (0.3, 0.1)},
        {"astigmatism": (-0.1, 0.1)},
        {"astigmatism_angle": (90, 0)},
    ],
)
def test_nonsense_is_refused(settings):
    with pytest.raises(ValidationError):
        TiltConfig(**settings)
