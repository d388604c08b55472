from pathlib import Path

import numpy as np

from cryovox.benchmark.picking import without_scenery
from cryovox.benchmark.subtomograms import NOISES, SEEN, Scale, masks, simulate_set, with_readings
from cryovox.core.particles import Particles
from cryovox.models import sizes


def test_half_of_the_seen_structures_fill_an_eighth_of_a_cube(tmp_path: Path):
    data = simulate_set(tmp_path / "set.zarr", SEEN, Scale().config(NOISES[0]), 1, 0)
    shares = masks(data).mean(axis=(1, 2, 3))
    assert len(shares) == len(SEEN)
    assert (shares >= 0.12).sum() >= len(SEEN) / 2
    assert shares.min() > 0.03
    offsets = data.particles.positions / data.voxel_size - (data.images.shape[1] - 1) / 2
    assert np.abs(offsets).max() <= 2


def test_a_cpu_also_compares_mvgformer_in_the_size_for_hours():
    small, published = with_readings("s"), with_readings("paper")
    medium = [m for m in small if m.size == "m"]
    assert [m.name for m in medium] == [
        "mvgformer p3da, size m", "mvgformer depth-to-space, size m", "mvgformer no graph, size m",
    ]  # fmt: skip
    assert all("m" in sizes(m.network) for m in medium)
    assert {m.size for m in published} == {"paper"}
    for methods in (small, published):
        assert len({m.name for m in methods}) == len(methods)


def test_membranes_and_gold_are_no_particles():
    particles = Particles.of(np.zeros((3, 3)), ["membrane", "ribosome", "fiducial"])
    assert without_scenery(particles).species.tolist() == ["ribosome"]
