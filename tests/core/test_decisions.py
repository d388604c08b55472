"""The column `keep` of particle lists."""

from dataclasses import replace

import numpy as np
import pytest

from cryovox.core.decisions import decisions_of, has_decisions
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles


def picks(cells, name="keep"):
    return replace(Particles.of(np.zeros((len(cells), 3)), "a"), extra={name: np.array(cells)})


def test_words_and_numbers_are_decisions():
    cells = ["1", "yes", "True", "kept", "0", "no", "FALSE", "reject", "", "-", "nan"]
    expected = [1, 1, 1, 1, 0, 0, 0, 0, np.nan, np.nan, np.nan]
    np.testing.assert_array_equal(decisions_of(picks(cells), "list.csv"), expected)
    assert decisions_of(picks(["1.0"], "cryovoxKeep"), "list.star").tolist() == [1]


def test_other_cells_and_lists_without_the_column_are_refused():
    with pytest.raises(RequestError, match=r"list.csv: column keep holds '2'(.|\n)*1 or yes"):
        decisions_of(picks(["1", "2"]), "list.csv")
    with pytest.raises(RequestError, match=r"no column `keep`(.|\n)*add a column"):
        decisions_of(picks(["1"], "kind"), "list.csv")
    assert not has_decisions(picks(["1"], "kind"))
    assert has_decisions(picks(["1"], "Keep"))
