import numpy as np
import pytest

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.report import charts


def particles(n=30, species="ribosome"):
    rng = np.random.default_rng(1)
    return Particles.of(rng.random((n, 3)), species, rng.random(n))


def test_counts_are_bars_for_few_and_a_histogram_for_many():
    few = {f"TS_{i}": particles(i + 1) for i in range(3)}
    (axes,) = charts.counts(few, ["ribosome"]).axes
    assert [bar.get_width() for bar in axes.patches] == [1, 2, 3]
    many = {f"TS_{i}": particles(i) for i in range(100)}
    (axes,) = charts.counts(many, ["ribosome"]).axes
    assert sum(bar.get_height() for bar in axes.patches) == 100


def test_curves_read_wide_tables_with_gaps(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss,lr,val_score\n0,2.0,0.1,\n10,1.0,0.1,0.5\n20,0.5,0.1,0.75\n")
    losses, measures = charts.training_curves(path).axes
    assert losses.get_yscale() == "log"
    assert losses.lines[0].get_xydata().tolist() == [[0, 2], [10, 1], [20, 0.5]]
    assert measures.lines[0].get_xydata().tolist() == [[10, 0.5], [20, 0.75]]
    assert [line.get_label() for line in measures.lines] == ["val_score"]


def test_curves_read_long_tables(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,name,value\n0,loss,2\n0,val_f1,0.1\n5,loss,nan\n6,loss,1\n")
    losses, measures = charts.training_curves(path).axes
    assert losses.lines[0].get_xydata().tolist() == [[0, 2], [6, 1]]
    assert measures.lines[0].get_xydata().tolist() == [[0, 0.1]]


def test_a_table_without_values_is_refused(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n")
    with pytest.raises(RequestError, match="no values"):
        charts.training_curves(path)
