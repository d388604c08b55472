import contextlib
import gzip
import hashlib
import json
import socket
from pathlib import Path

import numpy as np
import pytest

from cryovox.core.errors import RequestError, RunError
from cryovox.workflows.fetch import http as download
from cryovox.workflows.fetch.structures import fetch_structure


def entry(name):
    rows = np.random.default_rng(sum(map(ord, name))).integers(0, 1 << 60, 6000)
    return gzip.compress(f"data_{name}\n".encode() + "\n".join(map(str, rows)).encode(), mtime=0)


@pytest.fixture
def server(web):
    for name in ("1BXN", "3J9I", "pdb_00001abc"):
        web.files[f"{name}.cif.gz"] = entry(name)
    return web


def names(folder: Path):
    return sorted(path.name for path in folder.iterdir() if path.name != ".locks")


def test_files_arrive_whole_and_are_recorded(server, tmp_path):
    paths = fetch_structure(["1bxn", " PDB_00001ABC ", "1BXN"], tmp_path / "new", base=server.base + "/")
    assert [path.name for path in paths] == ["1bxn.cif.gz", "pdb_00001abc.cif.gz"]
    assert paths[0].read_bytes() == server.files["1BXN.cif.gz"]
    assert names(tmp_path / "new") == ["1bxn.cif.gz", "fetched.json", "pdb_00001abc.cif.gz"]
    record = json.loads((tmp_path / "new" / "fetched.json").read_text())["1bxn.cif.gz"]
    assert record["sha256"] == hashlib.sha256(paths[0].read_bytes()).hexdigest()
    assert record["bytes"] == paths[0].stat().st_size
    assert record["url"] == f"{server.base}/1BXN.cif.gz"


def test_what_is_there_is_not_asked_for_again_unless_told(server, tmp_path):
    fetch_structure(["1bxn"], tmp_path, base=server.base)
    fetch_structure(["1bxn", "3j9i"], tmp_path, base=server.base)
    assert [name for name, _ in server.asked] == ["1BXN.cif.gz", "3J9I.cif.gz"]
    server.files["1BXN.cif.gz"] = entry("other")
    (path,) = fetch_structure(["1bxn"], tmp_path, base=server.base, overwrite=True)
    assert path.read_bytes() == entry("other")


def test_a_file_that_is_not_ours_is_not_replaced(server, tmp_path):
    (tmp_path / "1bxn.cif.gz").write_bytes(b"mine")
    with pytest.raises(RequestError, match="--overwrite"):
        fetch_structure(["3j9i", "1bxn"], tmp_path, base=server.base)
    assert not server.asked
    assert (tmp_path / "1bxn.cif.gz").read_bytes() == b"mine"
    fetch_structure(["1bxn"], tmp_path, base=server.base, overwrite=True)
    (tmp_path / "1bxn.cif.gz").write_bytes(b"changed")
    with pytest.raises(RequestError, match="exists, but differs"):
        fetch_structure(["1bxn"], tmp_path, base=server.base)


def test_a_lost_connection_is_continued(server, tmp_path):
    server.lose = [1000, 20000]
    (path,) = fetch_structure(["1bxn"], tmp_path, base=server.base)
    assert path.read_bytes() == server.files["1BXN.cif.gz"]
    assert [start for _, start in server.asked] == [0, 1000, 21000]


def test_a_later_run_goes_on_where_the_first_one_stopped(server, tmp_path):
    server.lose = [1000] * 3
    with pytest.raises(RunError, match="3000 bytes are kept"):
        fetch_structure(["1bxn"], tmp_path, base=server.base)
    assert not (tmp_path / "1bxn.cif.gz").exists()
    assert names(tmp_path) == [".1bxn.cif.gz.etag", ".1bxn.cif.gz.part"]
    (path,) = fetch_structure(["1bxn"], tmp_path, base=server.base)
    assert server.asked[-1] == ("1BXN.cif.gz", 3000)
    assert path.read_bytes() == server.files["1BXN.cif.gz"]
    assert names(tmp_path) == ["1bxn.cif.gz", "fetched.json"]


@pytest.mark.parametrize("change", ["no ranges", "no versions", "another version"])
def test_where_it_cannot_go_on_it_begins_again(server, tmp_path, change):
    server.ranges, server.tags = change != "no ranges", change != "no versions"
    server.lose = [1000] * 3
    with pytest.raises(RunError, match="lost"):
        fetch_structure(["1bxn"], tmp_path, base=server.base)
    if change == "another version":
        server.files["1BXN.cif.gz"] = entry("newer")
    (path,) = fetch_structure(["1bxn"], tmp_path, base=server.base)
    assert path.read_bytes() == server.files["1BXN.cif.gz"]


