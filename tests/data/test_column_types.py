"""Types of columns: declared or recognized, and never at the cost of what a cell says."""

import csv
import logging

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tfrec_meta as tm
from tfrec_meta.data import read_interactions
from tfrec_meta.data.column_types import typed


def column_of(cells, kind=None, **options):
    return typed(pa.table({"x": pa.array(cells, pa.string())}), "x", kind, "f.csv", **options)["x"]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "20", None], [1, 20, None]),
        (["9.5", "10"], [9.5, 10.0]),
        ([" 9 ", "10"], [9, 10]),
        (["1e3", "-2"], [1000.0, -2.0]),
        (["02139", "90210"], ["02139", "90210"]),  # a code
        (["+49", "1"], ["+49", "1"]),
        (["0", "0.5"], [0.0, 0.5]),
        (["9223372036854775808", "1"], ["9223372036854775808", "1"]),  # exceeds int64
        (["inf", "nan"], ["inf", "nan"]),
        (["a", "1"], ["a", "1"]),
        ([None, None], [None, None]),
    ],
)
def test_text_becomes_numbers_only_where_nothing_is_lost(cells, expected):
    assert column_of(cells).to_pylist() == expected


@given(st.lists(st.text("0123456789+-.eE ", max_size=6), min_size=1, max_size=6))
def test_a_recognized_integer_is_written_back_as_its_cell(cells):
    try:
        found = column_of([cell or None for cell in cells])
    except ValueError:
        return  # hardly any cell is no number
    if pa.types.is_integer(found.type):
        kept = [None if value is None else str(value) for value in found.to_pylist()]
        assert kept == [cell.strip() or None for cell in cells]


@pytest.mark.parametrize("mark", ["—", "n/a", "NULL", "--", "unknown"])
def test_a_cell_that_stands_for_a_missing_number_is_named_or_missing(mark, caplog):
    cells = ["1", mark, "3"]
    found = f"row 2, column `x`: '{mark}' is not a number, as 2 of 3"
    with pytest.raises(ValueError, match=found):
        column_of(cells)
    assert column_of(cells, bad_rows="drop").to_pylist() == [1, None, 3]
    assert "1 such cells are missing values" in caplog.text
    assert column_of(cells, "text").to_pylist() == cells


def test_a_rare_word_in_a_column_of_numbers_is_no_category():
    with pytest.raises(ValueError, match=r"row 3, column `x`: 'ten'.*9 of 10"):
        column_of(["1", "2", "ten", *"3456789"])
    assert column_of(["1", "2", "ten", "eleven"]).to_pylist()[2] == "ten"


def test_declared_types_hold_for_numbers_text_and_times():
    assert column_of(["9", "10"], "text").to_pylist() == ["9", "10"]
    assert column_of(["007"], "number").to_pylist() == [7]
    assert column_of(["1,5", "2"], "number", decimal=",").to_pylist() == [1.5, 2.0]
    days = column_of(["2020-01-02", "2020-01-02T12:00:00Z"], "time")
    assert days.to_pylist() == [1_577_923_200, 1_577_966_400]
    assert column_of(["n/a", "2"], "number").to_pylist() == [None, 2]
    with pytest.raises(ValueError, match="row 2, column `x`: 'soon' is not a time"):
        column_of(["2020-01-02", "soon"], "time")
    with pytest.raises(ValueError, match="row 1, column `x`: 'a' is not a number"):
        column_of(["a", "b"], "number")
    numbers = typed(pa.table({"x": [9, 10]}), "x", "text", "f.parquet")["x"]
    assert numbers.to_pylist() == ["9", "10"]
    with pytest.raises(TypeError, match=r"f.parquet, column `x`"):
        typed(pa.table({"x": [[9], [10]]}), "x", "text", "f.parquet")


