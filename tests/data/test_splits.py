from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec_meta.data import (
    Feedback,
    Interactions,
    Split,
    SplitProtocol,
    ValidationProtocol,
    movielens,
    split_by_item,
    split_by_time,
    split_by_user,
    split_cold_items,
    split_cold_users,
    split_domain,
    split_leave_last_out,
    synthetic,
)
from tfrec_meta.errors import ParameterError

events = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 12)), min_size=1, max_size=60
)


def build(rows):
    users, items, times = (list(column) for column in zip(*rows, strict=True))
    return Interactions.from_arrays(users, items, times)


def parts(split):
    return [split.train_index, split.validation_index, split.test_index]


def assert_a_partition(split):
    assert np.array_equal(np.sort(np.concatenate(parts(split))), np.arange(len(split.data)))
    for part in parts(split):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()


def reference_stratified(groups, train, validation, seed):
    """The benchmark's recipe, one row at a time."""
    draws = np.random.RandomState(seed).rand(len(groups))
    of_group = defaultdict(list)
    for row, group in enumerate(groups):
        of_group[group].append((draws[row], row))
    found = ([], [], [])
    for rows in of_group.values():
        first = round(train * len(rows))
        second = round((train + validation) * len(rows))
        for place, (_, row) in enumerate(sorted(rows)):
            found[(place >= first) + (place >= second)].append(row)
    return [sorted(part) for part in found]


@pytest.fixture(scope="module")
def ml100k():
    return movielens("100k")


def test_movielens_100k_by_item_gives_the_rows_of_the_public_benchmark(ml100k):
    split = split_by_item(ml100k, train=0.75, seed=42)
    assert len(split.train_index) == 75_066
    assert len(split.test_index) == 24_934
    assert len(split.validation_index) == 0
    # As the benchmark does it, with numeric ids and the global generator.
    import pandas as pd

    frame = pd.DataFrame({"item": ml100k.events["item_id"].to_numpy().astype(int)})
    state = np.random.get_state()
    try:
        np.random.seed(42)
        frame["draw"] = np.random.rand(len(frame))
    finally:
        np.random.set_state(state)
    frame = frame.sort_values(["item", "draw"])
    size = frame.groupby("item")["draw"].transform("size")
    place = frame.groupby("item").cumcount()
    train = np.sort(frame.index[place < np.round(0.75 * size)].to_numpy())
    assert np.array_equal(split.train_index, train)


@pytest.mark.parametrize("seed", [0, 42])
@given(rows=events, validation=st.sampled_from([0.0, 0.1, 0.25]))
def test_stratified_splits_agree_with_a_slow_reference(seed, rows, validation):
    data = build(rows)
    for split_by, column in ((split_by_user, 0), (split_by_item, 1)):
        split = split_by(data, train=0.6, validation=validation, seed=seed)
        assert_a_partition(split)
        expected = reference_stratified([row[column] for row in rows], 0.6, validation, seed)
        assert [part.tolist() for part in parts(split)] == expected


def test_names_of_items_do_not_matter_to_the_split_by_item():
    rng = np.random.default_rng(3)
    items = rng.integers(0, 20, 500)
    users = rng.integers(0, 30, 500)
    renamed = np.array([f"item {hash((int(item), 'x')) % 10_007}" for item in range(20)])[items]
    one = split_by_item(Interactions.from_arrays(users, items))
    other = split_by_item(Interactions.from_arrays(users, renamed))
    assert np.array_equal(one.train_index, other.train_index)


def test_half_rounds_to_even():
    # 2 events: 1.5 -> 2; 6 events: 4.5 -> 4; 10 events: 7.5 -> 8.
    items = ["a"] * 2 + ["b"] * 6 + ["c"] * 10
    split = split_by_item(Interactions.from_arrays(items, items))
    assert np.unique(split.train.events["item_id"].to_numpy(), return_counts=True)[1].tolist() == [
        2,
        4,
        8,
    ]


def test_seeds_reproduce_and_differ_and_leave_the_global_generator_alone():
    rows = [(number % 29, number % 31, number) for number in range(900)]
    data = build(rows)
    for split_by in (split_by_user, split_by_item, split_cold_users, split_cold_items):
        state = np.random.get_state()[1].copy()
        one, again, other = (split_by(data, seed=seed) for seed in (1, 1, 2))
        assert np.array_equal(np.random.get_state()[1], state)
        assert np.array_equal(one.test_index, again.test_index)
        assert not np.array_equal(one.test_index, other.test_index)
        assert one.seed == 1


