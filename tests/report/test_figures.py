import numpy as np
import pytest

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap, Volume
from cryovox.report import figures
from cryovox.report.drawing import Bar, Gray, Line, Ring, Tint

VOXEL = 10.0
RIBOSOME = Species(name="ribosome", label=1, radius=60.0)
VIRUS = Species(name="virus", label=2, radius=100.0)


def panel(drawing, name):
    return next(one for one in drawing.panels if one.name == name)


def circles(one):
    return one.of(Ring)


@pytest.fixture
def volume():
    rng = np.random.default_rng(3)
    return Volume(rng.normal(size=(20, 30, 40)).astype(np.float32), VOXEL)


def test_circles_stand_where_the_picks_are(volume):
    picks = Particles.of([[100.0, 50.0, 200.0]], "ribosome")
    figure = figures.slices(volume, None, picks, [RIBOSOME], at=(10, 5, 20))
    for name, center in {"XY": (200.0, 50.0), "XZ": (200.0, 100.0), "YZ": (100.0, 50.0)}.items():
        (ring,) = circles(panel(figure, name))
        assert ring.center == pytest.approx(center)
        assert ring.radius == pytest.approx(60.0)


def test_circles_shrink_with_the_distance_from_the_plane(volume):
    picks = Particles.of([[100.0 + d, 50.0, 200.0] for d in (0, 36, -48, 60, 61)], "ribosome")
    figure = figures.slices(volume, None, picks, [RIBOSOME], at=(10, 29, 39))
    radii = [ring.radius for ring in circles(panel(figure, "XY"))]
    assert radii == pytest.approx([60.0, 48.0, 36.0])
    assert not circles(panel(figure, "XZ"))


def test_large_tomograms_are_drawn_in_nm():
    big = Volume(np.zeros((4, 12, 12), np.float32) + np.arange(12, dtype=np.float32), 100.0)
    picks = Particles.of([[100.0, 300.0, 500.0]], [VIRUS.name])
    figure = figures.slices(big, None, picks, [VIRUS], at=(1, 3, 5))
    axes = panel(figure, "XY")
    (ring,) = circles(axes)
    assert ring.center == pytest.approx((50.0, 30.0))
    assert ring.radius == pytest.approx(10.0)
    assert axes.of(Gray)[0].extent == pytest.approx([-5.0, 115.0, -5.0, 115.0])


def test_images_lie_so_that_voxel_zero_is_centered_on_zero(volume):
    figure = figures.slices(volume, at=(0, 0, 0))
    assert panel(figure, "XY").of(Gray)[0].extent == pytest.approx([-5.0, 395.0, -5.0, 295.0])
    assert panel(figure, "XZ").of(Gray)[0].extent == pytest.approx([-5.0, 395.0, -5.0, 195.0])
    assert panel(figure, "YZ").of(Gray)[0].extent == pytest.approx([-5.0, 195.0, -5.0, 295.0])


def test_a_bright_voxel_is_drawn_at_its_coordinates():
    data = np.zeros((9, 11, 13), np.float32)
    data[4, 2, 9] = 100.0
    figure = figures.slices(Volume(data, VOXEL), at=(4, 2, 9), sign=1)
    for name, (x, y) in {"XY": (90.0, 20.0), "XZ": (90.0, 40.0), "YZ": (40.0, 20.0)}.items():
        (image,) = panel(figure, name).of(Gray)
        row, column = np.unravel_index(image.values.argmax(), image.values.shape)
        left, _, bottom, _ = image.extent
        assert (left + (column + 0.5) * VOXEL, bottom + (row + 0.5) * VOXEL) == pytest.approx((x, y))


