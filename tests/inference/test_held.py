"""Sums and planes as a GPU holds them, on the CPU, beside those in the memory of the machine."""

import numpy as np
import pytest
import torch

from cryovox.core.errors import RunError
from cryovox.core.intensity import Normalization
from cryovox.inference.held import DeviceSums, HostSums, Rows, device_planes, host_planes
from cryovox.inference.stream import TilePlan, stream
from cryovox.inference.tiling import plan
from cryovox.models import build, options

CPU = torch.device("cpu")
NORMALIZE = Normalization(0.3, 1.4, -1)


def volume(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rows_of(axes, rows):
    z, y, x = axes
    for row in range(0, len(z.starts), rows):
        starts = z.starts[row : row + rows]
        places = tuple((a, b, c) for a in starts for b in y.starts for c in x.starts)
        last = row + rows >= len(z.starts)
        yield Rows(starts, places, z.out_size if last else max(0, z.starts[row + rows] // z.stride))


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize(("shape", "overlap", "stride"), [((45, 20, 33), 0.5, 2), ((9, 17, 16), 0.25, 1)])
def test_sums_of_a_gpu_are_those_of_the_machine(rows, shape, overlap, stride):
    axes = tuple(plan(n, 16, overlap, stride) for n in shape)
    results = []
    for make in (
        lambda: HostSums(axes, rows, 3, 0, None),
        lambda: DeviceSums(axes, rows, 3, 0, CPU),
    ):
        sums, blocks, seed = make(), [], 0
        for group in rows_of(axes, rows):
            for place in group.places:
                seed += 1
                sums.add(place, torch.from_numpy(volume((3, *(16 // stride,) * 3), seed)))
            sums.finish(group.ready, lambda first, block, to=blocks: to.append((first, block.copy())))
        sums.close()
        results.append(blocks)
    host, device = results
    assert [first for first, _ in host] == [first for first, _ in device]
    assert sum(block.shape[1] for _, block in device) == -(-shape[0] // stride)
    for (_, a), (_, b) in zip(host, device, strict=True):
        assert np.abs(a - b).max() < 1e-4 * np.abs(a).max()


@pytest.mark.parametrize("skipped", [(), (1,), (0, 1), (2, 3)])
@pytest.mark.parametrize(("depth", "overlap"), [(70, 0.5), (71, 0.25), (60, 0.0)])
def test_planes_of_a_gpu_show_the_same_tiles_whatever_is_skipped(skipped, depth, overlap):
    data = volume((depth, 20, 31))
    axes = tuple(plan(n, 16, overlap) for n in data.shape)
    groups = [group for i, group in enumerate(rows_of(axes, 1)) if i not in skipped]
    host = host_planes(data, axes, groups, NORMALIZE)
    device = device_planes(data, axes, groups, NORMALIZE, CPU)
    count = 0
    for group, a, b in zip(groups, host, device, strict=True):
        assert torch.equal(a.tiles(group.places), b.tiles(group.places))
        count += len(group.places)
    assert count >= 8


def test_what_cannot_be_written_ends_the_run():
    axes = tuple(plan(n, 16, 0.5) for n in (64, 16, 16))
    sums, groups = DeviceSums(axes, 1, 1, 0, CPU), list(rows_of(axes, 1))

    def full(first, block):
        raise RunError("scores", "no space left", "free some")

    sums.add(groups[0].places[0], torch.zeros(1, 16, 16, 16))
    sums.finish(groups[0].ready, full)
    sums.add(groups[1].places[0], torch.zeros(1, 16, 16, 16))
    with pytest.raises(RunError, match="no space left"):
        sums.finish(groups[1].ready, full)
    sums.close()


@pytest.mark.gpu
@pytest.mark.parametrize("on_host", [False, True])
def test_a_gpu_scores_as_the_cpu(on_host):
    torch.manual_seed(0)
    network = build("heatmap-unet", options("heatmap-unet", "xs"), 1, 3).eval()
    data = volume((90, 40, 56))
    found = []
    for device in ("cpu", "cuda"):
        blocks = []
        tiles = TilePlan(24, 0.5, 2, "sigmoid", batch=3, rows=2, on_host=on_host)
        stream(
            network.to(device), data, NORMALIZE, tiles, lambda _, block, to=blocks: to.append(block.copy())
        )
        found.append(np.concatenate(blocks, axis=1))
    assert np.abs(found[0] - found[1]).max() < 1e-3