@given(events, st.booleans())
def test_leave_last_out_judges_by_the_latest_event(rows, validation):
    data = build(rows)
    split = split_leave_last_out(data, validation=validation)
    assert_a_partition(split)
    of_user = defaultdict(list)
    for row, (user, _, when) in enumerate(rows):
        of_user[user].append((when, row))
    test, chosen = [], []
    for ordered in map(sorted, of_user.values()):
        if len(ordered) >= (3 if validation else 2):
            test.append(ordered[-1][1])
            if validation:
                chosen.append(ordered[-2][1])
    assert split.test_index.tolist() == sorted(test)
    assert split.validation_index.tolist() == sorted(chosen)
    for row in split.test_index:
        user, _, when = rows[row]
        rest = [other for other in of_user[user] if other[1] != row]
        assert all(other < (when, row) for other in rest)
        assert any(other[1] in set(split.train_index.tolist()) for other in rest)


def test_leave_last_out_breaks_ties_by_row():
    split = split_leave_last_out(build([(0, 0, 5), (0, 1, 5), (0, 2, 5)]))
    assert [part.tolist() for part in parts(split)] == [[0], [1], [2]]


@given(events, st.sampled_from([(0.8, 0.1), (0.5, 0.0), (0.4, 0.3)]))
def test_time_split_never_learns_from_what_comes_later(rows, shares):
    data = build(rows)
    try:
        split = split_by_time(data, *shares)
    except ValueError:
        with pytest.raises(ValueError, match="distinct times"):
            split_by_time(data, *shares)
        return
    assert_a_partition(split)
    times = [part.events["time"].to_numpy() for part in (split.train, split.validation, split.test)]
    assert times[0].max() < times[2].min()
    if shares[1]:
        assert times[0].max() < times[1].min()
        assert times[1].max() < times[2].min()
    else:
        assert not len(times[1])


def test_time_split_cuts_at_the_shares():
    data = build([(0, 0, time) for time in range(100)][::-1])
    split = split_by_time(data, 0.8, 0.1)
    assert [len(part) for part in parts(split)] == [80, 10, 10]
    assert split.test.events["time"].to_pylist() == list(range(99, 89, -1))


@given(events, st.sampled_from([0.0, 0.2]), st.integers(0, 3))
def test_cold_users_and_items_are_unknown_to_train(rows, validation, seed):
    data = build(rows)
    for split_cold, column in ((split_cold_users, "user_id"), (split_cold_items, "item_id")):
        try:
            split = split_cold(data, 0.4, validation, seed)
        except ValueError:
            with pytest.raises(ValueError, match="leave a part empty"):
                split_cold(data, 0.4, validation, seed)
            continue
        assert_a_partition(split)
        tokens = [
            set(part.events[column].to_pylist())
            for part in (split.train, split.validation, split.test)
        ]
        total = len(set(data.events[column].to_pylist()))
        assert sum(map(len, tokens)) == total  # so no token is in two parts
        assert len(tokens[2]) == round(0.4 * total)


def test_cold_users_do_not_depend_on_the_order_of_rows():
    rows = [(number % 13, number % 5, number) for number in range(100)]
    one, other = (split_cold_users(build(order), seed=5) for order in (rows, rows[::-1]))
    assert set(one.test.user_ids) == set(other.test.user_ids)


@pytest.mark.parametrize("split", [split_leave_last_out, split_by_time])
def test_protocols_in_time_need_times(split):
    data = Interactions.from_arrays(["a", "b"], ["x", "y"])
    with pytest.raises(ValueError, match="needs times"):
        split(data)
    partly = Interactions.from_arrays(["a", "b"], ["x", "y"], [1, None])
    with pytest.raises(ValueError, match="1 of 2 events have no time"):
        split(partly)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ((0.0, 0.0), "`train`=0.0"),
        ((1.0, 0.0), "`train`=1.0"),
        ((-0.5, 0.0), "`train`=-0.5"),
        ((float("nan"), 0.0), "`train`=nan"),
        ((0.5, -0.1), "`validation`=-0.1"),
        ((0.8, 0.2), "leave nothing"),
    ],
)
@pytest.mark.parametrize("split", [split_by_item, split_by_user, split_by_time])
def test_shares_are_checked(split, shares, message):
    with pytest.raises(ValueError, match=message):
        split(build([(0, 0, 0), (1, 1, 1)]), *shares)


