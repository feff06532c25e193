"""Sessions: idle gaps, given ids, and sessions in place of users."""

import logging
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tfrec_meta as tm
from tfrec_meta.data.tables.sessions import seconds_of, session_numbers
from tfrec_meta.errors import ParameterError


def toy(rows, **further):
    users, items, times = zip(*rows, strict=True)
    return tm.Interactions.from_arrays(
        list(users), list(items), list(times), further=further, name="toy", time_unit="s"
    )


def given_sessions(ids, users="aab"):
    return toy([(user, "x", 1) for user in users], session_id=ids)


def sessions_of(data):
    return data.events["session_id"].to_pylist()


def test_a_session_ends_before_a_longer_gap_of_the_same_user():
    # a: 0 and 10 are 10 seconds apart, 10 and 21 are 11. b does not interrupt a.
    data = toy([("a", "x", 21), ("b", "x", 5), ("a", "x", 0), ("a", "y", 10)])
    assert sessions_of(data.with_sessions(10)) == ["3", "2", "1", "1"]
    assert sessions_of(data.with_sessions(11)) == ["1", "2", "1", "1"]
    assert sessions_of(data.with_sessions("1s")) == ["4", "2", "1", "3"]
    assert data.events.equals(data.with_sessions(10).events.drop_columns(["session_id"]))


def test_sessions_of_the_same_second_are_numbered_by_row():
    assert sessions_of(toy([("b", "x", 7), ("a", "x", 7)]).with_sessions()) == ["1", "2"]


def test_sessions_go_on_across_midnight_and_across_files(tmp_path):
    first, second = tmp_path / "1.csv", tmp_path / "2.csv"
    first.write_text(
        "user_id,item_id,time\nann,tea,2024-05-01T23:50:00\nbob,tea,2024-05-01T23:20:00\n"
    )
    second.write_text(
        "user_id,item_id,time\nann,jam,2024-05-02T00:10:00\nbob,jam,2024-05-02T00:10:00\n"
    )
    for files in ([first, second], [second, first]):
        events = tm.read_interactions(files).with_sessions("30m").events.sort_by("time")
        # bob 23:20, ann 23:50, then both at 0:10: bob after 50 minutes, ann after 20.
        by_user = zip(events["user_id"].to_pylist(), events["session_id"].to_pylist(), strict=True)
        assert sorted(by_user) == [("ann", "2"), ("ann", "2"), ("bob", "1"), ("bob", "3")]


@pytest.mark.parametrize(
    ("gap", "seconds"),
    [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("1d", 86_400), (20, 20), (np.int64(5), 5)],
)
def test_a_gap_is_seconds_or_a_text_with_a_unit(gap, seconds):
    assert seconds_of(gap) == seconds


@pytest.mark.parametrize("gap", [0, -1, math.nan, math.inf, True, None, "", "30", "m", "0m", "3w"])
def test_other_gaps_are_refused(gap):
    with pytest.raises(ParameterError, match=r"`gap`=.*use seconds above 0, or a text such as"):
        toy([("a", "x", 1)]).with_sessions(gap)


def test_sessions_need_times_and_a_free_column():
    without = tm.Interactions.from_arrays(["a"], ["x"], name="toy")
    with pytest.raises(ValueError, match=r"toy has no times.*`session_id`"):
        without.with_sessions()
    with pytest.raises(ValueError, match=r"1 of 2 events have no time.*`clean\(\)` drops them"):
        toy([("a", "x", 1), ("a", "x", None)]).with_sessions()
    with pytest.raises(ValueError, match="toy has a column `session_id` already"):
        given_sessions(["s", "s", "t"]).with_sessions()


def test_no_events_have_no_sessions():
    empty = toy([("a", "x", 1)]).take([]).with_sessions()
    assert sessions_of(empty) == []
    assert len(empty.sessions_as_users()) == 0


def test_sessions_become_the_users(caplog):
    people = pa.table({"user_id": ["a", "b"], "age": [30, 40]})
    things = pa.table({"item_id": ["x", "y"], "price": [1.0, 2.0]})
    data = tm.Interactions.from_arrays(
        ["a", "b", "a", "a"], ["x", "x", "y", "y"], [0, 5, 10, 9000], users=people, items=things
    )
    with caplog.at_level(logging.INFO):
        visits = data.with_sessions("30m").sessions_as_users()
    assert visits.events["user_id"].to_pylist() == ["1", "2", "1", "3"]
    assert visits.events.column_names == data.events.column_names
    assert visits.users is None
    assert visits.items.equals(things)
    assert "interactions: 3 sessions of 2 users, 2 of them with one event." in caplog.text


def test_given_sessions_become_the_users_in_any_type():
    assert given_sessions([" s", "s", "t"]).sessions_as_users().user_ids.tolist() == ["s", "t"]
    numbers = given_sessions([7, 7, 8]).sessions_as_users()
    assert numbers.events["user_id"].to_pylist() == ["7", "7", "8"]


def test_declared_feedback_stays():
    data = toy([("a", "x", 1), ("a", "y", 2)], event_type=["view", "buy"])
    feedback = tm.Feedback(event_weights={"view": 1, "buy": 5}, target=["buy"])
    visits = data.with_feedback(feedback).with_sessions().sessions_as_users()
    assert visits.weights.tolist() == [1, 5]
    assert visits.is_target.tolist() == [False, True]


def test_sessions_as_users_need_one_id_per_event():
    with pytest.raises(ValueError, match=r"toy has no column `session_id`.*`with_sessions`"):
        toy([("a", "x", 1)]).sessions_as_users()
    with pytest.raises(ValueError, match=r"toy row 2, column `session_id`.* in 2 rows in all"):
        given_sessions(["s", None, ""]).sessions_as_users()
    with pytest.raises(ValueError, match=r"toy row 3, .*has a line break, as in 1 rows"):
        given_sessions(["s", "s", "a\nb"]).sessions_as_users()


def test_a_session_of_several_users_is_refused():
    data = given_sessions(["1", "2", "1"])  # the first session of a, and the first of b
    with pytest.raises(
        ValueError, match=r"row 3, .*session '1' has events of several users, as 1 "
    ):
        data.sessions_as_users()


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=1, max_size=20),
    st.integers(1, 8),
)
def test_numbers_of_sessions_agree_with_a_slow_reference(rows, gap):
    users, times = map(np.array, zip(*rows, strict=True))
    sessions = []
    for user in range(3):
        last = None
        for row in sorted(np.flatnonzero(users == user), key=lambda row: times[row]):
            if last is None or times[row] - last > gap:
                sessions.append([])
            sessions[-1].append(row)
            last = times[row]
    sessions.sort(key=lambda rows: (times[rows[0]], rows[0]))
    expected = np.empty(len(rows), np.int64)
    for number, found in enumerate(sessions):
        expected[found] = number
    np.testing.assert_array_equal(session_numbers(users, times, gap), expected)
