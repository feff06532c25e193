"""Hyperparameters, active values and best trials of records."""

import math

import pytest

from tests.tuning.study_samples import SPACE, hp, trial
from tfrec_meta.tuning.studies import trial_records as records


def test_a_space_is_read_by_name_with_defaults_and_ranges():
    known = records.parameters(SPACE)
    assert list(known) == [entry["config"]["name"] for entry in SPACE]
    rate = known["two_tower/training/learning_rate"]
    assert (rate.low, rate.high, rate.log, rate.whole, rate.default) == (
        5e-4,
        5e-2,
        True,
        False,
        5e-3,
    )
    assert known["ials/iterations"].whole
    assert known["two_tower/hidden_layer"].choices == (False, True)
    assert known["two_tower/training/rows"].choices == ("windows",)
    assert (
        known["two_tower/loss"].default == "softmax"
    )  # no default is declared, so the first value


def test_entries_with_one_name_are_merged():
    space = [
        hp("Boolean", "deep", default=False),
        hp("Int", "units", {"deep": [False]}, min_value=1, max_value=4),
        hp("Int", "units", {"deep": [True]}, min_value=2, max_value=9),
    ]
    units = records.parameters(space)["units"]
    assert (units.low, units.high, units.default) == (1, 9, 1)
    assert records.default_values(space) == {"deep": False, "units": 1}


def test_names_are_shortened_to_a_unique_end():
    names = ["a/size", "b/size", "a/training/rate", "family", "rate/family"]
    assert records.short_names(names) == {
        "a/size": "a/size",
        "b/size": "b/size",
        "a/training/rate": "rate",
        "family": "family",  # "family" is also the end of another name, and has no shorter end
        "rate/family": "rate/family",
    }


def test_inactive_values_are_left_out():
    values = {
        "family": "ials",
        "ials/iterations": 9,
        "two_tower/loss": "bpr",
        "tuner/epochs": 3,
    }
    assert records.active_values(SPACE, values) == {"family": "ials", "ials/iterations": 9}


def test_a_missing_parent_has_its_default():
    values = {"two_tower/label_smoothing": 0.1, "ials/iterations": 9}
    assert records.active_values(SPACE, values) == {"two_tower/label_smoothing": 0.1}


def test_changed_values_differ_from_the_default():
    values = {
        **records.default_values(SPACE),
        "two_tower/embedding_dim": 128,
        "two_tower/training/learning_rate": 0.005 * (1 + 1e-12),  # equal up to rounding
    }
    assert records.changed_values(SPACE, values) == {"two_tower/embedding_dim": 128}
    assert records.changed_values(SPACE, values, other=values) == {}


@pytest.mark.parametrize(
    "one, other, expected",
    [
        (64, 64.0, True),
        (0.1 + 0.2, 0.3, True),
        (1, True, False),
        (False, 0, False),
        ("1", 1, False),
        ("bpr", "bpr", True),
    ],
)
def test_same_value_ignores_rounding_but_not_types(one, other, expected):
    assert records.same_value(one, other) is expected


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "0.3", True])
def test_an_objective_must_be_a_finite_number(value):
    assert records.objective_value({**trial(0, {}, None), "value": value}) is None


@pytest.mark.parametrize("direction, best", [("max", "0001"), ("min", "0000")])
def test_the_best_trial_is_the_first_of_equal_trials(direction, best):
    trials = [trial(n, {}, value) for n, value in enumerate([0.1, 0.3, None, 0.3, 0.1])]
    assert records.best_trial(trials, direction)["trial_id"] == best
    assert records.best_trial(trials[2:3], direction) is None
