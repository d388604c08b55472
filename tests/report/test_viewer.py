import base64
import io
import json
import re

import numpy as np
from PIL import Image

from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap, Volume
from cryovox.formats import read_particles
from cryovox.picking.lamella import Lamella, Plane
from cryovox.picking.rated import Decoys
from cryovox.report import viewer
from cryovox.report.html import ReportEntry, write_find_report

SPECIES = (Species(name="ribosome", label=1, radius=40.0), Species(name="a & <b>", label=2, radius=30.0))
EXPECTED = {
    "ribosome": {
        "threshold": 0.25,
        "curve": [[0.2, 0.5, 0.9], [0.8, 0.9, 0.4]],
        "cuts": [{"cut": "in use", "score": 0.25, "picks": 8, "particles": 9.5}],
    }
}


def entry(name="TS_01", n=12, seed=5, **changes):
    rng = np.random.default_rng(seed)
    volume = Volume(rng.normal(size=(16, 24, 25)).astype(np.float32), 10.0)
    names = ["ribosome"] * (n - n // 3) + ["a & <b>"] * (n // 3)
    particles = Particles.of(rng.random((n, 3)) * [150, 230, 240], names, 0.25 + 0.75 * rng.random(n))
    scores = ScoreMap(rng.random((2, 8, 12, 12)).astype(np.float16), 20.0, SPECIES, 5.0)
    return ReportEntry(name, volume, scores, particles, {"ribosome": 0.25, "a & <b>": 0.25}, **changes)


def written(*entries):
    """The data in a page of these tomograms."""
    return json.loads(viewer.viewer_context(entries)["data"])


def listed(data, rows, kind, keep=None):
    """The file that the page makes of some rows."""
    part = data["lists"][kind]
    if keep is None:
        return part["head"] + "".join(part["rows"][r] + "\n" for r in rows)
    if kind == "csv":
        lines = [f"{part['rows'][r]},{k}" for r, k in zip(rows, keep, strict=True)]
        return part["head"].rstrip() + ",keep\n" + "\n".join(lines) + "\n"
    lines = [f"{part['rows'][r]}  {k}" for r, k in zip(rows, keep, strict=True)]
    return f"{part['head']}_keep #{part['columns'] + 1}\n" + "\n".join(lines) + "\n"


def test_picks_of_the_page_are_those_of_the_list():
    one = entry()
    (tomogram,) = written(one)["tomograms"]
    picks, best = tomogram["picks"], one.particles.sorted()
    positions = np.array([picks[axis] for axis in "zyx"]).T * tomogram["voxel"]
    assert np.allclose(positions, best.positions, atol=0.06)
    assert np.allclose(picks["score"], best.scores, atol=1e-5)
    assert [tomogram["species"][i]["name"] for i in picks["species"]] == best.species.tolist()
    assert tomogram["shape"] == [16, 24, 25]
    assert tomogram["thumbnails"]["count"] == 12


def test_slices_of_the_page_are_those_of_the_volume():
    one = entry()
    (tomogram,) = written(one)["tomograms"]
    slices = tomogram["slices"]
    assert (slices["pixel"], slices["depth"], len(slices["images"])) == (1, 1, 16)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(slices["images"][9]))))
    assert np.corrcoef(pixels.ravel(), one.volume.data[9].ravel())[0, 1] > 0.95
    scores = tomogram["scores"]
    # the first voxel of the score map is centered at 5 Å and 20 Å wide: it starts at voxel -0.5
    assert (scores["start"], scores["pixel"]) == (-0.5, 2.0)
    assert len(scores["first"]) == 16


def test_lists_are_read_back_with_the_decisions(tmp_path):
    two = [entry("TS_01"), entry("rec_TS_02", n=5, seed=6)]
    data = written(*two)
    assert [one["first"] for one in data["tomograms"]] == [0, 12]
    volumes = {"TS_01": two[0].volume, "TS_02": two[1].volume}
    rows, keep = [0, 3, 11, 12, 16], [1, 0, 1, 1, 0]
    best = [one.particles.sorted() for one in two]
    expected = np.concatenate([best[0].positions[[0, 3, 11]], best[1].positions[[0, 4]]])
    for kind in ("star", "csv"):
        path = tmp_path / f"curated.{kind}"
        path.write_text(listed(data, rows, kind, keep), encoding="utf-8")
        picks = read_particles(path, tomogram=volumes)
        assert np.allclose(picks.positions, expected, atol=1e-3)
        assert picks.tomograms.tolist() == ["TS_01"] * 3 + ["TS_02"] * 2
        assert [int(cell) for cell in picks.extra["keep"]] == keep
        assert set(picks.species.tolist()) <= {"ribosome", "a & <b>"}
    path = tmp_path / "kept.star"
    path.write_text(listed(data, [2, 13], "star"), encoding="utf-8")
    assert len(read_particles(path, tomogram=volumes)) == 2


