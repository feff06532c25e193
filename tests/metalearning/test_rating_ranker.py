"""Ratings of newcomers, by two tastes: some give films of war 5 and of love 1, some not."""

import dataclasses

import tfrec_meta as tm
from tfrec_meta.metalearning import LEARNERS, LearnerConfig, RatingRanker, RatingRankerConfig

import numpy as np
import pyarrow as pa
import pytest

SMALL = RatingRankerConfig(
    embedding_dim=4, hidden=(8,), epochs=60, shots=(0, 6), query=6, learning_rate=0.02
)
ITEMS = [f"{kind}{n}" for kind in ("war", "love") for n in range(10)]


def ratings(users, items_of, taste_of):
    rows = [(u, i) for u in users for i in items_of(u)]
    value = [5.0 if taste_of(u) == i[:-1] else 1.0 for u, i in rows]
    users, items = zip(*rows, strict=True)
    return tm.Interactions.from_arrays(
        users,
        items,
        value=value,
        items=pa.table({"item_id": ITEMS, "kind": [[i[:-1]] for i in ITEMS]}),
        users=pa.table(
            {
                "user_id": [f"{sex}{n}" for sex in "mf" for n in range(40)],
                "sex": [sex for sex in "mf" for _ in range(40)],
            }
        ),
    )


def by_number(user):
    return ("war", "love")[int(user[1:]) % 2]


def by_sex(user):
    return {"m": "war", "f": "love"}[user[0]]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    users = [f"{sex}{n}" for sex in "mf" for n in range(30)]
    return ratings(users, lambda _: rng.permutation(ITEMS)[:12], by_number)


@pytest.fixture(scope="module")
def spec(data):
    return tm.FeatureSpec(user=(tm.Category("sex"),), item=(tm.Category("kind"),)).fit(data)


@pytest.fixture(scope="module")
def ranker(data, spec):
    model = RatingRanker(SMALL, spec)
    model.fit(data)
    return model


def events(pairs):
    users, items, values = zip(*pairs, strict=True)
    return tm.Interactions.from_arrays(users, items, value=values)


ASKED = events([("m30", "love3", 0), ("f31", "war2", 0), ("m30", "war3", 0), ("f31", "love2", 0)])
NOTHING = ASKED.take(np.zeros(4, bool))


def test_two_ratings_tell_a_taste(ranker):
    known = events([("m30", "war0", 5), ("f31", "love1", 5), ("m30", "love0", 1)])
    love, war_of_the_other, war, love_of_the_other = ranker.predict(known, ASKED)
    assert war > love + 1.5
    assert love_of_the_other > war_of_the_other + 0.5


def test_without_ratings_the_answer_is_what_is_usual(ranker):
    np.testing.assert_allclose(ranker.predict(NOTHING, ASKED), 3.0, atol=0.8)


def test_without_ratings_features_of_users_are_heeded(data, spec):
    rng = np.random.default_rng(6)
    users = [f"{sex}{n}" for sex in "mf" for n in range(30)]
    told = ratings(users, lambda _: rng.permutation(ITEMS)[:12], by_sex)
    model = RatingRanker(dataclasses.replace(SMALL, learner="maml"), spec)
    model.fit(told)
    love, war_of_f, war, love_of_f = model.predict(NOTHING, ASKED)
    assert war > love + 1.5
    assert love_of_f > war_of_f + 1.5


def test_items_that_nobody_knows_count_for_nothing(ranker):
    known = events([("m30", "war0", 5), ("f31", "love1", 5)])
    more = events([("m30", "war0", 5), ("f31", "love1", 5), ("m30", "of another shop", 1)])
    np.testing.assert_allclose(ranker.predict(more, ASKED), ranker.predict(known, ASKED), rtol=1e-5)


def test_what_is_asked_is_not_looked_at(ranker):
    known = events([("m30", "war0", 5)])
    other = events(
        [
            (u, i, 4)
            for u, i in zip(
                ASKED.user_ids[ASKED.user_codes], ASKED.item_ids[ASKED.item_codes], strict=True
            )
        ]
    )
    np.testing.assert_array_equal(ranker.predict(known, other), ranker.predict(known, ASKED))


@pytest.mark.parametrize("learner", sorted(LEARNERS))
def test_every_learner_adapts_and_stays_finite(data, spec, learner):
    config = dataclasses.replace(
        SMALL, learner=learner, inner=LearnerConfig(inner_steps=2, inner_rate=0.1), epochs=20
    )
    model = RatingRanker(config, spec)
    losses = model.fit(data)
    assert losses[-1] < losses[0]
    alike = events([("m30", f"war{n}", 5) for n in range(8)])
    found = model.predict(alike, ASKED)
    assert np.isfinite(found).all()
    assert found[2] > model.predict(NOTHING, ASKED)[2]


def test_a_prediction_starts_at_the_items_mean_drawn_to_that_of_all(spec):
    told = events([("m1", "war0", 5), ("f1", "war0", 4), ("m1", "love0", 1), ("f1", "love1", 2)])
    model = RatingRanker(dataclasses.replace(SMALL, epochs=1, shrinkage=2.0), spec)
    model.fit(told)
    assert model.usual == 3.0
    start = dict(zip(spec.items.decode(np.arange(1, 21)), model.item_start[1:], strict=True))
    # War0 is 2 + 1 off the mean in two ratings, and two of the mean are added: 3 / (2 + 2).
    assert start["war0"] == pytest.approx(0.75)
    assert start["love0"] == pytest.approx(-2 / 3)
    assert start["war1"] == 0.0


def test_the_same_seed_trains_the_same_ranker(data, spec):
    found = []
    for _ in range(2):
        model = RatingRanker(dataclasses.replace(SMALL, epochs=2), spec)
        model.fit(data)
        found.append(model.predict(NOTHING, ASKED))
    np.testing.assert_allclose(*found, rtol=1e-4)


def test_users_of_one_rating_have_nothing_to_ask_about(spec):
    with pytest.raises(ValueError, match="No user has two ratings"):
        RatingRanker(SMALL, spec).fit(events([("m1", "war0", 5), ("m2", "war0", 5)]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learner": "magic"}, "`learner`='magic'; use one of maml"),
        ({"embedding_dim": 0}, "`embedding_dim`=0; use 1"),
        ({"epochs": 0}, "`epochs`=0; use 1"),
        ({"shrinkage": 0.0}, "`shrinkage`=0.0; use a number above 0"),
        ({"learning_rate": np.nan}, "`learning_rate`=nan"),
        ({"weight_decay": -1.0}, "`weight_decay`=-1.0; use 0"),
        ({"item_id": False, "item_features": False}, "items are all alike"),
    ],
)
def test_settings_without_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RatingRankerConfig(**options)
