import hashlib

import numpy as np
import pytest
import torch

from cryovox.core.intensity import Normalization
from cryovox.core.particles import Species
from cryovox.data.patches import TargetSpec
from cryovox.data.regions import Region
from cryovox.data.sampling import SamplingConfig
from cryovox.data.streams import Batch, PatchStream


@pytest.fixture
def stream():
    opened = []
    rng = np.random.default_rng(0)
    source = Region(
        name="t",
        data=rng.normal(size=(24, 32, 32)).astype(np.float32),
        voxel_size=10.0,
        normalize=Normalization(0.0, 1.0),
        bounds=((0, 24), (0, 32), (0, 32)),
        species=(Species(name="a", label=1, radius=30.0),),
        positions=rng.uniform(4, 20, (5, 3)),
        channels=np.zeros(5, np.intp),
        labels=None,
        annotated_mask=None,
        exhaustive=np.array([False]),
    )

    def make(kind="heatmap", stride=2, seed=(0, 0)):
        sampling = SamplingConfig(TargetSpec(kind, stride), 16, 2, seed=seed)
        opened.append(PatchStream([source], sampling))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_batch_is_the_same_whenever_it_is_drawn(stream):
    first = stream()
    in_order = [first.batch(n) for n in range(5)]
    fresh = stream()
    for number in (3, 4, 0, 2, 2, 1):
        assert same(fresh.batch(number), in_order[number])
    assert not same(in_order[0], in_order[1])


def test_a_seed_draws_the_same_patches_in_every_version(stream):
    batch = stream("mask", 1).batch(3)
    assert hashlib.sha256(batch.target.numpy().tobytes()).hexdigest().startswith("ef40094d13be22e8")
    assert batch.image.mean((1, 2, 3, 4)).tolist() == pytest.approx([0.0723, 0.0085], abs=1e-3)
    assert batch.image.std((1, 2, 3, 4)).tolist() == pytest.approx([0.4879, 0.9573], abs=1e-3)


def test_batches_differ_by_seed_and_rank(stream):
    batches = [stream(seed=seed).batch(0) for seed in ((0, 0), (1, 0), (0, 1))]
    assert not any(same(batches[i], batches[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize(
    ("kind", "stride", "shape", "dtype"),
    [
        ("heatmap", 2, (2, 1, 8, 8, 8), torch.float32),
        ("heatmap", 1, (2, 1, 16, 16, 16), torch.float32),
        ("mask", 1, (2, 16, 16, 16), torch.int64),
    ],
)
def test_shapes_and_types(stream, kind, stride, shape, dtype):
    batch = stream(kind, stride).batch(7)
    assert batch.image.shape == (2, 1, 16, 16, 16)
    assert batch.image.dtype == torch.float32
    assert (batch.target.shape, batch.target.dtype) == (shape, dtype)
    assert (batch.valid_mask.shape, batch.valid_mask.dtype) == (shape, torch.bool)
    if kind == "mask":
        assert torch.equal(batch.valid_mask, batch.target != 255)
    moved = batch.to(torch.device("cpu"))
    assert isinstance(moved, Batch)
    assert same(moved, batch)
