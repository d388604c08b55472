"""The report page in headless Chromium."""

import csv
import re

import numpy as np
import pytest

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap, Volume
from cryovox.formats import read_particles
from cryovox.picking.lamella import Lamella, Plane
from cryovox.picking.rated import Decoys
from cryovox.report.html import ReportEntry, write_find_report

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
SPECIES = (Species(name="ribosome", label=1, radius=60.0), Species(name="capsid", label=2, radius=80.0))
COUNT = 30


def entry(name, seed):
    """A tomogram with picks of known scores and positions."""
    rng = np.random.default_rng(seed)
    volume = Volume(rng.normal(size=(32, 64, 72)).astype(np.float32), 10.0)
    names = ["ribosome"] * 20 + ["capsid"] * 10
    scores = np.r_[np.linspace(0.95, 0.4, 20), np.linspace(0.9, 0.45, 10)]
    picks = Particles.of(rng.uniform(60, [250, 570, 650], (COUNT, 3)), names, scores)
    curve = [[0.4, 0.6, 0.9], [0.9, 0.96, 0.2]]
    expected = {"ribosome": {"curve": curve, "cuts": [{"particles": 16.0}]}}
    return ReportEntry(
        name,
        volume,
        ScoreMap(rng.random((2, 16, 32, 36)).astype(np.float16), 20.0, SPECIES, 5.0),
        picks,
        {"ribosome": 0.4, "capsid": 0.4},
        expected=expected,
        decoys=Decoys({"ribosome": np.array([0.42, 0.61])}, {"ribosome": 2.0}),
        weaker=lambda: Particles.of([[100.0, 300.0, 300.0]], "capsid", [0.3]),
        lamella=Lamella(Plane(4.0, 0.0, 0.05), Plane(28.0, 0.0, 0.0), (32, 64, 72), 10.0),
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    entries = [entry("TS_01", 1), entry("TS_02", 2)]
    write_find_report(path, entries, {"command": "cryovox find"})
    return path, {one.name: one for one in entries}


class Viewer:
    """The page, and what is special about its viewer."""

    def __init__(self, browser):
        self.browser = browser

    def __getattr__(self, name):
        return getattr(self.browser, name)

    def plane(self):
        return int(self.id("v-canvas").get_attribute("data-plane"))

    def totals(self):
        """The key numbers beside the thresholds."""
        names = [term.text for term in self.all("#v-totals dt")]
        return dict(zip(names, [value.text for value in self.all("#v-totals dd")], strict=True))

    def picture(self):
        return self.js(
            "const c = document.getElementById('v-canvas'); return Array.from(c.getContext('2d')"
            ".getImageData(0, 0, c.width, c.height).data.filter((_, i) => i % 997 < 3))"
        )

    def saved(self, button, name):
        self.click(button)
        return self.download(name)


@pytest.fixture
def browser(open_page, page):
    return Viewer(open_page(page[0]))


@pytest.fixture
def key(driver):
    from selenium.webdriver.common.keys import Keys

    return Keys


def test_slider_and_keys_change_the_slice(browser, key):
    browser.slide("v-z", 7)
    browser.until(lambda: browser.plane() == 7)
    before = browser.picture()
    assert browser.id("v-z-text").text.startswith("z 7 of 31")
    browser.click("v-canvas")
    browser.keys(key.ARROW_UP, key.ARROW_UP)
    browser.until(lambda: browser.plane() == 9)
    assert browser.picture() != before
    browser.keys(key.PAGE_DOWN)
    browser.until(lambda: browser.plane() == 0)
    assert not browser.errors()


def test_layers_zoom_and_contrast_change_the_picture(browser):
    browser.slide("v-z", 12)
    browser.until(lambda: browser.plane() == 12)
    pictures = [browser.picture()]
    browser.js("arguments[0].focus()", browser.id("v-canvas"))
    for key in ("p", "o", "o", "i", "+", "+"):
        browser.keys(key)
        browser.until(lambda: browser.picture() != pictures[-1])
        pictures.append(browser.picture())
    browser.slide("v-black", 120)
    browser.until(lambda: browser.picture() != pictures[-1])
    browser.keys("0")
    assert browser.id("v-scale").text.startswith("1.0")
    assert not browser.errors()


def test_thresholds_change_count_precision_and_recall(browser):
    before = browser.totals()
    assert before["picks"] == str(COUNT)
    assert before["expected precision"] == "60 %"
    assert before["expected in noise"] == "4"
    browser.slide("v-range-0", 0.65)
    scores = np.linspace(0.95, 0.4, 20)
    count = int((scores >= 0.65).sum())
    assert browser.totals()["picks"] == str(count + 10)
    assert browser.totals()["expected precision"] == "78 %"  # halfway between the points of the curve
    assert browser.totals()["expected recall"] == f"{100 * 0.78 * count / 16:.0f} %"
    assert browser.totals()["expected in noise"] == "0"
    assert f"{count} picks, precision 78 %, recall 55 %" in browser.id("v-numbers-0").text
    browser.until(lambda: browser.id("v-page").text.startswith(f"{count + 10} picks"))
    browser.click("v-thresholds")
    assert browser.totals()["picks"] == str(COUNT)
    browser.select("v-show", "below")
    assert browser.id("v-page").text.startswith("1 picks")


def test_decisions_by_mouse_and_keys_are_downloaded_and_read_back(browser, page, key):
    thumbs = browser.all("#v-thumbs li")
    browser.show(thumbs[0])
    thumbs[0].find_element("class name", "v-keep").click()  # pick 0 by mouse
    thumbs[2].find_element("class name", "v-reject").click()  # pick 2 by mouse
    browser.js("arguments[0].focus()", thumbs[4].find_element("class name", "v-thumb"))
    browser.keys("k", "r")  # picks 4 and 5: a decision goes on to the next thumbnail
    browser.keys("r", "u")  # pick 6, taken back
    browser.js("arguments[0].focus()", browser.id("v-canvas"))
    browser.keys(key.ARROW_RIGHT, "r")  # the pick after the one with the focus
    totals = browser.totals()
    decided = {0: 1, 2: 0, 4: 1, 5: 0}
    assert (totals["kept"], totals["rejected"]) == ("2", "3")

    one = page[1]["TS_01"]
    best = one.particles.sorted()
    picks = read_particles(browser.saved("v-save-star", "curated.star"), tomogram=one.volume)
    keep = [int(cell) for cell in picks.extra["keep"]]
    assert len(picks) == 5
    for row, (i, value) in enumerate(decided.items()):
        assert keep[row] == value
        assert np.allclose(picks.positions[row], best.positions[i], atol=1e-3)
        assert picks.species[row] == best.species[i]
    with browser.saved("v-save-csv", "curated.csv").open(newline="") as file:
        assert [int(row["keep"]) for row in csv.DictReader(file)] == keep
    assert "2 kept and 3 rejected" in browser.id("v-status").text

    kept = read_particles(
        browser.saved("v-save-kept", "kept.star"), tomogram={k: e.volume for k, e in page[1].items()}
    )
    assert "keep" not in kept.extra
    assert len(kept) == 2 * COUNT - 3  # of both tomograms, without the rejected ones
    assert kept.tomograms.tolist().count("TS_02") == COUNT
    assert not browser.errors()


def test_decisions_outlive_the_page_and_can_be_undone(browser):
    browser.click("v-keep-all")
    assert browser.totals()["kept"] == str(COUNT)
    browser.open()
    assert browser.totals()["kept"] == str(COUNT)
    browser.click("v-next")
    browser.click("v-clear")
    assert browser.totals()["kept"] == str(COUNT - 1)
    browser.click("v-undo")
    assert browser.totals()["kept"] == str(COUNT)


def test_another_tomogram_has_its_own_decisions(browser):
    browser.click("v-keep-all")
    browser.select("v-tomogram", "1")
    browser.until(lambda: browser.totals()["kept"] == "0")
    assert browser.id("v-pick-text").text.startswith("Click")
    browser.slide("v-z", 3)
    browser.until(lambda: browser.plane() == 3)
    assert not browser.errors()


def test_a_circle_is_selected_by_a_click(browser):
    browser.click("v-next")
    text = browser.id("v-pick-text").text
    assert re.match(r"Pick \d+ of 31: ", text)
    x, y = browser.js(
        """const one = JSON.parse(document.getElementById("v-data").textContent).tomograms[0];
        const canvas = document.getElementById("v-canvas"), [, ny, nx] = one.shape;
        const scale = Math.min(canvas.clientWidth / nx, canvas.clientHeight / ny);
        return [(one.picks.x[0] + 0.5 - nx / 2) * scale, (ny / 2 - one.picks.y[0] - 0.5) * scale]
            .map(Math.round);"""
    )
    browser.click("v-canvas")
    canvas = browser.id("v-canvas")
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser.driver).move_to_element_with_offset(canvas, x, y).click().perform()
    assert browser.id("v-pick-text").text == text


