"""Ids are written alike in events, tables and requests."""

import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tfrec_meta as tm
from tfrec_meta.data import read_interactions, stream_interactions
from tfrec_meta.data.ids import given_ids
from tfrec_meta.data.interactions import Interactions


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([10, 11], ["10", "11"]),
        ([10.0, 11.0], ["10", "11"]),
        (["10.0", "11.0"], ["10", "11"]),
        (["10.0", "11"], ["10", "11"]),
        ([" 10", "11\t"], ["10", "11"]),
        (["007", "10.0"], ["007", "10.0"]),  # a code: nothing is changed
        (["1e5", "10.0"], ["1e5", "10.0"]),
        (["1.50", "10.0"], ["1.50", "10.0"]),
        ([b"a", b"b "], ["a", "b"]),
        ([decimal.Decimal("10.0"), decimal.Decimal("11")], ["10", "11"]),
        (pd.Series([10, 11], dtype="category"), ["10", "11"]),
        (pd.Series([10, 11], dtype="Int64"), ["10", "11"]),
        (np.array([10, 11], np.uint64), ["10", "11"]),
    ],
)
def test_an_id_has_one_spelling_whatever_its_type(ids, expected):
    assert list(Interactions.from_arrays(["u", "v"], ids).item_ids) == expected
    frame = pd.DataFrame({"user_id": ["u", "v"], "item_id": ids})
    assert list(Interactions.from_pandas(frame).item_ids) == expected


def test_decimals_of_a_table_count_for_the_events_too():
    items = pa.table({"item_id": ["10", "B"], "title": ["tea", "milk"]})
    kept = Interactions.from_arrays(["u", "v"], ["10.0", "10.0"], items=items)
    assert list(kept.item_ids) == ["10.0"]  # the column has an id that is no number
    items = pa.table({"item_id": ["10.0", "11.0"], "title": ["tea", "milk"]})
    alike = Interactions.from_arrays(["u", "v"], ["10", "11"], items=items)
    assert alike.items["item_id"].to_pylist() == ["10", "11"]


@pytest.mark.parametrize("ids", [[True, False], [1.5, 2.0], [["a"], ["b"]], [{"a": 1}, {"a": 2}]])
def test_what_is_no_id_is_refused(ids):
    with pytest.raises(TypeError, match="item_id"):
        Interactions.from_arrays(["u", "v"], ids)


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=20))
def test_whole_numbers_are_the_same_ids_in_every_column_type(numbers):
    expected = [str(number) for number in numbers]
    spellings = [numbers, [float(n) for n in numbers], [f"{n}.0" for n in numbers], expected]
    for written in spellings:
        data = Interactions.from_arrays(numbers, written)
        assert data.events["item_id"].to_pylist() == expected


def test_requests_take_whole_numbers_bytes_and_padding():
    assert given_ids([42, "", None, b"x", 7.0, np.int64(3)], "ids").to_pylist() == [
        "42",
        "",
        "",
        "x",
        "7",
        "3",
    ]
    for wrong in ("42", b"42", 42, None, np.zeros((2, 2))):
        with pytest.raises(ValueError, match="`ids`"):
            given_ids(wrong, "ids")


def test_numbers_are_the_ids_of_recommend_histories_and_queries():
    data = Interactions.from_arrays([1, 1, 2, 2, 3], [10, 11, 10, 12, 11])
    model = tm.train(data, "ease", progress=False)
    words = tm.recommend(model, ["1", "2"], data, k=2)
    assert tm.recommend(model, [1, 2], data, k=2) == words
    assert tm.recommend(model, np.array([1.0, 2.0]), data, k=2) == words
    assert tm.recommend(model, [1, 1], data, k=2) == [words[0], words[0]]  # also the second time
    query = model.spec.encode_queries([1], history=[[10, 11]])
    assert query["history"][0, :2].tolist() == model.spec.items.encode(["10", "11"]).tolist()
    for wrong in ("1", 1):
        with pytest.raises(ValueError, match="`users`"):
            tm.recommend(model, wrong, data)
    with pytest.raises(ValueError, match="`k`=-1; use"):
        tm.recommend(model, [1], data, k=-1)


@pytest.mark.parametrize("number", [0, 1])
def test_a_table_that_hardly_matches_the_events_is_logged_with_examples(number, caplog):
    ids = ["i1"] * number + [f"x{place}" for place in range(9)]
    items = pa.table({"item_id": ids, "title": ids})
    Interactions.from_arrays(["u"] * 9, [f"i{place}" for place in range(9)], items=items)
    (record,) = caplog.records
    shown = "none of the" if number == 0 else "only 1 of the"
    assert shown in record.getMessage()
    assert "'i0'" in record.getMessage()
    assert "'x0'" in record.getMessage()


def test_a_table_of_some_items_is_not_logged(caplog):
    items = pa.table({"item_id": ["i1"], "title": ["tea"]})
    Interactions.from_arrays(["u"] * 9, [f"i{place}" for place in range(9)], items=items)
    assert not caplog.records


def test_a_stream_writes_ids_as_the_data_in_memory(tmp_path):
    # The second file shows that the column is one of whole numbers written by pandas.
    (tmp_path / "a.csv").write_text("user_id,item_id\n1,10\n2,11\n")
    (tmp_path / "b.csv").write_text("user_id,item_id\n1.0,10.0\n3.0,12.0\n")
    (tmp_path / "items.csv").write_text("item_id,title\n10.0,Red tea\n11.0,Blue tea\n")
    paths, items = [tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "items.csv"
    memory = read_interactions(paths, items=items)
    stream = stream_interactions(paths, items=items, part_events=2)
    found = [row for part in stream.parts() for row in part.events.to_pylist()]
    expected = memory.events.to_pylist()
    assert sorted(map(str, found)) == sorted(map(str, expected))
    assert stream.items["item_id"].to_pylist() == ["10", "11"]
    for part in stream.parts():  # all events of a user are in one part
        assert len(stream.of_users(part.user_ids)) == len(part)
    assert len(stream.of_users([1])) == 2


def test_frames_with_mixed_types_name_the_column():
    frame = pd.DataFrame({"user_id": [1, "a"], "item_id": [1, 2]})
    with pytest.raises(TypeError, match="`user_id` mixes types"):
        Interactions.from_pandas(frame)
    gaps = pd.DataFrame({"user_id": pd.Categorical([7, 8]), "item_id": [1.0, None]})
    data = Interactions.from_pandas(gaps, bad_rows="drop", max_bad_share=1)
    assert data.events.to_pylist()[0] == {
        "user_id": "7",
        "item_id": "1",
        "time": None,
        "value": 1.0,
    }
    assert data.dropped == {"missing item_id": 1}
    twice = pd.DataFrame({"user_id": [1], "item_id": [1], "value": [2], "stars": [3]})
    with pytest.raises(ValueError, match="several columns `value`"):
        Interactions.from_pandas(twice, columns={"value": "stars"})


@pytest.mark.parametrize("users", [[["42"]], np.array([[1]]), [["a"], 3]])
def test_nested_ids_are_refused_with_the_name_of_the_argument(users):
    with pytest.raises((TypeError, ValueError), match="`user_ids`"):
        given_ids(users, "user_ids")


def test_data_without_tables_is_not_searched_for_distinct_ids():
    assert "_coded_users" not in vars(Interactions.from_arrays(["a"], ["x"]))
