import base64
import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from cryovox.report.drawing import Bar, Drawing, Gray, Line, Note, Panel, Ring, Tint, ticks

SVG = "{http://www.w3.org/2000/svg}"
SPAN = (0.0, 10.0, 0.0, 5.0)


def drawn(*items, **options):
    """SVG elements of a panel of 100 x 50 pixels for 10 x 5 units."""
    panel = Panel("one", (20.0, 30.0, 100.0, 50.0), SPAN, items=list(items), **options)
    return ElementTree.fromstring(Drawing((140, 90), [panel]).svg())


def numbers(element, *names):
    return [float(element.get(name)) for name in names]


def decoded(element):
    """Pixels of an image with opacity."""
    raw = base64.b64decode(element.get("href").split(",")[1])
    return np.asarray(Image.open(io.BytesIO(raw)).convert("RGBA")).astype(int)


def test_the_vertical_axis_grows_upwards():
    ring = drawn(Ring((2.0, 1.0), 0.5, "#009e73")).find(f".//{SVG}circle")
    assert numbers(ring, "cx", "cy", "r") == [20.0, 40.0, 5.0]
    bar = drawn(Bar((1.0, 2.0, 0.0, 4.0), "#009e73")).find(f"{SVG}svg/{SVG}rect")
    assert numbers(bar, "x", "y", "width", "height") == [10.0, 10.0, 10.0, 40.0]
    line = drawn(Line([(0.0, 0.0), (10.0, 5.0)])).find(f"{SVG}svg/{SVG}path")
    assert line.get("d") == "M0.0 50.0L100.0 0.0"


def test_gray_images_have_their_first_row_below_and_white_for_nan():
    values = np.full((16, 32), np.nan, np.float32)
    values[:8], values[8:, :16] = 0.0, 1.0  # black below, half white above
    image = drawn(Gray(values, SPAN, (0.0, 2.0))).find(f".//{SVG}image")
    assert numbers(image, "x", "y", "width", "height") == [0.0, 0.0, 100.0, 50.0]
    pixels = decoded(image)[..., 0]
    assert pixels.shape == (16, 32)
    assert pixels[12, 4] == pytest.approx(0, abs=8)
    assert pixels[3, 4] == pytest.approx(127, abs=8)
    assert pixels[3, 28] == pytest.approx(255, abs=8)


def test_reversed_limits_invert_an_image():
    values = np.zeros((8, 8), np.float32)
    pixels = decoded(drawn(Gray(values, SPAN, (1.0, 0.0))).find(f".//{SVG}image"))
    assert pixels[..., 0].min() > 247


def test_tints_have_one_color_and_the_opacity_that_was_asked_for():
    opacity = np.array([[0.0, 0.2], [0.6, 1.0]], np.float32)
    pixels = decoded(drawn(Tint(opacity, SPAN, "#56b4e9")).find(f".//{SVG}image"))
    assert pixels[..., :3].reshape(-1, 3).tolist() == [[0x56, 0xB4, 0xE9]] * 4
    assert pixels[::-1, :, 3] / 255 == pytest.approx(opacity, abs=0.04)


def test_axes_have_ticks_where_their_numbers_say():
    root = drawn(title="a < b & c", labels=("x (nm)", "y"))
    texts = {text.text: text for text in root.iter(f"{SVG}text")}
    assert {"a < b & c", "x (nm)", "y", "5"} <= set(texts)
    assert numbers(texts["10"], "x") == [120.0]


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 170.0), (0.72, 0.97), (1e-5, 3e-5), (0, 1e6)])
def test_ticks_are_few_and_inside(low, high):
    values = ticks(low, high)
    assert 3 <= len(values) <= 7
    assert low <= values[0] < values[-1] <= high * (1 + 1e-9)
    assert np.ptp(np.diff(values)) < 1e-6 * (high - low)


def test_ticks_of_one_value():
    assert ticks(2.0, 2.0) == [2.0]


def test_drawings_are_equal_every_time_and_stay_under_the_limit():
    noise = np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32)
    panel = Panel(
        "one", (0.0, 0.0, 300.0, 300.0), SPAN, items=[Gray(noise, SPAN, (-2, 2)), Note((1, 1), "a")]
    )
    drawing = Drawing((300, 300), [panel])
    assert drawing.svg() == drawing.svg()
    assert len(drawing.svg()) > 60_000
    assert len(drawing.svg(limit=20_000)) <= 20_000
