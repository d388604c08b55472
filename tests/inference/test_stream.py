from contextlib import suppress

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import nn

from cryovox.core.intensity import Normalization
from cryovox.inference.stream import SearchMask, TilePlan, score, stream
from cryovox.inference.tiling import plan
from cryovox.models import build, options

PLAIN = Normalization(0.0, 1.0)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Own(nn.Module):
    """A network from a function; its weight serves to find the device."""

    def __init__(self, function):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.function = function

    def forward(self, x):
        return self.function(x)


def volume(shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def collect(network, data, tiles, normalize=PLAIN):
    blocks = []
    stream(network.eval(), data, normalize, tiles, lambda first, block: blocks.append((first, block.copy())))
    return np.concatenate([b for _, b in blocks], axis=1), blocks


def direct(network, data, activation="sigmoid") -> np.ndarray:
    with torch.inference_mode():
        out = network(torch.from_numpy(data)[None, None])
        out = out.sigmoid() if activation == "sigmoid" else out.softmax(1)[:, 1:]
    return out[0].numpy()


@pytest.mark.parametrize("shape", [(7, 21, 33), (40, 17, 16), (1, 9, 31), (3, 3, 3)])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_a_pointwise_network_is_what_it_is_without_tiles(shape, activation):
    network, data = nn.Conv3d(1, 3, 1), volume(shape)
    for overlap in (0.0, 0.3, 0.5):
        found, _ = collect(network, data, TilePlan(16, overlap, 1, activation))
        assert found.shape == (3 if activation == "sigmoid" else 2, *shape)
        assert np.abs(found - direct(network, data, activation)).max() < 1e-5


def test_it_agrees_with_the_sliding_window_of_monai():
    network, data = nn.Sequential(nn.Conv3d(1, 2, 1), nn.Sigmoid()), volume((20, 30, 25))
    with torch.inference_mode():
        theirs = sliding_window_inference(
            torch.from_numpy(data)[None, None], (16, 16, 16), 2, network, overlap=0.5, mode="gaussian"
        )
    ours, _ = collect(Own(lambda x: network(x).logit()), data, TilePlan(16, 0.5, 1, "sigmoid"))
    assert np.abs(ours - theirs[0].numpy()).max() < 1e-5


def test_gray_values_are_normalized():
    data = (100 + 5 * volume((9, 9, 9))).astype(np.float16)
    network = nn.Conv3d(1, 1, 1)
    normalize = Normalization(100.0, 5.0, -1)
    found, _ = collect(network, data, TilePlan(8, 0.5, 1, "sigmoid"), normalize)
    assert np.abs(found - direct(network, normalize(data))).max() < 1e-5


@pytest.mark.parametrize("overlap", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("stride", [1, 2])
def test_no_seams_on_a_constant_field(overlap, stride):
    pool = nn.AvgPool3d(stride)
    data = np.full((38, 30, 42), 0.7, np.float32)
    found, _ = collect(Own(lambda x: pool(x)), data, TilePlan(16, overlap, stride, "sigmoid"))
    assert np.abs(found - 1 / (1 + np.exp(-0.7))).max() <= 1e-5


def test_a_position_that_depends_on_the_tile_blends_without_a_jump():
    # the answer of this network is its place in the tile, the worst that can happen to a seam
    ramp = torch.linspace(-1, 1, 16)[:, None, None].expand(16, 16, 16)
    network = Own(lambda x: ramp.expand(x.shape))
    found, _ = collect(network, volume((64, 16, 16)), TilePlan(16, 0.5, 1, "sigmoid"))
    assert np.abs(np.diff(found[0], axis=0)).max() < 0.1
    hard, _ = collect(network, volume((64, 16, 16)), TilePlan(16, 0.0, 1, "sigmoid"))
    assert np.abs(np.diff(hard[0], axis=0)).max() > 0.4


def blob(center, shape, sigma=3.0) -> np.ndarray:
    grid = np.moveaxis(np.indices(shape), 0, -1)
    return np.exp(-0.5 * (np.linalg.norm(grid - center, axis=-1) / sigma) ** 2).astype(np.float32)


@pytest.mark.parametrize("shape", [(31, 40, 45), (32, 41, 44)])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_maps_of_a_head_with_a_stride_are_aligned(shape, stride):
    center, voxel = np.array([14.3, 22.8, 17.1]), 10.0
    pool = nn.AvgPool3d(stride)
    network = Own(lambda x: pool(x).clamp(1e-6, 1 - 1e-6).logit())
    found, _ = collect(network, blob(center, shape), TilePlan(16, 0.5, stride, "sigmoid"))
    assert found.shape == (1, *(-(-n // stride) for n in shape))
    weights = np.where(found[0] > 1e-3, found[0], 0).astype(np.float64)
    at = (np.indices(weights.shape).reshape(3, -1) * weights.ravel()).sum(1) / weights.sum()
    # voxel i of the map lies at (s i + (s - 1) / 2) voxels of the tomogram
    angstrom = at * stride * voxel + (stride - 1) / 2 * voxel
    assert np.abs(angstrom - center * voxel).max() < 0.05 * voxel


def deep(stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 2, 3, padding=1), nn.AvgPool3d(stride)
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(45, 19, 21), (8, 20, 16)])
def test_the_result_does_not_depend_on_batch_or_slab(shape, stride):
    network, data = deep(stride), volume(shape)
    reference, _ = collect(network, data, TilePlan(16, 0.5, stride, "sigmoid", batch=1, rows=1))
    for batch, rows in ((3, 1), (8, 2), (1, 3), (3, 99)):
        found, _ = collect(network, data, TilePlan(16, 0.5, stride, "sigmoid", batch=batch, rows=rows))
        assert np.abs(found - reference).max() <= 1e-6


def test_tiled_is_untiled_where_the_border_of_a_tile_weighs_nothing():
    # the network sees 2 voxels far; only tiles weighted little see less than that around a voxel
    network, data = deep(), volume((40, 40, 40))
    whole = direct(network, data)
    for tile in (16, 32):
        found, _ = collect(network, data, TilePlan(tile, 0.5, 1, "sigmoid"))
        inner = np.abs(found - whole)[:, 4:-4, 4:-4, 4:-4]
        assert inner.mean() < 1e-3
        # voxels that no tile has within 2 voxels of its border are exact
        far = np.ones(40, bool)
        for start in plan(40, tile, 0.5).starts:
            for edge in (start, start + tile):
                far[max(0, edge - 2) : max(0, edge + 2)] = False
        far[:4] = far[-4:] = False
        assert far.sum() >= 16
        exact = np.abs(found - whole)[:, far][:, :, far][:, :, :, far]
        assert exact.max() < 1e-4


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize(("size", "stride"), [(70, 1), (71, 2), (5, 1), (16, 2)])
def test_blocks_come_in_order_cover_z_once_and_are_slabs(rows, size, stride):
    pool = nn.AvgPool3d(stride)
    tiles = TilePlan(16, 0.5, stride, "sigmoid", rows=rows)
    found, blocks = collect(Own(lambda x: pool(x)), volume((size, 18, 20)), tiles)
    planes = [first + i for first, block in blocks for i in range(block.shape[1])]
    assert planes == list(range(-(-size // stride)))
    # what is held at once is at most a slab: the rows of tiles, 8 voxels apart
    assert max(b.shape[1] for _, b in blocks) <= (16 + 8 * (rows - 1)) // stride
    assert all(b.shape[2:] == (-(-18 // stride), -(-20 // stride)) for _, b in blocks)
    assert found.dtype == np.float32


class Watched:
    """An array on disk that notes how many planes are read at once."""

    def __init__(self, data):
        self.data, self.shape, self.most = data, data.shape, 0

    def __getitem__(self, key):
        part = self.data[key]
        self.most = max(self.most, part.shape[0])
        return part


@pytest.mark.parametrize("rows", [1, 2])
def test_only_slabs_are_read(rows):
    data = Watched(volume((90, 16, 16)))
    collect(nn.Conv3d(1, 1, 1), data, TilePlan(16, 0.5, 1, "sigmoid", rows=rows))
    assert data.most == 16 + 8 * (rows - 1)


def test_progress_ends_at_the_total():
    reports = []
    stream(
        nn.Conv3d(1, 1, 1),
        volume((20, 20, 20)),
        PLAIN,
        TilePlan(16, 0.5, 1, "sigmoid", batch=3),
        lambda *_: None,
        lambda *report: reports.append(report),
    )
    fractions = [fraction for _, fraction, _ in reports]
    assert fractions == sorted(set(fractions))
    assert reports[-1] == ("tiles", 1.0, "8 of 8 tiles")


@pytest.mark.parametrize("stride", [1, 2])
def test_views_are_averaged_after_they_are_turned_back(stride):
    network = deep(stride)
    images = torch.randn(2, 1, 16, 16, 16)
    flips = ((), (-1,), (-3, -2))
    found = score(network, images, TilePlan(16, 0.5, stride, "sigmoid", flips=flips))
    with torch.inference_mode():
        plain = network(images).sigmoid()
        by_x = network(images.flip(-1)).sigmoid().flip(-1)
        by_zy = network(images.flip(-3, -2)).sigmoid().flip(-3, -2)
    assert np.abs(found - ((plain + by_x + by_zy) / 3).numpy()).max() < 1e-6
    assert np.abs(found - plain.numpy()).max() > 1e-3


@pytest.mark.parametrize("bf16", [False, True])
def test_a_tile_scores_the_same_alone_and_in_a_batch(bf16):
    network = build("heatmap-unet", options("heatmap-unet", "xs"), 1, 2).eval()
    images, tiles = torch.randn(3, 1, 24, 24, 24), TilePlan(24, 0.5, 2, "sigmoid", bf16=bf16)
    together = score(network, images, tiles)
    assert together.dtype == np.float32
    assert np.array_equal(score(network, images[:1], tiles)[0], together[0])
    assert np.array_equal(score(network, images[1:], tiles), together[1:])


def test_bfloat16_rounds_scores_and_no_more():
    network = build("heatmap-unet", options("heatmap-unet", "xs"), 1, 2).eval()
    images = torch.randn(2, 1, 24, 24, 24)
    full, rounded = (score(network, images, TilePlan(24, 0.5, 2, "sigmoid", bf16=b)) for b in (False, True))
    assert 0 < np.abs(rounded - full).max() < 0.01


def test_half_precision_networks_give_float32():
    network = Own(lambda x: x.to(torch.bfloat16))
    found, _ = collect(network, volume((8, 8, 8)), TilePlan(8, 0.5, 1, "sigmoid"))
    assert found.dtype == np.float32


@pytest.mark.parametrize("shape", [(20, 40, 56), (5, 17, 16), (3, 9, 90)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75])
def test_tiles_show_the_mean_beyond_the_faces(shape, overlap):
    data, tiles = volume(shape), TilePlan(16, overlap, 1, "sigmoid", batch=3, rows=2)
    shown = []
    normalize = Normalization(5.0, 2.0, -1)
    collect(Own(lambda x: (shown.append(x.clone()), x)[1]), data, tiles, normalize)
    padded = normalize(np.pad(data, 48, constant_values=5.0))
    axes = [plan(n, 16, overlap) for n in shape]
    places = [(z, y, x) for z in axes[0].starts for y in axes[1].starts for x in axes[2].starts]
    images = torch.cat(shown)[:, 0].numpy()
    assert len(images) == len(places)
    for image, place in zip(images, places, strict=True):
        assert np.array_equal(image, padded[tuple(slice(a + 48, a + 64) for a in place)]), place


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("low", [0, 6, 36])
def test_a_cropped_volume_scores_as_the_whole_one_beyond_the_reach_of_its_faces(low, stride):
    # a local network: what a face changes ends two voxels from it
    network, data = deep(stride), volume((96, 20, 24))
    tiles = TilePlan(32, 0.5, stride, "sigmoid")
    starts = {"whole": plan(96, 32, 0.5).starts, "part": plan(60, 32, 0.5).starts}
    whole, part = collect(network, data, tiles)[0], collect(network, data[low : low + 60], tiles)[0]
    far = np.ones(60, bool)  # from the borders of tiles, where the network pads with zeros
    for start in (*(s - low for s in starts["whole"]), *starts["part"]):
        for border in (start, start + 32):
            far[max(0, border - 2) : max(0, border + 2)] = False
    far[:2] = far[-2:] = False
    inner = np.flatnonzero(far.reshape(-1, stride).all(1))
    assert len(inner) >= 3
    assert np.abs(part[:, inner] - whole[:, inner + low // stride]).max() < 1e-4


@pytest.mark.parametrize("depth", [-3, 0, 3, 6])
def test_a_particle_cut_by_a_face_gives_one_peak_and_no_mirror_image(depth):
    # a network that correlates with the particle; depth: of the center below the face
    sigma, shape = 3.0, (40, 24, 24)
    template = torch.from_numpy(blob(np.array([8, 8, 8]), (17,) * 3, sigma))[None, None]
    network = Own(lambda x: torch.nn.functional.conv3d(x, template, padding=8) / 20 - 4)
    data = blob(np.array([40 - depth, 12, 12]), (60, 24, 24), sigma)[:40]
    found, _ = collect(network, data, TilePlan(24, 0.5, 1, "sigmoid"))
    line = found[0, :, 12, 12]
    peaks = np.flatnonzero((np.diff(line, prepend=-1) > 0) & (np.diff(line, append=-1) < 0))
    assert len(peaks[line[peaks] > 0.1]) <= 1
    if depth >= 0:
        assert abs(peaks[line[peaks].argmax()] - (shape[0] - depth)) <= 3


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_scores_inside_a_region_are_those_without_one(rows, stride):
    pool = nn.AvgPool3d(5, 1, 2)
    network, data = Own(lambda x: pool(x)[:, :, ::stride, ::stride, ::stride]), volume((70, 20, 44))
    tiles = TilePlan(8, 0.5, stride, "sigmoid", rows=rows)
    whole, _ = collect(network, data, tiles)
    mask = np.zeros(data.shape, bool)
    mask[40:47, 5:9, 30:36] = True
    sparse, calls = np.zeros_like(whole), []

    def sink(first, block):
        sparse[:, first : first + block.shape[1]] = block

    region = SearchMask(mask, 2)
    stream(network.eval(), data, PLAIN, tiles, sink, lambda *report: calls.append(report), region)
    inside = mask[::stride, ::stride, ::stride]
    assert np.array_equal(sparse[:, inside], whole[:, inside])
    assert not sparse[:, : 24 // stride].any()
    assert not sparse[:, 62 // stride :].any()
    done, _, total, _ = calls[-1][2].split()
    assert int(done) == int(total) < 70 * 20 * 44 / 4**3 / 4


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize(("stride", "overlap"), [(1, 0.5), (2, 0.5), (1, 0.7), (1, 0.0)])
@pytest.mark.parametrize("masked", [False, True])
def test_scores_of_a_part_are_those_of_the_whole_to_the_bit(rows, stride, overlap, masked):
    network, data = deep(stride).eval(), volume((61, 20, 23))
    tiles = TilePlan(16, overlap, stride, "sigmoid", batch=3, rows=rows)
    region = None
    if masked:
        inside = np.zeros(data.shape, bool)
        inside[22:50, 4:12] = True
        region = SearchMask(inside)
    depth = -(-61 // stride)

    def scores_of(part):
        out = np.zeros((2, depth, -(-20 // stride), -(-23 // stride)), np.float32)
        planes = []

        def sink(first, block):
            out[:, first : first + block.shape[1]] = block
            planes.extend(range(first, first + block.shape[1]))

        stream(network, data, PLAIN, tiles, sink, region=region, part=part)
        return out, planes

    whole, _ = scores_of(None)
    assert whole.any()
    for low, high in [(0, depth), (0, 5), (5, 17), (17, depth), (depth - 1, depth), (13, 14)]:
        part, planes = scores_of((low, high))
        assert np.array_equal(part[:, low:high], whole[:, low:high])
        assert not part[:, :low].any()
        assert not part[:, high:].any()
        assert set(planes) <= set(range(low, high))
        assert masked or planes == list(range(low, high))


class Overlaps(dict):
    """Sums of overlapping planes in memory."""

    load = dict.get

    def store(self, plane, sums):
        self[plane] = sums.copy()


class Killed(Exception):
    pass


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize(("stride", "overlap"), [(1, 0.5), (2, 0.5), (1, 0.7), (1, 0.0)])
@pytest.mark.parametrize("masked", [False, True])
def test_a_run_continues_from_stored_overlaps_to_the_bit_and_loses_one_slab(rows, stride, overlap, masked):
    network, data = deep(stride).eval(), volume((61, 20, 23))
    tiles = TilePlan(16, overlap, stride, "sigmoid", batch=3, rows=rows)
    region, depth = None, -(-61 // stride)
    if masked:  # the last tiles of the region end before the last planes of the volume
        region = SearchMask(np.zeros(data.shape, bool))
        region.mask[22:40, 4:12] = True
    out = np.zeros((2, depth, -(-20 // stride), -(-23 // stride)), np.float32)

    def run(part, overlaps, blocks_before_the_kill=None):
        """Number of tiles that are scored, and the plane before which all are complete."""
        planes, done = [part[0]], [0]

        def sink(first, block):
            if len(planes) - 1 == blocks_before_the_kill:
                raise Killed
            out[:, first : first + block.shape[1]] = block
            planes.append(first + block.shape[1])

        def count(name, fraction, note=""):
            done.append(int(note.split()[0]))

        with suppress(Killed):
            stream(network, data, PLAIN, tiles, sink, count, region, part, overlaps)
        return done[-1], planes[-1]

    count, _ = run((0, depth), None)
    whole = out.copy()
    assert whole.any()
    _, y, x = (plan(n, 16, overlap, stride) for n in data.shape)
    slab = rows * len(y.starts) * len(x.starts)
    for kill_after in (1, 2):
        out[:], overlaps = 0, Overlaps()
        before, ready = run((0, depth), overlaps, kill_after)
        after, end = run((ready, depth), overlaps)
        assert np.array_equal(out, whole)
        assert before + after <= count + slab
        assert ready < end == depth or before == count
