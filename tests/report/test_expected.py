"""Tables and findings about what is expected of picks."""

from cryovox.report.expected import control_notes, expected_tables, noise_finding, rate_finding


def summary(picks, decoys, scale=1.0):
    cuts = [
        {"cut": "in use", "score": 0.3, "picks": picks, "hits": 0.8 * picks, "particles": picks},
        {"cut": "", "score": 0.5, "picks": 0, "hits": 0.0, "particles": picks},
    ]
    noise = {"decoys": decoys, "expected": decoys * scale, "fdr": 0.1, "interval": [0.05, 0.2]}
    return {"a": {"threshold": 0.3, "picks": picks, "cuts": cuts, "noise": noise}}


def test_counts_are_pooled_over_tomograms():
    other = summary(30, 0)
    other["a"]["cuts"][0] |= {"score": 0.4, "hits": 6.0}
    (table,) = expected_tables([summary(10, 0), other, {}])
    assert table.rows == [
        ["a", "in use", "0.3 to 0.4", 40, 0.35, 0.35],
        ["a", "", "0.5", 0, None, 0.0],
    ]
    assert expected_tables([{"a": {"picks": 3}}, {}]) == []


def test_a_noise_control_warns_where_much_is_picked_in_noise():
    fine, bad = noise_finding(summary(100, 1, 8.0), 0.125), noise_finding(summary(100, 2, 8.0), 0.125)
    assert (fine.level, bad.level) == ("ok", "warning")
    assert "8 picks are expected" in fine.message
    assert "12.5 %" in fine.message
    assert "100 in the tomogram" in fine.message
    assert "--fdr" in bad.remedy
    assert noise_finding(summary(0, 0), 0.5).level == "ok"
    many = summary(1500, 1318)
    many["a"]["contradicted"] = True
    message = noise_finding(many, 0.125).message
    assert "1,318 picks are expected" in message
    assert "contradicts the expected precision of a" in message


def test_a_false_discovery_rate_says_how_it_was_estimated():
    assert "a: 10 % (5 to 20 %)" in rate_finding(summary(100, 9), 0.1, trusted=False).message
    nothing = summary(0, 0)
    nothing["a"]["noise"] |= {"fdr": None, "interval": None}
    assert "a: no pick qualifies" in rate_finding(nothing, 0.1, trusted=False).message
    del nothing["a"]["noise"]
    assert "by calibrated probabilities" in rate_finding(nothing, 0.1, trusted=True).message


def test_the_screen_shows_the_noise_control_and_warnings():
    fine = noise_finding(summary(100, 1), 0.125)
    assert control_notes([None, fine]) == [f"noise control: {fine.message}"]
