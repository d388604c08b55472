import errno
import os
from itertools import pairwise

import numpy as np
import pytest

from cryovox.core.errors import RunError
from cryovox.core.particles import Species
from cryovox.formats import scores
from cryovox.formats.unfinished_scores import UnfinishedScores, parts

SHAPE = (1, 150, 8, 9)
FRAME = {"voxel_size": 10.0, "species": (Species(name="ribosome", label=1, radius=100.0),)}
IDENTITY = {"model": "a", "sizes": (1, 2)}
VALUES = np.random.default_rng(0).random(SHAPE).astype(np.float32)


@pytest.fixture
def unfinished(tmp_path):
    own = UnfinishedScores(tmp_path / "scores" / "TS_01.zarr")
    own.begin(IDENTITY, SHAPE, **FRAME)
    return own


def put(unfinished, low, high, step=10):
    with unfinished.writer(low) as write:
        for z in range(low, high, step):
            write(z, VALUES[:, z : min(z + step, high)])


def test_planes_are_complete_once_they_are_written_and_become_the_score_map(unfinished):
    assert unfinished.missing((0, 150)) == [(0, 150)]
    put(unfinished, 0, 40)
    put(unfinished, 64, 128)
    again = UnfinishedScores(unfinished.path)
    again.begin(IDENTITY, SHAPE, **FRAME)
    assert again.missing((0, 150)) == [(40, 64), (128, 150)]
    assert again.missing((50, 130)) == [(50, 64), (128, 130)]
    assert again.missing((70, 128)) == []
    put(again, 40, 64)
    put(again, 128, 150)
    assert again.missing((0, 150)) == []
    (again.folder / "store.zarr" / "0" / "c.1234.partial").touch()  # as Zarr leaves it when it is killed
    again.finish()
    assert np.abs(np.asarray(scores.read(again.path).data) - VALUES).max() < 1e-5
    assert not list(again.path.rglob("*.partial"))
    assert again.is_finished
    again.discard()
    assert [p.name for p in again.path.parent.iterdir()] == ["TS_01.zarr"]


@pytest.mark.parametrize("change", ["identity", "shape"])
def test_what_was_computed_from_something_else_is_discarded(unfinished, change):
    put(unfinished, 0, 40)
    shape = (1, 150, 8, 10) if change == "shape" else SHAPE
    identity = {**IDENTITY, "model": "b"} if change == "identity" else IDENTITY
    unfinished.begin(identity, shape, **FRAME)
    assert unfinished.missing((0, 150)) == [(0, 150)]
    assert not unfinished.is_finished


def test_an_older_map_is_not_taken_for_the_new_one(unfinished):
    put(unfinished, 0, 150)
    unfinished.finish()
    unfinished.begin({"model": "b"}, SHAPE, **FRAME)
    assert not unfinished.is_finished
    assert unfinished.missing((0, 150)) == [(0, 150)]
    put(unfinished, 0, 150)
    unfinished.finish()
    assert unfinished.is_finished


def test_a_finished_map_that_is_gone_is_computed_again(unfinished):
    put(unfinished, 0, 150)
    unfinished.finish()
    for path in sorted(unfinished.path.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    unfinished.path.rmdir()
    unfinished.begin(IDENTITY, SHAPE, **FRAME)
    assert not unfinished.is_finished
    assert unfinished.missing((0, 150)) == [(0, 150)]


def test_a_full_disk_names_the_score_map_and_keeps_what_is_complete(unfinished, monkeypatch):
    put(unfinished, 0, 40)
    with monkeypatch.context() as broken:
        real = scores.ScoreWriter.write

        def refuse(self, z0, block):
            real(self, z0, block[:, :5])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        broken.setattr(scores.ScoreWriter, "write", refuse)
        with pytest.raises(RunError, match=r"TS_01.zarr: the disk is full"):
            put(unfinished, 40, 80)
    assert unfinished.missing((0, 150)) == [(40, 150)]


def test_a_store_without_a_plane_is_removed(unfinished):
    put(unfinished, 0, 40)
    unfinished.discard_empty()
    assert unfinished.missing((0, 150)) == [(40, 150)]
    unfinished.begin({"model": "b"}, SHAPE, **FRAME)
    unfinished.discard_empty()
    assert list(unfinished.path.parent.iterdir()) == []


def test_parts_are_whole_chunks():
    assert parts(300, 1) == [(0, 300)]
    for planes, count in ((300, 3), (1000, 7), (64, 2), (65, 2), (129, 9)):
        own = parts(planes, count)
        assert own[0][0] == 0
        assert own[-1][1] == planes
        assert all(a[1] == b[0] and a[1] % 64 == 0 for a, b in pairwise(own))
        assert len(own) <= count
