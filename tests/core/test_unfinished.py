"""Parts of a computation that outlive a crash."""

import numpy as np
import pytest

from cryovox.core.unfinished import NO_PARTS, UnfinishedParts


@pytest.fixture
def parts(tmp_path):
    return UnfinishedParts.beside(tmp_path / "denoised" / "TS_01.mrc", device="cpu")


def numbers(parts, name="a", value=1.5):
    """The values of a part, and whether they were computed now."""
    computed = []

    def compute():
        computed.append(name)
        return np.full((2, 3), value, np.float32)

    return float(parts.array(name, compute).mean()), bool(computed)


def test_parts_are_computed_once(parts, tmp_path):
    parts.begin({"key": (1, "x")})
    assert numbers(parts) == (1.5, True)
    parts.begin({"key": [1, "x"]})  # as JSON has it
    assert numbers(parts, value=9.0) == (1.5, False)
    assert numbers(parts.within("mirrored"), value=2.0) == (2.0, True)
    assert numbers(parts, value=9.0) == (1.5, False)
    assert sorted(p.name for p in (tmp_path / "denoised").iterdir()) == [".TS_01.unfinished"]
    parts.discard()
    assert not list((tmp_path / "denoised").iterdir())


def test_parts_of_something_else_are_discarded(parts):
    parts.begin({"key": 1})
    numbers(parts)
    parts.begin({"key": 2})
    assert numbers(parts, value=3.0) == (3.0, True)
    other = UnfinishedParts(parts.folder, facts={"device": "cuda"})
    other.begin({"key": 2})
    assert numbers(other, value=4.0) == (4.0, True)


def test_files_that_a_loss_of_power_broke_are_computed_again(parts):
    parts.begin({})
    numbers(parts)
    (file,) = parts.folder.glob("*.npz")
    whole = file.read_bytes()
    for broken in (b"", whole[: len(whole) // 2], b"x" * len(whole)):
        file.write_bytes(broken)
        assert numbers(parts, value=5.0) == (5.0, True)


def test_objects_are_not_read(parts):
    """Reading a pickle would run code."""
    parts.begin({})
    np.savez(parts.folder / "a.npz", values=np.array([print], dtype=object))
    assert numbers(parts) == (1.5, True)


def test_nothing_is_kept_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    NO_PARTS.begin({"key": 1})
    assert numbers(NO_PARTS) == (1.5, True)
    assert numbers(NO_PARTS, value=2.0) == (2.0, True)
    NO_PARTS.discard()
    assert not list(tmp_path.iterdir())