def test_an_empty_part_or_empty_data_is_an_error():
    one_time = build([(0, 0, 5), (1, 1, 5)])
    with pytest.raises(ValueError, match=r"leave no train events.*1 distinct times"):
        split_by_time(one_time)
    with pytest.raises(ValueError, match="leave a part empty"):
        split_cold_users(build([(0, 0, 5)]))
    empty = one_time.take([])
    for split in (split_by_item, split_by_time, split_cold_users, split_leave_last_out):
        with pytest.raises(ValueError, match="no events"):
            split(empty)


def test_rows_of_a_given_split_are_checked():
    data = build([(0, 0, 0), (1, 1, 1), (2, 2, 2)])
    with pytest.raises(ValueError, match="`test_index` repeats a row"):
        Split(data, np.array([0, 1]), np.array([]), np.array([1]), "given")
    with pytest.raises(ValueError, match="`train_index` repeats a row"):
        Split(data, np.array([0, 0]), np.array([]), np.array([1]), "given")
    with pytest.raises(ValueError, match="`train_index` has rows outside"):
        Split(data, np.array([3]), np.array([]), np.array([1]), "given")
    split = Split(data, np.array([1, 0]), np.array([], int), np.array([2]), "given")
    assert split.train_index.tolist() == [0, 1]
    assert len(split.validation) == 0
    assert "2 train, 0 validation, 1 test" in repr(split)


def two_shops():
    """Ten users with an event of each of four items; a and b are of the shop "north"."""
    pairs = [(f"u{user}", item) for user in range(10) for item in "abcd"]
    shops = pa.array([["north"], ["south", "north"], ["south"], None])
    items = pa.table({"item_id": list("abcd"), "shop": shops, "town": ["x", "x", "y", None]})
    users, ids = zip(*pairs, strict=True)
    return Interactions.from_arrays(users, ids, items=items)


@pytest.mark.parametrize(("attribute", "value"), [("shop", "north"), ("town", "x")])
def test_train_of_a_domain_has_neither_its_items_nor_the_test_users(attribute, value):
    split = split_domain(two_shops(), attribute, value, test=0.3, validation=0.2, seed=4)
    assert set(split.train.item_ids) == {"c", "d"}
    assert set(split.test.item_ids) == set(split.validation.item_ids) == {"a", "b"}
    users = [set(part.user_ids) for part in (split.train, split.validation, split.test)]
    assert [len(part) for part in users] == [5, 2, 3]
    assert len(set.union(*users)) == 10
    assert [len(part) for part in parts(split)] == [10, 4, 6]


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [("street", "x", "no column `street`"), ("town", "z", "0 of 40 events")],
)
def test_refuses_an_unknown_domain(attribute, value, message):
    with pytest.raises(ValueError, match=message):
        split_domain(two_shops(), attribute, value)


def test_refuses_a_domain_without_events_of_test_users():
    items = pa.table({"item_id": ["a", "b"], "shop": ["north", "south"]})
    data = Interactions.from_arrays(["u", "v", "w"], ["a", "b", "b"], items=items)
    drawn = {seed: split_cold_users(data, 0.34, seed=seed) for seed in range(9)}
    tested = [(seed, list(split.test.user_ids)) for seed, split in drawn.items()]
    seen = next(seed for seed, users in tested if users == ["u"])
    unseen = next(seed for seed, users in tested if users != ["u"])
    assert list(split_domain(data, "shop", "north", test=0.34, seed=seen).test.user_ids) == ["u"]
    with pytest.raises(ValueError, match="leave a part of the domain 'north' empty"):
        split_domain(data, "shop", "north", test=0.34, seed=unseen)


def test_protocol_is_an_enum_and_its_description_names_the_shares():
    data = synthetic(20, 10, 100)
    split = split_by_item(data, train=0.5, validation=0.25)
    assert split.protocol is SplitProtocol.ITEM
    assert split.protocol == "item"
    assert split.description == "random by item, 0.5 train, 0.25 validation"
    assert split_leave_last_out(data, validation=False).description == "leave last out"


def test_unknown_protocol_raises():
    with pytest.raises(ValueError, match="by hand"):
        Split(synthetic(20, 10, 100), np.arange(2), np.arange(0), np.arange(2, 4), "by hand")


def test_random_splits_share_one_validation_protocol():
    assert {one.validation for one in SplitProtocol if one.is_random} == {ValidationProtocol.RANDOM}
    others = [one for one in SplitProtocol if not one.is_random]
    assert [one.validation for one in others] == [one.value for one in others]


