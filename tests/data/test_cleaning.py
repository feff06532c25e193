import logging
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec_meta.data import Interactions


def toy(rows):
    users, items, times, values = zip(*rows, strict=True)
    return Interactions.from_arrays(
        list(users), list(items), list(times), list(values), name="toy", time_unit="s"
    )


def test_repeated_ratings_at_different_times_stay():
    data = toy([("a", "x", 1, 3), ("a", "x", 2, 3), ("a", "x", 2, 4)])
    assert len(data.clean()) == 3
    assert data.clean().dropped == {}


def test_exact_duplicates_keep_the_first_row():
    data = toy([("a", "x", 1, 3), ("b", "x", 1, 3), ("a", "x", 1, 3), ("a", "x", 1, 3)])
    clean = data.clean()
    assert clean.events["user_id"].to_pylist() == ["a", "b"]
    assert clean.dropped == {"duplicate": 2}


def test_last_keeps_the_latest_event_of_each_pair():
    data = toy([("a", "x", 5, 1), ("a", "x", 9, 2), ("a", "x", 7, 3), ("b", "x", 1, 4)])
    clean = data.clean(duplicates="last")
    assert clean.events["value"].to_pylist() == [2.0, 4.0]
    assert clean.dropped == {"duplicate": 2}


def test_last_breaks_ties_by_row():
    data = toy([("a", "x", 5, 1), ("a", "x", 5, 2)])
    assert data.clean(duplicates="last").events["value"].to_pylist() == [2.0]


def test_duplicates_without_times_are_the_same_user_item_and_value():
    data = Interactions.from_arrays(["a", "a", "a"], ["x", "x", "x"], value=[1, 1, 2])
    assert data.clean().dropped == {"duplicate": 1}
    assert data.clean(duplicates="keep").dropped == {}


def test_impossible_and_missing_times_are_counted():
    far = int(time.time()) + 10 * 86_400
    data = Interactions.from_arrays(list("abcd"), list("wxyz"), [-1, far, None, 100])
    clean = data.clean()
    assert clean.events["user_id"].to_pylist() == ["d"]
    assert clean.dropped == {"missing time": 1, "impossible time": 2}
    assert data.clean(time_range=(-1, 100)).dropped == {"missing time": 1, "impossible time": 1}


def test_values_out_of_range_are_counted_and_bounds_allowed():
    data = toy([("a", "x", 1, 0.5), ("a", "y", 1, 0.4), ("a", "z", 1, 5), ("b", "z", 1, 5.1)])
    clean = data.clean(value_range=(0.5, 5))
    assert clean.events["item_id"].to_pylist() == ["x", "z"]
    assert clean.dropped == {"value out of range": 2}


def test_each_row_counts_under_its_first_reason_and_counts_add_up():
    data = toy([("a", "x", -5, 9), ("a", "x", -5, 9), ("a", "x", 5, 9), ("a", "x", 5, 1)])
    clean = data.clean(value_range=(0, 5))
    assert clean.dropped == {"impossible time": 2, "value out of range": 1}
    assert len(clean) == 1


def test_reading_and_cleaning_share_one_count():
    data = Interactions.from_arrays(
        ["a", None, "b", "b"], ["x", "x", "y", "y"], [1, 1, 1, 1], bad_rows="drop", max_bad_share=1
    )
    assert data.clean().dropped == {"missing user_id": 1, "duplicate": 1}
    assert data.clean().clean().dropped == {"missing user_id": 1, "duplicate": 1}


def pairs(text):
    """Events of a user (a letter) with an item (a digit), such as "a1 b2"."""
    return toy([(user, item, 1, 1) for user, item in text.split()])


def events_of(data):
    rows = data.events.select(["user_id", "item_id"]).to_pylist()
    return " ".join(row["user_id"] + row["item_id"] for row in rows)


