import json

import numpy as np
import pytest
from pydantic import ValidationError

from cryovox.core.config import from_yaml, to_yaml
from cryovox.core.errors import RequestError
from cryovox.simulate.microscope import TiltConfig, Tilts, tilt_scheme


def draw(seed: int = 0, **settings) -> Tilts:
    return tilt_scheme(TiltConfig(**settings), np.random.default_rng(seed))


def taken(tilts: Tilts) -> list[float]:
    return tilts.nominal_angles[np.argsort(tilts.order)].tolist()


@pytest.mark.parametrize(
    ("scheme", "start", "expected"),
    [
        ("continuous", 0, [-9, -6, -3, 0, 3, 6, 9]),
        ("dose-symmetric", 0, [0, 3, -3, -6, 6, 9, -9]),
        ("bidirectional", 0, [0, 3, 6, 9, -3, -6, -9]),
        ("bidirectional", -3, [-3, 0, 3, 6, 9, -6, -9]),
        ("dose-symmetric", -6, [-6, -3, -9, 0, 3, 6, 9]),
        ("dose-symmetric", 9, [9, 6, 3, 0, -3, -6, -9]),
    ],
)
def test_the_order_is_that_of_the_scheme(scheme, start, expected):
    scene = draw(scheme=scheme, range=(-9, 9), step=3, start=start)
    assert taken(scene) == expected
    assert (np.diff(scene.nominal_angles) > 0).all()


def test_the_dose_is_shared_and_accumulates_in_the_order_of_acquisition():
    scene = draw(range=(-60, 60), step=2, total_dose=122)
    assert len(scene) == 61
    assert scene.dose == pytest.approx(2.0)
    assert scene.accumulated == pytest.approx(2.0 * scene.order)
    assert scene.accumulated[scene.nominal_angles == 0] == 0


def test_a_measured_list_is_kept_and_sorted():
    scene = draw(scheme="list", angles=(0, 10, -12.5), measured_defocus=(3.0, 3.5, 2.5))
    assert scene.nominal_angles.tolist() == [-12.5, 0, 10]
    assert scene.order.tolist() == [2, 0, 1]
    assert scene.defocus == pytest.approx([25000, 30000, 35000])


def test_defocus_is_drawn_within_its_range_and_errors_are_as_large_as_asked():
    means = [draw(seed, defocus=(2, 5), step=60).defocus for seed in range(200)]
    assert all(np.ptp(m) == 0 for m in means)
    first = np.array([m[0] for m in means])
    assert 20000 <= first.min() < 21000 < 49000 < first.max() <= 50000
    scene = draw(step=0.1, defocus_spread=0.2, defocus_error=0.1, shift=5, angle_error=0.3, defocus=(4, 4))
    assert scene.defocus.mean() == pytest.approx(40000, abs=200)
    assert scene.defocus.std() == pytest.approx(2000, rel=0.1)
    assert (scene.nominal_defocus - scene.defocus).std() == pytest.approx(1000, rel=0.1)
    assert scene.shifts.std(0) == pytest.approx([5, 5], rel=0.1)
    assert (scene.angles - scene.nominal_angles).std() == pytest.approx(0.3, rel=0.1)


def test_one_setting_changes_one_thing():
    plain, shifted = draw(3), draw(3, shift=4.0, total_dose=60)
    assert np.array_equal(plain.defocus, shifted.defocus)
    assert np.array_equal(plain.shifts, np.zeros((61, 2)))
    assert (shifted.shifts != 0).all()
    assert not np.array_equal(draw(4).defocus, plain.defocus)


def test_it_goes_to_json_and_back():
    scene = draw(shift=3.0)
    back = Tilts.from_dict(json.loads(json.dumps(scene.as_dict())))
    for name, value in vars(scene).items():
        assert np.array_equal(getattr(back, name), value)
    assert back.order.dtype == np.int64


def test_the_settings_go_to_yaml_and_back(tmp_path):
    config = TiltConfig(scheme="list", angles=(1.0, 2.0))
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    assert from_yaml(TiltConfig, tmp_path / "c.yaml") == config


@pytest.mark.parametrize(
    "settings",
    [{"range": (10, -10)}, {"range": (-95, 60)}, {"start": 70}, {"defocus": (5, 2)}, {"angles": (95,)}],
)
def test_nonsense_is_refused(settings):
    with pytest.raises(ValidationError):
        TiltConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"scheme": "list"},
        {"scheme": "list", "angles": (0, 1), "measured_defocus": (3,)},
        {"measured_defocus": (3.0,)},
    ],
)
def test_lists_that_do_not_fit_are_told(settings):
    with pytest.raises(RequestError):
        draw(**settings)
