"""Predictions of a meta-trained ranker for users who rate war 5 and love 1, or the reverse."""

import numpy as np
import pyarrow as pa
import pytest

import tfrec_meta as tm
from tfrec_meta.metalearning import rankers
from tfrec_meta.metalearning.rankers import predict_events

ITEMS = [f"{kind}{n}" for kind in ("war", "love") for n in range(10)]
KINDS = pa.table({"item_id": ITEMS, "kind": [[i[:-1]] for i in ITEMS]})


def events(pairs):
    users, items, values = zip(*pairs, strict=True)
    return tm.Interactions.from_arrays(users, items, value=values)


@pytest.fixture(scope="module")
def ranker():
    rng = np.random.default_rng(5)
    rows = [(f"u{n}", item) for n in range(60) for item in rng.permutation(ITEMS)[:12]]
    users, items = zip(*rows, strict=True)
    value = [5.0 if (item[0] == "w") == (int(user[1:]) % 2 == 0) else 1.0 for user, item in rows]
    data = tm.Interactions.from_arrays(users, items, value=value, items=KINDS)
    config = tm.MetaRankerConfig(
        embedding_dim=4, hidden=(8,), steps=60, shots=(0, 6), query=6, learning_rate=0.03
    )
    features = tm.FeatureSpec(item=(tm.Category("kind"),))
    strategy = tm.Strategy("meta_ranker", config, features=features)
    return tm.train(data, strategy, progress=False)


EVENTS = events([("a", "love3", 0), ("b", "war2", 0), ("a", "war3", 0), ("b", "love2", 0)])
SUPPORT = events([("a", "war0", 5), ("b", "love1", 5), ("a", "love0", 1), ("b", "war1", 1)])


def test_two_ratings_adapt_the_predictions_in_the_order_of_the_events(ranker):
    love, war_of_b, war, love_of_b = predict_events(ranker, SUPPORT, EVENTS)
    assert war > love + 2
    assert love_of_b > war_of_b + 2


def test_predictions_without_ratings_are_zero_shot(ranker):
    found = predict_events(ranker, SUPPORT.take(np.zeros(4, bool)), EVENTS)
    scores, _ = ranker.adapt(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32))
    rows = ranker.spec.items.encode(np.array(["love3", "war2", "war3", "love2"], object)) - 1
    np.testing.assert_allclose(found, scores.numpy()[0, rows], rtol=1e-5)


def test_batches_of_users_do_not_change_predictions(ranker, monkeypatch):
    whole = predict_events(ranker, SUPPORT, EVENTS)
    monkeypatch.setattr(rankers, "_USERS_PER_BATCH", 1)
    np.testing.assert_allclose(predict_events(ranker, SUPPORT, EVENTS), whole, rtol=1e-4)


def test_unknown_items_and_ratings_of_other_users_are_ignored(ranker):
    more = events(
        [
            *[("a", "war0", 5), ("b", "love1", 5), ("a", "love0", 1), ("b", "war1", 1)],
            *[("a", "unknown", 1), ("someone else", "war0", 1)],
        ]
    )
    np.testing.assert_allclose(
        predict_events(ranker, more, EVENTS), predict_events(ranker, SUPPORT, EVENTS), rtol=1e-4
    )


def test_values_of_the_predicted_events_are_not_used(ranker):
    other = events([("a", "love3", 5), ("b", "war2", 1), ("a", "war3", 2), ("b", "love2", 3)])
    np.testing.assert_array_equal(
        predict_events(ranker, SUPPORT, other), predict_events(ranker, SUPPORT, EVENTS)
    )