def test_what_is_expected_is_shown():
    decoys = Decoys({"ribosome": np.array([0.1, 0.3, 0.7])}, {"ribosome": 4.0})
    lamella = Lamella(Plane(3.0, 0.01, -0.02), None, (16, 24, 25), 10.0)
    one = entry(expected=EXPECTED, decoys=decoys, lamella=lamella)
    (tomogram,) = written(one)["tomograms"]
    ribosome, other = tomogram["species"]
    assert ribosome["curve"] == EXPECTED["ribosome"]["curve"]
    assert ribosome["particles"] == 9.5
    assert ribosome["noise"]["scores"] == [0.7, 0.3]  # none below the lowest pick is needed
    assert ribosome["noise"]["scale"] == 4.0
    assert (other["curve"], other["particles"]) == ([], None)
    assert tomogram["lamella"] == {"lower": [3.0, 0.01, -0.02], "upper": None}


def test_older_manifests_have_cuts_instead_of_a_curve():
    cuts = [
        {"cut": "", "score": 0.8, "picks": 2, "precision": 0.9, "recall": 0.4, "particles": 9.5},
        {"cut": "", "score": 0.2, "picks": 9, "precision": 0.5, "recall": 0.9, "particles": 9.5},
        {"cut": "", "score": 0.99, "picks": 0, "precision": 1.0, "recall": 0.0, "particles": 9.5},
    ]
    (tomogram,) = written(entry(expected={"ribosome": {"threshold": 0.25, "cuts": cuts}}))["tomograms"]
    assert tomogram["species"][0]["curve"] == [[0.2, 0.5, 0.9], [0.8, 0.9, 0.4]]


def test_weaker_candidates_follow_the_picks():
    weak = Particles.of([[10.0, 20.0, 30.0], [50.0, 60.0, 70.0]], "ribosome", [0.1, 0.2])
    data = written(entry(weaker=lambda: weak))
    (tomogram,) = data["tomograms"]
    assert tomogram["picks"]["score"][-2:] == [0.2, 0.1]
    assert tomogram["species"][0]["threshold"] == 0.25
    assert len(data["lists"]["star"]["rows"]) == 14


def test_known_particles_are_matched_one_to_one():
    one = entry()
    best = one.particles.sorted()
    first = int(np.flatnonzero(best.species == "ribosome")[0])
    truth = Particles.of([best.positions[first] + 3, best.positions[first] + 5], "ribosome")
    (tomogram,) = written(entry(truth=truth))["tomograms"]
    assert tomogram["truth"] == 2
    assert tomogram["species"][0]["truth"] == 2
    assert tomogram["species"][1]["truth"] == 0
    assert tomogram["picks"]["hit"][first] == 1
    assert sum(tomogram["picks"]["hit"]) in (1, 2)


def test_particles_of_other_names_are_matched_without_species():
    one = entry()
    truth = Particles.of(one.particles.positions[:3], "capsid")
    (tomogram,) = written(entry(truth=truth, truth_radii={"capsid": 20.0}))["tomograms"]
    assert sum(tomogram["picks"]["hit"]) == 3
    assert tomogram["truth"] == 3
    assert [kind["truth"] for kind in tomogram["species"]] == [None, None]


def test_the_page_stays_small_with_many_tomograms(monkeypatch):
    monkeypatch.setattr(viewer, "SLICE_BYTES", 12_000)
    monkeypatch.setattr(viewer, "SCORE_BYTES", 20_000)
    slices = [one["slices"] for one in written(*(entry(f"TS_{i}", seed=i) for i in range(4)))["tomograms"]]
    assert sum(len(image) for one in slices for image in one["images"]) < 1.1 * 12_000 * 4 / 3 + 4 * 64
    assert all(one["pixel"] > 1 for one in slices)


def test_data_cannot_end_the_script_that_holds_it(tmp_path):
    path = tmp_path / "report.html"
    write_find_report(path, [entry("</script><b>", n=0)], {})
    text = path.read_text(encoding="utf-8")
    data = re.search(r'<script type="application/json" id="v-data">(.*?)</script>', text, re.S)[1]
    assert json.loads(data)["tomograms"][0]["name"] == "</script><b>"


def test_tomograms_of_one_name_are_told_apart():
    data = written(entry("TS_01"), entry("TS_01", seed=6))
    assert [one["name"] for one in data["tomograms"]] == ["TS_01_0", "TS_01_1"]


def test_pages_without_picks_or_scores_have_slices():
    data = written(entry(n=0))
    assert data["lists"] == {}
    assert len(data["tomograms"][0]["slices"]["images"]) == 16
    one = entry()
    plain = ReportEntry("TS_01", one.volume, None, one.particles, {})
    (tomogram,) = written(plain)["tomograms"]
    assert tomogram["scores"] is None
