import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cryovox.core import atomic
from cryovox.core.atomic import discard, replacing, writable_folder
from cryovox.core.errors import RequestError, RunError


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "out.mrc"
    with replacing(path) as beside:
        assert beside.suffix == ".mrc"
        beside.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(path.parent) == ["out.mrc"]


@pytest.mark.parametrize("folder", [False, True])
def test_nothing_half_written_stays_and_the_old_survives(tmp_path, folder):
    path = tmp_path / "out"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as beside:  # noqa: PT012
        if folder:
            beside.mkdir()
            (beside / "part").write_text("half")
        else:
            beside.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("before", "after"),
    [("file", "file"), ("nothing", "file"), ("file", "folder"), ("folder", "folder"), ("nothing", "folder")],
)
def test_what_was_there_is_replaced(tmp_path, before, after):
    path = tmp_path / "out"
    if before == "file":
        path.write_text("old")
    if before == "folder":
        path.mkdir()
        (path / "old").touch()
    with replacing(path) as beside:
        if after == "file":
            beside.write_text("new")
        else:
            beside.mkdir()
            (beside / "new").touch()
    assert names(tmp_path) == ["out"]
    assert (names(path) == ["new"]) if after == "folder" else (path.read_text() == "new")


def test_a_file_never_takes_the_place_of_a_folder(tmp_path):
    path = tmp_path / "out"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(OSError, match="directory"), replacing(path) as beside:
        beside.write_text("new")
    assert names(path) == ["old"]
    assert names(tmp_path) == ["out"]


def test_a_folder_is_not_lost_to_a_block_that_wrote_nothing(tmp_path):
    path = tmp_path / "out"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert names(path) == ["old"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_run_error(tmp_path, code):
    with pytest.raises(RunError, match="disk is full"), replacing(tmp_path / "out") as beside:  # noqa: PT012
        beside.write_text("half")
        raise OSError(code, os.strerror(code))
    assert names(tmp_path) == []


def test_other_errors_pass(tmp_path):
    with pytest.raises(PermissionError), replacing(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "no")


def test_discard_leaves_the_target_of_a_link(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    link = tmp_path / "link"
    link.symlink_to(kept)
    discard(link)
    discard(tmp_path / "never there")
    assert names(tmp_path) == ["kept"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    assert writable_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="cannot be written"):
        writable_folder(tmp_path / "file" / "below")
    assert names(tmp_path / "a" / "b") == []


def leftover(folder, process, machine=None):
    path = folder / f".cryovox-{machine or atomic._machine()}-{process}-a.zarr"
    path.mkdir(parents=True)
    (path / "part").touch()
    return path


@pytest.fixture
def dead():
    """Number of a process that no longer runs."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path, dead):
    scores = tmp_path / "scores"
    gone = [leftover(tmp_path, dead), leftover(scores, dead)]
    with subprocess.Popen(["sleep", "60"]) as alive:
        kept = [
            leftover(scores, alive.pid),
            leftover(scores, dead, machine="0" * 8),  # of another machine on a shared file system
            scores / f".{dead}.a.zarr",
            scores / f"cryovox-{dead}-a.zarr",
        ]
        for path in kept[2:]:
            path.touch()
        writable_folder(tmp_path)
        alive.kill()
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)


def test_the_next_file_in_a_folder_removes_them_too(tmp_path, dead):
    gone = leftover(tmp_path, dead)
    with replacing(tmp_path / "other.txt") as beside:
        beside.touch()
    assert not gone.exists()


def test_a_process_that_is_killed_while_it_writes(tmp_path):
    code = """
import os, sys
from pathlib import Path
from cryovox.core.atomic import replacing
with replacing(Path(sys.argv[1]) / "scores" / "a.zarr") as beside:
    beside.mkdir()
    (beside / "half").touch()
    os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert done.returncode == -9
    assert len(names(tmp_path / "scores")) == 1
    writable_folder(tmp_path)
    assert names(tmp_path / "scores") == []


def test_errors_name_the_output(tmp_path):
    path = tmp_path / "out.mrc"
    with pytest.raises(PermissionError) as caught, replacing(path) as beside:
        raise PermissionError(errno.EACCES, "Permission denied", str(beside / "c" / "0"))
    assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="unable to open") as caught, replacing(path) as beside:
        raise OSError(f"unable to open file (name = '{beside}')")
    assert ".cryovox" not in str(caught.value)
    with pytest.raises(PermissionError) as caught, replacing(path):
        raise PermissionError(errno.EACCES, "Permission denied", "another file")
    assert caught.value.filename == "another file"


def test_a_folder_comes_back_where_its_successor_cannot_take_its_place(tmp_path, monkeypatch):
    path = tmp_path / "out"
    path.mkdir()
    (path / "old").touch()
    real = os.replace

    def refuse(source, target):
        if Path(target) == path and not str(source).endswith(".old"):
            raise OSError(errno.EIO, "no")
        real(source, target)

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(OSError, match="no"), replacing(path) as beside:
        beside.mkdir()
    assert names(path) == ["old"]
    assert names(tmp_path) == ["out"]
