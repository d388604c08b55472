import base64
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap, Volume
from cryovox.report.doctor import Finding
from cryovox.report.html import ReportEntry, Table, write_find_report

EVIL = "<script>alert('x')</script>"
SPECIES = (Species(name="ribosome", label=1, radius=40.0), Species(name="a & <b>", label=2, radius=30.0))
RUN = {
    "command": ["cryovox", "find", "my tomo.mrc"],
    "seed": 7,
    "model": {"network": "heatmap-unet", "voxel size": "10 Å"},
    "timings": {"segment": 75.0},
    "inputs": {"tomo.mrc": "sha256 abc123"},
}
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def text(self):
        return " ".join(" ".join(self.words).split())


def entry(name="TS_01", n=12, scores=True, **changes):
    rng = np.random.default_rng(5)
    volume = Volume(rng.normal(size=(16, 24, 24)).astype(np.float32), 10.0)
    names = ["ribosome"] * (n - n // 3) + ["a & <b>"] * (n // 3)
    particles = Particles.of(rng.random((n, 3)) * [150, 230, 230], names, rng.random(n))
    score_map = ScoreMap(np.zeros((2, 8, 12, 12), np.float16), 20.0, SPECIES, 5.0) if scores else None
    return ReportEntry(name, volume, score_map, particles, {"ribosome": 0.25}, **changes)


def written(tmp_path, entries, run=RUN, **changes):
    path = tmp_path / "report.html"
    write_find_report(path, entries, run, **changes)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    finding = Finding("warning", "voxel size", "1 Å <sic>", "cryovox convert a b --voxel-size A")
    folder = tmp_path_factory.mktemp("report")
    one = entry(
        EVIL,
        findings=[finding, Finding("ok", "shape", "16 x 24 x 24")],
        outputs={"particles": folder / "particles" / "a b.star"},
        seconds=75.0,
    )
    table = Table("Evaluation", ["species", "F1"], [["ribosome", 0.87654]], note="once")
    return written(folder, [one], tables=[table])


def test_nothing_is_fetched_from_elsewhere(page):
    text, parsed = page
    for tag, attrs in parsed.tags:
        for key in ("src", "href", "srcset", "data", "action", "poster"):
            value = attrs.get(key) or ""
            assert not re.match(r"\s*(https?:)?//", value), (tag, key)
        if "src" in attrs:
            assert attrs["src"].startswith("data:image/")
    assert not parsed.all("link")
    assert "@import" not in text
    assert "url(" not in text


def test_pages_are_well_formed_and_pictures_are_real(page):
    _, parsed = page
    assert not parsed.open
    images = parsed.all("img")
    assert len(images) == 4  # slices, two montages, a histogram
    for image in images:
        assert len(image["alt"]) > 20
        kind, data = image["src"].split(";base64,")
        raw = base64.b64decode(data, validate=True)
        assert len(raw) < 400_000
        assert kind == "data:image/svg+xml"
        assert ElementTree.fromstring(raw).tag.endswith("svg")


def test_names_are_escaped(page):
    text, parsed = page
    assert EVIL not in text
    assert EVIL in parsed.text()
    assert "a & <b>" in parsed.text()
    assert "1 Å <sic>" in parsed.text()
    assert [tag.get("type", "") for tag in parsed.all("script")] == ["application/json", "", ""]


def test_what_was_found_and_run_is_told(page):
    _, parsed = page
    text = parsed.text()
    for words in (
        *("12 picks", "ribosome, 8 picks", "0.25", "1 warning", "1 min 15 s", "0.8765", "seed 7"),
        *("cryovox find 'my tomo.mrc'", "heatmap-unet", "sha256 abc123", "RELION 5", "--threshold"),
        "cryovox convert a b --voxel-size A",
    ):
        assert words in text, words
    assert {"href": "particles/a%20b.star"} in parsed.all("a")


def test_many_tomograms_stay_usable(tmp_path):
    entries = [entry(f"TS_{i:03}", n=i % 5) for i in range(110)]
    text, parsed = written(tmp_path, entries, figures_for=1)
    assert "first 1 of 110 tomograms" in parsed.text()
    assert all(f"TS_{i:03}" in parsed.text() for i in range(110))
    sections = [s for s in parsed.all("details") if s.get("class") == "tomogram"]
    assert len(sections) == 110
    assert [s["id"] for s in sections if "open" in s] == ["tomogram-0"]
    anchors = {a["href"][1:] for a in parsed.all("a") if a["href"].startswith("#tomogram-")}
    assert anchors == {s["id"] for s in sections}
    assert len(text) < 3_000_000


def test_without_scores_picks_or_facts(tmp_path):
    _, parsed = written(tmp_path, [entry(n=0, scores=False, species=SPECIES)], run={})
    assert "No particles found." in parsed.text()
    assert "no problems detected" not in parsed.text()
    _, parsed = written(tmp_path, [], run={})
    assert "0 tomograms" in parsed.text()


def test_a_failure_leaves_the_old_page(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(TypeError):
        write_find_report(path, [entry(name="x", seconds=None)], {})
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def commands(parsed):
    """Every command of a page."""
    return [line for line in "\n".join(parsed.words).splitlines() if line.startswith("cryovox ")]


def test_the_advised_threshold_is_that_of_the_picks(tmp_path):
    one = entry(outputs={"scores": tmp_path / "scores" / "TS_01.zarr"})
    run = {"pick": {"threshold": 0.25, "border": 50.0, "exclusive": False, "overlap_ratio": 2.0}}
    _, parsed = written(tmp_path, [one], run=run)
    command = shlex.split(next(c for c in commands(parsed) if c.startswith("cryovox pick")))
    value = float(command[command.index("--threshold") + 1])
    assert 0.4 <= (one.particles.scores >= value).mean() <= 0.6
    assert command[command.index("--border") + 1] == "50"
    assert "--no-exclusive" in command
    assert "--overlap-ratio" not in command
    assert "at least 0.25" in parsed.text()


def empty_entry(highest, **changes):
    one = entry(n=0, outputs={"scores": Path("out/scores/TS_01.zarr")}, tomogram=Path("TS_01.mrc"))
    data = np.zeros((2, 8, 12, 12), np.float32)
    data[0, 5, 6, 7] = highest
    thresholds = {"ribosome": 0.3, "a & <b>": 0.3}
    return replace(one, scores=replace(one.scores, data=data), thresholds=thresholds, **changes)


@pytest.mark.parametrize(
    ("highest", "words", "threshold"),
    [
        (0.21, "The highest score is 0.21 (ribosome), 0 (a & <b>); the threshold is 0.3.", "0.18"),
        (0.004, "no threshold will help", None),
        (0.62, "another setting removed every candidate", None),
    ],
)
def test_a_page_without_picks_says_why_and_what_to_try(tmp_path, highest, words, threshold):
    run = {"command": "cryovox find TS_01.mrc", "model": {"file": "run/model.safetensors"}}
    text, parsed = written(tmp_path, [empty_entry(highest, sign=1)], run=run)
    assert words in parsed.text()
    assert "no particles found" in parsed.text()
    assert "no problems detected" not in text
    assert "Start with the thumbnails" not in text
    assert "RELION" not in text
    picks = [shlex.split(c) for c in commands(parsed) if c.startswith("cryovox pick")]
    assert len(picks) == (highest > 0.1)
    assert [c[c.index("--threshold") + 1] for c in picks if "--threshold" in c] == (
        [threshold] if threshold else []
    )
    assert "cryovox doctor TS_01.mrc --model run/model.safetensors" in commands(parsed)
    assert "--contrast dark" in parsed.text()