def test_scores_of_a_strided_head_lie_over_what_they_mean(volume):
    stride = 2
    data = np.zeros((1, 10, 15, 20), np.float32)
    data[0, 6, 3, 15] = 1.0
    offset = (stride - 1) / 2 * VOXEL
    scores = ScoreMap(data, stride * VOXEL, (RIBOSOME,), offset)
    z, y, x = (offset + i * stride * VOXEL for i in (6, 3, 15))
    at = (round(z / VOXEL), round(y / VOXEL), round(x / VOXEL))
    figure = figures.slices(volume, scores, None, [RIBOSOME], at=at)
    for name, (h, v) in {"XY": (x, y), "XZ": (x, z), "YZ": (z, y)}.items():
        (gray,), (tint,) = (panel(figure, name).of(kind) for kind in (Gray, Tint))
        assert tint.extent == pytest.approx(gray.extent)
        alpha = tint.opacity
        row, column = np.unravel_index(alpha.argmax(), alpha.shape)
        left, _, bottom, _ = tint.extent
        side = stride * VOXEL
        assert alpha.max() > 0.5
        assert (left + (column + 0.5) * side, bottom + (row + 0.5) * side) == pytest.approx((h, v))


def test_scores_are_matched_to_species_by_name(volume):
    data = np.zeros((2, 20, 30, 40), np.float32)
    data[1] = 1.0
    scores = ScoreMap(data, VOXEL, (VIRUS, RIBOSOME))
    figure = figures.slices(volume, scores, None, [RIBOSOME, VIRUS])
    tints = {tint.label: tint.opacity for tint in panel(figure, "XY").of(Tint)}
    assert tints["ribosome"].min() > 0.5
    assert tints["virus"].max() == 0


class Watched:
    """An array that keeps what was asked of it."""

    def __init__(self, data):
        self.data, self.read = data, 0
        self.shape, self.ndim, self.dtype = data.shape, data.ndim, data.dtype

    def __getitem__(self, index):
        values = self.data[index]
        self.read += values.size
        return values


def test_only_the_planes_that_are_shown_are_read(volume):
    lazy = Watched(np.zeros((60, 60, 60), np.float32))
    scores = Watched(np.zeros((1, 60, 60, 60), np.float32))
    figures.slices(Volume(lazy, VOXEL), ScoreMap(scores, VOXEL, (RIBOSOME,)), None, [RIBOSOME])
    assert lazy.read <= 9 * 60 * 60
    assert scores.read <= 3 * 60 * 60


def test_slices_go_through_the_densest_place(volume):
    crowd = [[150.0, 100.0 + 5 * i, 300.0] for i in range(8)]
    picks = Particles.of([[10.0, 10.0, 10.0], *crowd], "ribosome")
    z, _, x = figures.dense_place(volume, picks, [RIBOSOME])
    assert (z, x) == (15, 30)
    assert figures.dense_place(volume, None) == (10, 15, 20)


def test_a_place_outside_is_brought_inside(volume):
    picks = Particles.of([[999.0, -40.0, 30.0]], "ribosome")
    assert figures.dense_place(volume, picks, [RIBOSOME]) == (19, 0, 3)


def test_thumbnails_show_best_middle_and_worst_with_scores(volume):
    scores = np.linspace(0.1, 0.9, 41)
    picks = Particles.of(np.full((41, 3), 100.0), "ribosome", scores)
    figure = figures.montage(volume, picks, RIBOSOME, n=6)
    assert [one.title for one in figure.panels] == ["0.90", "0.88", "0.52", "0.50", "0.12", "0.10"]
    assert [note.text for note in figure.notes] == ["best", "middle", "worst"]


def test_a_thumbnail_is_centered_on_its_pick_even_at_the_border():
    data = np.zeros((20, 30, 40), np.float32)
    data[0, 2, 38] = 50.0
    picks = Particles.of([[0.0, 20.0, 380.0]], "ribosome")
    figure = figures.montage(Volume(data, VOXEL), picks, RIBOSOME)
    (ring,), (image,) = circles(figure.panels[0]), figure.panels[0].of(Gray)
    left, right, bottom, top = image.extent
    assert ring.center == pytest.approx((380.0, 20.0))
    assert ((left + right) / 2, (bottom + top) / 2) == pytest.approx((380.0, 20.0))
    drawn = image.values
    middle = drawn.shape[0] // 2
    assert np.nanargmax(drawn) == middle * drawn.shape[1] + middle
    assert np.isnan(drawn[0, 0])
    assert np.isnan(drawn[-1, -1])


