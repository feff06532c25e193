"""Repeated pairs and newcomers, counted by hand."""

import numpy as np

from tfrec_meta.data.survey.facts import newcomers, repeats

USERS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3, 0])
ITEMS = np.array([0, 0, 1, 0, 0, 1, 2, 0, 2, 3])
TYPES = np.array([0, 0, 1, 0, 1, 0, 0, 0, 0, 0])


def test_pairs_with_two_events_are_repeated():
    found = repeats(USERS, ITEMS)
    assert (found.pairs, found.repeated, found.share) == (8, 2, 0.25)


def test_events_of_different_types_repeat_nothing():
    found = repeats(USERS, ITEMS, TYPES)
    assert (found.pairs, found.repeated) == (8, 1)


def test_no_events_have_no_repeated_pairs():
    none = np.array([], np.int64)
    assert repeats(none, none).share == 0
    assert newcomers(none, none, none) is None


def test_newcomers_have_no_earlier_event():
    found = newcomers(USERS, ITEMS, np.arange(10))
    assert found.since == 8
    assert (found.users, found.new_users) == (2, 1)  # user 3 is new, user 0 is not
    assert (found.items, found.new_items) == (2, 1)  # item 3 is new, item 2 is not
    assert (found.user_share, found.item_share) == (0.5, 0.5)


def test_the_order_of_the_rows_does_not_matter():
    order = np.array([9, 3, 1, 0, 5, 2, 8, 7, 4, 6])
    found = newcomers(USERS[order], ITEMS[order], np.arange(10)[order])
    assert found == newcomers(USERS, ITEMS, np.arange(10))


def test_without_different_times_nobody_is_new():
    assert newcomers(USERS, ITEMS, np.zeros(10, np.int64)) is None
