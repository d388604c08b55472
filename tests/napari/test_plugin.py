"""The plugin of napari: its manifest, readers and writers, and the work of its widget."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml

from cryovox.core.particles import Particles
from cryovox.formats import read_particles, read_volume
from cryovox.napari import files, layers
from cryovox.napari.session import Session, apply_threshold, decide, decisions_of
from cryovox.simulate.phantom import PhantomConfig
from cryovox.workflows.simulation.phantoms import write_phantoms

PACKAGE = Path(files.__file__).parent


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    config = PhantomConfig(shape=(32, 48, 48), count=4, snr=3.0)
    return write_phantoms(tmp_path_factory.mktemp("phantom"), config, ("train",), 0)


class Points:
    """What a layer of points has, without napari."""

    def __init__(self, data, attributes):
        pandas = pytest.importorskip("pandas")
        self.data, self.features = data, pandas.DataFrame(attributes["features"])
        self.selected_data, self.shown, self.border_color = set(), np.ones(len(data), bool), None


def manifest():
    return yaml.safe_load((PACKAGE / "napari.yaml").read_text())


def test_every_command_of_the_manifest_exists_and_is_used():
    parts = manifest()["contributions"]
    ids = {one["id"] for one in parts["commands"]}
    used = {one["command"] for kind in ("readers", "writers", "widgets") for one in parts[kind]}
    assert used == ids
    for one in parts["commands"]:
        module, name = one["python_name"].split(":")
        if module.endswith("widget"):
            pytest.importorskip("magicgui", reason="napari is not installed: pip install 'cryovox[napari]'")
        assert callable(getattr(import_module(module), name))


def test_the_manifest_is_one_of_npe2():
    npe2 = pytest.importorskip("npe2", reason="napari is not installed: pip install 'cryovox[napari]'")
    own = npe2.PluginManifest.from_file(PACKAGE / "napari.yaml")
    own.validate_imports()
    assert own.name == "cryovox"


def test_a_tomogram_and_its_labels_are_read(phantom):
    path = str(phantom / "tomograms" / "phantom_00.mrc")
    ((data, attributes, kind),) = files.volume_reader(path)(path)
    assert (kind, attributes["scale"]) == ("image", (14.0, 14.0, 14.0))
    assert np.array_equal(data, read_volume(path).data)
    path = str(phantom / "labels" / "phantom_00.mrc")
    ((data, _, kind),) = files.volume_reader(path)([path])
    assert kind == "labels"
    assert set(np.unique(data)) == {0, 1, 2}


def test_points_are_written_and_read_where_they_were(phantom, tmp_path):
    """In voxels with a scale, as napari gives them; a point of another layer keeps its place."""
    volume = read_volume(phantom / "tomograms" / "phantom_00.mrc")
    picks = Particles.of([[100.0, 200.0, 300.0], [50.0, 60.0, 70.0]], ["a", "b"], [0.5, 0.25])
    data, attributes, kind = layers.particle_layer("picks", picks, {"a": 60.0}, volume)
    assert kind == "points"
    assert attributes["size"].tolist() == [120.0, 150.0]
    for suffix in (".star", ".csv"):
        path = str(tmp_path / f"picks{suffix}")
        moved = {**attributes, "scale": (14.0,) * 3, "translate": (7.0,) * 3}
        assert files.write_points(path, (data - 7.0) / 14.0, moved) == [path]
        ((again, more, _),) = files.particle_reader(path)(path)
        assert np.allclose(again, picks.positions, atol=1e-3)
        assert more["features"]["species"].tolist() == ["a", "b"]
        assert np.allclose(more["features"]["score"], [0.5, 0.25])


def test_labels_are_written_with_their_voxel_size(tmp_path):
    data = np.zeros((4, 5, 6), np.int32)
    data[1, 2, 3] = 2
    files.write_labels(str(tmp_path / "a.mrc"), data, {"scale": (13.5,) * 3})
    volume = read_volume(tmp_path / "a.mrc")
    assert volume.voxel_size == pytest.approx(13.5)
    assert np.array_equal(volume.data, data)


def test_a_threshold_hides_picks_and_decisions_stay():
    picks = Particles.of([[i, 0.0, 0.0] for i in range(4)], "a", [0.9, 0.6, 0.4, 0.2])
    layer = Points(*layers.particle_layer("picks", picks, {}, None)[:2])
    layer.selected_data = {3}
    assert decide(layer, layers.KEPT) == 1
    layer.selected_data = {0}
    decide(layer, layers.REJECTED)
    assert layer.border_color == ["red", "white", "white", "lime"]
    assert apply_threshold(layer, 0.5) == 3
    assert layer.shown.tolist() == [True, True, False, True]
    assert decisions_of(layer).extra["keep"].tolist() == ["0", "-", "-", "1"]
    layer.selected_data = set()
    assert decide(layer, layers.KEPT) == 0


def test_find_decide_and_write_what_trains(phantom, tmp_path):
    """The way of the widget, with the embedded model; curated.star and dataset.yaml are read back."""
    session = Session(
        phantom / "tomograms" / "phantom_00.mrc", tmp_path, species=("capsid=70",), device="cpu"
    )
    *score_maps, (data, attributes, kind) = session.find(least=0.2)
    assert kind == "points"
    assert len(score_maps) >= 1
    assert len(data) >= 2
    layer = Points(data, attributes)
    layer.selected_data = {0}
    decide(layer, layers.KEPT)
    layer.selected_data = {1}
    decide(layer, layers.REJECTED)
    curated = session.write_decisions(decisions_of(layer))
    picks = read_particles(curated, tomogram=session.volume())
    assert picks.extra["keep"].tolist() == ["1", "0"]
    assert np.allclose(picks.positions, data[:2], atol=1e-3)
    dataset = yaml.safe_load((tmp_path / "dataset.yaml").read_text())
    assert [one["name"] for one in dataset["species"]] == ["capsid", "rejected"]
    assert dataset["species"][0]["radius"] == 70.0
    from cryovox.workflows.config import TrainConfig
    from cryovox.workflows.training.open_data import open_training_data

    assert open_training_data(tmp_path, TrainConfig()).picks() == 2


@pytest.mark.slow
def test_suggestions_and_a_training_on_decisions(phantom, tmp_path):
    tomogram = phantom / "tomograms" / "phantom_00.mrc"
    session = Session(tomogram, tmp_path, species=("capsid=70",), device="cpu")
    data, attributes, kind = session.suggest(count=3)
    assert (len(data), kind) == (3, "points")
    assert set(attributes["features"]["keep"]) == {layers.UNDECIDED}
    data, attributes, _ = session.find(least=0.02)[-1]
    layer = Points(data, attributes)
    for keep, rows in ((layers.KEPT, {0, 1, 2, 3}), (layers.REJECTED, {len(data) - 1})):
        layer.selected_data = rows
        decide(layer, keep)
    model = session.retrain(decisions_of(layer), max_time="10s", on_message=lambda text: None)
    assert session.model == model == tmp_path / "run" / "model.safetensors"
    session.species = ("capsid",)
    assert session.find(least=0.01)[-1][2] == "points"


def test_the_widget_works_on_a_viewer(phantom, tmp_path, monkeypatch):
    """Offscreen, on the model of a viewer."""
    pytest.importorskip("magicgui", reason="napari is not installed: pip install 'cryovox[napari]'")
    components = pytest.importorskip("napari.components", reason="napari is not installed")
    pytest.importorskip("qtpy.QtWidgets", reason="no Qt is installed")
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    from qtpy.QtWidgets import QApplication

    application = QApplication.instance() or QApplication([])
    from cryovox.napari.widget import picker

    viewer = components.ViewerModel()
    widget = picker(viewer)
    widget.buttons["Find"].changed.emit(True)
    assert "open a tomogram" in widget.status.value
    path = str(phantom / "tomograms" / "phantom_00.mrc")
    ((data, attributes, _),) = files.volume_reader(path)(path)
    layer = viewer.add_image(data, **attributes)
    monkeypatch.setattr(type(layer), "source", type("Source", (), {"path": path}), raising=False)
    widget.folder.value, widget.species.value, widget.device.value = tmp_path, "capsid=70", "cpu"
    widget.buttons["Find"].changed.emit(True)
    picks = viewer.layers["phantom_00 picks"]
    assert widget.status.value == f"{int(picks.shown.sum())} picks"
    assert picks.shown.sum() < len(picks.data)
    widget.threshold.value = 0.05
    assert picks.shown.all()
    picks.selected_data = {0}
    widget.buttons["Keep selected"].changed.emit(True)
    assert picks.features["keep"].tolist()[0] == "1"
    assert widget.status.value == "1 picks decided"
    application.processEvents()