def test_montage_of_nothing_is_a_figure(volume):
    nothing = Particles.of(np.zeros((0, 3)), [])
    assert figures.montage(volume, nothing, RIBOSOME).svg()


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_flat_and_broken_tomograms_are_drawn(fill):
    flat = Volume(np.full((5, 6, 7), fill, np.float32), VOXEL)
    picks = Particles.of([[20.0, 20.0, 20.0]], "ribosome")
    assert figures.slices(flat, None, picks, [RIBOSOME]).svg()
    assert figures.montage(flat, picks, RIBOSOME).svg()


def histogram_scores(n=30):
    rng = np.random.default_rng(1)
    return Particles.of(rng.random((n, 3)), "ribosome", rng.random(n))


def test_histogram_counts_every_pick_and_marks_the_threshold():
    (one,) = figures.score_histogram(histogram_scores(), {"ribosome": 0.25}).panels
    assert sum(bar.extent[3] for bar in one.of(Bar)) == 30
    (line,) = one.of(Line)
    assert [at for at, _ in line.points] == [0.25, 0.25]
    assert one.title == "ribosome: 30"


def test_histogram_has_a_panel_per_species_in_the_given_order():
    mixed = Particles.of(np.zeros((3, 3)), ["b", "a", "b"], [0.1, 0.2, 0.3])
    drawing = figures.score_histogram(mixed, 0.1, ["b", "a", "c"])
    assert [one.title for one in drawing.panels] == ["b: 2", "a: 1", "c: 0"]


@pytest.mark.parametrize("n", [0, 1])
def test_histogram_of_hardly_anything(n):
    assert figures.score_histogram(histogram_scores(n), {}).svg()


@pytest.mark.parametrize("deficiency", ["none", "protanopia", "deuteranopia"])
def test_colors_of_species_differ_for_color_blind_people(deficiency):
    """Simulated as by Viénot et al. 1999: linear RGB is projected onto the colors that a dichromat sees."""
    rows = {
        "none": np.eye(3),
        "protanopia": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "deuteranopia": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    }
    rgb = np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in figures.COLORS])
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    linear = np.clip(linear @ np.array(rows[deficiency]).T, 0, 1)
    xyz = linear @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    f = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(len(lab), 1)]
    assert apart.min() > 10  # differences of 2 can just be seen


def test_surroundings_are_tinted_where_their_scores_reach_their_thresholds(volume):
    depth, height, width = volume.shape
    data = np.zeros((1, depth, height, width), np.float32)
    data[0, :, :, width // 2 :] = 0.3
    membrane = Species(name="membrane", label=1, radius=20.0, extended=True)
    maps = ScoreMap(data, VOXEL, (membrane,), 0.0, "mask", {"membrane": 0.3})
    drawing = figures.slices(volume, None, None, [RIBOSOME], surroundings=maps)
    (tint,) = panel(drawing, "XY").of(Tint)
    assert (tint.opacity[:, width // 2 :] > 0.3).all()
    assert not tint.opacity[:, : width // 2].any()
    assert [text for _, text, _ in drawing.keys] == ["ribosome", "membrane (mask)"]


def test_scores_that_differ_by_rounding_only_have_a_histogram():
    scores = np.float32(0.9) + np.array([0.0, 6e-8, 1.2e-7], np.float32)
    picks = Particles.of(np.zeros((3, 3)), "a", scores)
    (panel,) = figures.score_histogram(picks, {"a": 0.9}).panels
    assert sum(bar.extent[3] for bar in panel.of(Bar)) == 3