def test_minimum_counts_are_applied_until_all_have_enough():
    # Users first: d has one event. Then items: 3 is left with c3 only. Then c has one event (c2),
    # which leaves 2 with a2 and b2. All of a, b, 1 and 2 have two events.
    data = pairs("a1 a2 b1 b2 c2 c3 d3")
    clean = data.clean(min_user_events=2, min_item_events=2)
    assert events_of(clean) == "a1 a2 b1 b2"
    assert clean.dropped == {"user with too few events": 2, "item with too few events": 1}
    assert events_of(clean.clean(min_user_events=2, min_item_events=2)) == "a1 a2 b1 b2"


def test_each_minimum_count_works_alone():
    data = pairs("a1 a2 b1 b2 c2 c3 d3")
    assert events_of(data.clean(min_user_events=2)) == "a1 a2 b1 b2 c2 c3"
    assert events_of(data.clean(min_item_events=3)) == "a2 b2 c2"
    assert data.clean(min_item_events=3).dropped == {"item with too few events": 4}
    assert events_of(data.clean(min_user_events=1, min_item_events=1)) == events_of(data)


def test_minimum_counts_come_after_the_other_rules():
    data = toy([("a", "x", 1, 1), ("a", "x", 1, 1), ("b", "x", 1, 1), ("b", "x", 2, 1)])
    clean = data.clean(min_user_events=2)
    assert clean.events["time"].to_pylist() == [1, 2]
    assert clean.dropped == {"duplicate": 1, "user with too few events": 1}


def test_minimum_counts_that_leave_nothing_are_an_error():
    with pytest.raises(ValueError, match=r"no event is left.*2 user with too few.*minimum"):
        pairs("a1 b1").clean(min_user_events=2)


def test_drops_are_logged(caplog):
    with caplog.at_level(logging.WARNING):
        toy([("a", "x", 1, 3), ("a", "x", 1, 3)]).clean()
    assert "toy: dropped 1 duplicate of 2 rows" in caplog.text


def test_nothing_left_is_an_error_that_says_why():
    data = toy([("a", "x", 1_600_000_000_000, 3)])
    with pytest.raises(ValueError, match=r"toy: no event is left.*1 impossible time.*'ms'"):
        data.clean()
    with pytest.raises(ValueError, match="it is empty"):
        data.take([]).clean()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"duplicates": "first"}, "`duplicates`='first'"),
        ({"value_range": (5, 1)}, "`value_range`"),
        ({"time_range": (5, 1)}, "`time_range`"),
        ({"min_user_events": 0}, "`min_user_events`=0; use a whole number, 1 or more"),
        ({"min_item_events": 1.5}, "`min_item_events`=1.5; use a whole number"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        toy([("a", "x", 1, 3)]).clean(**arguments)


rows = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from("xy"),
        st.integers(0, 2),
        st.sampled_from([1.0, 2.0]),
    ),
    min_size=1,
    max_size=30,
)


@given(rows)
def test_duplicates_agree_with_a_slow_reference(rows):
    data = toy(rows)
    seen, first = set(), []
    for number, row in enumerate(rows):
        if row not in seen:
            first.append(number)
        seen.add(row)
    latest = {}
    for number, (user, item, when, _) in enumerate(rows):
        if when >= latest.get((user, item), (-1, 0))[0]:
            latest[user, item] = (when, number)
    last = sorted(number for _, number in latest.values())
    assert data.clean().equals(data.take(first))
    assert data.clean(duplicates="last").equals(data.take(np.array(last)))


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz")), min_size=1, max_size=25),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_minimum_counts_agree_with_a_slow_reference(rows, of_user, of_item):
    left = list(rows)
    while True:
        users, items = Counter(user for user, _ in left), Counter(item for _, item in left)
        kept = [row for row in left if users[row[0]] >= of_user and items[row[1]] >= of_item]
        if kept == left:
            break
        left = kept
    data = toy([(*row, 1, 1) for row in rows])
    rules = {"duplicates": "keep", "min_user_events": of_user, "min_item_events": of_item}
    if left:
        assert events_of(data.clean(**rules)).split() == ["".join(row) for row in left]
    else:
        with pytest.raises(ValueError, match="no event is left"):
            data.clean(**rules)
