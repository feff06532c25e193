"""Events predicted by a meta-learned ranker, of two tastes: war 5 and love 1, or not."""

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


ASKED = events([("a", "love3", 0), ("b", "war2", 0), ("a", "war3", 0), ("b", "love2", 0)])
KNOWN = events([("a", "war0", 5), ("b", "love1", 5), ("a", "love0", 1), ("b", "war1", 1)])


def test_two_ratings_tell_a_taste_in_the_order_of_what_is_asked(ranker):
    love, war_of_b, war, love_of_b = predict_events(ranker, KNOWN, ASKED)
    assert war > love + 2
    assert love_of_b > war_of_b + 2


def test_without_ratings_the_answer_is_zero_shot(ranker):
    found = predict_events(ranker, KNOWN.take(np.zeros(4, bool)), ASKED)
    scores, _ = ranker.adapt(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32))
    rows = ranker.spec.items.encode(np.array(["love3", "war2", "war3", "love2"], object)) - 1
    np.testing.assert_allclose(found, scores.numpy()[0, rows], rtol=1e-5)


def test_users_are_adapted_part_by_part(ranker, monkeypatch):
    whole = predict_events(ranker, KNOWN, ASKED)
    monkeypatch.setattr(rankers, "_USERS_AT_ONCE", 1)
    np.testing.assert_allclose(predict_events(ranker, KNOWN, ASKED), whole, rtol=1e-4)


def test_items_that_nobody_knows_and_others_ratings_count_for_nothing(ranker):
    more = events(
        [
            *[("a", "war0", 5), ("b", "love1", 5), ("a", "love0", 1), ("b", "war1", 1)],
            *[("a", "of another shop", 1), ("someone else", "war0", 1)],
        ]
    )
    np.testing.assert_allclose(
        predict_events(ranker, more, ASKED), predict_events(ranker, KNOWN, ASKED), rtol=1e-4
    )


def test_what_is_asked_is_not_looked_at(ranker):
    other = events([("a", "love3", 5), ("b", "war2", 1), ("a", "war3", 2), ("b", "love2", 3)])
    np.testing.assert_array_equal(
        predict_events(ranker, KNOWN, other), predict_events(ranker, KNOWN, ASKED)
    )
