"""Surveys of rows."""

import numpy as np
import pyarrow as pa
import pytest

from tfrec_meta.pipeline.rows.surveys import RowSurvey, survey_of


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
