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
    assert known["two_tower/loss"].default == "softmax"  # none is declared: the first


def test_one_name_under_two_conditions_is_one_hyperparameter():
    space = [
        hp("Boolean", "deep", default=False),
        hp("Int", "units", {"deep": [False]}, min_value=1, max_value=4),
        hp("Int", "units", {"deep": [True]}, min_value=2, max_value=9),
    ]
    units = records.parameters(space)["units"]
    assert (units.low, units.high, units.default) == (1, 9, 1)
    assert records.default_values(space) == {"deep": False, "units": 1}


def test_names_are_shortened_to_the_end_that_no_other_has():
    names = ["a/size", "b/size", "a/training/rate", "family", "rate/family"]
    assert records.short_names(names) == {
        "a/size": "a/size",
        "b/size": "b/size",
        "a/training/rate": "rate",
        "family": "family",  # "family" is also the end of another: no shorter one is left
        "rate/family": "rate/family",
    }


def test_values_whose_conditions_do_not_hold_are_left_out():
    values = {
        "family": "ials",
        "ials/iterations": 9,
        "two_tower/loss": "bpr",
        "tuner/epochs": 3,
    }
    assert records.active_values(SPACE, values) == {"family": "ials", "ials/iterations": 9}


def test_a_parent_that_was_not_recorded_counts_with_its_default():
    values = {"two_tower/label_smoothing": 0.1, "ials/iterations": 9}
    assert records.active_values(SPACE, values) == {"two_tower/label_smoothing": 0.1}


def test_what_differs_from_the_default_is_told():
    values = {
        **records.default_values(SPACE),
        "two_tower/embedding_dim": 128,
        "two_tower/training/learning_rate": 0.005 * (1 + 1e-12),  # rounding is no difference
    }
    assert records.differing(SPACE, values) == {"two_tower/embedding_dim": 128}
    assert records.differing(SPACE, values, other=values) == {}


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
def test_values_are_the_same_up_to_rounding_and_of_their_kind(one, other, expected):
    assert records.same(one, other) is expected


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "0.3", True])
def test_what_is_no_number_is_no_objective(value):
    assert records.objective_of({**trial(0, {}, None), "value": value}) is None


@pytest.mark.parametrize("direction, best", [("max", "0001"), ("min", "0000")])
def test_the_best_trial_is_the_first_of_the_best(direction, best):
    trials = [trial(n, {}, value) for n, value in enumerate([0.1, 0.3, None, 0.3, 0.1])]
    assert records.best_trial(trials, direction)["trial_id"] == best
    assert records.best_trial(trials[2:3], direction) is None
