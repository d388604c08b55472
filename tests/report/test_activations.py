import numpy as np
import pytest
from matplotlib.colors import to_hex

from cryovox.report.activations import activation_page
from cryovox.report.figures import COLORS
from cryovox.report.plotting import png

SIDE = 12


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(size=(SIDE, SIDE, SIDE)).astype(np.float32)


def level(z: int, y: int, x: int) -> np.ndarray:
    delta = np.zeros((SIDE, SIDE, SIDE), np.float32)
    delta[z, y, x] = 1
    return delta


def titles(figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]


def test_a_row_for_each_layer_and_a_column_for_each_view(image):
    maps = {f"{view}/{n}": level(6, 1, n) for n in (1, 4) for view in ("xy", "yz", "xz")}
    figure = activation_page(image, maps)
    assert titles(figure) == [
        "slice z = 6", "xy, layer 1", "yz, layer 1", "xz, layer 1", "xy, layer 4", "yz, layer 4",
        "xz, layer 4",
    ]  # fmt: skip


def test_the_slice_shown_is_the_one_asked_for(image):
    figure = activation_page(image, {"xy/1": level(2, 3, 9)}, at=2)
    heat = next(a for a in figure.axes if a.get_title(loc="left") == "xy, layer 1").images[-1]
    assert np.argwhere(np.asarray(heat.get_array())).tolist() == [[3, 9]]
    assert np.array_equal(figure.axes[0].images[0].get_array(), image[2])


def test_graph_and_masks_lie_over_their_voxels(image):
    tokens = np.arange(27).reshape(3, 3, 3)
    mask = np.zeros((SIDE, SIDE, SIDE), np.uint8)
    mask[7, 2:4, 5:8] = 2
    figure = activation_page(image, {"fc": level(7, 0, 0)}, assignment=tokens, masks={"truth": mask}, at=7)
    assert titles(figure) == ["slice z = 7", "graph, 27 nodes", "truth", "fc"]
    gray, nodes = figure.axes[1].images
    assert np.array_equal(nodes.get_array(), tokens[1] % 16)
    assert nodes.get_extent() == pytest.approx(gray.get_extent())
    (outline,) = figure.axes[2].collections
    assert to_hex(outline.get_edgecolor()[0]) == COLORS[1]
    box = outline.get_datalim(figure.axes[2].transData)
    assert (box.x0, box.x1, box.y0, box.y1) == pytest.approx((4.5, 7.5, 1.5, 3.5))


def test_it_is_drawn(image):
    assert png(activation_page(image, {"xy": level(6, 6, 6)}, masks={"mask": image > 1}), dpi=40)