def write(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def events(tmp_path):
    rows = [("user_id", "item_id"), *((f"u{place % 3}", place % 4) for place in range(12))]
    return write(tmp_path / "events.csv", rows)


def test_a_declared_category_keeps_its_text(events, tmp_path):
    prices = ["1.50", "2", "3.25", "4"]
    items = write(tmp_path / "items.csv", [("item_id", "price"), *enumerate(prices)])
    data = read_interactions(events, items=items)
    assert data.items["price"].to_pylist() == [1.5, 2.0, 3.25, 4.0]
    spec = tm.FeatureSpec(item=(tm.Category("price"),))
    with pytest.raises(ValueError, match=r"'1.50', are lost.*`types`={'price': 'text'}"):
        spec.fit(data)
    kept = read_interactions(events, items=items, types={"price": "text"})
    assert set(spec.fit(kept).vocabularies["item.price"].tokens.to_pylist()) == set(prices)


def test_types_of_event_columns_hold_across_files(tmp_path):
    paths = [
        write(tmp_path / f"{name}.csv", [("user_id", "item_id", "price"), *rows])
        for name, rows in (
            ("a", [("u", "i", "9.5"), ("v", "i", "10")]),
            ("b", [("u", "j", "9"), ("v", "j", "10")]),
        )
    ]
    data = read_interactions(paths, {"price": "price"})
    assert data.events["price"].to_pylist() == [9.5, 10.0, 9.0, 10.0]
    text = read_interactions(paths, {"price": "price"}, types={"price": "text"})
    assert text.events["price"].to_pylist() == ["9.5", "10", "9", "10"]


def test_a_declared_column_that_does_not_exist_is_an_error(events):
    with pytest.raises(ValueError, match="`types` names the column 'zip'"):
        read_interactions(events, types={"zip": "text"})
    with pytest.raises(ValueError, match="`types` names the column 'zip'"):
        tm.Interactions.from_arrays(["u"], ["i"], types={"zip": "text"})


def test_declared_types_apply_to_frames():
    frame = pd.DataFrame({"user_id": [1, 2], "item_id": [1, 2]})
    users = pd.DataFrame({"user_id": [1, 2], "zip": [2139, 90210]})
    data = tm.Interactions.from_pandas(frame, users=users, types={"zip": "text"})
    assert data.users["zip"].to_pylist() == ["2139", "90210"]


def test_a_date_is_a_number_of_seconds():
    users = pa.table({"user_id": ["a", "b"], "joined": pa.array([0, 2], pa.timestamp("s"))})
    data = tm.Interactions.from_arrays(["a", "b"], ["x", "y"], users=users)
    spec = tm.FeatureSpec(user=(tm.Number("joined"),)).fit(data)
    assert spec.statistics["user.joined"] == (1.0, 1.0)


def test_attributes_with_reserved_names_are_renamed_by_table(events, tmp_path, caplog):
    rows = [("item_id", "value", "release year"), *((place, place, 1990) for place in range(4))]
    items = write(tmp_path / "items.csv", rows)
    with caplog.at_level(logging.WARNING):
        spec = tm.FeatureSpec.infer(read_interactions(events, items=items))
    assert spec.item == ()
    assert (
        "'value' of the table of items is not used as a feature: the library uses that name"
        in caplog.text
    )
    assert "'release year'" in caplog.text
    data = read_interactions(
        events, {"items.worth": "value", "items.year": "release year"}, items=items
    )
    assert data.items.column_names == ["item_id", "worth", "year"]
    assert [feature.name for feature in tm.FeatureSpec.infer(data).item] == ["worth", "year"]
    with pytest.raises(ValueError, match=r"`columns`: .*items.csv has no column `cost`"):
        read_interactions(events, {"items.price": "cost"}, items=items)
    with pytest.raises(ValueError, match="two columns for `value`"):
        read_interactions(events, {"items.value": "release year"}, items=items)


def test_decimal_commas_of_attributes_are_read(tmp_path):
    (tmp_path / "items.csv").write_text("item_id;price\nx;1,5\ny;2\n")
    (tmp_path / "events.csv").write_text("user_id;item_id\na;x\n")
    data = read_interactions(
        tmp_path / "events.csv", items=tmp_path / "items.csv", delimiter=";", decimal=","
    )
    assert data.items["price"].to_pylist() == [1.5, 2.0]


def test_lists_of_a_column_that_is_not_read_are_an_error(events):
    with pytest.raises(ValueError, match="`lists` names the column 'genres'"):
        read_interactions(events, lists={"genres": "|"})
