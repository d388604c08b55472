"""`find --halves`: agreement of picks with two half tomograms of independent noise."""

import json

import numpy as np
import pytest

from cryovox.formats import read_particles, read_volume, write_volume
from cryovox.picking.agreement import HALF_SCORE, HALVES
from cryovox.report.doctor import Finding
from cryovox.workflows.halves import ENDINGS, Halves, half_file, halves_finding

NAME = "phantom_03"


@pytest.fixture
def halves(tomogram, tmp_path):
    """A tomogram, its halves with independent noise, and the model's view of them in one folder."""
    volume, rng = read_volume(tomogram), np.random.default_rng(0)
    data = np.asarray(volume.data, np.float32)
    difference = rng.standard_normal(data.shape).astype(np.float32) * data.std() / 2
    folder = tmp_path / "halves"
    folder.mkdir()
    for end, sign in (("_EVN", 1), ("_ODD", -1)):
        write_volume(folder / f"{NAME}{end}.mrc", volume.with_data(data + sign * difference))
    return folder


@pytest.fixture
def find(cli, tomogram, model, tmp_path, monkeypatch):
    monkeypatch.setattr("cryovox.workflows.find.write_report", lambda *args: None)

    def call(*args, code=0):
        out = tmp_path / "out"
        answer = cli("find", tomogram, "--model", model, "--out", out, "--device", "cpu", "--quiet", *args)
        if code:
            return answer
        assert answer.code == 0, answer.err
        picks = read_particles(out / "particles" / f"{NAME}.star", tomogram=read_volume(tomogram))
        return picks, json.loads((out / "manifest.json").read_text())["entries"][NAME], answer

    return call


def test_picks_are_compared_and_their_difference_is_the_noise(find, halves, model, tmp_path):
    picks, entry, answer = find("--halves", halves, halves)
    count = picks.extra[HALVES].astype(int)
    assert set(count) <= {0, 1, 2}
    assert ((picks.extra[HALF_SCORE].astype(float) > 0) == (count == 2)).all()
    note = next(finding for finding in entry["particles"]["findings"] if finding[1] == "half tomograms")
    assert f"{(count == 2).sum()} of {len(picks)} picks are in both" in note[2]
    assert entry["noise"]["source"] == "halves"
    assert "half the difference of the half tomograms" in answer.err
    assert (tmp_path / "out" / "halves" / "even" / "manifest.json").exists()
    # the same halves again are not searched again
    scores = tmp_path / "out" / "halves" / "odd" / "scores" / f"{NAME}_ODD.zarr"
    written = scores.stat().st_mtime_ns
    again, _, _ = find("--halves", halves / f"{NAME}_EVN.mrc", halves / f"{NAME}_ODD.mrc")
    assert scores.stat().st_mtime_ns == written
    assert again.extra[HALVES].tolist() == picks.extra[HALVES].tolist()


def test_halves_that_do_not_fit_are_refused(find, halves, tomogram, tmp_path):
    even, odd = (halves / f"{NAME}{end}.mrc" for end in ("_EVN", "_ODD"))
    find("--halves", even, even, code=2).refused("both the even and the odd half")
    find("--halves", even, tmp_path / "none.mrc", code=2).refused("none.mrc")
    empty = tmp_path / "empty"
    empty.mkdir()
    find("--halves", empty, odd, code=2).refused("holds no even half", f"{NAME}_evn")
    volume = read_volume(tomogram)
    small = tmp_path / "small.mrc"
    write_volume(small, volume.with_data(np.asarray(volume.data)[:, :, :-2]))
    find("--halves", small, odd, code=2).refused("small.mrc", "shape")
    assert not (tmp_path / "out").exists()


def noisy(path, tomogram, seed):
    """A volume of noise on the grid of a tomogram."""
    volume, rng = read_volume(tomogram), np.random.default_rng(seed)
    write_volume(path, volume.with_data(rng.standard_normal(volume.shape).astype(np.float32) * 1e3))
    return path


@pytest.mark.parametrize("options", [(), ("--noise-control", 0), ("--dry-run",)])
def test_halves_of_another_tomogram_are_refused_before_the_segmentation(
    find, halves, tomogram, tmp_path, options
):
    other, odd = noisy(tmp_path / "other.mrc", tomogram, 1), halves / f"{NAME}_ODD.mrc"
    find("--halves", other, odd, *options, code=2).refused("correlation", "reconstructed and filtered")
    find("--halves", other, noisy(tmp_path / "second.mrc", tomogram, 2), *options, code=2).refused(
        "--halves", NAME
    )
    assert not (tmp_path / "out").exists()


def test_the_embedded_model_refuses_them_too(cli, halves, tomogram, tmp_path):
    other = noisy(tmp_path / "other.mrc", tomogram, 1)
    out = tmp_path / "out"
    words = ("find", tomogram, "--out", out, "--device", "cpu", "--quiet", "--noise-control", 0)
    cli(*words, "--halves", other, halves / f"{NAME}_ODD.mrc").refused("--halves", "correlation")
    assert not out.exists()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_half_with_nan_is_named(find, halves, tmp_path):
    even, odd = (halves / f"{NAME}{end}.mrc" for end in ("_EVN", "_ODD"))
    volume = read_volume(odd)
    data = np.array(volume.data, np.float32)
    data[3, 4, 5] = np.nan
    bad = tmp_path / "bad_odd.mrc"
    write_volume(bad, volume.with_data(data))
    for options in ((), ("--noise-control", 0), ("--dry-run",)):
        find("--halves", even, bad, *options, code=2).refused(bad, "1 values that are NaN", "--fill-nan")
    assert not (tmp_path / "out").exists()


def test_halves_are_read_again_only_if_they_have_changed(find, halves, tomogram, tmp_path, monkeypatch):
    find("--halves", halves, halves)
    checked = []
    monkeypatch.setattr(Halves, "_check_voxels", lambda self, name, *rest: checked.append(name))
    find("--halves", halves, halves, "--threshold", 0.3)
    assert checked == []
    noisy(halves / f"{NAME}_ODD.mrc", tomogram, 1)
    find("--halves", halves, halves, "--dry-run", code=2)
    assert checked == [NAME]


@pytest.mark.parametrize("role", ["even", "odd"])
def test_halves_are_found_by_the_name_of_the_tomogram(tmp_path, role):
    for end in ENDINGS[role]:
        folder = tmp_path / f"f{end}"
        folder.mkdir()
        file = folder / f"TS_01{end.upper()}.mrc"
        file.touch()
        assert half_file(folder, "TS_01", role) == file


def test_few_picks_in_both_halves_are_a_warning():
    from cryovox.picking.agreement import Agreement

    def level(*halves) -> Finding:
        return halves_finding(Agreement(np.array(halves), np.zeros(len(halves)))).level

    assert level(2, 2) == "ok"
    assert level(2, 2, 1) == "note"
    assert level(2, 1, 0) == "warning"
