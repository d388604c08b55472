"""Crafted and damaged files run no code, leave their folder alone, take no memory and are named."""

import gzip
import json
import pickle
import resource
import subprocess
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from cryovox.core.config import from_yaml
from cryovox.core.dataset import Dataset
from cryovox.core.errors import RequestError, RunError
from cryovox.core.particles import Species
from cryovox.core.safe_yaml import load_yaml
from cryovox.core.volume import Volume
from cryovox.formats import dataset as dataset_files
from cryovox.formats import read_particles, read_volume
from cryovox.formats.mrc import write as write_mrc
from cryovox.models import build
from cryovox.models.card import Card, read_card
from cryovox.models.checkpoint import load_model, save_model
from cryovox.training.config import LoopConfig
from cryovox.workflows.fetch.datasets import CLIENT, unpack
from cryovox.workflows.fetch.http import _StaySecure
from cryovox.workflows.manifest import Manifest
from cryovox.workflows.simulation.dataset_folder import SimulatedBatch

MUTANTS = 400
MOST_MEMORY = 300 << 10
"""kB by which the memory may grow."""


LAUGHS = "\n".join(
    ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))]
)
WORDS = (b"-", b"1e999", b"null", b"[", b"}", b"*a", b"999999999999", b"\x00")


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return subprocess.call, (["touch", str(self.mark)],)


@pytest.fixture
def mark(tmp_path):
    path = tmp_path / "it-ran"
    yield path
    assert not path.exists()


@pytest.fixture
def little_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY


def test_pickles_are_never_run(mark, tmp_path):
    bomb = pickle.dumps(Bomb(mark))
    for name in ("model.safetensors", "a.npy", "a.tloc", "a.mrc", "a.star", "a.em"):
        (tmp_path / name).write_bytes(bomb)
    np.save(tmp_path / "b.npy", np.array([Bomb(mark)], object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as packed:  # as torch.save writes
        packed.writestr("archive/data.pkl", bomb)
    for name in ("model.safetensors", "model.pt"):
        with pytest.raises(RequestError):
            load_model(tmp_path / name)
    for name in ("a.npy", "b.npy", "a.mrc", "a.em"):
        with pytest.raises(RequestError):
            read_volume(tmp_path / name, 10.0)
    for name in ("a.tloc", "a.star"):
        with pytest.raises(RequestError):
            read_particles(tmp_path / name)


@pytest.mark.parametrize("tag", ["python/object/apply:subprocess.call", "python/name:os.system"])
def test_yaml_runs_no_code(mark, tmp_path, tag):
    text = f"steps: !!{tag} [[touch, {mark}]]\n"
    (tmp_path / "dataset.yaml").write_text(text)
    for kind in (LoopConfig, Dataset):
        with pytest.raises(RequestError, match="cannot be read as YAML"):
            from_yaml(kind, tmp_path / "dataset.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(
            [
                "a0: &a0 [x, x]",
                *(f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 9) + "]" for i in range(1, 12)),
            ]
        ),
        "a: &a [*a]",
        "[" * 3000,
        "a: " + "[" * 200 + "]" * 200,
        "a: 2001-99-99",
    ],
    ids=["laughs", "itself", "open", "deep", "date"],
)
def test_yaml_that_stands_for_very_much_is_refused(little_memory, tmp_path, text):
    with pytest.raises(yaml.YAMLError):
        load_yaml(text)
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(RequestError, match="YAML"):
        from_yaml(Dataset, tmp_path / "a.yaml")


def test_aliases_of_ordinary_files_are_read():
    assert load_yaml("a: &x [1, 2]\nb: *x\n") == {"a": [1, 2], "b": [1, 2]}
    assert load_yaml("") is None


def packed(path: Path, *names: str, size: int = 10) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, bytes(size))
    return path


@pytest.mark.parametrize("name", ["../out.mrc", "/tmp/out.mrc", "a/../../out.mrc", "..\\out.mrc"])
def test_archives_write_into_their_folder_only(tmp_path, name):
    archive = packed(tmp_path / "a.zip", "good.mrc", name)
    with pytest.raises(RunError, match="leads out of the folder"):
        unpack(archive, tmp_path / "deep" / "er")
    assert not (tmp_path / "deep").exists()


def test_archives_that_become_too_large_are_refused(little_memory, tmp_path):
    honest = packed(tmp_path / "a.zip", "zeros.mrc", size=1 << 20)
    assert unpack(honest, tmp_path / "out")[0].stat().st_size == 1 << 20
    data = bytearray(honest.read_bytes())
    at = data.rindex(b"PK\x01\x02")  # the size in the central directory
    data[at + 24 : at + 28] = (1 << 30).to_bytes(4, "little")
    (tmp_path / "b.zip").write_bytes(data)
    with pytest.raises(RunError, match="would become"):
        unpack(tmp_path / "b.zip", tmp_path / "out2")
    assert not (tmp_path / "out2").exists()


def test_a_compressed_tomogram_that_announces_too_much_is_refused(little_memory, tmp_path):
    write_mrc(tmp_path / "a.mrc", Volume(np.zeros((4, 8, 8), np.float32), 10.0))
    content = bytearray((tmp_path / "a.mrc").read_bytes())
    for offset in (0, 4, 8, 28, 32, 36):  # nx, ny, nz, mx, my, mz
        content[offset : offset + 4] = (60_000).to_bytes(4, "little")
    content[40:52] = np.full(3, 600_000.0, "<f4").tobytes()
    (tmp_path / "a.mrc.gz").write_bytes(gzip.compress(bytes(content) + bytes(1 << 20)))
    with pytest.raises(RequestError, match="of memory are free"):
        read_volume(tmp_path / "a.mrc.gz")


