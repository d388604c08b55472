import asyncio
import errno
import time

import numpy as np
import pytest
from zarr.storage import LocalStore

from cryovox.core.particles import Species
from cryovox.core.volume import ScoreMap, Volume
from cryovox.formats import ome_zarr, scores

RIBOSOME = (Species(name="ribosome", label=1, radius=100.0),)


def tomogram(path):
    ome_zarr.write(path, Volume(np.ones((8, 200, 200), np.float32), 10.0))


def score_map(path):
    scores.write(path, ScoreMap(np.ones((1, 8, 200, 200), np.float32), 10.0, RIBOSOME))


@pytest.mark.parametrize("write", [tomogram, score_map])
def test_a_disk_that_fills_while_other_chunks_are_under_way(write, tmp_path, monkeypatch):
    real, chunks = LocalStore.set, []

    async def full(self, key, value):
        if "/c/" in key:
            chunks.append(key)
            if len(chunks) == 1:
                raise OSError(errno.EFBIG, "File too large")
            await asyncio.sleep(0.2)
        await real(self, key, value)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "set", full)
        with pytest.raises(OSError, match="too large"):
            write(tmp_path / "out.zarr")
        time.sleep(0.4)
    assert len(chunks) > 1
    assert list(tmp_path.iterdir()) == []
