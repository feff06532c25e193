import copy
import dataclasses
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tfrec_meta.data import Interactions


@pytest.fixture
def data():
    return Interactions.from_arrays(
        ["b", "a", "b"],
        [7, 8, 7],
        [30, 10, 20],
        [1, 2, 3],
        further={"session": ["x", "y", "x"]},
        users=pa.table({"user_id": ["a", "b"], "age": [30, 40]}),
        items=pa.table({"item_id": [7, 8, 9], "title": ["Seven", "Eight", "Nine"]}),
        name="toy",
    )


def test_columns_have_the_promised_types_and_order(data):
    assert data.events.schema.names == ["user_id", "item_id", "time", "value", "session"]
    assert data.events.schema.types[:4] == [pa.string(), pa.string(), pa.int64(), pa.float32()]
    assert data.items["item_id"].to_pylist() == ["7", "8", "9"]
    assert data.events["value"].to_pylist() == [1.0, 2.0, 3.0]


def test_tokens_and_codes_follow_first_appearance(data):
    assert data.user_ids.tolist() == ["b", "a"]
    assert data.item_ids.tolist() == ["7", "8"]
    assert data.user_codes.tolist() == [0, 1, 0]
    assert data.item_codes.tolist() == [0, 1, 0]


def test_codes_agree_over_several_chunks():
    events = pa.concat_tables(
        [
            Interactions.from_arrays(["a", "b"], ["x", "y"]).events,
            Interactions.from_arrays(["c", "a"], ["y", "z"]).events,
        ]
    )
    data = Interactions(events)
    assert data.user_ids[data.user_codes].tolist() == ["a", "b", "c", "a"]
    assert data.item_ids[data.item_codes].tolist() == ["x", "y", "y", "z"]


def test_a_source_without_times_and_values_gets_nulls_and_ones():
    data = Interactions.from_arrays(["a"], ["x"])
    assert data.events["time"].to_pylist() == [None]
    assert data.events["value"].to_pylist() == [1.0]
    assert data.times is None


def test_take_keeps_order_users_items_and_name(data):
    taken = data.take([2, 0])
    assert taken.events["time"].to_pylist() == [20, 30]
    assert taken.users is data.users
    assert taken.name == "toy"
    assert taken.user_ids.tolist() == ["b"]
    assert data.take([False, True, False]).events["time"].to_pylist() == [10]
    assert len(data.take([])) == 0


@pytest.mark.parametrize("rows", [[3], [-1], [True, False]])
def test_take_refuses_rows_that_are_not_there(data, rows):
    with pytest.raises(IndexError, match="3 events"):
        data.take(rows)


def test_is_immutable(data):
    with pytest.raises(AttributeError):
        data.name = "other"
    with pytest.raises(TypeError):
        data.dropped["duplicate"] = 1
    with pytest.raises(ValueError):
        data.user_codes[0] = 5


def test_survives_pickle_and_copy(data):
    # Worker processes are handed their data so; the library itself never reads a pickle.
    part = dataclasses.replace(data, sampled=True)
    for again in (pickle.loads(pickle.dumps(part)), copy.deepcopy(part)):
        assert again.equals(part)
        assert again.dropped == part.dropped
        assert again.sampled


def test_a_random_sample_keeps_its_mark_through_take_clean_and_write(data, tmp_path):
    part = dataclasses.replace(data, sampled=True)
    assert part.take([0]).sampled
    assert part.clean().sampled
    assert Interactions.read(part.write(tmp_path / "part")).sampled


def test_write_and_read_give_the_same(data, tmp_path):
    dirty = Interactions.from_arrays(["a", None], ["x", "y"], bad_rows="drop", max_bad_share=1)
    for original in (data, dirty):
        again = Interactions.read(original.write(tmp_path / "data", overwrite=True))
        assert again.equals(original)
        assert again.name == original.name
        assert again.dropped == original.dropped
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_write_refuses_an_existing_folder(data, tmp_path):
    data.write(tmp_path / "data")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        data.take([0]).write(tmp_path / "data")
    assert len(Interactions.read(tmp_path / "data")) == 3


