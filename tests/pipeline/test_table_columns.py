"""The types of table columns, and columns as features."""

import pyarrow as pa
import pytest

from tfrec_meta.pipeline.table_columns import Kind, as_feature, exception_among_numbers, kind_of


def test_the_common_type_is_the_widest():
    assert Kind("int") | Kind("float") == Kind("float")
    assert Kind("none") | Kind("int", many=True) == Kind("int", many=True)
    assert Kind("text") | Kind("float") == Kind("text")


@pytest.mark.parametrize(
    "column, kind",
    [
        (pa.array([1, 2], pa.uint8()), Kind("int")),
        (pa.array([True, None]), Kind("text")),
        (pa.array([2**24 + 1]), Kind("code")),
        (pa.array([0.5]), Kind("float")),
        (pa.array(["a"]).dictionary_encode(), Kind("text")),
        (pa.array([[1], []], pa.list_(pa.int64())), Kind("int", many=True)),
        (pa.nulls(2), Kind("none")),
    ],
)
def test_the_type_of_a_column_is_that_of_its_arrow_type(column, kind):
    assert kind_of(column, None, "a column") == kind


@pytest.mark.parametrize(
    "cells, base", [(["1", "2"], "int"), (["1", "2.5"], "float"), (["1", "x"], "text")]
)
def test_parses_text_as_the_narrowest_type(cells, base):
    assert kind_of(pa.array(cells), "none", "a column") == Kind(base)


def test_numbers_with_leading_zeros_are_text():
    assert kind_of(pa.array(["10", "02139"]), "none", "a column") == Kind("text")
    assert kind_of(pa.array(["0", "0.5"]), "none", "a column") == Kind("float")


def test_whole_numbers_are_written_as_other_numbers_unless_they_would_change():
    assert [Kind(base).written for base in ("int", "float", "code")] == ["float", "float", "int"]
    assert Kind("int", many=True).written == "int"


def test_finds_a_cell_that_is_not_a_number_in_a_column_of_numbers():
    assert exception_among_numbers(pa.array(["1", None, "n/a", "2.5"])) == 2
    assert exception_among_numbers(pa.array(["red", "7", "blue"])) is None
    assert exception_among_numbers(pa.array(["1", "2"])) is None


def test_refuses_a_type_that_an_example_can_not_represent():
    with pytest.raises(TypeError, match="a column is of type struct"):
        kind_of(pa.array([{"x": 1}]), None, "a column")


def test_features_are_lists_without_missing_values():
    column = pa.array([1.5, None, float("nan")])
    assert as_feature(column, "float", "a column").to_pylist() == [[1.5], None, None]
    truth = as_feature(pa.array([True, None, False]), "text", "a column")
    assert truth.to_pylist() == [[b"true"], None, [b"false"]]
    lists = pa.array([["a", None], [], None])
    assert as_feature(lists, "text", "a column").to_pylist() == [[b"a"], None, None]
