"""Models of whitened tomograms: from the stream to the search, and to trainings that start from them."""

import numpy as np
import pytest
import yaml

from cryovox.core.dataset import Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import Volume
from cryovox.data.config import PatchConfig
from cryovox.formats import dataset as dataset_files
from cryovox.formats import scores, subtomograms, write_particles, write_volume
from cryovox.formats.subtomograms import Subtomograms
from cryovox.models.card import read_card
from cryovox.training.config import LoopConfig
from cryovox.training.evaluation.calibrate import calibration_domain
from cryovox.workflows.config import NetworkConfig, TrainConfig
from cryovox.workflows.inputs import calibration_finding, prepare
from cryovox.workflows.segment import segment, segment_sets
from cryovox.workflows.training.data import TomogramData
from cryovox.workflows.training.run import train
from cryovox.workflows.training.simulated import WHITENED, SimulatedData

VOXEL = 20.0


def config(start=None):
    options = {"widths": [4, 8], "blocks": [0, 0]}
    return TrainConfig(
        network=NetworkConfig(model="heatmap-unet", options=options, start=start),
        loop=LoopConfig(steps=2, batch=2, warmup=1, validate_every=2),
        patches=PatchConfig(patch=16),
    )


def stream(folder, whiten):
    domain = {"block": [24, 24, 24], "patches": 4, "blocks": 2, "poses": 1, "voxel_sizes": 1, "step": [8, 9]}
    domain |= {"whiten": [0, 70]} if whiten else {}
    file = folder / f"stream-{whiten}.yaml"
    told = {"species": ["apo-ferritin"], "voxel_size": VOXEL, "held_out": 1, "domain": domain}
    file.write_text(yaml.safe_dump(told))
    return f"stream:{file}"


@pytest.fixture
def model(tmp_path):
    return train(stream(tmp_path, whiten=True), tmp_path / "run", config(), device="cpu")


def tomogram(path, shape=(30, 52, 41), seed=0):
    values = np.random.default_rng(seed).standard_normal(shape)
    values += 3 * np.sin(np.arange(shape[2]) / 4)
    write_volume(path, Volume(values.astype(np.float32), VOXEL))
    return path


def test_the_card_says_whether_a_stream_is_whitened(model, tmp_path):
    assert read_card(model).whitened
    plain = train(stream(tmp_path, whiten=False), tmp_path / "plain", config(), device="cpu")
    assert not read_card(plain).whitened


def test_a_network_sees_whitened_tomograms(model, tmp_path):
    path = tomogram(tmp_path / "a.mrc")
    card = read_card(model)
    plain = prepare(path, card.model_copy(update={"whitened": False}), None, "dark")
    seen = prepare(path, card, None, "dark")
    assert (seen.volume.shape, seen.original.shape) == (plain.volume.shape, (30, 52, 41))
    waves = [
        np.abs(np.fft.rfft(p.normalize(p.volume.data[:, :, :]).mean(axis=(0, 1))))[1] for p in (plain, seen)
    ]
    assert waves[1] < 0.5 * waves[0]
    assert np.asarray(seen.normalize(seen.volume.data[:, :, :])).std() == pytest.approx(1, abs=0.3)


def test_scores_do_not_depend_on_gray_values_or_on_how_planes_are_cut(model, tmp_path):
    path = tomogram(tmp_path / "a.mrc")
    values = np.asarray(prepare(path, read_card(model), None, "dark").original.data)
    write_volume(tmp_path / "b.mrc", Volume(values * 50 + 7, VOXEL))
    maps = {}
    for name, tomo in (("a", path), ("b", tmp_path / "b.mrc")):
        _, failures = segment([tomo], model, tmp_path / f"out-{name}", device="cpu")
        assert not failures
        maps[name] = np.asarray(scores.read(tmp_path / f"out-{name}" / "scores" / f"{name}.zarr").data)
    assert np.allclose(maps["a"], maps["b"], atol=0.01)
    _, failures = segment([path], model, tmp_path / "again", device="cpu")
    again = np.asarray(scores.read(tmp_path / "again" / "scores" / "a.zarr").data)
    assert np.array_equal(again, maps["a"])


def dataset(folder):
    tomogram(folder / "tomo.mrc", (40, 60, 50))
    positions = np.array([[20, 12, 12], [20, 30, 25], [20, 48, 38], [10, 40, 14]]) * VOXEL
    write_particles(folder / "picks.csv", Particles.of(positions, ["apo-ferritin"] * 4))
    entry = Entry(
        name="tomo", tomogram=folder / "tomo.mrc", particles=folder / "picks.csv", contrast="dark",
        split="train",
    )  # fmt: skip
    kinds = (Species(name="apo-ferritin", label=1, radius=60),)
    dataset_files.write(folder, Dataset(voxel_size=VOXEL, species=kinds, entries=(entry,)))
    return folder


def test_a_training_that_starts_from_such_a_model_whitens_too(model, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    data = TomogramData.read(str(dataset(folder)), config(start=model))
    assert data.whitened
    assert data.contrast == "dark"
    (region, *_) = data.training
    expected = prepare(folder / "tomo.mrc", read_card(model), None, "dark")
    given, wanted = (p.normalize(p.data[:, :, :]) for p in (region, _As(expected)))
    assert np.allclose(given, wanted, atol=0.01)
    tuned = train(folder, tmp_path / "tuned", config(start=model), device="cpu")
    assert read_card(tuned).whitened
    plain = TomogramData.read(str(folder), config())
    assert not plain.whitened
    simulated = SimulatedData.read(stream(tmp_path, whiten=False), config(start=model))
    assert simulated.config.domain.whiten == WHITENED


class _As:
    """A prepared tomogram with the names of a region."""

    def __init__(self, prepared):
        self.data, self.normalize = prepared.volume.data, prepared.normalize


def test_subtomogram_sets_are_refused(model, tmp_path):
    images = np.random.default_rng(0).standard_normal((3, 16, 16, 16)).astype(np.float32)
    centers = Particles.of(np.full((3, 3), 160.0), ["apo-ferritin"] * 3)
    subtomograms.write(tmp_path / "set.zarr", Subtomograms(images, None, VOXEL, centers))
    with pytest.raises(RequestError, match="whitens whole tomograms"):
        segment_sets([tmp_path / "set.zarr"], model, tmp_path / "out", device="cpu")


def test_the_distance_from_the_training_is_that_of_whitened_tomograms(model, tmp_path):
    """A model that is fitted to a tomogram is at home in it, though trainings hold it whitened."""
    folder = tmp_path / "data"
    folder.mkdir()
    data = TomogramData.read(str(dataset(folder)), config(start=model))
    volume = prepare(folder / "tomo.mrc", read_card(model), None, "dark").original
    calibration = {"method": "held-out", "species": {}}
    known = {"calibration": calibration, "calibration_domain": calibration_domain(data.training)}
    card = read_card(model).model_copy(update=known)
    assert calibration_finding(volume, card, folder / "tomo.mrc").level == "ok"
    plain = card.model_copy(update={"whitened": False})
    assert calibration_finding(volume, plain, folder / "tomo.mrc").level == "warning"


def test_tomograms_without_a_spectrum_are_refused(model, tmp_path):
    values = np.zeros((300, 80, 80), np.float32)
    values[100, 70, 70] = 1.0
    write_volume(tmp_path / "empty.mrc", Volume(values, VOXEL))
    with pytest.raises(RequestError, match="nearly everywhere"):
        prepare(tmp_path / "empty.mrc", read_card(model), None, "dark")
