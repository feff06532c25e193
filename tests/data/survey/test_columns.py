"""Types of columns, and how times are written."""

import datetime

import pyarrow as pa
import pytest

from tfrec_meta.data.sources.formats import FileFormat
from tfrec_meta.data.survey.columns import column_of


def column(*cells, form=None):
    return column_of("column", pa.chunked_array([pa.array(cells)]), form or FileFormat())


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2", None], "whole number"),
        (["1.5", "2", "n/a"], "number"),
        (["007", "12"], "text"),  # a code
        (["tea", "12"], "text"),
        ([None, None], "empty"),
        ([True, False], "true or false"),
        ([["a"], ["b", "c"]], "list"),
        ([1.5, 2.0], "number"),
        ([datetime.datetime(2026, 1, 1)], "time"),
        (["2026-01-01", "2026-01-02T10:00:00Z"], "time"),
        (["13.01.2026", "14.01.2026"], "time"),
        (["2.50", "3.75"], "number"),
    ],
)
def test_the_type_of_a_column_is_inferred(cells, kind):
    assert column(*cells).kind == kind


def test_missing_and_distinct_values_are_counted():
    found = column("a", "b", "a", None)
    assert (found.rows, found.missing, found.distinct, found.values) == (4, 1, 2, ("a", "b"))


def test_decimal_commas_are_read_as_declared():
    assert column("1,5", "2,5", form=FileFormat(decimal=",")).kind == "number"


@pytest.mark.parametrize(
    ("first", "unit"),
    [(1_700_000_000, "s"), (1_700_000_000_000, "ms"), (1_700_000_000_000_000, "us"), (1_700, "")],
)
def test_numbers_that_can_be_times_have_a_unit(first, unit):
    assert column(first, first + 5).unit == unit


@pytest.mark.parametrize(
    ("cells", "formats"),
    [
        (["31/01/2026", "01/02/2026"], ("%d/%m/%Y",)),
        (["01/31/2026", "01/02/2026"], ("%m/%d/%Y",)),
        (["12/1/2010 8:26", "12/31/2010 18:00"], ("%m/%d/%Y %H:%M",)),
        (["01/02/2026", "03/04/2026"], ("%d/%m/%Y", "%m/%d/%Y")),  # two meanings
        (["20260131", "20260201"], ("%Y%m%d",)),
        ([*["31.01.2026"] * 3, "30.01.2026", "29.01.2026", "28.01.2026", "?"], ("%d.%m.%Y",)),
        (["tea", "milk"], ()),
    ],
)
def test_formats_of_times_are_recognized(cells, formats):
    assert column(*cells).formats == formats


def test_a_given_format_of_times_is_the_only_one_that_is_tried():
    assert column("01/02/2026", form=FileFormat(time_format="%m/%d/%Y")).formats == ("%m/%d/%Y",)
    assert column("01/02/2026", form=FileFormat(time_format="%Y")).kind == "text"
