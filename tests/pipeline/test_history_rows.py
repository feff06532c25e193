"""The rows of Histories: splits of users and times, and surveys."""

import numpy as np
import pyarrow as pa
import pytest

from tests.pipeline import conftest
from tfrec_meta.data import Interactions
from tfrec_meta.pipeline.config import SplitConfig
from tfrec_meta.pipeline.history_rows import RowSurvey, parts_of, survey_of, time_cuts


def in_memory(table):
    """Returns the events in the order of Histories."""
    keys = ["user_id", "time", "item_id", "value"]
    table = table.sort_by([(key, "ascending") for key in keys])
    return Interactions.from_arrays(**{key: table[key] for key in keys})


def test_only_the_seed_determines_which_users_are_cold():
    config = SplitConfig("cold-users", 0.6, 0.2)
    few, many = (in_memory(conftest.toy_interactions(rows, 40, 9)) for rows in (300, 600))

    def drawn(data, seed):
        parts = parts_of(data, config, None, seed)
        return dict(zip(data.events["user_id"].to_pylist(), parts.tolist(), strict=True))

    assert drawn(few, 1) == drawn(many, 1)
    assert drawn(few, 1) != drawn(few, 2)


def test_time_cuts_equal_those_of_split_by_time():
    # Ten events; 0.5 of them are before the sixth, 0.8 before the ninth.
    survey = RowSurvey({}, 10, np.array([1, 2, 5, 9]), np.array([4, 1, 3, 2]))
    assert time_cuts(survey, SplitConfig(train=0.5, validation=0.3)) == (5, 9)


def test_adds_surveys_in_any_order():
    one = RowSurvey({}, 3, np.array([1, 4]), np.array([2, 1]))
    other = RowSurvey({}, 2, np.array([0, 4]), np.array([1, 1]))
    for both in (one + other, other + one):
        assert both.rows == 5
        assert both.times.tolist() == [0, 1, 4]
        assert both.counts.tolist() == [1, 2, 2]


@pytest.mark.parametrize(
    "cells, base",
    [
        ([[9.0], None, [10.0]], "int"),
        ([[9.5], [10.0]], "float"),
        ([[float("inf")]], "float"),
        ([[2.0**25]], "float"),
        ([[1.0, 2.0]], "float"),  # lists of numbers are vectors
    ],
)
def test_columns_of_whole_numbers_are_integers_again(cells, base):
    table = pa.table({"year": pa.array(cells, pa.list_(pa.float32()))})
    assert survey_of(table).kinds["year"].base == base
