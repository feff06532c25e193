import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec_meta.data import Interactions, histories, user_histories

rows = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("wxyz"), st.integers(0, 6)),
    min_size=1,
    max_size=40,
)


def build(rows, timed=True):
    users, items, times = (list(column) for column in zip(*rows, strict=True))
    return Interactions.from_arrays(users, items, times if timed else None)


def test_ties_in_time_are_not_each_others_history():
    data = build([("a", "x", 2), ("a", "y", 1), ("b", "x", 0), ("a", "z", 2), ("a", "w", 3)])
    found = histories(data)
    assert found.window([0, 1, 2, 3, 4], 3).tolist() == [
        [1, -1, -1],
        [-1, -1, -1],
        [-1, -1, -1],
        [1, -1, -1],
        [1, 0, 3],
    ]
    assert found.lengths().tolist() == [1, 0, 0, 1, 3]


def test_a_window_keeps_the_latest_oldest_first():
    data = build([("a", "x", time) for time in range(5)])
    assert histories(data).window([4], 2).tolist() == [[2, 3]]
    assert histories(data).window([1], 2).tolist() == [[0, -1]]
    assert histories(data).window([], 2).shape == (0, 2)


@given(rows, st.booleans(), st.integers(1, 5))
def test_histories_agree_with_a_slow_reference(rows, timed, length):
    data = build(rows, timed)
    found = histories(data)
    windows = found.window(np.arange(len(rows)), length)
    for event, (user, _, when) in enumerate(rows):
        before = [
            (other_when if timed else 0, other)
            for other, (other_user, _, other_when) in enumerate(rows)
            if other_user == user and (other_when < when if timed else other < event)
        ]
        expected = [other for _, other in sorted(before)]
        assert found.order[found.start[event] : found.stop[event]].tolist() == expected
        shown = expected[-length:]
        assert windows[event].tolist() == shown + [-1] * (length - len(shown))


@given(rows, st.booleans(), st.integers(1, 5))
def test_user_histories_agree_with_a_slow_reference(rows, timed, length):
    data = build(rows, timed)
    asked = ["b", "nobody", "a", "b"]
    found = user_histories(data, asked, length)
    for row, user in enumerate(asked):
        events = [
            (when if timed else 0, number, item)
            for number, (who, item, when) in enumerate(rows)
            if who == user
        ]
        items = []
        for _, _, item in sorted(events):
            if item in items:
                items.remove(item)
            items.append(item)
        shown = items[-length:]
        assert found[row].tolist() == shown + [""] * (length - len(shown))


def test_a_repeat_is_kept_once_at_its_latest_place():
    data = build([("a", "x", 1), ("a", "y", 2), ("a", "x", 3)])
    assert user_histories(data, ["a"], 3).tolist() == [["y", "x", ""]]


def test_no_users_give_no_histories():
    data = build([("a", "x", 1)])
    assert user_histories(data, [], 2).shape == (0, 2)
    assert user_histories(data.take([]), ["a"], 2).tolist() == [["", ""]]
    assert histories(data.take([])).order.shape == (0,)


def test_bad_input_is_named():
    data = build([("a", "x", 1)])
    with pytest.raises(ValueError, match="`length`=0"):
        histories(data).window([0], 0)
    with pytest.raises(ValueError, match="`length`=0"):
        user_histories(data, ["a"], 0)
    partly = Interactions.from_arrays(["a", "a"], ["x", "y"], [1, None])
    with pytest.raises(ValueError, match="1 of 2 events have no time"):
        histories(partly)
    with pytest.raises(IndexError):
        histories(data).window([1], 2)
