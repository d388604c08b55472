import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cryovox.core.errors import RequestError, RunError
from cryovox.core.intensity import Normalization
from cryovox.core.sizes import n_bytes, size_text
from cryovox.inference.backoff import Backoff
from cryovox.inference.memory import footprint, tile_bytes
from cryovox.inference.stream import TilePlan, stream
from cryovox.models import build, options
from cryovox.workflows.memory import CUDA_CONTEXT, Limits, enforce, fit, need, resident

TILES = TilePlan(24, 0.5, 2, "sigmoid", batch=4, rows=2)
SHAPE = (40, 72, 56)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build("heatmap-unet", options("heatmap-unet", "xs"), 1, 3).eval()


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


def scored(network, data, tiles):
    blocks = []
    stream(network, data, Normalization(0.0, 1.0), tiles, lambda _, block: blocks.append(block.copy()))
    return np.concatenate(blocks, axis=1)


@pytest.mark.parametrize("text", ["4", "G", "", "-1G", "0M", "nan G", "4GiB x", "infG"])
def test_an_amount_without_a_unit_or_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="800M or 4G"):
        n_bytes(text)


@pytest.mark.parametrize("count", [1, 999_999_999, 10**9, 4_110_000_000, 12_345_678_901])
def test_an_amount_that_is_written_suffices(count):
    assert count <= n_bytes(size_text(count)) <= 1.1 * count + 10**7


def test_bytes_of_a_tile_follow_its_volume_and_the_network_is_as_before(network):
    before = [p.clone() for p in network.parameters()]
    small, large = (tile_bytes(network, TilePlan(n, 0.5, 2, "sigmoid")) for n in (16, 32))
    assert large / small == pytest.approx(8, rel=0.1)
    assert all(
        torch.equal(a, b) and b.device.type == "cpu"
        for a, b in zip(before, network.parameters(), strict=True)
    )


def test_bytes_of_a_tile_are_those_of_the_tensors_that_live_at_once():
    # 8 channels in, 8 out, and what the convolution reorders of both; 16^3 voxels of 4 bytes
    chain = nn.Sequential(nn.Conv3d(1, 8, 1), nn.Conv3d(8, 8, 1), nn.Conv3d(8, 1, 1))
    assert tile_bytes(chain, TilePlan(16, 0.5, 1, "sigmoid")) == pytest.approx(4 * 16**3 * (16 + 16), rel=0.1)


