import numpy as np
import pytest
from scipy import ndimage

from cryovox.core.errors import RequestError
from cryovox.core.volume import Volume
from cryovox.formats import write_volume
from cryovox.metrics.fingerprint import Domain, fingerprint_of
from cryovox.models.card import Card
from cryovox.workflows.doctor import inspect_tomograms
from cryovox.workflows.inputs import IDENTITY, domain_finding, domain_notes, prepare, set_domain_notes


def tomogram(blur, seed=0):
    values = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((48, 48, 48)), blur)
    return Volume(values.astype(np.float32), 10.0)


def card(domain):
    return Card(
        network="heatmap-unet",
        options={},
        out_channels=1,
        activation="sigmoid",
        kind="heatmap",
        patch=16,
        species=(),
        voxel_size=10.0,
        contrast="dark",
        domain=domain,
    )


@pytest.fixture
def adapted():
    known = tomogram(1.0)
    measured = fingerprint_of(known.data, IDENTITY, 10.0)
    names = [{"name": f"tomo_{i}", "sha256": "0"} for i in range(5)]
    return card(Domain(fingerprint=measured, tomograms=names, limit=2.5).model_dump(mode="json"))


def test_the_like_are_at_home_and_others_are_not(adapted, tmp_path):
    path = tmp_path / "my tomo.mrc"
    near = domain_finding(tomogram(1.0, 1), adapted, path)
    assert (near.level, near.remedy) == ("ok", "")
    assert domain_notes(tomogram(1.0, 1), adapted, path) == []
    far = domain_finding(tomogram(0.6), adapted, path)
    assert far.level == "warning"
    assert "(limit 2.5)" in far.message
    assert far.message.endswith("adapted to tomo_0, tomo_1, tomo_2 and 2 more")
    assert far.remedy.startswith("cryovox train vox-uda --source")
    assert f"--target '{path}'" in far.remedy
    (note,) = domain_notes(tomogram(0.6), adapted, path)
    assert note.startswith("domain distance")
    assert far.remedy in note


def test_sets_are_compared_too(adapted, tmp_path):
    for blur, warned in ((1.0, 0), (0.6, 1)):
        images = np.stack([tomogram(blur, seed).data[:32, :32, :32] for seed in range(6)])
        assert len(set_domain_notes(images, adapted, tmp_path)) == warned
        assert set_domain_notes(images, card(None), tmp_path) == []
    assert set_domain_notes(images[:0], adapted, tmp_path) == []


def test_where_there_is_nothing_to_compare(adapted, tmp_path):
    far = tomogram(0.6)
    assert domain_finding(far, card(None), tmp_path) is None
    assert domain_finding(Volume(far.data, 31.0), adapted, tmp_path) is None
    spike = np.zeros((200, 40, 40), np.float32)
    spike[100, 0, 0] = np.nan
    assert domain_finding(Volume(spike, 10.0), adapted, tmp_path) is None


def test_a_broken_card_is_told():
    with pytest.raises(RequestError, match="fingerprint"):
        domain_finding(tomogram(1.0), card({"limit": 2.0}), "a.mrc")


def test_inputs_and_doctor_tell_it(adapted, tmp_path, monkeypatch):
    monkeypatch.setattr("cryovox.workflows.doctor.read_card", lambda path: adapted)
    for name, blur in (("near", 1.0), ("far", 0.6)):
        write_volume(tmp_path / f"{name}.mrc", tomogram(blur, 1))
    notes = {n: prepare(tmp_path / f"{n}.mrc", adapted, None, "dark").notes for n in ("near", "far")}
    assert notes["near"] == ()
    assert [note.split()[0] for note in notes["far"]] == ["domain"]
    findings, failed = inspect_tomograms([tmp_path], tmp_path / "model.safetensors")
    assert not failed
    levels = {path.stem: f.level for path, fs in findings.items() for f in fs if f.check == "domain"}
    assert levels == {"near": "ok", "far": "warning"}
    places = [f.level for f in findings[tmp_path / "far.mrc"]]
    assert places == sorted(places, key=["error", "warning", "note", "ok"].index)
