import re

import numpy as np
import pytest
from scipy import ndimage

from cryovox.report.simulation_match import curves, side_by_side, simulation_match_page

EVIL = "<script>alert('x')</script>"
SHAPE = (24, 40, 32)


@pytest.fixture(scope="module")
def volumes():
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=SHAPE) for _ in range(3)]
    real, simulated = (100 + 3 * ndimage.gaussian_filter(n, 1) for n in noise[:2])
    return real, simulated, noise[2]


@pytest.fixture(scope="module")
def page(volumes):
    real, simulated, unmatched = volumes
    scores = {"log-spectrum RMSE": (0.8123456, 0.11), EVIL: (None, 3)}
    facts = {
        "voxel_size": 13.3,
        "tilts": None,
        "slab": (3, 20),
        "matter": list(range(99)),
        "noise from": EVIL,
    }
    return simulation_match_page(
        real, simulated, 13.3, unmatched=unmatched, scores=scores, facts=facts, title=EVIL
    )


def test_the_page_needs_nothing_from_outside(page):
    assert page.startswith("<!DOCTYPE html>")
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert page.count('src="data:image/') == 2
    assert "--paper:" in page


def test_the_page_shows_the_numbers(page):
    words = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    words = " ".join(words.split())
    assert "log-spectrum RMSE 0.8123 0.11" in words
    assert "unmatched matched" in words
    assert "voxel size 13.3" in words
    assert "slab 3, 20" in words
    assert "tilts -" in words
    assert "matter" not in words


def test_words_from_outside_are_only_words(page):
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_one_column_a_tomogram(volumes):
    real, simulated, _ = volumes
    text = simulation_match_page(real, simulated, 10.0, scores={"x": (1.0, 2.0)})
    assert "unmatched" not in text
    assert re.search(r">x</td><td class=\"n\">2</td>", text)
    figure = side_by_side({"a": real, "b": simulated, "c": real[:16, :30]}, 10.0)
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == ["a", "b", "c"]
    shapes = [axes.images[0].get_array().shape for axes in figure.axes]
    assert shapes == [(40, 32), (40, 32), (30, 32), (24, 32), (24, 32), (16, 32)]


def test_white_noise_has_a_flat_spectrum_and_no_wedge(volumes):
    figure = curves({"noise": volumes[2] / volumes[2].std()}, 10.0)
    spectrum, tilt, histogram, along = figure.axes
    frequency, power = spectrum.lines[0].get_data()
    assert frequency[-1] == pytest.approx(0.05, rel=0.05)
    assert np.mean(power[4:]) == pytest.approx(1, abs=0.1)
    assert not tilt.lines
    assert np.sum(histogram.lines[0].get_ydata()) * 0.1 == pytest.approx(1, abs=0.01)
    assert len(along.lines[0].get_xdata()) == SHAPE[0]


def test_particles_are_dark_whatever_the_contrast(volumes):
    real, simulated, _ = volumes
    dark = side_by_side({"a": real, "b": simulated}, 10.0)
    bright = side_by_side({"a": -real, "b": -simulated}, 10.0, sign=1)
    for a, b in zip(dark.axes, bright.axes, strict=True):
        assert np.array_equal(a.images[0].get_array(), b.images[0].get_array())
        assert a.images[0].get_cmap().name == b.images[0].get_cmap().name == "gray"