class Fickle(nn.Module):
    """What it does depends on the values, so shapes alone do not say it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x) if x.mean() > -1 else x


def test_a_network_that_depends_on_values_is_measured_on_a_tile():
    assert tile_bytes(Fickle().eval(), TilePlan(16, 0.5, 1, "sigmoid")) >= 4 * 16**3 * 4


def test_without_a_limit_nothing_changes(network, data, tmp_path):
    assert fit(network, data, 3, TILES, Limits(), tmp_path) is TILES
    assert fit(network, data, 3, TILES, Limits.of("900G", None), tmp_path) == TILES


def test_a_tighter_limit_takes_less_memory_to_the_least_and_keeps_tile_and_overlap(network, tmp_path):
    big = np.broadcast_to(np.float32(0), (400, 4000, 4000))  # takes no memory itself
    wished = TilePlan(24, 0.5, 2, "sigmoid", batch=64, rows=3)
    plenty = need(network, footprint(network, big, 3, wished), wished).ram
    seen, limit = [], round(1.05 * plenty)
    while True:
        try:
            plan = fit(network, big, 3, wished, Limits(ram=limit), tmp_path)
        except RequestError as error:
            message = str(error)
            break
        assert need(network, footprint(network, big, 3, plan), plan).ram <= limit * 1.02
        assert (plan.tile, plan.overlap, plan.flips, plan.bf16) == (24, 0.5, ((),), False)
        seen.append(plan)
        limit = round(limit * 0.93)
    assert seen[0] == wished
    assert any(p.rows == 1 and p.scratch is None for p in seen)
    assert seen[-1].scratch == tmp_path
    least = message.split("need ")[1].split("\n")[0]
    assert f"--max-ram {least} or more" in message
    assert n_bytes(least) > limit
    fit(network, big, 3, wished, Limits(ram=n_bytes(least) + resident() // 50), tmp_path)


def test_a_limit_of_the_gpu_counts_tiles_only_there(network, data, tmp_path):
    # on a CPU nothing is on a GPU, whatever its limit
    assert fit(network, data, 3, TILES, Limits(vram=1), tmp_path) == TILES


class OnGpu(nn.Module):
    """A network whose weights say that they lie on a GPU."""

    def parameters(self, recurse=True):
        weight = torch.zeros(1000)
        return iter([type("Weight", (), {
            "device": torch.device("cuda"), "numel": weight.numel, "element_size": weight.element_size,
        })()])  # fmt: skip


def test_sums_and_planes_count_on_a_gpu_until_they_are_kept_in_the_machine(network, data):
    taken = footprint(network, data, 3, TILES)
    there = need(OnGpu(), taken, TILES)
    here = need(OnGpu(), taken, replace(TILES, on_host=True))
    assert there.vram - here.vram == taken.on_device
    assert taken.on_device >= taken.accumulator + 4 * 36 * 72 * 56
    assert here.vram == CUDA_CONTEXT + 4000 + 4 * taken.tile


def test_a_limit_of_the_gpu_is_kept_by_its_allocator(monkeypatch):
    shares = []
    whole = type("Properties", (), {"total_memory": 10**11})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: whole)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    enforce(Limits.of(None, "8G"), "cpu")
    enforce(Limits.of("8G", None), "cuda")
    assert not shares
    enforce(Limits.of(None, "8G"), "cuda")
    assert shares == [pytest.approx(0.074)]


@pytest.mark.parametrize("rows", [1, 2])
def test_sums_on_disk_give_the_same_scores_and_leave_nothing(network, data, tmp_path, rows):
    tiles = TilePlan(24, 0.5, 2, "sigmoid", rows=rows)
    on_disk = TilePlan(24, 0.5, 2, "sigmoid", rows=rows, scratch=tmp_path)
    assert np.array_equal(scored(network, data, on_disk), scored(network, data, tiles))
    assert not list(tmp_path.iterdir())


def images(count):
    return torch.arange(count, dtype=torch.float32)[:, None, None, None, None].expand(count, 1, 2, 2, 2)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("can't allocate memory")],
)
def test_after_running_out_of_memory_batches_are_smaller(error):
    sizes = []

    def run(part):
        sizes.append(len(part))
        if len(part) > 2:
            raise error
        return part.clone()

    backoff = Backoff(run, 8)
    assert torch.equal(torch.cat(list(backoff(images(7)))), images(7))
    assert max(sizes[2:]) <= 3
    sizes.clear()
    assert torch.equal(torch.cat(list(backoff(images(5)))), images(5))
    assert max(sizes) <= 2  # it has learned


def test_where_not_even_one_tile_fits_the_remedy_is_named_and_other_errors_pass():
    def too_large(part):
        raise MemoryError

    with pytest.raises(RunError, match="one tile of 2 x 2 x 2 voxels"):
        list(Backoff(too_large, 4)(images(4)))

    def broken(part):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(Backoff(broken, 4)(images(4)))


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_threads_share_the_freed_memory_of_one_arena(tmp_path):
    code = (
        "import ctypes, sys, threading\n"
        "if sys.argv[1] == 'kept':\n"
        "    from cryovox.workflows.devices import keep_freed_memory\n"
        "    keep_freed_memory()\n"
        "thread = threading.Thread(target=lambda: bytes(100_000))\n"
        "thread.start(); thread.join()\n"
        "libc = ctypes.CDLL('libc.so.6')\n"
        "libc.fopen.restype = ctypes.c_void_p\n"
        "file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b'w'))\n"
        "libc.malloc_info(0, file); libc.fclose(file)\n"
    )
    arenas = {}
    for name in ("plain", "kept"):
        path = tmp_path / f"{name}.xml"
        subprocess.run([sys.executable, "-c", code, name, str(path)], check=True)
        arenas[name] = path.read_text().count("<heap nr=")
    assert arenas["plain"] > arenas["kept"] == 1