def test_a_manifest_cannot_delete_other_files(tmp_path):
    out, other = tmp_path / "out", tmp_path / "precious"
    out.mkdir()
    other.mkdir()
    properties = Dataset(voxel_size=10.0, species=(Species(name="a", label=1, radius=50.0),))
    batch = SimulatedBatch(out, "sim", properties)
    for outputs in ({"tomogram": "../precious"}, {"tomogram": str(other)}, {"tomogram": "."}):
        Manifest(out, {"key": {}}, "simulate sim").write({"sim_000": {"key": {}, "outputs": outputs}})
        with pytest.raises(RequestError, match="outside its folder"):
            batch.begin({}, {}, overwrite=True)
    assert other.exists()


def test_downloads_are_encrypted():
    for address in (
        "http://example.org",
        "http://127.example.org",
        "ftp://example.org",
        "file:///etc/passwd",
    ):
        with pytest.raises(RequestError):
            CLIENT.check_address(address, "https://example.org")
    for address in ("https://example.org", "http://127.0.0.1:8000", "http://localhost"):
        CLIENT.check_address(address, "https://example.org")
    request = urllib.request.Request("https://example.org/a")
    with pytest.raises(urllib.error.URLError, match="not encrypted"):
        _StaySecure().redirect_request(request, None, 302, "", {}, "http://example.org/a")
    assert _StaySecure().redirect_request(request, None, 302, "", {}, "https://example.org/b")


# damaged files


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    options = {"widths": [4, 8]}
    species = (Species(name="a", label=1, radius=60.0),)
    facts = {"network": "voxresnet", "options": options, "out_channels": 2, "kind": "mask"}
    card = Card(activation="softmax", species=species, voxel_size=13.0, contrast="dark", patch=16, **facts)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, build("voxresnet", options, 1, 2), card)
    return path


def with_card(model: Path, change: dict, target: Path) -> Path:
    """The same weights with another card."""
    data = model.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    card = json.loads(header["__metadata__"]["cryovox"]) | change
    header["__metadata__"]["cryovox"] = json.dumps(card)
    text = json.dumps(header).encode()
    target.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    return target


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"widths": [10**6, 10**6]}},
        {"options": {"widths": [4, "8"]}},
        {"options": {"widths": []}},
        {"options": {"widths": [4, 8], "code": "import os"}},
        {"network": "__import__('os').system"},
        {"network": "os:system"},
        {"out_channels": 10**9},
        {"in_channels": -1},
    ],
    ids=str,
)
def test_a_card_that_does_not_fit_the_weights_is_refused(little_memory, model, tmp_path, change):
    with pytest.raises(RequestError):
        load_model(with_card(model, change, tmp_path / "model.safetensors"))


def test_a_card_with_the_true_options_is_read(model, tmp_path):
    assert load_model(with_card(model, {"patch": 24}, tmp_path / "m.safetensors"))[1].patch == 24


def mutated(data: bytes, rng: np.random.Generator, limit: int) -> bytes:
    """The data with some bytes changed, cut, doubled or exchanged among the first ones."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at, n = int(rng.integers(0, min(limit, len(changed)))), int(rng.integers(1, 12))
        match rng.integers(0, 5):
            case 0:
                changed[at : at + n] = rng.bytes(n)
            case 1:
                changed[at] ^= 1 << int(rng.integers(0, 8))
            case 2:
                del changed[at : at + n]
            case 3:
                changed[at:at] = changed[at : at + n]
            case 4:
                changed[at:at] = rng.choice(
                    [b"-", b"1e999", b"null", b"[", b"}", b"*a", b"999999999999", b"\x00"]
                )
    return bytes(changed)


def test_mutated_model_headers_are_read_or_refused(little_memory, model, tmp_path):
    rng, data = np.random.default_rng(0), model.read_bytes()
    size, path = int.from_bytes(data[:8], "little"), tmp_path / "model.safetensors"
    refused = 0
    for _ in range(MUTANTS):
        path.write_bytes(mutated(data, rng, 8 + size))
        try:
            read_card(path)
            load_model(path)
        except RequestError as error:
            refused += bool(error.message and error.remedy)
    assert refused > MUTANTS // 2


def test_mutated_datasets_are_read_or_refused(little_memory, tmp_path):
    write_mrc(tmp_path / "a.mrc", Volume(np.zeros((4, 8, 8), np.float32), 10.0))
    text = """voxel_size: 10.0
species:
- {name: ribosome, label: 1, radius: 100.0}
entries:
- name: a
  tomogram: a.mrc
  split: val
  contrast: dark
  tilt_range: [-60.0, 60.0]
  exhaustive: {ribosome: true}
"""
    file, rng, refused = tmp_path / "dataset.yaml", np.random.default_rng(1), 0
    for _ in range(MUTANTS):
        file.write_bytes(mutated(text.encode(), rng, len(text)))
        try:
            dataset_files.read(tmp_path)
        except RequestError as error:
            refused += bool(error.message and error.remedy)
    assert MUTANTS // 4 < refused < MUTANTS
