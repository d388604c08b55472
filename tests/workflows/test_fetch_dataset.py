import contextlib
import hashlib
import io
import json
import shutil
import socket
import zipfile

import numpy as np
import pytest

from cryovox.cli import main
from cryovox.core.errors import RequestError, RunError
from cryovox.core.volume import Volume
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_particles, read_volume, subtomograms, write_volume
from cryovox.formats.layouts import LAYOUTS
from cryovox.workflows.fetch import datasets as work
from cryovox.workflows.fetch.dataverse import File, list_files
from cryovox.workflows.fetch.prepare import prepare_dataset

DOI = "doi:10.34894/XRTJMA"


def model(i: int) -> dict[str, bytes]:
    """The files of a tiny SHREC model."""
    folder = f"full_dataset/model_{i}"
    return {
        f"{folder}/reconstruction.mrc": np.random.default_rng(i).bytes(5000),
        f"{folder}/particle_locations.txt": b"1BXN 1 2 3 0 0 0\n",
    }


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


@pytest.fixture
def dataverse(web):
    """Answers as a Dataverse does."""
    zipped = packed(model(0) | model(1))
    held = {
        1: ("shrec2021_full_dataset.zip", "", zipped),
        2: ("shrec2021_original_groundtruth.zip", "more", b"truth" * 9),
        3: ("readme.txt", "more/text", b"read me"),
    }
    rows = []
    for number, (name, folder, data) in held.items():
        web.files[f"/api/access/datafile/{number}"] = data
        md5 = hashlib.md5(data).hexdigest()
        about = {"id": number, "filename": name, "filesize": len(data), "md5": md5}
        about["checksum"] = {"type": "MD5", "value": md5}
        rows.append({"label": name, "restricted": False, "dataFile": about})
        if folder:
            rows[-1]["directoryLabel"] = folder
    web.rows = rows
    tell(web)
    return web


def tell(web) -> None:
    answer = {"status": "OK", "data": {"id": 1, "latestVersion": {"versionNumber": 1, "files": web.rows}}}
    web.files[f"/api/datasets/:persistentId/?persistentId={DOI}"] = json.dumps(answer).encode()


@pytest.fixture
def base(dataverse) -> str:
    return dataverse.base.removesuffix("/download")


def names(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(path.relative_to(folder).as_posix() for path in files)


def test_the_list_of_a_dataverse(base, dataverse):
    files = {file.name: file for file in list_files(base + "/", DOI)}
    assert list(files) == [
        "shrec2021_full_dataset.zip",
        "more/shrec2021_original_groundtruth.zip",
        "more/text/readme.txt",
    ]
    readme = files["more/text/readme.txt"]
    assert readme.url == f"{base}/api/access/datafile/3"
    assert (readme.size, readme.algorithm) == (7, "md5")
    assert readme.hash == hashlib.md5(b"read me").hexdigest()
    assert [f.name for f in list_files(base, DOI, ["readme*"])] == ["more/text/readme.txt"]
    assert len(list_files(base, DOI, work.DATASETS["shrec2021"].files)) == 1


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"checksum": {"type": "SHA-256", "value": "AB"}}, ("sha256", "ab")),
        ({"checksum": {"type": "CRC", "value": "ab"}, "md5": None}, ("", "")),
        ({"checksum": None}, ("md5", hashlib.md5(b"read me").hexdigest())),
    ],
    ids=["sha256", "unknown", "md5 alone"],
)
def test_hashes_are_taken_as_they_are_told(base, dataverse, change, wanted):
    dataverse.rows[2]["dataFile"] |= change
    tell(dataverse)
    (file,) = list_files(base, DOI, ["readme*"])
    assert (file.algorithm, file.hash) == wanted


def test_tables_are_asked_for_as_they_were(base, dataverse):
    about = dataverse.rows[2]["dataFile"]
    about |= {"originalFileFormat": "text/csv", "originalFileName": "readme.csv", "originalFileSize": 9}
    tell(dataverse)
    file = list_files(base, DOI, ["readme*"])[0]
    assert file == File("more/text/readme.csv", f"{base}/api/access/datafile/3?format=original", 9)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a\\x"])
def test_names_that_lead_elsewhere_are_refused(base, dataverse, name):
    dataverse.rows[0]["dataFile"]["filename"] = name
    tell(dataverse)
    with pytest.raises(RunError, match="leads out"):
        list_files(base, DOI)


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"data": {}}'], ids=["page", "list", "empty"])
def test_a_server_that_is_no_dataverse(base, dataverse, answer):
    dataverse.files[f"/api/datasets/:persistentId/?persistentId={DOI}"] = answer
    with pytest.raises(RunError, match="does not answer as a Dataverse"):
        list_files(base, DOI)


def test_what_the_server_does_not_have(base):
    with pytest.raises(RequestError, match=r"does not know doi:10\.1/NO"):
        list_files(base, "doi:10.1/NO")
    with pytest.raises(RequestError, match=r"called like \*\.mrc; it holds shrec2021_full"):
        list_files(base, DOI, ["*.mrc"])