def test_a_whole_part_is_fetched_anew(server, tmp_path):
    data = server.files["1BXN.cif.gz"]
    (tmp_path / ".1bxn.cif.gz.part").write_bytes(data)
    (tmp_path / ".1bxn.cif.gz.etag").write_text(f'"{hashlib.md5(data).hexdigest()}"')
    (path,) = fetch_structure(["1bxn"], tmp_path, base=server.base)
    assert path.read_bytes() == data
    assert [start for _, start in server.asked] == [len(data), 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>log in</html>", "damaged"),
        (gzip.compress(b"HEADER", mtime=0), "no mmCIF"),
        (entry("x")[:-300], "damaged"),
        (entry("x")[:900] + b"????" + entry("x")[904:], "damaged"),
    ],
    ids=["a page", "another format", "cut short", "changed inside"],
)
def test_what_is_damaged_gets_no_name(server, tmp_path, content, message):
    server.files["1BXN.cif.gz"] = content
    with pytest.raises(RunError, match=message):
        fetch_structure(["1bxn"], tmp_path, base=server.base)
    assert names(tmp_path) == []


def test_a_short_answer_of_unknown_length_is_found_out(server, tmp_path):
    server.lengths, server.lose = False, [5000]
    with pytest.raises(RunError, match="damaged"):
        fetch_structure(["1bxn"], tmp_path, base=server.base)
    assert names(tmp_path) == []


def test_an_unknown_identifier_is_named(server, tmp_path):
    with pytest.raises(RequestError, match="9zzz: the server has no such structure") as one:
        fetch_structure(["9ZZZ"], tmp_path, base=server.base)
    assert not isinstance(one.value, RunError)
    with pytest.raises(RunError, match="9zzz, 8zzz: the server has no"):
        fetch_structure(["9zzz", "1bxn", "8zzz"], tmp_path, base=server.base)
    assert names(tmp_path) == ["1bxn.cif.gz", "fetched.json"]


@pytest.mark.parametrize(
    "identifier", ["", "1bx", "abcd", "1bxn2", "../1bxn", "pdb_123", "1b/n", "pdb_0000 abc", "1bxñ"]
)
def test_what_cannot_be_an_identifier_is_refused_before_all_else(tmp_path, identifier):
    with pytest.raises(RequestError, match="no identifier"):
        fetch_structure(["1bxn", identifier], tmp_path / "new", base="http://127.0.0.1:9")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("base", ["file:///etc", "files.rcsb.org", ""])
def test_only_web_addresses_are_asked(tmp_path, base):
    with pytest.raises(RequestError, match="no web address"):
        fetch_structure(["1bxn"], tmp_path, base=base)


def test_without_a_network_one_screen_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(RunError, match="cannot be reached") as error:
        fetch_structure(["1bxn"], tmp_path, base=f"http://127.0.0.1:{port}")
    assert f"127.0.0.1:{port}" in str(error.value)
    assert "built-in species" in error.value.remedy
    assert len(str(error.value).splitlines()) == 2
    assert names(tmp_path) == []


def test_a_name_that_nobody_resolves_is_told_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(RunError, match=r"no-such-host\.invalid: cannot be reached"):
        fetch_structure(["1bxn"], tmp_path, base="https://no-such-host.invalid")


def test_a_server_in_trouble_is_quoted(server, tmp_path):
    server.fail = 503
    with pytest.raises(RunError, match="answers 503"):
        fetch_structure(["1bxn"], tmp_path, base=server.base)
    assert names(tmp_path) == []


def test_a_server_that_hangs_is_left(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 0.2)
    with contextlib.closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(RunError, match="cannot be reached"):
            fetch_structure(["1bxn"], tmp_path, base=f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_a_full_disk_is_told(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_append", full)
    with pytest.raises(RunError, match="No space left"):
        fetch_structure(["1bxn"], tmp_path, base=server.base)


def test_a_record_that_is_broken_is_written_anew(server, tmp_path):
    (tmp_path / "fetched.json").write_text("[1, 2")
    fetch_structure(["1bxn"], tmp_path, base=server.base)
    assert list(json.loads((tmp_path / "fetched.json").read_text())) == ["1bxn.cif.gz"]


def test_two_processes_keep_each_others_records(tmp_path):
    first, second = {}, {}  # what each read before the other wrote
    for name, record in (("a", first), ("b", second)):
        (tmp_path / name).write_text(name)
        download.record_file(
            tmp_path / name, tmp_path / name, tmp_path, record, f"https://example.org/{name}"
        )
    assert sorted(download.read_record(tmp_path)) == ["a", "b"]
