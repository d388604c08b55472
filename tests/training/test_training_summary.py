import pytest

from cryovox.training.evaluation.summary import TrainingCourse, read_metrics_csv, species_lines, summary_line

BLOBS = {"score": 0.6, "recall@1x/a": 0.3, "recall@2x/a": 0.6, "recall@4x/a": 0.9, "n/a": 18}
GOOD = {"score": 0.8, "recall@1x/a": 0.6, "recall@2x/a": 0.8, "recall@4x/a": 1.0, "n/a": 18}
FLAT = [1.0, 0.5, 0.3, 0.2, 0.18, 0.17, 0.165, 0.162, 0.161, 0.16, 0.16, 0.16]


def course(**changes) -> TrainingCourse:
    whole = {"steps": 500, "warmup": 50, "picks": 92, "passes": 30.0, "losses": FLAT, "metrics": GOOD}
    return TrainingCourse(**(whole | {"blob_picker": BLOBS} | changes))


def test_nothing_speaks_against_a_long_training_that_beats_the_blob_picker():
    assert course().warnings() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"share": 0.12, "steps": 60}, "not finished: 12 % done"),
        ({"steps": 20, "passes": 1.2, "warmup": 0}, "92 picks 1.2 times on average; train for 50 steps"),
        ({"steps": 50}, "still rising (50 of 50 warm-up steps)"),
        ({"losses": [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]}, "still fell by 36 %"),
        ({"metrics": {**GOOD, "score": 0.6}}, "is not above the 0.30/0.60/0.90 of a DoG picker"),
        ({"metrics": {}, "blob_picker": {}}, "the quality is not known"),
    ],
)  # fmt: skip
def test_what_speaks_against_a_model(changes, words):
    (warning,) = course(**changes).warnings()
    assert words in warning


def test_a_network_that_knew_something_is_not_asked_for_passes():
    assert course(steps=20, passes=None).warnings() == []


def test_the_trend_is_not_seen_in_few_losses():
    assert course(losses=[1.0, 0.5, 0.2]).warnings() == []


def test_figures_in_words():
    line = summary_line(GOOD, BLOBS)
    assert line == "held-out recall at 1x/2x/4x of the picks 0.60/0.80/1.00 (DoG picker 0.30/0.60/0.90)"
    (full,) = species_lines(GOOD, BLOBS)
    assert full.startswith("a: held-out recall at 1x/2x/4x of the picks 0.60/0.80/1.00; DoG picker 0.30/")
    assert "n = 18 particles, 95 % CI 0.3" in full
    assert species_lines({"score": 0.5, "dice/b": 0.5, "n/b": 3}, {"dice/b": 0.25}) == [
        "b: held-out Dice 0.50; DoG picker 0.25; n = 3 particles"
    ]
    assert species_lines({}, {}) == []


def test_a_table_of_a_training(tmp_path):
    path = tmp_path / "metrics.csv"
    rows = ["step,seconds,name,value", "20,1,loss/a,0.5", "20,1,loss/b,0.25", "20,1,lr,1",
            "40,2,val/score,0.3", "40,2,val/f1/x,0.3", "40,2,loss/a,0.4"]  # fmt: skip
    path.write_text("\n".join(rows) + "\n")
    assert read_metrics_csv(path) == ([{"score": 0.3, "f1/x": 0.3}], [0.75, 0.4])
