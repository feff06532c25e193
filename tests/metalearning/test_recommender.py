"""The outer loop of `MetaLearned`, on generated data."""

import numpy as np
import pytest
import tensorflow as tf

import tfrec_meta as tm
from tfrec_meta.metalearning.recommender import learn_to_adapt, ndcg_loss
from tfrec_meta.models import MetaLearned


@pytest.fixture(scope="module")
def data():
    return tm.synthetic(users=300, items=60, interactions=6000, seed=3)


def fitted(data, **config):
    tf.random.set_seed(0)
    shape = {"embedding_dim": 8, "shots": 5, "folds": 2, "steps": 30, **config}
    model = MetaLearned(tm.MetaLearnedConfig(**shape), tm.FeatureSpec().fit(data))
    model.fit(data)
    return model


def ndcg_of(scores, hidden, query, k):
    """Computes the exact NDCG of one task."""
    order = [j for j in np.argsort(-scores) if j and j not in hidden][:k]
    hits = np.isin(order, [j for j in query if j])
    ideal = np.sum(1 / np.log2(np.arange(2, 2 + min(k, np.count_nonzero(query)))))
    return np.sum(hits / np.log2(np.arange(2, 2 + len(order)))) / ideal


def test_loss_is_close_to_1_minus_ndcg():
    rng = np.random.default_rng(0)
    scores = np.stack([rng.permutation(40) for _ in range(8)]).astype(np.float32)
    scores[:, 0] = 99.0  # the unknown item, never a candidate
    rows = np.stack([rng.permutation(np.arange(1, 40)) for _ in range(8)]).astype(np.int32)
    hidden, query = rows[:, :5], rows[:, 5:17].copy()
    query[::2, 3:] = 0
    exact = [ndcg_of(*task, k=34) for task in zip(scores, hidden, query, strict=True)]
    found = ndcg_loss(*map(tf.constant, (scores, hidden, query)), k=34)
    assert float(found) == pytest.approx(1 - np.mean(exact), abs=0.01)


def test_loss_falls_as_the_scores_of_query_items_rise():
    scores = tf.Variable([[0.0, 1.0, 0.9, 0.8, 0.7]])
    with tf.GradientTape() as tape:
        loss = ndcg_loss(scores, tf.constant([[1]]), tf.constant([[3, 0]]), k=2, temperature=0.2)
    gradient = tape.gradient(loss, scores).numpy()[0]
    assert gradient[3] < 0 < gradient[2]
    assert gradient[0] == gradient[1] == 0


def test_loss_of_an_empty_query_set_is_finite():
    zeros = tf.zeros([1, 2], tf.int32)
    assert float(ndcg_loss(tf.zeros([1, 4]), zeros, zeros)) == 1.0


def test_meta_training_lowers_the_loss_and_keeps_the_tables(data):
    model = fitted(data, steps=60, learning_rate=0.2)
    model.gains.assign(-model.gains)  # start with the opposite of the defaults
    tables = [table.numpy() for table in model.tables]
    losses = learn_to_adapt(model, data)
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.005
    for table, before in zip(model.tables, tables, strict=True):
        np.testing.assert_array_equal(table, before)


@pytest.mark.slow
def test_same_seed_learns_the_same_gains(data):
    first, second = (fitted(data) for _ in range(2))
    for model in (first, second):
        learn_to_adapt(model, data, seed=5)
    # Not exactly: threads add in any order.
    np.testing.assert_allclose(first.gains, second.gains, rtol=1e-3, atol=1e-4)
    assert float(first.log_l2) != np.float32(np.log(first.config.l2))


@pytest.mark.parametrize("change", [{"steps": 0}, {"folds": 7}])
def test_model_is_not_changed_without_steps_or_with_too_few_users(data, change):
    model = fitted(data, **change)
    before = model.gains.numpy()
    assert learn_to_adapt(model, data) == []
    np.testing.assert_array_equal(model.gains, before)


def test_train_runs_the_meta_training(data):
    strategy = tm.Strategy("meta_learned", tm.MetaLearnedConfig(8, folds=2, steps=3))
    model = tm.train(data, strategy, progress=False)
    begin = MetaLearned(model.config, model.spec)
    assert np.abs(model.gains.numpy() - begin.gains.numpy()).max() > 0
