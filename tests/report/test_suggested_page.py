import base64
import html
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import Volume
from cryovox.report.suggested import SearchedTomogram, three_slices, write_suggested_page

EVIL = "<script>alert('x')</script>"
SPECIES = (Species(name="ribosome", label=1, radius=40.0), Species(name=EVIL, label=2, radius=30.0))
SHAPE = (20, 28, 24)
RUN = {
    "command": "cryovox suggest",
    "model": "run/model.safetensors",
    "suggest": {"count": 4, "min_score": 0.05},
}


def bead(at, sign=-1):
    """A volume with one blob of a voxel or so."""
    data = np.random.default_rng(0).normal(size=SHAPE) * 0.05
    z, y, x = np.ogrid[tuple(slice(n) for n in SHAPE)]
    data += sign * 8 * np.exp(-((z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2) / 2)
    return Volume(data.astype(np.float32), 10.0)


def places():
    positions = np.array([[100, 130.5, 90], [0, 0, 0], [190, 270, 230.0]])
    particles = Particles.of(
        positions, ["ribosome", EVIL, "ribosome"], [0.31, 0.072, 0.9], tomograms=["TS_01", "TS_02", "TS_01"]
    )
    return replace(
        particles, extra={"uncertainty": np.array([1.0, 0.5, 0.25]), "diversity": np.array([1, 2.5, 0.5])}
    )


def words(page):
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL).split())


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    tomograms = {
        "TS_01": SearchedTomogram(bead((10, 13, 9)), -1, 40, 7),
        "TS_02": SearchedTomogram(bead((1, 1, 1)), -1, 5, 0),
    }
    write_suggested_page(path, places(), tomograms, SPECIES, RUN)
    return path.read_text(encoding="utf-8")


def test_a_card_for_every_place_in_the_order_of_rank(page):
    text = words(page)
    named = re.findall(r"(\d)\. (\S+?)\? score", text.replace(html.escape(EVIL).replace("x27", "39"), "evil"))
    assert named == [("1", "ribosome"), ("2", "evil"), ("3", "ribosome")]
    assert (
        "score 0.31, uncertainty 1.00, diversity 1.00 TS_01, voxel 9.0, 13.1, 10.0 90.0, 130.5, 100.0 Å"
        in text
    )
    assert "score 0.07, uncertainty 0.50, diversity 2.50 TS_02, voxel 0.0, 0.0, 0.0" in text


def test_every_card_has_a_picture_with_three_circles_of_the_radius(page):
    drawn = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(drawn) == 3
    for svg, radius in zip(drawn, ("4.0", "3.0", "4.0"), strict=True):
        assert re.findall(r'<circle [^>]*r="([^"]*)"', svg) == [radius] * 3
        width, height = (int(n) for n in re.search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups())
        raw = base64.b64decode(re.search(r"base64,([^\"]*)", svg)[1])
        assert Image.open(io.BytesIO(raw)).size == (width, height)


def test_the_page_needs_nothing_from_outside_and_words_are_only_words(page):
    assert page.startswith("<!DOCTYPE html>")
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert len(page) < 100_000


def test_the_page_tells_how_to_go_on_and_what_was_run(page):
    text = words(page)
    for some in (
        "exhaustive: false",
        "--start run/model.safetensors",
        "cryovox train semi-etpicker",
        "cryovox suggest",
        "count 4, min_score 0.05",
        "3 suggestions",
        "45 candidates",
        "7 already labeled",
    ):
        assert some in text


def test_no_place_at_all(tmp_path):
    none = places().take(np.zeros(3, bool))
    tomograms = {"TS_01": SearchedTomogram(bead((1, 1, 1)))}
    write_suggested_page(tmp_path / "report.html", none, tomograms, SPECIES, RUN)
    assert "There are no suggestions" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("shift", [(0, 0, 0), (2, -3, 4)], ids=str)
def test_circles_lie_where_the_particle_is_and_particles_are_dark(sign, shift):
    at = np.array([10, 13, 9])
    picture, centers = three_slices(bead(at + shift, sign), at * 10.0, 30.0, sign)
    height = picture.shape[0]
    assert picture.shape == (15, 47)
    axes = ((0, 1, 2), (1, 0, 2), (2, 0, 1))
    for k, ((cx, cy), (cut, up, right)) in enumerate(zip(centers, axes, strict=True)):
        if abs(shift[cut]) > 3:
            continue  # far from the planes that this slice averages
        panel = picture[:, k * (height + 1) : k * (height + 1) + height].astype(float)
        dark = np.maximum(np.median(panel) - panel, 0)
        row, column = ndimage.center_of_mass(dark > dark.max() / 2)
        # a pixel's middle is half a voxel from its edge; rows run downwards
        assert column + 0.5 == pytest.approx(cx - k * (height + 1) + shift[right], abs=0.3)
        assert row + 0.5 == pytest.approx(cy - shift[up], abs=0.3)


def test_circles_follow_between_the_voxels():
    volume = bead((10, 13, 9))
    (_, centers), (_, moved) = (
        three_slices(volume, np.array(p), 30.0) for p in ([100, 130, 90.0], [102, 134, 93.0])
    )
    assert np.allclose(np.subtract(moved, centers), [[0.3, -0.4], [0.3, -0.2], [0.4, -0.2]])


def test_outside_of_the_tomogram_is_white():
    picture, _ = three_slices(bead((2, 2, 2)), np.zeros(3), 30.0)
    assert (picture[8:, :7] == 255).all()
    assert (picture[:7, 8:15] < 255).any()
    beyond, _ = three_slices(bead((2, 2, 2)), np.array([5000.0, 0, 0]), 30.0)
    assert (beyond == 255).all()
