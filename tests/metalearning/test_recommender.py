"""The outer loop of the recommender, on made-up tastes."""

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
    """Exactly, one task."""
    order = [j for j in np.argsort(-scores) if j and j not in hidden][:k]
    hits = np.isin(order, [j for j in query if j])
    ideal = np.sum(1 / np.log2(np.arange(2, 2 + min(k, np.count_nonzero(query)))))
    return np.sum(hits / np.log2(np.arange(2, 2 + len(order)))) / ideal


def test_the_loss_comes_close_to_ndcg():
    rng = np.random.default_rng(0)
    scores = np.stack([rng.permutation(40) for _ in range(8)]).astype(np.float32)
    scores[:, 0] = 99.0  # the unknown item, never a candidate
    rows = np.stack([rng.permutation(np.arange(1, 40)) for _ in range(8)]).astype(np.int32)
    hidden, query = rows[:, :5], rows[:, 5:17].copy()
    query[::2, 3:] = 0
    exact = [ndcg_of(*task, k=34) for task in zip(scores, hidden, query, strict=True)]
    found = ndcg_loss(*map(tf.constant, (scores, hidden, query)), k=34)
    assert float(found) == pytest.approx(1 - np.mean(exact), abs=0.01)


def test_the_loss_falls_as_what_is_asked_for_rises():
    scores = tf.Variable([[0.0, 1.0, 0.9, 0.8, 0.7]])
    with tf.GradientTape() as tape:
        loss = ndcg_loss(scores, tf.constant([[1]]), tf.constant([[3, 0]]), k=2, temperature=0.2)
    gradient = tape.gradient(loss, scores).numpy()[0]
    assert gradient[3] < 0 < gradient[2]
    assert gradient[0] == gradient[1] == 0


def test_a_loss_of_nothing_is_finite():
    zeros = tf.zeros([1, 2], tf.int32)
    assert float(ndcg_loss(tf.zeros([1, 4]), zeros, zeros)) == 1.0


def test_episodes_teach_how_far_to_go(data):
    model = fitted(data, steps=60, learning_rate=0.2)
    model.gains.assign(-model.gains)  # the worst first
    tables = [table.numpy() for table in model.tables]
    losses = learn_to_adapt(model, data)
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.005
    for table, before in zip(model.tables, tables, strict=True):
        np.testing.assert_array_equal(table, before)


def test_the_same_seed_teaches_the_same(data):
    first, second = (fitted(data) for _ in range(2))
    for model in (first, second):
        learn_to_adapt(model, data, seed=5)
    # Not bit by bit: sums of several threads come in any order.
    np.testing.assert_allclose(first.gains, second.gains, rtol=1e-3, atol=1e-4)
    assert float(first.log_l2) != np.float32(np.log(first.config.l2))


@pytest.mark.parametrize("change", [{"steps": 0}, {"folds": 7}])
def test_with_too_little_to_learn_from_all_stays(data, change):
    model = fitted(data, **change)
    before = model.gains.numpy()
    assert learn_to_adapt(model, data) == []
    np.testing.assert_array_equal(model.gains, before)


def test_train_meta_trains(data):
    strategy = tm.Strategy("meta_learned", tm.MetaLearnedConfig(8, folds=2, steps=3))
    model = tm.train(data, strategy, progress=False)
    begin = MetaLearned(model.config, model.spec)
    assert np.abs(model.gains.numpy() - begin.gains.numpy()).max() > 0


@pytest.fixture(scope="module")
def model(data):
    return fitted(data)


def test_adapt_recommends_what_is_not_in_the_support_set(model):
    (found,) = tm.adapt(model, [["i3", "i7", "nobody knows it"]], k=58, exclude=[["i9"]])
    assert found.support_used == 2
    listed = [item.item_id for item in found.items]
    assert len(listed) == len(set(listed)) == 57
    assert not {"i3", "i7", "i9"} & set(listed)
    scores = [item.score for item in found.items]
    assert scores == sorted(scores, reverse=True)


def test_adapt_without_support_is_zero_shot(model):
    nothing, unknown = tm.adapt(model, [[], ["nobody knows it"]], k=5)
    assert nothing.items == unknown.items
    assert nothing.support_used == unknown.support_used == 0


def test_adapt_takes_labels(model):
    yes, also_yes, no = tm.adapt(model, [["i3"], {"i3": 1.0}, {"i3": 0.0}], k=5)
    assert yes.items == also_yes.items != no.items


def test_adapt_says_what_is_wrong(model, data):
    assert tm.adapt(model, []) == []
    with pytest.raises(ValueError, match="`k`=0"):
        tm.adapt(model, [["i3"]], k=0)
    with pytest.raises(ValueError, match="`exclude` has 2 rows, but `support` has 1"):
        tm.adapt(model, [["i3"]], exclude=[[], []])
    for text in ("i3", ["i3"]):
        with pytest.raises(ValueError, match="a list of ids for each newcomer"):
            tm.adapt(model, text)
    with pytest.raises(ValueError, match="'popularity' doesn't adapt"):
        tm.adapt(tm.train(data, "popularity"), [["i3"]])
