"""Held-out events as questions."""

import numpy as np
import pyarrow as pa

import tfrec_meta as tm
from tfrec_meta.features.held_out import event_queries, held_out, interaction_matrix


def events(users, items, device):
    data = tm.Interactions.from_arrays(users, items, time=range(len(users)))
    table = data.events.append_column("device", pa.array(device))
    return tm.Interactions(table, None, None, "toy")


def test_each_event_is_one_query_with_the_past_only():
    past = events(["u", "u", "v"], ["a", "b", "c"], ["desk", "phone", "desk"])
    later = events(["v", "u", "v", "new"], ["a", "c", "never seen", "b"], ["phone", "desk"] * 2)
    spec = tm.FeatureSpec(context=(tm.Category("device"),), history_length=3).fit(past)
    queries, items = event_queries(spec, past, later)
    assert spec.users.decode(queries["user_id"]).tolist() == ["v", "u", "v", ""]
    assert spec.items.decode(items).tolist() == ["a", "c", "", "b"]
    known = [[item for item in spec.items.decode(row) if item] for row in queries["history"]]
    assert known == [["c"], ["a", "b"], ["c"], []]
    assert queries["device"].ravel().tolist() == [2, 1, 2, 1]


def test_interaction_matrix_marks_pairs_once_and_omits_other_users():
    data = tm.Interactions.from_arrays(["u", "u", "v", "w"], ["a", "a", "b", "a"])
    spec = tm.FeatureSpec().fit(data)
    matrix = interaction_matrix(data, np.array(["v", "u"], object), spec.items)
    assert spec.items.decode(np.array([1, 2])).tolist() == ["a", "b"]
    np.testing.assert_array_equal(matrix.toarray(), [[0, 1], [1, 0]])


def test_known_users_and_repeated_items_outside_of_the_catalogue_are_counted():
    train = tm.Interactions.from_arrays(["u", "u", "w"], ["a", "b", "a"])
    past = tm.Interactions.from_arrays(["u", "u", "w", "u", "v"], ["a", "b", "a", "x", "x"])
    later = tm.Interactions.from_arrays(
        ["u", "u", "u", "u", "v", "new", "w"], ["x", "x", "y", "a", "y", "x", "b"]
    )
    found = held_out(tm.FeatureSpec().fit(train), past, later)
    order = {user: row for row, user in enumerate(found.users)}
    rows = [order[user] for user in ("u", "v", "w", "new")]
    # u had x, which only the past has; v had x, too, but later takes y; "new" had nothing.
    assert found.outside[rows].tolist() == [2, 1, 0, 1]
    assert found.outside_repeat[rows].tolist() == [1, 0, 0, 0]
    assert found.known[rows].tolist() == [True, True, True, False]