# A target of the declared feedback: purchases, "p"; the rest are views, "v".


def shop(kinds, users=None, times=None):
    size = len(kinds)
    data = Interactions.from_arrays(
        users or ["a"] * size,
        [f"i{number % 5}" for number in range(size)],
        times or list(range(size)),
        further={"event_type": list(kinds)},
    )
    return data.with_feedback(Feedback(target=["p"]))


def rows(split):
    return [part.tolist() for part in (*parts(split), split.past_only_index)]


def test_leave_last_out_holds_out_the_last_target_events():
    split = split_leave_last_out(shop("pvpvpvpv"))
    # Row 3 lies between the validation and the test event, and row 5 behind the test event.
    assert rows(split) == [[0, 1, 2, 3], [4], [6], [5]]
    assert split.past.events.num_rows == 6
    assert rows(split_leave_last_out(shop("pvpvpvpv"), validation=False)) == [
        [0, 1, 2, 3, 4, 5],
        [],
        [6],
        [],
    ]


def test_users_with_too_few_target_events_are_train():
    split = split_leave_last_out(shop("vpvpvvpvpvp", list("aaaaabbbbbb")))
    assert rows(split) == [[0, 1, 2, 3, 4, 5, 6, 7], [8], [10], [9]]


@given(
    kinds=st.lists(st.sampled_from("vp"), min_size=1, max_size=40).filter(lambda k: "p" in k),
    seed=st.integers(0, 3),
)
def test_no_later_event_is_known_before_a_held_out_one(kinds, seed):
    rng = np.random.default_rng(seed)
    users = [str(user) for user in rng.integers(0, 3, len(kinds))]
    data = shop(kinds, users, rng.permutation(len(kinds)).tolist())
    split = split_leave_last_out(data)
    times = data.times
    for user in set(users):
        own = np.array(users) == user

        def of(index, own=own):
            return times[index[own[index]]]

        for held_out, known in (
            (split.validation_index, split.train_index),
            (split.test_index, np.concatenate([split.train_index, split.past_only_index])),
        ):
            if len(of(held_out)):
                assert len(of(held_out)) == 1
                assert (of(known) < of(held_out)[0]).all()
    for index in (split.validation_index, split.test_index):
        assert data.is_target[index].all()


def test_splits_by_time_count_target_events():
    split = split_by_time(shop("vpvpvpvpvpv"), train=0.6, validation=0.2)
    assert rows(split) == [[0, 1, 2, 3, 4, 5, 6], [7], [9], [8]]


@pytest.mark.parametrize("split_by", [split_by_user, split_by_item])
def test_random_splits_hold_out_target_events_only(split_by):
    kinds = ["v", "p", "p"] * 40
    users = [f"u{number % 7}" for number in range(120)]
    split = split_by(shop(kinds, users), train=0.5, validation=0.25)
    is_target = split.data.is_target
    assert is_target[split.test_index].all()
    assert is_target[split.validation_index].all()
    assert (~is_target[split.train_index]).sum() == 40
    assert abs(len(split.test_index) - 20) <= 7


@pytest.mark.parametrize("split_by", [split_cold_users, split_cold_items])
def test_cold_splits_hold_out_target_events_only(split_by):
    kinds = ["v", "p", "p"] * 40
    split = split_by(shop(kinds, [f"u{number % 7}" for number in range(120)]), 0.3, 0.3)
    is_target = split.data.is_target
    assert is_target[split.test_index].all()
    assert is_target[split.validation_index].all()
    column = "user_id" if split_by is split_cold_users else "item_id"
    train, test = (set(part.events[column].to_pylist()) for part in (split.train, split.test))
    assert not train & test
    assert len(split.past_only_index) == 0


def test_a_target_without_events_left_is_an_error():
    data = shop("vvpvv")
    with pytest.raises(ParameterError, match=r"`target`=\['p'\], but interactions has no such"):
        split_by_user(data.take([0, 1, 3]))


def test_equal_feedback_gives_the_same_splits():
    plain = build([(number % 7, number % 5, number) for number in range(60)])
    declared = plain.with_feedback(Feedback())
    for split_by in (split_by_user, split_by_item, split_by_time, split_leave_last_out):
        assert [p.tolist() for p in parts(split_by(plain))] == [
            p.tolist() for p in parts(split_by(declared))
        ]