def test_files_are_fetched_checked_and_recorded(base, dataverse, tmp_path):
    progress = []
    files = list_files(base, DOI)
    paths = work.fetch_files(files, tmp_path, on_progress=lambda *report: progress.append(report))
    assert [p.read_bytes() for p in paths] == [
        dataverse.files[f"/api/access/datafile/{i}"] for i in (1, 2, 3)
    ]
    record = json.loads((tmp_path / "fetched.json").read_text())
    assert record["more/text/readme.txt"]["sha256"] == hashlib.sha256(b"read me").hexdigest()
    assert progress[-1] == ("fetching", 1.0, "more/text/readme.txt")
    asked = len(dataverse.asked)
    work.fetch_files(files, tmp_path)
    assert len(dataverse.asked) == asked


def test_a_fetch_that_stopped_goes_on(base, dataverse, tmp_path):
    files = list_files(base, DOI)
    dataverse.lose = [1000] * 3
    with pytest.raises(RunError, match="3000 bytes are kept"):
        work.fetch_files(files, tmp_path)
    dataverse.asked.clear()
    work.fetch_files(files, tmp_path)
    assert dataverse.asked[0] == ("1", 3000)
    assert not [name for name in names(tmp_path) if name.endswith((".part", ".etag"))]


def test_a_whole_part_is_only_checked(base, dataverse, tmp_path):
    (file,) = list_files(base, DOI, ["*full*"])
    (tmp_path / f".{file.name}.part").write_bytes(dataverse.files["/api/access/datafile/1"])
    dataverse.asked.clear()
    (path,) = work.fetch_files([file], tmp_path)
    assert not dataverse.asked
    assert path.read_bytes() == dataverse.files["/api/access/datafile/1"]


def test_a_wrong_hash_gets_no_name(base, dataverse, tmp_path):
    files = list_files(base, DOI, ["readme*"])
    dataverse.files["/api/access/datafile/3"] = b"read ME"
    with pytest.raises(RunError, match="its md5 is"):
        work.fetch_files(files, tmp_path)
    assert names(tmp_path) == []
    dataverse.files["/api/access/datafile/3"] = b"read"
    with pytest.raises(RunError, match="4 bytes came instead of 7"):
        work.fetch_files(files, tmp_path)
    assert names(tmp_path) == []


def test_files_fetched_by_hand_are_taken_if_their_hash_is_right(base, dataverse, tmp_path):
    files = list_files(base, DOI, ["readme*"])
    place = tmp_path / "more" / "text" / "readme.txt"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"read me")
    dataverse.asked.clear()
    work.fetch_files(files, tmp_path)
    assert not dataverse.asked
    assert "more/text/readme.txt" in json.loads((tmp_path / "fetched.json").read_text())
    place.write_bytes(b"mine")
    with pytest.raises(RequestError, match="--overwrite"):
        work.fetch_files(files, tmp_path)
    assert place.read_bytes() == b"mine"
    work.fetch_files(files, tmp_path, overwrite=True)
    assert place.read_bytes() == b"read me"


def test_a_disk_that_is_too_small_is_told_first(base, dataverse, tmp_path, monkeypatch):
    files = list_files(base, DOI)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5000))
    dataverse.asked.clear()
    with pytest.raises(RequestError, match=r"needs 0\.01\d MB, the disk has 0\.005 MB"):
        work.fetch_files(files, tmp_path)
    assert not dataverse.asked


def test_archives_are_unpacked_once(tmp_path):
    held = model(0)
    (tmp_path / "a.zip").write_bytes(packed(held))
    paths = work.unpack(tmp_path / "a.zip", tmp_path / "out")
    assert {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in paths} == held
    before = [p.stat().st_mtime_ns for p in paths]
    paths[1].write_bytes(b"cut")
    work.unpack(tmp_path / "a.zip", tmp_path / "out")
    assert paths[0].stat().st_mtime_ns == before[0]
    assert paths[1].read_bytes() == held["full_dataset/model_0/particle_locations.txt"]


@pytest.mark.parametrize("data", [b"no archive", packed({"../evil": b"x"})], ids=["no zip", "leads out"])
def test_archives_that_cannot_be_unpacked(tmp_path, data):
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(RunError, match="cannot be unpacked"):
        work.unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "evil").exists()


