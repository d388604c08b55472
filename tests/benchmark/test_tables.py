"""Tables say what the rows say, with how sure one may be."""

import math

import numpy as np
import pytest
from scipy import stats

from cryovox.benchmark.tables import cell, conditions, difference, markdown, separates_methods, values


def test_only_what_is_shown_is_printed():
    two = result({"one": [0.1, 0.2, 0.3], "other": [0.4, 0.5, 0.6]})
    for run in two["runs"]:
        run["scores"] = {"chosen": {"iou": 0.5}, "chosen, all": {"iou": 0.6}, "source": {"iou": 0.7}}
    every, some = (markdown({**two, "shown": shown}) for shown in ((), ("chosen",)))
    assert "| source |" in every
    assert "| source |" not in some
    assert "| selected | selected, all |" in some


def result(scores, seeds=3):
    """A result with one condition and one metric, from contestant -> values."""
    names = list(scores)
    runs = [
        {"contestant": n, "budget": "9s", "seed": i, "steps": 5 + i, "scores": {"easy": {"iou": v}}}
        for n in names
        for i, v in enumerate(scores[n])
    ]
    return {
        "headlines": ("iou",), "reference": names[0], "references": {}, "runs": runs,
        "plan": {"contestants": [{"name": n} for n in names], "seeds": seeds},
    }  # fmt: skip


def test_the_confusion_of_classes_is_a_matrix_for_each_method():
    table_input = result({"base": [0.5, 0.7], "new": [0.6, 0.6]})
    for run in table_input["runs"]:
        right = run["scores"]["easy"]["iou"]
        run["scores"]["easy"] |= {
            "class_accuracy": right, "confusion/a as nothing": 0.25, "confusion/a as a": right,
            "confusion/b as nothing": 0.0, "confusion/b as a": 1.0,
        }  # fmt: skip
    text = markdown(table_input)
    assert "|  | true class | nothing | a |" in text
    assert "| base | a | 0.25 | 0.60 |" in text
    assert "| new | b | 0.00 | 1.00 |" in text


def test_a_cell_shows_mean_and_sample_deviation():
    assert cell([0.1, 0.2, 0.3]) == "0.200 ± 0.100"
    assert cell([0.25]) == "0.250"
    assert cell([]) == "failed"


def test_the_interval_of_a_difference_is_welchs():
    a, b = [0.5, 0.6, 0.7], [0.1, 0.3, 0.2]
    mean, low, high = difference(a, b)
    known = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((np.mean(a) - np.mean(b), known.low, known.high))


def test_one_seed_has_no_interval():
    mean, low, high = difference([0.5], [0.4, 0.3])
    assert mean == pytest.approx(0.15)
    assert math.isnan(low)
    assert math.isnan(high)


def test_equal_seeds_have_an_interval_of_no_width():
    assert difference([0.5, 0.5], [0.25, 0.25]) == (0.25, 0.25, 0.25)


def test_the_table_has_all_rows_with_steps_and_the_gap_to_the_reference():
    text = markdown(result({"base": [0.1, 0.2, 0.3], "new": [0.5, 0.6, 0.7]}))
    base, new = (line for line in text.splitlines() if line.startswith(("| base", "| new")))
    assert base == "| base | 0.200 ± 0.100 |  | 5-7 |"
    assert new.startswith("| new | 0.600 ± 0.100 * | +0.400 [")


def test_what_failed_is_shown_and_not_averaged():
    table_input = result({"base": [0.1, 0.2], "new": [0.5, 0.6]})
    table_input["runs"][3] = {"contestant": "new", "budget": "9s", "seed": 1, "failed": "out of memory"}
    assert values(table_input, "new", "9s", "easy", "iou") == [0.5]
    table_input["runs"][2] = {"contestant": "new", "budget": "9s", "seed": 0, "failed": "out of memory"}
    assert "| new | failed |" in markdown(table_input)


def test_rows_without_training_stand_on_top():
    table_input = result({"base": [0.1]})
    table_input["references"] = {"floor": {"easy": {"iou": 0.05}, "hard": {"iou": 0.01}}}
    assert conditions(table_input) == ["easy", "hard"]
    assert "| floor | 0.050 |  |  |\n| base | 0.100 |" in markdown(table_input)


def test_a_suite_in_which_all_lie_within_the_spread_cannot_tell():
    assert not separates_methods(result({"a": [0.1, 0.5], "b": [0.2, 0.4]}), "9s", "easy", "iou")
    close = markdown(result({"a": [0.1, 0.5], "b": [0.2, 0.4]}, seeds=2))
    assert close.endswith("All methods lie within one standard deviation over seeds: easy.")
    assert "All methods" not in markdown(result({"a": [0.1, 0.12], "b": [0.8, 0.82]}, seeds=2))
    assert separates_methods(result({"a": [0.1, 0.12], "b": [0.8, 0.82]}), "9s", "easy", "iou")


def test_contestants_are_compared_over_groups_of_conditions_too():
    table_input = result({"base": [0.1, 0.2, 0.3], "new": [0.5, 0.6, 0.7]})
    for run in table_input["runs"]:
        run["scores"]["hard"] = {"iou": 0.5}
    text = markdown(table_input | {"groups": {"with noise": ("hard",), "of another suite": ("none",)}})
    assert (
        "| mean of all, difference from base [95 % CI] | with noise, difference from base [95 % CI] | steps |"
        in text
    )
    assert "| +0.000 [+0.000, +0.000] |" in text


def test_cells_that_differ_by_more_than_chance_are_marked():
    table_input = result({"base": [0.10, 0.11, 0.12], "near": [0.11, 0.12, 0.14], "far": [0.40, 0.41, 0.42]})
    text = markdown(table_input)
    assert "| far | 0.410 ± 0.010 * |" in text
    assert text.count(" * |") == 1
    assert "difference from base excludes 0" in text
    assert "*" not in markdown(table_input | {"reference": ""})


def test_what_is_told_of_each_species_has_its_own_table():
    table_input = result({"base": [0.1, 0.2], "new": [0.5, 0.6]})
    assert "by species" not in markdown(table_input)
    for run in table_input["runs"]:
        run["scores"]["easy"]["iou/ribosome"] = run["scores"]["easy"]["iou"] / 2
    text = markdown(table_input).partition("IoU by species, easy; budget 9s:")[2]
    assert "|  | ribosome |" in text
    assert "| new | 0.275 ± 0.035 |" in text


def test_an_unfinished_result_shows_the_rows_begun_and_says_what_is_left():
    partial = result({"base": [0.1, 0.2], "new": [0.5], "later": []})
    text = markdown({**partial, "jobs_left": 6})
    assert "| later" not in text
    assert text.endswith("6 of 9 trainings have not finished yet.")
    assert "not finished" not in markdown({**partial, "jobs_left": 0})


def test_rows_of_several_versions_of_the_code_are_pointed_out():
    mixed = result({"base": [0.1, 0.2], "new": [0.5, 0.6]})
    for number, run in enumerate(mixed["runs"]):
        run["code"] = str(number % 2)
    assert markdown(mixed).endswith("The trainings were run with 2 versions of the code.")
