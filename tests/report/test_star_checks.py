import pytest

from cryovox.report.star_checks import name_findings, size_findings, star_findings


def of(findings, check):
    return [f for f in findings if f.check == check]


def test_plausible_values_raise_nothing():
    optics = {"rlnVoltage": ["300.0"], "rlnSphericalAberration": ["2.7"], "rlnAmplitudeContrast": ["0.1"]}
    findings = star_findings({"optics": optics, "particles": {"rlnDefocusU": ["25000", "31000"]}})
    assert [f.level for f in findings] == ["ok"]


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("rlnDefocusU", "1e-10"),
        ("rlnDefocusV", "3.5"),
        ("rlnVoltage", "0"),
        ("rlnVoltage", "300000"),
        ("rlnSphericalAberration", "-2.7"),
        ("rlnAmplitudeContrast", "7"),
        ("rlnImagePixelSize", "0.013"),
        ("rlnDefocusU", "nan"),
        ("rlnDefocusU", "None"),
    ],
)
def test_absurd_values_are_errors_with_their_row(tag, value):
    low = {"rlnDefocusU": "20000", "rlnDefocusV": "20000", "rlnVoltage": "300"}.get(tag, "0.2")
    (finding,) = of(star_findings({"a": {tag: [low, value, value]}}), "CTF and pixel sizes")
    assert finding.level == "error"
    assert f"{tag} of 2 of 3 rows" in finding.message
    assert f"row 2 has {value}" in finding.message


@pytest.mark.parametrize(
    ("tag", "values", "level", "text"),
    [
        ("rlnSelected", ["1", "1"], None, ""),
        ("rlnSelected", ["1", "0"], "warning", "keeps 1 of 2"),
        ("wrpSelected", ["False", "false"], "error", "keeps 0 of 2"),
        ("wrpUnselectManual", ["True", "False"], "warning", "keeps 1 of 2"),
    ],
)
def test_rows_that_are_not_selected(tag, values, level, text):
    findings = of(star_findings({"a": {tag: values}}), "selection")
    assert [f.level for f in findings] == ([level] if level else [])
    assert all(text in f.message for f in findings)


def test_names():
    (finding,) = name_findings(["TS_01.tomostar"], ["TS_01_10.00Apx", "TS_02"])
    assert finding.level == "ok"
    (finding,) = name_findings(["TS_01", "TS_03"], ["TS_01"])
    assert (finding.level, "TS_03" in finding.message) == ("warning", True)
    (finding,) = name_findings(["tomo1.mrc"], ["TS_01"])
    assert finding.level == "error"
    assert "no name matches" in finding.message


def test_pixel_size_times_binning_is_the_voxel_size():
    block = {
        "rlnTomoName": ["TS_01", "TS_02"],
        "rlnTomoTiltSeriesPixelSize": ["1.35", "1.35"],
        "rlnTomoTomogramBinning": ["7.407407", "4"],
    }
    good, bad = size_findings({"global": block}, {"rec_TS_01": 10.0, "TS_02": 10.0, "other": 3.0})
    assert good.level == "ok"
    assert bad.level == "error"
    assert "1.35 Å x binning 4 = 5.4 Å, header 10 Å" in bad.message
    assert bad.remedy.endswith("--voxel-size 5.4")