def test_one_command_fetches_and_unpacks(base, tmp_path, capsys):
    command = ["fetch", "dataset", "shrec2021", "--from", base, "--out", str(tmp_path), "--quiet"]
    assert main([*command, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "shrec2021_full_dataset.zip" in printed
    assert "md5" in printed
    assert names(tmp_path) == []
    assert main(command) == 0
    assert f"train supervised --data {tmp_path}" in capsys.readouterr().out
    assert (tmp_path / "full_dataset" / "model_1" / "reconstruction.mrc").stat().st_size == 5000
    assert LAYOUTS["shrec2021"].is_here(tmp_path)
    assert "more" not in {path.name for path in tmp_path.iterdir()}
    assert main(command) == 0


@pytest.mark.parametrize("args", [[], ["--list"]], ids=["no name", "list"])
def test_datasets_are_listed(args, capsys):
    assert main(["fetch", "dataset", *args]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in work.DATASETS)


@pytest.mark.parametrize("name", [n for n, s in work.DATASETS.items() if not s.server])
def test_what_cannot_be_fetched_is_told_how_to_get(name, tmp_path, capsys):
    assert main(["fetch", "dataset", name, "--out", str(tmp_path / "new")]) == 2
    printed = capsys.readouterr().err
    assert f"fetch dataset {name} --from FOLDER" in printed
    assert "what to do" in printed
    assert not (tmp_path / "new").exists()


def test_unknown_datasets_and_addresses(tmp_path, capsys):
    assert main(["fetch", "dataset", "shrec"]) == 2
    assert "did you mean 'shrec2021'" in capsys.readouterr().err
    assert main(["fetch", "dataset", "shrec2021", "--from", str(tmp_path / "gone")]) == 2
    assert "no web address" in capsys.readouterr().err


def test_without_a_network_one_screen_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    args = ["--from", f"http://127.0.0.1:{port}", "--out", str(tmp_path / "new")]
    assert main(["fetch", "dataset", "shrec2021", *args]) == 1
    printed = capsys.readouterr().err
    assert "cannot be reached" in printed
    assert "copy them here" in printed


# --- folders that are there already ----------------------------------------------------------------


def shrec(root):
    for i in (0, 9):
        place = root / f"model_{i}"
        data = np.random.default_rng(i).normal(size=(12, 20, 24)).astype(np.float32)
        labels = np.zeros(data.shape, np.int8)
        labels[5, 6, 7] = 4
        write_volume(place / "reconstruction.mrc", Volume(data, 1.0))
        write_volume(place / "class_mask.mrc", Volume(labels, 1.0))
        (place / "particle_locations.txt").write_text("1BXN 7 6 5 0 0 0\n")
    return root


def test_a_folder_becomes_a_dataset_without_copying(tmp_path, capsys):
    there = shrec(tmp_path / "there")
    out = tmp_path / "mine"
    command = ["fetch", "dataset", "shrec2021", "--from", str(there), "--out", str(out)]
    assert main(command) == 0
    assert f"--data {out}" in capsys.readouterr().out
    link = out / "tomograms" / "model_9.mrc"
    assert link.resolve() == (there / "model_9" / "reconstruction.mrc").resolve()
    dataset = dataset_files.read(out)
    assert [e.split for e in dataset.entries] == ["train", "test"]
    picks = read_particles(out / "particles" / "model_9.star", tomogram=Volume(np.zeros((12, 20, 24)), 10.0))
    np.testing.assert_allclose(picks.positions, [[50, 60, 70]], atol=1e-3)
    labels, again = dataset_files.load_annotations(dataset.entries[1], dataset)
    assert labels.data[5, 6, 7] == 4
    assert again.species.tolist() == ["1BXN"]
    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert read_volume(link, 10.0).shape == (12, 20, 24)


def test_a_folder_is_not_written_into_itself(tmp_path):
    there = shrec(tmp_path)
    before = names(there)
    with pytest.raises(RequestError, match="itself"):
        prepare_dataset(there, there)
    with pytest.raises(RequestError, match="holds no dataset"):
        prepare_dataset(tmp_path / "model_0", tmp_path / "new")
    assert names(there) == before


def test_volumes_become_sets_of_patches_too(tmp_path):
    there = tmp_path / "there"
    for i in range(7):
        data = np.random.default_rng(i).normal(size=(40, 36, 34)).astype(np.float32)
        write_volume(there / "images" / f"v{i}.mrc", Volume(data, 10.0))
        write_volume(there / "masks" / f"v{i}.mrc", Volume((data > 1).astype(np.int8), 10.0))
    assert prepare_dataset(there, tmp_path / "out", "volumes") == tmp_path / "out" / "train.zarr"
    sets = {part: subtomograms.read(tmp_path / "out" / f"{part}.zarr") for part in ("train", "test")}
    assert [len(subvolumes) for subvolumes in sets.values()] == [6, 1]
    of = {part: set(subvolumes.particles.tomograms.tolist()) for part, subvolumes in sets.items()}
    assert not of["train"] & of["test"]
    split = {e.name: e.split for e in dataset_files.read(tmp_path / "out").entries}
    assert {n for n, part in split.items() if part == "test"} == of["test"]
    assert 0.1 < np.asarray(sets["test"].masks[:]).mean() < 0.25


def test_subtomograms_become_one_set(tmp_path):
    h5py = pytest.importorskip("h5py")
    there = tmp_path / "there"
    there.mkdir()
    for name in ("snrSNR003_prot1c5u_1", "snrSNR005_prot2ane_2"):
        with h5py.File(there / f"{name}.h5", "w") as file:
            file["image"], file["label"] = np.ones((68,) * 3, "f4"), np.ones((68,) * 3, "u1")
    path = prepare_dataset(there, tmp_path / "out", "subtomograms")
    subvolumes = subtomograms.read(path)
    assert subvolumes.particles.species.tolist() == ["1c5u", "2ane"]
    assert subvolumes.images.shape == (2, 32, 32, 32)
    assert np.unique(subvolumes.masks[1]).tolist() == [2]
