"""The meta-learned recommender, by hand and by NumPy."""

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

import tfrec_meta as tm
from tfrec_meta.models import MetaLearned
from tfrec_meta.models.families.meta_learned import (
    cosines,
    first_events,
    later_chances,
    lifts,
    ridge_weights,
)


@pytest.fixture(scope="module")
def data():
    return tm.synthetic(users=60, items=30, interactions=600, seed=3)


@pytest.fixture(scope="module")
def model(data):
    tf.random.set_seed(0)
    config = tm.MetaLearnedConfig(embedding_dim=6, l2=2.0, weights_l2=5.0, shots=4)
    model = MetaLearned(config, tm.FeatureSpec().fit(data))
    model.fit(data)
    return model


def adapted(model, items, labels=None):
    items = np.array(items, np.int32)
    labels = np.ones(items.shape) if labels is None else np.array(labels)
    scores, used = model.adapt(tf.constant(items), tf.constant(labels, tf.float32))
    return scores.numpy(), list(used.numpy())


def test_first_events_are_by_time_without_the_last_one():
    data = tm.Interactions.from_arrays(
        ["u", "u", "v", "u", "u", "w", "w"], list("abcdefg"), time=[4, 1, 1, 3, 2, 7, 7]
    )
    assert list(first_events(data, 2)) == [False, True, False, False, True, True, False]


def test_weights_are_the_ridge_regression_of_later_on_early_choices():
    rng = np.random.default_rng(0)
    first, then = (rng.random((9, 4)) < 0.4 for _ in range(2))
    found = ridge_weights(*(scipy.sparse.csr_matrix(m, dtype=np.float32) for m in (first, then)), 2)
    design = np.concatenate([first, 2**0.5 * np.eye(4)])
    target = np.concatenate([then, np.zeros((4, 4))])
    np.testing.assert_allclose(found, np.linalg.lstsq(design, target)[0], rtol=1e-4, atol=1e-6)


def matrix(rows):
    return scipy.sparse.csr_matrix(np.array(rows, np.float32))


def test_cosines_of_few_users_are_shrunk():
    # Items 0 and 1 together at one of two and three users; ten users are added to each.
    found = cosines(matrix([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]]))
    np.testing.assert_allclose(found[0, 1], 1 / np.sqrt(12 * 13), rtol=1e-6)
    np.testing.assert_allclose(found, found.T, rtol=1e-6)
    assert not found.diagonal().any()
    assert not found[2].any()


def test_lifts_by_hand():
    # One user chose items 0 and 1, another only 0; their weights are 2 ** -0.5 and 1.
    found = lifts(matrix([[1, 1, 0], [1, 0, 0]]))
    weights = np.array([0.5**0.5, 1.0]) / ((0.5**0.5 + 1) / 2)
    share = np.array([2.5, 1.5, 0.5]) / 2
    chance = (np.array([0, weights[0], 0]) + 20 * share) / (2 + 20)
    np.testing.assert_allclose(found[0], np.log(chance / share), rtol=1e-5)
    np.testing.assert_allclose(found[2], 0, atol=1e-6)  # no user chose it


def test_later_chances_are_of_those_who_did_not_begin_with_the_item():
    # The users' weights are 1 and 2 (the roots of 1 and 4), with mean 1.5.
    first = matrix([[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    then = matrix([[0, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0]])
    found = later_chances(first, then)
    heavy, light = 2 / 1.5, 1 / 1.5
    np.testing.assert_allclose(found[0], (heavy + 0.5) / (2 - light + 1))
    np.testing.assert_allclose(found[1], (2 + 0.5) / (2 + 1))
    np.testing.assert_allclose(found[4], 0.5 / 3)


def test_scores_are_the_sum_of_the_terms(model):
    later, factors, weights = (np.float64(table) for table in model.tables)
    gains = np.arange(1.0, 13.0).reshape(4, 3) / 10
    before = model.gains.numpy()
    model.gains.assign(gains.astype(np.float32))
    found, used = adapted(model, [[2, 7, 0]], [[1.0, 0.5, 1.0]])
    model.gains.assign(before)
    share = np.log(3) / np.log(5)  # two of four shots
    gain = gains @ [1, share, share**2] * [0.5, 4.0, 1.0, 0.3]
    # The head as least squares: a row of the design for each term of its loss.
    design = np.concatenate([factors[[2, 7]], 0.3**0.5 * factors, 2**0.5 * np.eye(6)])
    head = np.linalg.lstsq(design, np.array([1, 0.5] + [0] * (len(design) - 2)))[0]
    expected = later + gain[0] * factors @ head
    for place in range(3):
        expected += gain[1 + place] * (weights[place, 2] + 0.5 * weights[place, 7]) / 2**0.5
    np.testing.assert_allclose(found[0], expected[1:], rtol=1e-3, atol=1e-4)
    assert used == [2]


def test_without_support_the_scores_are_the_later_chances(model):
    scores, used = adapted(model, [[0, 0], [0, 0]])
    assert used == [0, 0]
    np.testing.assert_allclose(scores, np.stack([model.tables.later[1:]] * 2), rtol=1e-6)


def test_only_negative_labels_give_the_scores_without_support(model):
    none, _ = adapted(model, [[0, 0]])
    refused, used = adapted(model, [[3, 4]], [[0.0, 0.0]])
    np.testing.assert_allclose(refused, none, rtol=1e-5)
    assert used == [2]


@pytest.mark.parametrize("label", [np.nan, np.inf, -5.0])
def test_a_label_that_is_not_finite_counts_as_negative(model, label):
    found, _ = adapted(model, [[3, 4]], [[1.0, label]])
    expected, _ = adapted(model, [[3, 4]], [[1.0, 0.0]])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    above, _ = adapted(model, [[3, 4]], [[1.0, 7.0]])
    np.testing.assert_allclose(above, adapted(model, [[3, 4]])[0], rtol=1e-5)


def test_order_padding_and_repeats_have_no_effect(model):
    expected, used = adapted(model, [[3, 4, 9, 0, 0]])
    found, same = adapted(model, [[9, 0, 3, 4, 3]])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert used == same == [3]


def test_history_is_a_support_set(model):
    history = ["i3", "i7", ""]
    found = model.score(model.spec.encode_queries([""], np.array([history], object)))
    rows = model.spec.items.encode(np.array(history, object))
    np.testing.assert_allclose(found, adapted(model, [rows])[0], rtol=1e-4, atol=1e-5)


def test_a_catalogue_too_large_for_item_weights_has_none(data):
    config = tm.MetaLearnedConfig(embedding_dim=4, item_weights=False)
    model = MetaLearned(config, tm.FeatureSpec().fit(data))
    model.fit(data)
    assert model.tables.weights.shape == [3, 1, 1]
    assert np.isfinite(adapted(model, [[3, 4]])[0]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding_dim": 0}, "`embedding_dim`=0"),
        ({"l2": 0.0}, "`l2`=0.0"),
        ({"unseen_weight": float("nan")}, "`unseen_weight`=nan"),
        ({"steps": -1}, "`steps`=-1"),
        ({"folds": 1}, "`folds`=1"),
        ({"shots": 0}, "`shots`=0"),
    ],
)
def test_values_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        tm.MetaLearnedConfig(**change)