def test_a_write_that_fails_leaves_nothing(data, tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    def fail(*_):
        raise OSError("disk full")

    data.write(tmp_path / "data")
    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        data.write(tmp_path / "data", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert Interactions.read(tmp_path / "data").equals(data)


@pytest.mark.parametrize(
    ("file", "error"),
    [("events.parquet", FileNotFoundError), ("interactions.json", FileNotFoundError)],
)
def test_read_names_a_missing_file(data, tmp_path, file, error):
    folder = data.write(tmp_path / "data")
    (folder / file).unlink()
    with pytest.raises(error, match=file):
        Interactions.read(folder)


@pytest.mark.parametrize("file", ["events.parquet", "items.parquet", "interactions.json"])
def test_read_names_a_truncated_file(data, tmp_path, file):
    folder = data.write(tmp_path / "data")
    (folder / file).write_bytes((folder / file).read_bytes()[:40])
    with pytest.raises(ValueError, match=f"{file} is damaged"):
        Interactions.read(folder)


def test_read_refuses_a_newer_format(data, tmp_path):
    folder = data.write(tmp_path / "data")
    (folder / "interactions.json").write_text('{"format": 2}')
    with pytest.raises(ValueError, match="format 2"):
        Interactions.read(folder)


def test_a_missing_id_is_named_or_dropped_and_counted():
    users, items = ["a", None, "", "d"], ["x", "y", "z", None]
    with pytest.raises(ValueError, match=r"row 2, column `user_id`: an empty cell is not an id"):
        Interactions.from_arrays(users, items)
    data = Interactions.from_arrays(users, items, bad_rows="drop", max_bad_share=1)
    assert data.events["user_id"].to_pylist() == ["a"]
    assert data.dropped == {"missing user_id": 2, "missing item_id": 1}


def test_a_row_with_two_faults_counts_once():
    data = Interactions.from_arrays(
        ["a", None], ["x", None], value=[1, None], bad_rows="drop", max_bad_share=1
    )
    assert data.dropped == {"missing user_id": 1}


def test_values_that_are_no_numbers_are_named_or_dropped():
    values = [1.0, float("nan"), float("inf"), None]
    with pytest.raises(ValueError, match="row 2, column `value`"):
        Interactions.from_arrays(list("abcd"), list("wxyz"), value=values)
    data = Interactions.from_arrays(
        list("abcd"), list("wxyz"), value=values, bad_rows="drop", max_bad_share=1
    )
    assert data.dropped == {"missing value": 3}


def test_the_constructor_checks_what_from_arrays_would_mend():
    good = Interactions.from_arrays(["a", "b"], ["x", "y"]).events
    with pytest.raises(ValueError, match="no column `value`"):
        Interactions(good.drop_columns("value"))
    with pytest.raises(TypeError, match="`time` is of type double"):
        Interactions(good.set_column(2, "time", pa.array([1.0, 2.0])))
    with pytest.raises(ValueError, match="row 2, column `item_id`"):
        Interactions(good.set_column(1, "item_id", pa.array(["x", ""])))
    nan = pa.array([1.0, float("nan")], pa.float32())
    with pytest.raises(ValueError, match="row 2, column `value`"):
        Interactions(good.set_column(3, "value", nan))


@pytest.mark.parametrize(
    ("users", "error", "message"),
    [
        (pa.table({"id": ["a"]}), ValueError, "`users` has no column `user_id`"),
        (pa.table({"user_id": ["a", "b", "a"]}), ValueError, "row 3.*'a' is already in row 1"),
        (pa.table({"user_id": ["a", None]}), ValueError, "`users` row 2"),
        (pa.table({"user_id": [1.5]}), TypeError, "holds fractions"),
    ],
)
def test_attribute_tables_need_unique_ids(users, error, message):
    with pytest.raises(error, match=message):
        Interactions.from_arrays(["a"], ["x"], users=users)


def test_lengths_and_types_are_checked():
    with pytest.raises(ValueError, match="`user_id` 2, `item_id` 1"):
        Interactions.from_arrays(["a", "b"], ["x"])
    with pytest.raises(TypeError, match="`item_id` mixes types"):
        Interactions.from_arrays(["a", "b"], ["x", 5])
    with pytest.raises(TypeError, match="column `user_id` is of type list"):
        Interactions.from_arrays([["a"]], ["x"])
    with pytest.raises(TypeError, match="column `value` is of type list"):
        Interactions.from_arrays(["a"], ["x"], value=[[1]])
    with pytest.raises(TypeError, match="column `time` is of type bool"):
        Interactions.from_arrays(["a"], ["x"], time=[True])
    with pytest.raises(TypeError, match="fractions"):
        Interactions.from_arrays([1.5], ["x"])
    with pytest.raises(ValueError, match="`time_unit`='h'"):
        Interactions.from_arrays(["a"], ["x"], [1], time_unit="h")
    with pytest.raises(ValueError, match="`bad_rows`='skip'"):
        Interactions.from_arrays(["a"], ["x"], bad_rows="skip")


def test_whole_numbered_float_ids_lose_their_point():
    # what pandas makes of integer ids as soon as one is missing
    data = Interactions.from_arrays(
        [1.0, float("nan"), 3.0], [1, 2, 3], bad_rows="drop", max_bad_share=1
    )
    assert data.events["user_id"].to_pylist() == ["1", "3"]
    assert Interactions.from_arrays(
        np.array([np.nan]), [1], bad_rows="drop", max_bad_share=1
    ).dropped == {"missing user_id": 1}


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        ([1_000_000_000, 1_000_000_001], "s"),
        ([1_000_000_000_999, 1_000_000_001_000], "ms"),
        (["1000000000", " 1000000001.5"], "s"),
        (["2001-09-09 01:46:40", "2001-09-09T01:46:41.5"], "s"),
        (["2001-09-09T01:46:40Z", "2001-09-09T03:46:41+02:00"], "s"),
        (np.array(["2001-09-09T01:46:40", "2001-09-09T01:46:41"], "datetime64[ns]"), "s"),
        ([1e9, 1e9 + 1.75], "s"),
    ],
)
def test_times_of_every_kind_become_unix_seconds(times, unit):
    data = Interactions.from_arrays(["a", "b"], ["x", "y"], times, time_unit=unit)
    assert data.times.tolist() == [1_000_000_000, 1_000_000_001]