@pytest.mark.parametrize(("width", "height"), [(1400, 1000), (390, 844)])
def test_nothing_is_wider_than_the_screen(browser, width, height):
    browser.open(width, height)
    assert browser.js("return document.documentElement.scrollWidth") <= width
    browser.select("v-overlay", "labels")
    browser.select("v-which", "0")
    assert browser.js("return document.documentElement.scrollWidth") <= width
    assert not browser.errors()


def test_the_viewer_is_accessible(browser):
    assert browser.accessibility_problems() == []


def test_everything_can_be_done_with_the_keyboard(browser, key):
    """From the top of the page: slice, threshold, decision and download, with the keyboard alone."""

    def tab_to(name, most=60):
        for _ in range(most):
            browser.keys(key.TAB)
            if browser.focused() == name:
                return
        raise AssertionError(f"no key leads to {name}")

    browser.js("document.body.tabIndex = -1; document.body.focus()")
    tab_to("v-canvas")
    start = browser.plane()
    browser.keys(key.ARROW_UP)
    browser.until(lambda: browser.plane() == start + 1)
    tab_to("v-z")
    browser.keys(key.ARROW_LEFT)
    browser.until(lambda: browser.plane() == start)
    tab_to("v-range-0")
    browser.keys(key.ARROW_RIGHT, key.ARROW_RIGHT)
    assert float(browser.id("v-at-0").get_attribute("value")) == pytest.approx(0.41)
    tab_to("v-thumb")
    browser.keys("k", "r")
    assert (browser.totals()["kept"], browser.totals()["rejected"]) == ("1", "1")
    tab_to("v-save-star")
    browser.keys(key.ENTER)
    assert "_keep" in browser.download("curated.star").read_text()
    assert not browser.errors()
