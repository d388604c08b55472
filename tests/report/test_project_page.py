"""The project page: its numbers, and the page in headless Chromium."""

import json
import re

import numpy as np
import pytest

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import Volume
from cryovox.report.doctor import Finding
from cryovox.report.gallery import picture
from cryovox.report.project import ProjectEntry, columns_of, rows_of, write_project_page

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
COUNTS = {"TS_01": 12, "TS_02": 3, "TS_03": 40, "TS_10": 0}
FINDING = Finding("warning", "voxel size", "the header has <no> voxel size", "cryovox convert A.mrc B.mrc")


def entries():
    rng = np.random.default_rng(0)
    volume = Volume(rng.normal(size=(16, 48, 48)).astype(np.float32), 10.0)
    for i, (name, count) in enumerate(COUNTS.items()):
        picks = Particles.of(rng.uniform(20, 140, (count, 3)), "ribosome")
        image = picture(volume, picks, (Species(name="ribosome", label=1, radius=60.0),), ("#e69f00",))
        numbers = {"median score": 0.5 + 0.1 * i if count else None, "defocus": 4.0 - i}
        warnings = [FINDING, Finding("ok", "slab", "fine")] if i == 1 else []
        yield ProjectEntry(name, "found", "found/report.html", {"ribosome": count}, numbers, warnings, image)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("project") / "project.html"
    write_project_page(path, list(entries()), "cryovox report found")
    return path


@pytest.fixture
def browser(open_page, page):
    return open_page(page)


def names(browser):
    return [row.text for row in browser.all("#p-table tbody th") if row.is_displayed()]


def test_the_table_holds_counts_numbers_and_warnings():
    every = list(entries())
    assert columns_of(every) == ["picks", "warnings", "median score", "defocus"]
    rows = rows_of(every)
    assert [row["picks"] for row in rows] == list(COUNTS.values())
    assert [row["warnings"] for row in rows] == [0, 1, 0, 0]
    assert rows[3]["median score"] is None
    assert rows[0]["folder"] == "found"


def test_two_species_have_columns_of_their_own():
    every = [ProjectEntry("a", "f", counts={"x": 1, "y": 2}), ProjectEntry("b", "f", counts={"y": 5})]
    assert columns_of(every) == ["picks", "warnings", "x", "y"]
    assert [(row["picks"], row["x"], row["y"]) for row in rows_of(every)] == [(3, 1, 2), (5, None, 5)]


def test_the_page_is_one_file_without_a_network(page):
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", text)
    assert "&lt;no&gt;" in text
    data = json.loads(re.search(r'id="p-data">(.*?)</script>', text)[1])
    assert data["rows"][2][0] == 40


def test_a_picture_shows_bright_particles_dark_and_rings_where_picks_are():
    data = np.random.default_rng(0).normal(0, 0.05, (9, 60, 60)).astype(np.float32)
    data[1:8, 40:44, 10:14] = 1.0
    picks = Particles.of([[40.0, 415.0, 115.0]], "ribosome")
    from io import BytesIO

    from PIL import Image

    species = (Species(name="ribosome", label=1, radius=60.0),)
    image = Image.open(BytesIO(picture(Volume(data, 10.0), picks, species, ("#ff0000",), sign=1)))
    pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (216, 216, 3)
    scale = 216 / 60
    y, x = int(216 - 42 * scale), int(12 * scale)
    assert pixels[y, x].max() < 80  # the particle, y upwards
    red = pixels[..., 0] - pixels[..., 1] > 60
    rows, columns = np.nonzero(red)
    assert abs(rows.mean() - y) < 4
    assert abs(columns.mean() - x) < 4
    assert np.ptp(rows) == pytest.approx(12 * scale, abs=6)


def test_the_table_is_sorted_and_filtered(browser):
    assert names(browser) == list(COUNTS)
    heads = browser.all("#p-table thead button")
    heads[1].click()  # picks, fewest first
    assert names(browser) == ["TS_10", "TS_02", "TS_01", "TS_03"]
    heads[1].click()
    assert names(browser)[0] == "TS_03"
    heads[3].click()  # median score; unknown values come last either way
    assert names(browser)[-1] == "TS_10"
    browser.id("p-filter").send_keys("ts_0")
    assert sorted(names(browser)) == ["TS_01", "TS_02", "TS_03"]
    assert browser.id("p-shown").text == "3 of 4 shown"
    assert not browser.errors()


def test_a_subset_is_selected_by_a_rule_and_by_hand_and_is_read_back(browser):
    from cryovox.workflows.subsets import read_subset

    browser.js("document.getElementById('p-value').value = 10")
    browser.click("p-select")
    assert browser.id("p-status").text == "2 of 4 tomograms selected"
    card = browser.all("#p-gallery li")[1].find_element("tag name", "input")
    browser.show(card)
    card.click()
    assert browser.all("#p-table tbody tr")[1].get_attribute("class") == "chosen"
    browser.click("p-save")
    assert read_subset(browser.download("subset.txt")) == {"TS_01", "TS_02", "TS_03"}
    browser.open()  # a selection outlives the page
    assert browser.id("p-status").text == "3 of 4 tomograms selected"
    browser.click("p-none")
    browser.click("p-save")
    assert browser.id("p-status").text == "Select a tomogram first."


def test_a_trend_is_drawn_with_its_correlation(browser):
    browser.select("p-x", "3")  # defocus
    browser.until(lambda: "against defocus" in browser.id("p-chart").text)
    assert len(browser.all("#p-chart circle")) == 4
    # picks 12, 3, 40, 0 at defocus 4, 3, 2, 1: ranks 3, 2, 4, 1 and 4, 3, 2, 1
    assert "4 tomograms, rank correlation 0.40" in browser.id("p-chart").text
    browser.click("p-all")
    browser.until(lambda: len(browser.all("#p-chart circle.chosen")) == 4)


@pytest.mark.parametrize(("width", "height"), [(1400, 1000), (390, 844)])
def test_nothing_is_wider_than_the_screen(browser, width, height):
    browser.open(width, height)
    assert browser.js("return document.documentElement.scrollWidth") <= width


def test_the_page_is_accessible(browser):
    assert browser.accessibility_problems() == []