def test_dates_and_times_before_1970_are_floored():
    assert Interactions.from_arrays(["a"], ["x"], ["1970-01-03"]).times.tolist() == [172_800]
    assert Interactions.from_arrays(["a"], ["x"], [-0.5]).times.tolist() == [-1]


def test_an_unreadable_time_is_named_or_dropped():
    times = ["2001-09-09", "2001-13-09", None]
    with pytest.raises(ValueError, match="row 2, column `time`: '2001-13-09' is not a time"):
        Interactions.from_arrays(list("abc"), list("xyz"), times)
    data = Interactions.from_arrays(
        list("abc"), list("xyz"), times, bad_rows="drop", max_bad_share=1
    )
    assert data.dropped == {"unreadable time": 1}
    assert data.events["time"].null_count == 1
    with pytest.raises(ValueError, match="1 of 2 events have no time, the first in row 2"):
        _ = data.times


def test_from_and_to_pandas():
    events = pd.DataFrame({"who": [1, 2], "what": ["x", "y"], "when": [5, 6], "page": [1, 2]})
    films = pd.DataFrame({"what": ["x"], "title": ["X"]})
    data = Interactions.from_pandas(
        events,
        columns={"user_id": "who", "item_id": "what", "time": "when"},
        items=films,
    )
    assert data.to_pandas().columns.tolist() == ["user_id", "item_id", "time", "value", "page"]
    assert data.items.column_names == ["item_id", "title"]
    with pytest.raises(ValueError, match="names 'whom'"):
        Interactions.from_pandas(events, columns={"user_id": "whom"})
    with pytest.raises(ValueError, match="no column `user_id`"):
        Interactions.from_pandas(events)


def test_profile_matches_counts_worked_by_hand():
    data = Interactions.from_arrays(
        ["a", "a", "a", "b"],
        ["x", "y", "x", "x"],
        [0, 86_400, 172_800, 0],
        [1, 2, 3, 4],
        items=pa.table({"item_id": ["x", "z"]}),
    )
    profile = data.profile()
    assert (profile["events"], profile["users"], profile["items"]) == (4, 2, 2)
    assert profile["catalogue"] == 3  # x, y, z
    assert profile["cold_items"] == 1  # z
    assert profile["cold_item_share"] == pytest.approx(1 / 3)
    assert profile["density"] == 3 / 4
    assert profile["repeated_pairs"] == 1
    # Counts 0, 1, 3: 2 * (1*0 + 2*1 + 3*3) / (3 * 4) - 4 / 3.
    assert profile["popularity_gini"] == pytest.approx(22 / 12 - 4 / 3)
    assert profile["events_a_user_p50"] == 2.0
    assert profile["span_days"] == 2.0
    assert profile["first_time"] == "1970-01-01 00:00:00"
    assert profile["value_mean"] == 2.5


def test_profile_is_json_and_knows_empty_data():
    import json

    data = Interactions.from_arrays(["a", None], ["x", "y"], bad_rows="drop", max_bad_share=1)
    assert json.loads(json.dumps(data.profile()))["dropped: missing user_id"] == 1
    assert data.take([]).profile()["events"] == 0
    assert json.dumps(data.take([]).profile())


@pytest.mark.parametrize("broken", ["a\nb", "a\rb"])
def test_an_id_with_a_line_break_is_refused_or_counted(broken):
    with pytest.raises(ValueError, match=r"row 2, column `item_id`.*line break"):
        Interactions.from_arrays(["u", "v"], ["i", broken])
    data = Interactions.from_arrays(["u", "v"], ["i", broken], bad_rows="drop", max_bad_share=1)
    assert (len(data), dict(data.dropped)) == (1, {"line break in item_id": 1})
