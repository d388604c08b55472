import math
import re

import numpy as np
import pytest

from cryovox.report.adaptation import COLORS, Example, adaptation_page, outlines

EVIL = "<script>alert('x')</script>"
QUALITY = {
    "agreement": 0.91234, "halves": None, "noise": 0.8, "confidence": 0.9,
    "entropy": 0.125, "foreground": 0.0123, "prior": 0.5,
}  # fmt: skip


class Outcome:
    def __init__(self, chosen="adapted", reasons=("It is better.",), **adapted):
        self.content = {
            "chosen": chosen,
            "reasons": list(reasons),
            "scores": {"source": 0.5, "adapted": 0.625},
            "quality": {"source": QUALITY, "adapted": QUALITY | adapted},
        }

    def summary(self):
        return self.content


def ball(center, radius, side=32):
    y, x = np.indices((side, side)) * (32 / side) - center
    return 1 / (1 + np.exp(np.hypot(y, x) - radius))


def example(name="tomo", **fields):
    image = np.random.default_rng(0).standard_normal((32, 32))
    return Example(name, **({"image": image, "source": ball(12, 5), "adapted": ball(18, 8)} | fields))


def words(page):
    text = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(text.split())


def test_the_page_says_what_was_chosen_and_why():
    text = words(adaptation_page(Outcome(reasons=("First.", "Second.")), {"strategy": "vox-uda", "seed": 3}))
    assert "The adapted model was kept. First. Second." in text
    assert "source model adapted model (kept)" in text
    assert "agreement between views (concordance) 0.912 0.912" in text
    assert "score 0.5 0.625" in text
    assert "half tomograms (concordance)" not in text
    assert "strategy vox-uda" in text
    refused = words(adaptation_page(Outcome("source", agreement=math.nan, halves=0.7), {}))
    assert "The source model was kept" in refused
    assert "source model (kept) adapted model" in refused
    assert "0.912 not finite" in refused
    assert "half tomograms (concordance) - 0.7" in refused
    assert "strategy" not in refused


def test_the_page_needs_nothing_from_outside(tmp_path):
    csv = tmp_path / "metrics.csv"
    csv.write_text("step,name,value\n1,loss/seg,2\n2,loss/seg,1\n")
    empty = tmp_path / "empty.csv"
    empty.write_text("step,name,value\n")
    courses = {"source": tmp_path / "none.csv", "other": empty, "adapted": csv}
    page = adaptation_page(Outcome(), {}, [example()] * 6, courses)
    assert page.startswith("<!DOCTYPE html>")
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert page.count('src="data:image/') == 2
    assert "Training of the adapted model" in page
    order = ("Foreground contours of both", "Comparison of the models", "Losses of the")
    assert sorted(order, key=page.index) == list(order)
    assert 'tomo, tomo, tomo, tomo"' in page


def test_words_from_outside_are_only_words():
    page = adaptation_page(Outcome(reasons=(EVIL,)), {EVIL: EVIL}, [example(EVIL)], title=EVIL)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("side", [32, 16])
def test_outlines_are_where_the_models_say(side):
    """Coarser answers lie over the same place."""
    figure = outlines([example(adapted=ball(18, 8, side)), example("two")])
    plain, _, lower, _ = figure.axes[:4]
    assert plain.get_title(loc="left") == "tomo"
    assert not plain.collections
    drawn = lower.collections
    assert len(drawn) == 2
    for line, center, radius in zip(drawn, (12.5, 18 + 16 / side), (5, 8), strict=True):
        points = line.get_paths()[0].vertices
        assert np.allclose(points.mean(axis=0), center, atol=0.6)
        assert np.allclose(np.hypot(*(points - center).T), radius, atol=0.6)


def test_where_there_is_nothing_to_outline():
    """Warnings are errors."""
    for prediction in (np.zeros((32, 32)), np.ones((32, 32)), np.full((32, 32), np.nan)):
        figure = outlines([example(adapted=prediction)])
        figure.canvas.draw()
        assert len(figure.axes[1].collections) == 1


def test_the_legend_has_the_colors_of_the_lines():
    figure = outlines([example()])
    tints = [handle.get_color() for handle in figure.legends[0].get_lines()]
    assert tints == list(COLORS[:2])
