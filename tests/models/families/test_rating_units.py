"""Ratings in any unit are learned equally well, and predicted in that unit."""

import functools
import logging

import numpy as np
import pytest
import tensorflow as tf

import tfrec_meta as tm

RECIPE = tm.TrainingConfig(epochs=4, batch_size=64, user_balance=0.0)
STRATEGIES = {
    "ranker": tm.Strategy(
        "ranker", tm.RankerConfig(target="rating", user_id=True, embedding_dim=4), RECIPE
    ),
    "multi_task": tm.Strategy(
        "multi_task", tm.MultiTaskConfig(tasks=("retrieval", "rating"), embedding_dim=8), RECIPE
    ),
    "rating task alone": tm.Strategy(
        "multi_task", tm.MultiTaskConfig(tasks=("rating",), embedding_dim=8), RECIPE
    ),
    "meta_ranker": tm.Strategy(
        "meta_ranker", tm.MetaRankerConfig(embedding_dim=4, hidden=(8,), steps=60)
    ),
}
UNITS = [(3.6e6, 0.0), (2e-3, 0.5)]  # hours in milliseconds; parts of a thousand above a half


def ratings(factor=1.0, shift=0.0, count=1500):
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 50, count), rng.integers(0, 20, count)
    quality, taste = rng.normal(0, 1, 20), rng.normal(0, 0.5, 50)
    value = 3 + quality[item] + taste[user] + rng.normal(0, 0.3, count)
    return tm.Interactions.from_arrays(
        user.astype(str), item.astype(str), np.arange(count), value * factor + shift
    )


@functools.cache
def trained(name, factor=1.0, shift=0.0):
    split = tm.split_by_user(ratings(factor, shift), train=0.8)
    return tm.train(split.train, STRATEGIES[name], progress=False), split


def relative_errors(name, factor, shift):
    model, split = trained(name, factor, shift)
    found = tm.evaluate_predictions(model, split, resamples=0)["rating"]
    spread = float(np.std(split.test.events["value"].to_numpy()))
    return found["rmse"].value / spread, found["mae"].value / spread


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_the_error_relative_to_the_spread_is_the_same_in_any_unit(name):
    expected = relative_errors(name, 1.0, 0.0)
    assert expected[0] < 0.9  # better than the mean rating
    for factor, shift in UNITS:
        assert relative_errors(name, factor, shift) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("value", [0.0, 4.0, 1e6])
def test_equal_ratings_are_predicted_for_everyone(value):
    rng = np.random.default_rng(0)
    data = tm.Interactions.from_arrays(
        rng.integers(0, 9, 200).astype(str), rng.integers(0, 9, 200).astype(str),
        np.arange(200), np.full(200, value),
    )  # fmt: skip
    model = tm.train(data, STRATEGIES["ranker"], progress=False)
    found = model.predict_events(model.spec.encode_queries(["1"]), np.array([2], np.int32))
    np.testing.assert_allclose(found["rating"], [value], rtol=0.05, atol=0.05)


@pytest.mark.slow
def test_scores_predictions_and_the_served_graph_are_in_the_unit_of_the_data(tmp_path):
    model, split = trained("ranker", 3.6e6, 0.0)
    items = np.arange(1, 21, dtype=np.int32)[None]
    query = model.spec.encode_queries(["7"])
    scores = model.score(query, items)[0]
    values = split.train.events["value"].to_numpy()
    assert values.min() < scores.min() < scores.max() < values.max()
    tm.save(model, tmp_path / "saved")
    np.testing.assert_allclose(tm.load(tmp_path / "saved").score(query, items)[0], scores)
    version = tm.export(model, tmp_path / "models")
    graph = tf.saved_model.load(str(version)).signatures["rank"]
    names = model.spec.items.tokens.to_pylist()
    asked = [names + [""] * (100 - len(names))]
    served = graph(
        user_id=tf.constant(["7"]), item_id=tf.constant(asked), history=tf.constant([[""] * 1000])
    )
    found = next(iter(served.values())).numpy()[0][: len(names)]
    np.testing.assert_allclose(found, model.score(model.spec.encode_queries(["7"]))[0], rtol=1e-4)


@pytest.mark.slow
def test_the_item_vectors_of_a_rating_task_give_ratings():
    model, _ = trained("rating task alone", 3.6e6, 0.0)
    query = {n: tf.constant(v) for n, v in model.spec.encode_queries(["7", "8"]).items()}
    vectors = model.embed_item({"item_id": tf.range(1, 21)})
    scores = tf.matmul(model.embed_query(query), vectors, transpose_b=True)
    np.testing.assert_allclose(scores, model.logits(query), rtol=1e-4)
    predicted = model.predictions(query, tf.tile(tf.range(1, 21)[None], [2, 1]))["rating"]
    np.testing.assert_allclose(predicted, scores, rtol=1e-4)


@pytest.mark.slow
def test_a_rated_support_set_is_read_in_the_unit_of_the_data():
    (model, _), (other, _) = trained("meta_ranker"), trained("meta_ranker", 3.6e6, 0.0)
    assert other.default_label == pytest.approx(3.6e6 * model.default_label)
    (found,) = tm.adapt(model, [{"1": 5.0, "2": 1.0}], k=20)
    (scaled,) = tm.adapt(other, [{"1": 1.8e7, "2": 3.6e6}], k=20)
    expected = {one.item_id: 3.6e6 * one.score for one in found.items}
    assert {one.item_id: one.score for one in scaled.items} == pytest.approx(expected, rel=0.02)


def test_a_warm_start_keeps_the_scale_that_its_weights_were_learned_in():
    earlier, _ = trained("ranker")
    new = ratings(0.6, 1.0, count=300)  # the spread and the mean moved
    model = type(earlier)(earlier.config, earlier.spec)
    model.prepare(new)
    model.warm_start(earlier)
    model.refresh()
    query = earlier.spec.encode_queries(["7"])
    np.testing.assert_allclose(model.score(query), earlier.score(query), rtol=1e-5)


def test_a_warm_start_in_another_unit_predicts_in_the_new_one(caplog):
    earlier, _ = trained("ranker")
    model = type(earlier)(earlier.config, earlier.spec)
    model.prepare(ratings(3600.0))
    with caplog.at_level(logging.WARNING, "tfrec_meta"):
        model.warm_start(earlier)
    model.refresh()
    assert "another unit" in caplog.text
    query = earlier.spec.encode_queries(["7"])
    np.testing.assert_allclose(model.score(query), 3600 * earlier.score(query), rtol=0.05)
